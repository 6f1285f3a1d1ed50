"""Draw docs/images/pliant.svg, the README's picture: python docs/make_figures.py [--check].

One stored network with a light and a heavy branch in every block; the tiers are ways through it;
each tier suits a device. Plain SVG: text stays text, and the file holds a light and a dark palette.
"""

import sys
from html import escape
from pathlib import Path

TARGET = Path(__file__).parent / "images" / "pliant.svg"
TITLE = "pliant: one trained network, a switch in every block, three devices"
ALT = (
    "On the left one file holds a network of adaptive blocks; each block has a light and a heavy "
    "branch. In the middle three tiers run through the same blocks: low takes the light branch "
    "everywhere, mid the heavy one in some blocks, max both. On the right each tier runs on its "
    "device: a kiosk, an older phone, a new phone."
)
LIGHT = {
    "paper": "#fbfaf8", "rule": "#d9d8d3", "ink": "#22272e", "muted": "#68707a", "idle": "#e4e3de",
    "low": "#b97a00", "mid": "#00805c", "max": "#2c5f9e",
}  # fmt: skip
DARK = {
    "paper": "#171a1f", "rule": "#363c44", "ink": "#eceae6", "muted": "#a0a8b1", "idle": "#2c3138",
    "low": "#efb23a", "mid": "#35c596", "max": "#7fb3ee",
}  # fmt: skip
WIDTH, HEIGHT = 1000, 430
TIERS = {"low": "LLLLLLLL", "mid": "LLHLLHLH", "max": "BBBBBBBB"}
"""Eight blocks are drawn; the network has 16."""
CAPTIONS = {
    "low": ("light everywhere", "kiosk"),
    "mid": ("heavy where it pays", "older phone"),
    "max": ("both, merged", "new phone"),
}


def rect(x: float, y: float, w: float, h: float, css: str, *, rx: float = 4) -> str:
    """A rounded rectangle of class `css`."""
    return f'<rect x="{x:g}" y="{y:g}" width="{w:g}" height="{h:g}" rx="{rx:g}" class="{css}"/>'


def words(x: float, y: float, text: str, css: str = "", *, anchor: str = "start") -> str:
    """A line of text; `y` is its base line."""
    return f'<text x="{x:g}" y="{y:g}" class="{css}" text-anchor="{anchor}">{escape(text)}</text>'


def path(d: str, css: str) -> str:
    """A line of class `css`."""
    return f'<path d="{d}" class="{css}"/>'


def block(x: float, y: float, letter: str, css: str) -> str:
    """One adaptive block on the line `y`: heavy branch above, light below, chosen ones filled."""
    heavy, light = "on" if letter in "HB" else "off", "on" if letter in "LB" else "off"
    return rect(x, y - 26, 26, 26, f"{css} {heavy}", rx=5) + rect(
        x, y + 8, 26, 10, f"{css} {light}", rx=3
    )


def way(x: float, y: float, step: float, letters: str, css: str) -> str:
    """The line that runs through the chosen branches of all blocks."""
    branches = {"H": (-13,), "L": (13,), "B": (-13, 13)}
    gap = (step - 26) / 2
    parts = [f"M{x - gap - 6:g} {y:g}h6"]
    for index, letter in enumerate(letters):
        left = x + index * step
        right = left + 26
        parts += [
            f"M{left - gap:g} {y:g}Q{left - gap / 2:g} {y:g} {left - gap / 2:g} {y + dy / 2:g}"
            f"T{left:g} {y + dy:g}M{right:g} {y + dy:g}Q{right + gap / 2:g} {y + dy:g} "
            f"{right + gap / 2:g} {y + dy / 2:g}T{right + gap:g} {y:g}"
            for dy in branches[letter]
        ]
    end = x + (len(letters) - 1) * step + 26 + gap
    parts.append(f"M{end:g} {y:g}h22")
    return path("".join(parts), f"way {css}")


def row(y: float, tier: str) -> str:
    """One tier: its name, its way through the shared blocks, its device."""
    x, step = 440.0, 42.0
    letters, (how, device) = TIERS[tier], CAPTIONS[tier]
    blocks = "".join(block(x + i * step, y, letter, tier) for i, letter in enumerate(letters))
    name = words(276, y - 2, tier, f"tier {tier}-text") + words(276, y + 17, how, "small")
    return name + way(x, y, step, letters, tier) + blocks + drawn_device(826, y, device, tier)


def drawn_device(x: float, y: float, name: str, css: str) -> str:
    """An outline of the device with its name."""
    if name == "kiosk":
        shape = rect(x, y - 26, 40, 30, f"device {css}", rx=4) + path(
            f"M{x + 20:g} {y + 4:g}V{y + 26:g}M{x + 8:g} {y + 26:g}H{x + 32:g}", f"way {css}"
        )
    else:
        wide = 24 if name == "older phone" else 30
        shape = rect(x + 20 - wide / 2, y - 28, wide, 54, f"device {css}", rx=6)
        if name == "new phone":
            shape += path(f"M{x + 15:g} {y - 21:g}H{x + 25:g}", f"way {css}")
        else:
            shape += f'<circle cx="{x + 20:g}" cy="{y + 18:g}" r="2.6" class="way {css}"/>'
    return shape + words(x + 52, y + 4, name, "device-name")


