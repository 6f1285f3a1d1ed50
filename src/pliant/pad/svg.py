"""A matplotlib figure as SVG whose colours and fonts follow the page it stands in, or as PNG.

Figures are painted in the light colours of `PALETTE`; on the way to SVG each becomes
`var(--name, light)`, so one drawing serves light, dark and print. Hues are Okabe and Ito's,
shifted until they carry text on white; series also differ in marker and dash, for grey paper.
Source of the hues: Okabe, Ito. "Color Universal Design", 2008. https://jfly.uni-koeln.de/color/
"""

import io
import re
import unicodedata
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from pliant.errors import UserError
from pliant.runtime.files import write_atomic

PALETTE: dict[str, tuple[str, str]] = {
    "ink": ("#1a1d21", "#ece9e4"),
    "muted": ("#5d6670", "#a2aab2"),
    "rule": ("#dcdfe3", "#363c43"),
    "paper": ("#ffffff", "#15181c"),
    "live": ("#0069a8", "#5ab4ec"),
    "attack": ("#bf4d00", "#f58b4c"),
    "series1": ("#ad7100", "#efb23a"),
    "series2": ("#00805c", "#35c596"),
    "series3": ("#a03f80", "#e08bc2"),
    "series4": ("#2c3440", "#dfe3e8"),
    "series5": ("#3a86b0", "#8ccbf0"),
    "series6": ("#746d00", "#d6cc4a"),
}
"""CSS variable name -> (light, dark)."""
LIGHT = {name: light for name, (light, _) in PALETTE.items()}
SERIES = [LIGHT[f"series{i}"] for i in range(1, 7)]
MARKERS = ["o", "s", "^", "D", "v", "P"]
DASHES = ["-", (0, (5, 1.6)), (0, (1.2, 1.4)), (0, (6, 1.5, 1.2, 1.5)), (0, (9, 2)), (0, (3, 3))]

STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib; the SVG takes the page's font
    "font.size": 11.5,
    "text.color": LIGHT["ink"],
    "text.parse_math": False,  # a species may be called $x
    "axes.edgecolor": LIGHT["muted"],
    "axes.labelcolor": LIGHT["muted"],
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "grid.color": LIGHT["rule"],
    "grid.linewidth": 0.8,
    "xtick.color": LIGHT["muted"],
    "ytick.color": LIGHT["muted"],
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "hatch.linewidth": 0.9,
    "svg.fonttype": "none",
    "svg.hashsalt": "pliant",
    "svg.image_inline": True,
}


@contextmanager
def house_style() -> Iterator[None]:
    """matplotlib's defaults with `STYLE` on top while inside; the user's own come back after."""
    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # the page's font has it
        yield


@dataclass(frozen=True, kw_only=True)
class Plot:
    """One figure and the words that stand for it where it cannot be seen."""

    figure: Figure
    name: str
    """Unique within a page; letters, digits and hyphens."""
    title: str
    description: str
    """What the figure shows, for a reader who hears it."""

    def inline(self) -> str:
        """An `<svg>` element for an HTML page that defines the variables of `PALETTE`."""
        root = self._tree()
        root.set("role", "img")
        root.set("aria-label", plain(f"{self.title}. {self.description}"))
        return ElementTree.tostring(root, encoding="unicode")

    def svg(self) -> str:
        """A file of its own, with both colour sets and a background."""
        root = self._tree()
        root.set("xmlns", "http://www.w3.org/2000/svg")
        root.set("role", "img")
        text = ElementTree.tostring(root, encoding="unicode")
        head = (
            f"<title>{escape(plain(self.title))}</title>"
            f"<desc>{escape(plain(self.description))}</desc>"
            f"<style>{stylesheet(':root')} text{{font-family:system-ui,sans-serif}}</style>"
            '<rect width="100%" height="100%" rx="6" style="fill:var(--paper)"/>'
        )
        end = text.index(">") + 1
        return f"{text[:end]}{head}{text[end:]}\n"

    def png(self, *, scale: float = 2.0) -> bytes:
        """The light version on white, `scale` pixels for one unit of the SVG."""
        target = io.BytesIO()
        with house_style():
            FigureCanvasAgg(self.figure)
            self.figure.savefig(target, format="png", dpi=72 * scale, facecolor=LIGHT["paper"])
        return target.getvalue()

    def _tree(self) -> ElementTree.Element:
        target = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        with house_style():
            FigureCanvasSVG(self.figure)
            self.figure.savefig(target, format="svg", metadata=nothing)
        root = ElementTree.fromstring(target.getvalue())
        width, height = root.attrib["viewBox"].split()[2:]
        for parent in list(root.iter()):
            for child in [c for c in parent if c.tag.endswith(("metadata", "}style"))]:
                parent.remove(child)
        for element in root.iter():
            _make_local(element, self.name)
        root.set("width", f"{float(width):g}")
        root.set("height", f"{float(height):g}")
        return root


