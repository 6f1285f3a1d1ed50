"""The score of every frame over time, as CSV or as an SVG that any browser shows, offline."""

import csv
import io
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path

from pliant.errors import UserError
from pliant.jobs.folders import refuse_existing
from pliant.runtime.files import write_atomic
from pliant.runtime.verdict import Prediction

WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 900, 300, 60, 34, 16, 52
"""Of the drawing, and the margins around its plot."""
MAX_POINTS = 2000
"""More frames are thinned: of each stretch the lowest and the highest score stay."""
COLUMNS = ("place", "source", "time_s", "score", "threshold", "verdict", "reason")
COLUMNS += ("tier", "configuration", "latency_ms")
MAX_WORDS = 20
"""Thresholds that are named in the drawing."""
Scale = Callable[[float], float]
STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#5d6670}.title{font-size:14px;fill:#1a1d21}"
    ".word{paint-order:stroke;stroke:#fff;stroke-width:4px;stroke-linejoin:round}"
    ".paper{fill:#fff}.grid{stroke:#dcdfe3}.score{fill:none;stroke:#0069a8;stroke-width:1.6}"
    ".dot{stroke:#0069a8;stroke-width:4;stroke-linecap:round}"
    ".threshold{fill:none;stroke:#bf4d00;stroke-width:1.6;stroke-dasharray:6 4}"
    ".gap{stroke:#5d6670}@media(prefers-color-scheme:dark){text{fill:#a2aab2}.title{fill:#ece9e4}"
    ".paper{fill:#15181c}.grid{stroke:#363c43}.score{stroke:#5ab4ec}.dot{stroke:#5ab4ec}"
    ".word{stroke:#15181c}.threshold{stroke:#f58b4c}.gap{stroke:#a2aab2}}"
)


@dataclass(frozen=True, kw_only=True)
class Point:
    """One frame, or one image of many."""

    place: int
    """Number of the frame, or of the image."""
    time_s: float | None
    """Seconds from the start, where they are known."""
    found: Prediction
    source: str = ""
    """What the frame or image is of, as it was given."""


def check_trace(path: Path) -> None:
    """Refuses a name before anything is judged.

    Raises:
        UserError: if it ends with neither .svg nor .csv, exists, or its folder cannot be written.
    """
    if path.suffix.lower() not in (".svg", ".csv"):
        raise UserError(f"--trace must end with .svg or .csv, got {path.name}")
    refuse_existing(path, "--trace")
    if path.is_dir():
        raise UserError(f"{path} is a folder; give --trace the name of a file")
    if not path.parent.is_dir():
        raise UserError(f"--trace cannot be written: there is no folder {path.parent}")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise UserError(f"--trace cannot be written: the folder {path.parent} is read-only for you")


def write_trace(path: Path, points: Sequence[Point], title: str) -> None:
    """Writes the file, whole or not at all.

    Raises:
        OSError: if it cannot be written.
    """
    text = as_svg(points, title) if path.suffix.lower() == ".svg" else as_csv(points)
    write_atomic(path, text)


def as_csv(points: Sequence[Point]) -> str:
    """One row per frame."""
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow(COLUMNS)
    for point in points:
        time_s = None if point.time_s is None else round(point.time_s, 3)
        values = asdict(point.found) | {
            "place": point.place,
            "time_s": time_s,
            "source": point.source,
        }
        table.writerow([values[name] for name in COLUMNS])
    return out.getvalue()