def stored_file(x: float, y: float) -> str:
    """The one file, with the supernet in small."""
    w, h, ear = 150, 190, 28
    sheet = path(
        f"M{x:g} {y + 8:g}a8 8 0 0 1 8 -8H{x + w - ear:g}L{x + w:g} {y + ear:g}V{y + h - 8:g}"
        f"a8 8 0 0 1 -8 8H{x + 8:g}a8 8 0 0 1 -8 -8Z",
        "sheet",
    )
    fold = path(f"M{x + w - ear:g} {y:g}V{y + ear:g}H{x + w:g}", "fold")
    small = "".join(
        rect(x + 21 + 28 * column, y + 58 + 42 * line, 20, 18, "store", rx=4)
        + rect(x + 21 + 28 * column, y + 80 + 42 * line, 20, 7, "store-light", rx=2)
        for line in range(3)
        for column in range(4)
    )
    return (
        sheet + fold + small
        + words(x + 16, y + 34, "model", "file-name")
        + words(x + w / 2, y + h + 26, "one file,", "small", anchor="middle")
        + words(x + w / 2, y + h + 45, "every tier inside", "small", anchor="middle")
    )  # fmt: skip


def style() -> str:
    """Both palettes and the classes."""
    light, dark = (";".join(f"--{k}:{v}" for k, v in p.items()) for p in (LIGHT, DARK))
    tiers = "".join(
        f".{tier}.on{{fill:var(--{tier})}}.{tier}-text{{fill:var(--{tier})}}"
        f".way.{tier},.device.{tier}{{stroke:var(--{tier})}}"
        for tier in TIERS
    )
    return (
        f":root{{{light}}}@media(prefers-color-scheme:dark){{:root{{{dark}}}}}"
        "text{font-family:Inter,system-ui,'Segoe UI',Roboto,Helvetica,Arial,sans-serif;"
        "font-size:15px;fill:var(--ink)}"
        ".head{font-size:14px;fill:var(--muted)}.small{font-size:13.5px;fill:var(--muted)}"
        ".tier{font-size:21px;font-weight:650}.device-name{font-size:15px}"
        ".file-name{font-size:16px;font-weight:650}"
        ".paper{fill:var(--paper);stroke:var(--rule)}"
        ".off{fill:var(--idle)}"
        ".way,.device{fill:none;stroke-width:2;stroke-linecap:round;stroke-linejoin:round}"
        ".sheet{fill:none;stroke:var(--ink);stroke-width:2}.fold{fill:none;stroke:var(--ink);"
        "stroke-width:2;stroke-linejoin:round}"
        ".store{fill:var(--ink)}.store-light{fill:var(--muted)}"
        ".lead{fill:none;stroke:var(--rule);stroke-width:2}"
        f"{tiers}"
    )


def picture() -> str:
    """The whole SVG."""
    lines = {"low": 132, "mid": 235, "max": 338}
    start = (204.0, 235.0)
    leads = "".join(
        path(f"M{start[0]:g} {start[1]:g}C236 {start[1]:g} 226 {y:g} 260 {y:g}", "lead")
        for y in lines.values()
    )
    heads = (
        words(40, 56, "train once", "head")
        + words(276, 56, "choose a tier: a way through the same blocks", "head")
        + words(826, 56, "run everywhere", "head")
    )
    key = (
        rect(440, 390, 16, 16, "store", rx=4) + words(464, 403, "heavy branch", "small")
        + rect(574, 396, 16, 7, "store-light", rx=2) + words(598, 403, "light branch", "small")
        + rect(706, 390, 16, 16, "off", rx=4) + words(730, 403, "not run", "small")
    )  # fmt: skip
    rows = "".join(row(y, tier) for tier, y in lines.items())
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        'aria-labelledby="pliant-title pliant-text">'
        f'<title id="pliant-title">{escape(TITLE)}</title>'
        f'<desc id="pliant-text">{escape(ALT)}</desc><style>{style()}</style>'
        f"{rect(1, 1, WIDTH - 2, HEIGHT - 2, 'paper', rx=14)}"
        f"{heads}{leads}{stored_file(40, 128)}{rows}{key}</svg>\n"
    )


def main() -> int:
    """Writes the picture; with --check says whether the committed one is the same."""
    drawn = picture()
    if "--check" in sys.argv[1:]:
        same = TARGET.is_file() and TARGET.read_text(encoding="utf-8") == drawn
        print("up to date" if same else "run python docs/make_figures.py", file=sys.stderr)
        return 0 if same else 1
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(drawn, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