def check_suffix(path: Path) -> None:
    """Refuses a name that is neither .svg nor .png; to be asked before the work for a figure.

    Raises:
        UserError: naming the two.
    """
    if path.suffix.lower() not in (".svg", ".png"):
        raise UserError(f'a figure is written as .svg or .png, got "{path.name}"')


def write_figure(plot: Plot, path: Path) -> Path:
    """Writes the plot as the suffix says, .svg or .png; returns the path.

    Raises:
        UserError: for another suffix.
    """
    check_suffix(path)
    write_atomic(path, plot.svg() if path.suffix.lower() == ".svg" else plot.png())
    return path


def stylesheet(selector: str) -> str:
    """CSS that gives `selector` the palette: light, or dark on a screen that asks for it."""
    light = ";".join(f"--{name}:{value}" for name, (value, _) in PALETTE.items())
    dark = ";".join(f"--{name}:{value}" for name, (_, value) in PALETTE.items())
    return (
        f"{selector}{{{light}}} "
        f"@media screen and (prefers-color-scheme:dark){{{selector}{{{dark}}}}}"
    )


def plain(text: object) -> str:
    """The text without control and direction characters, which XML and layouts do not survive."""
    return "".join(
        " " if unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Co", "Cn") else letter
        for letter in str(text)
    )


def shorten(text: object, most: int) -> str:
    """At most `most` characters of plain text, with an ellipsis where some are missing."""
    whole = plain(text)
    return whole if len(whole) <= most else whole[: most - 1] + "…"


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of that many SVG units (CSS pixels)."""
    return Figure(figsize=(width / 72, height / 72), dpi=72)


def place(figure: Figure, *, left: float, right: float, top: float, bottom: float) -> Axes:
    """Axes with these margins in SVG units."""
    width, height = (side * 72 for side in figure.get_size_inches())
    box = (left / width, bottom / height, 1 - (left + right) / width, 1 - (top + bottom) / height)
    return figure.add_axes(box)


_VARIABLES = {light: f"var(--{name}, {light})" for name, light in LIGHT.items()}


def _make_local(element: ElementTree.Element, prefix: str) -> None:
    """Drops the name space, makes ids unique to the figure, colours variable, fonts inherited."""
    element.tag = element.tag.rpartition("}")[2]
    for key, value in list(element.attrib.items()):
        del element.attrib[key]
        if key == "id":
            value = f"{prefix}-{value}"
        elif key.endswith("href"):
            key, value = "href", value.replace("#", f"#{prefix}-", 1)
        elif key == "clip-path":
            value = value.replace("url(#", f"url(#{prefix}-")
        elif key == "style":
            value = value.replace("url(#", f"url(#{prefix}-")
            value = re.sub(r"#[0-9a-f]{6}\b", lambda m: _VARIABLES.get(m[0], m[0]), value)
            value = re.sub(r"font: (?:(\w+) )?([\d.]+)px [^;]+", _font, value)
            value = re.sub(r"font-family: [^;]+(; |$)", "", value)
        element.set(key, value)


def _font(match: re.Match[str]) -> str:
    weight = f"; font-weight: {match[1]}" if match[1] else ""
    return f"font-size: {match[2]}px{weight}"