def as_svg(points: Sequence[Point], title: str) -> str:
    """Score and threshold over the frames; a tick at the bottom is a frame without a score."""
    first, last = points[0].place, points[-1].place
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM

    def x(place: float) -> float:
        return LEFT + (place - first) / max(1, last - first) * (right - LEFT)

    def y(value: float) -> float:
        return bottom - min(1.0, value) * (bottom - TOP)

    parts = [
        f'<path class="grid" d="M{LEFT} {y(tick):.1f}H{right}"/>'
        f'<text x="{LEFT - 8}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>'
        for tick in (0.0, 0.25, 0.5, 0.75, 1.0)
    ]
    gaps = thinned([p for p in points if p.found.score is None])
    ticks = "".join(f"M{x(p.place):.1f} {bottom}v-6" for p in gaps)
    parts.append(f'<path class="gap" d="{ticks}"/>' if ticks else "")
    stretches = _stretches(points)
    for line in (line for line in stretches if len(line) > 1):
        path = " ".join(f"{x(place):.1f},{y(score):.1f}" for place, score in _scores(line))
        parts.append(f'<polyline class="score" points="{path}"/>')
    alone = [line[0] for line in stretches if len(line) == 1]
    dots = "".join(f"M{x(place):.1f} {y(score):.1f}h0" for place, score in _scores(alone))
    parts.append(f'<path class="dot" d="{dots}"/>' if dots else "")
    parts.append(_threshold(points, x, y))
    foot, middle = HEIGHT - 34, (LEFT + right) / 2
    what = (
        "image" if points[0].time_s is None and points[0].source != points[-1].source else "frame"
    )
    axis = what if points[0].time_s is None else f"{what}, time"
    parts.append(f'<text x="{middle:.0f}" y="{foot}" text-anchor="middle">{axis}</text>')
    high = (TOP + bottom) // 2
    parts.append(
        f'<text transform="translate(14 {high}) rotate(-90)" text-anchor="middle">score</text>'
    )
    if ticks:
        legend = f"short strokes on the axis: {what}s without a score"
        parts.append(f'<text x="{LEFT}" y="{HEIGHT - 12}">{legend}</text>')
    parts.append(f'<text x="{LEFT}" y="{foot}">{_label(points[0])}</text>')
    parts.append(f'<text x="{right}" y="{foot}" text-anchor="end">{_label(points[-1])}</text>')
    name = escape(title)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{name}"><title>{name}</title><style>{STYLE}</style>'
        f'<rect class="paper" width="{WIDTH}" height="{HEIGHT}"/>'
        f'<text class="title" x="{LEFT}" y="20">{name}</text>{"".join(parts)}</svg>\n'
    )


def thinned(points: Sequence[Point]) -> list[Point]:
    """At most `MAX_POINTS`: the lowest and the highest of each stretch, in their order."""
    if len(points) <= MAX_POINTS:
        return list(points)
    stretches = MAX_POINTS // 2
    kept: list[Point] = []
    for k in range(stretches):
        part = points[k * len(points) // stretches : (k + 1) * len(points) // stretches]
        both = (min(part, key=_score), max(part, key=_score))
        kept += sorted(both, key=lambda point: point.place)
    return kept


def _score(point: Point) -> float:
    return -1.0 if point.found.score is None else point.found.score


def _stretches(points: Sequence[Point]) -> list[list[Point]]:
    """The frames with a score, cut where one is without, and between one file and the next."""
    lines: list[list[Point]] = [[]]
    for point in points:
        if lines[-1] and (point.found.score is None or point.source != lines[-1][-1].source):
            lines.append([])
        if point.found.score is not None:
            lines[-1].append(point)
    return [line for line in lines if line]


def _scores(points: Sequence[Point]) -> list[tuple[int, float]]:
    shown = thinned(points)
    return [(p.place, p.found.score) for p in shown if p.found.score is not None]


def _threshold(points: Sequence[Point], x: Scale, y: Scale) -> str:
    """A dashed line that steps where the tier changed; each tier is named once."""
    steps, words, named = [], [], set[tuple[float | None, str]]()
    before: tuple[float | None, str] | None = None
    for point in points:
        now = point.found.threshold, point.found.tier or point.found.configuration
        if now == before or now[0] is None:
            continue
        before = now
        at, height = x(point.place), y(now[0])
        steps.append(f"H{at:.1f}V{height:.1f}" if steps else f"M{at:.1f} {height:.1f}")
        if now not in named and len(named) < MAX_WORDS:
            named.add(now)
            anchor, place = ("start", at + 4) if at < WIDTH * 0.7 else ("end", WIDTH - RIGHT - 4)
            above = height - 6 if height - 6 > TOP + 8 else height + 15
            words.append(
                f'<text class="word" x="{place:.1f}" y="{above:.1f}" text-anchor="{anchor}">'
                f"{escape(now[1])} accepts from {now[0]:.4f}</text>"
            )
    if not steps:
        return ""
    return f'<path class="threshold" d="{"".join(steps)}H{WIDTH - RIGHT}"/>{"".join(words)}'


def _label(point: Point) -> str:
    return str(point.place) if point.time_s is None else f"{point.place}, {point.time_s:.1f} s"
