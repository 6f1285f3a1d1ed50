"""The report's figures of a whole model: quality against cost, and the course of training.

Every function takes blocks of evaluation.json and returns a `Plot` (pliant.pad.svg); no global
state of matplotlib is touched, and no display is needed. Costs are in the unit a label names.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from pliant.pad.svg import (
    DASHES,
    LIGHT,
    MARKERS,
    SERIES,
    Plot,
    house_style,
    new_figure,
    place,
    shorten,
)

COSTS = {
    "latency_ms": ("median latency of one image, ms", 1.0),
    "macs": ("multiply-accumulates for one image, millions", 1e-6),
    "size_bytes": ("weights, MB", 1e-6),
}

NOT_QUALITY = ("dev_seconds", "dev_mean")


def figure_quality_against_cost(
    points: Sequence[Mapping[str, Any]],
    *,
    cost: str | None = None,
    quality_name: str = "quality",
    baseline: float | None = None,
    tiers: Sequence[str] | None = None,
    name: str = "quality",
) -> Plot:
    """Every configuration as a point, named tiers labelled, the Pareto front as a staircase.

    Args:
        points: With `quality` (higher is better), `tier` (or None), and costs: `latency_ms` (a
            number, or a record with `median`), `macs`, `size_bytes`; optional `low` and `high`
            of the quality. A point that lacks its quality or cost is left out.
        cost: One of `COSTS`; None: latency where any point has one, else MACs.
        quality_name: Label of the upright axis.
        baseline: Quality of the trivial baseline, drawn as a level, or named where it lies so
            far below that the points would crowd together.
        tiers: Their order, which gives them their colours; None: by cost.
        name: Unique within a page.

    Raises:
        ValueError: for an unknown cost.
    """
    if cost is None:
        cost = "latency_ms" if any(_number(p, "latency_ms") is not None for p in points) else "macs"
    if cost not in COSTS:
        raise ValueError(f"unknown cost {cost!r}; allowed are {', '.join(COSTS)}")
    label, unit = COSTS[cost]
    known = [
        (x * unit, y, point)
        for point in points
        if (x := _number(point, cost)) is not None and (y := _number(point, "quality")) is not None
    ]
    front = pareto_front([(x, y) for x, y, _ in known])
    with house_style():
        figure = new_figure(500, 320)
        axes = place(figure, left=56, right=20, top=26, bottom=46)
        right = 1.12 * max([x for x, _, _ in known], default=1.0)
        axes.set_xlim(0, right)
        lowest, highest = _quality_limits([point for _, _, point in known], baseline)
        axes.set_ylim(lowest, highest)
        axes.set_xlabel(label)
        axes.set_title(quality_name, loc="left", fontsize=11.5, color=LIGHT["muted"], x=-0.09)
        axes.grid(axis="x", visible=False)
        if baseline is not None:
            axes.axhline(baseline, color=LIGHT["muted"], linewidth=1.2, linestyle=(0, (2, 3)))
            below = baseline < lowest
            axes.annotate(
                f"baseline {baseline:.3g}" + (", below this plot" if below else ""),
                (right, max(baseline, lowest)),
                (-2, 4),
                textcoords="offset points",
                ha="right",
                color=LIGHT["muted"],
                fontsize=10.5,
            )
        if front:
            xs, ys = zip(*front, strict=True)
            axes.step([*xs, right], [*ys, ys[-1]], where="post", color=LIGHT["muted"], lw=1.3)
        level = None if baseline is None else max(baseline, lowest)
        _points(axes, known, tiers or [], level)
    named = ", ".join(
        f"{shorten(p['tier'], 24)} {y:.4g} at {x:.3g}" for x, y, p in known if p.get("tier")
    )
    described = f"{quality_name} against {label}: {named or 'no tier has both numbers'}."
    return Plot(figure=figure, name=name, title="Quality against cost", description=described)


def pareto_front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The (cost, quality) points that no other equals or beats at the same or a lower cost."""
    front: list[tuple[float, float]] = []
    for cost, quality in sorted(points, key=lambda point: (point[0], -point[1])):
        if not front or quality > front[-1][1]:
            front.append((cost, quality))
    return front


def figure_training(
    curve: Sequence[Mapping[str, Any]], *, tiers: Sequence[str] = (), name: str = "training"
) -> Plot:
    """The loss above, every tier's dev measure (columns `dev_<measure>_<tier>`) below, by epoch.

    Args:
        curve: One record per epoch, with `epoch`, `loss` and the dev columns.
        tiers: Their order, which gives them their colours; others come behind them.
        name: Unique within a page.
    """
    epochs = [row.get("epoch", index) for index, row in enumerate(curve)]
    keys = dict.fromkeys(key for row in curve for key in row if key.startswith("dev_"))
    columns = _by_tier([key for key in keys if key not in NOT_QUALITY], tiers)
    with house_style():
        figure = new_figure(500, 330 if columns else 190)
        top = place(figure, left=56, right=90, top=24, bottom=196 if columns else 46)
        _line(top, epochs, _column(curve, "loss"), color=LIGHT["ink"])
        top.set_title("training loss", loc="left", fontsize=11.5, color=LIGHT["muted"])
        top.set_ylim(bottom=0)
        panels = [top]
        if columns:
            below = place(figure, left=56, right=90, top=166, bottom=46)
            panels.append(below)
            prefix = _common_prefix(list(columns))
            ends = {}
            for column, index in columns.items():
                values = _column(curve, column)
                colour, dash = SERIES[index % len(SERIES)], DASHES[index % len(DASHES)]
                _line(below, epochs, values, color=colour, linestyle=dash)
                finite = [v for v in values if math.isfinite(v)]
                if finite:
                    said = tiers[index] if index < len(tiers) else column[len(prefix) :]
                    ends[column] = (finite[-1], colour, shorten(said, 14))
            title = prefix.replace("_", " ").replace("auc", "AUC").strip() or "dev"
            below.set_title(title, loc="left", fontsize=11.5, color=LIGHT["muted"])
            _end_labels(below, epochs[-1] if epochs else 0, ends)
            top.tick_params(labelbottom=False)
        for axes in panels:
            axes.grid(axis="x", visible=False)
            first, last = min(epochs, default=0), max(epochs, default=1)
            axes.set_xlim(*((first, last) if first < last else (first - 1, last + 1)))
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
            axes.yaxis.set_major_locator(MaxNLocator(nbins=4))
        panels[-1].set_xlabel("epoch")
    last = ", ".join(
        f"{shorten(key, 24)} {_column(curve[-1:], key)[0]:.3g}"
        for key in ["loss", *columns]
        if curve
    )
    return Plot(
        figure=figure,
        name=name,
        title=f"Training over {len(curve)} epoch{'s' * (len(curve) != 1)}",
        description=f"At the end: {last}." if curve else "No epoch was recorded.",
    )


def _by_tier(columns: Sequence[str], tiers: Sequence[str]) -> dict[str, int]:
    """Column -> place of the tier that its name ends with, in that order; the rest behind."""
    found = {
        column: tiers.index(max(named, key=len))
        for column in columns
        if (named := [tier for tier in tiers if column.endswith(f"_{tier}")])
    }
    rest = [column for column in columns if column not in found]
    places = found | {column: len(tiers) + index for index, column in enumerate(rest)}
    return dict(sorted(places.items(), key=lambda item: item[1]))


def _line(axes: Axes, x: Sequence[float], y: Sequence[float], **style: Any) -> None:
    """A line through the known values; a value alone is a dot."""
    known = [(a, b) for a, b in zip(x, y, strict=True) if math.isfinite(b)]
    dot = "o" if len(known) == 1 else ""
    axes.plot([a for a, _ in known], [b for _, b in known], marker=dot, **style)


def _number(point: Mapping[str, Any], key: str) -> float | None:
    value = point.get(key)
    value = value.get("median") if isinstance(value, Mapping) else value
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _column(curve: Sequence[Mapping[str, Any]], key: str) -> list[float]:
    found = [_number(row, key) for row in curve]
    return [math.nan if value is None else value for value in found]


def _quality_limits(
    points: Sequence[Mapping[str, Any]], baseline: float | None
) -> tuple[float, float]:
    keys = ("quality", "low", "high")
    values = [v for p in points for key in keys if (v := _number(p, key)) is not None]
    low, high = min(values, default=0.0), max(values, default=1.0)
    if baseline is not None and low - baseline <= high - low:
        low, high = min(low, baseline), max(high, baseline)
    margin = max(0.12 * (high - low), 0.002)
    ceiling = high + margin
    return low - margin, min(ceiling, 1.0 + 0.35 * margin) if high <= 1 else ceiling


def _points(
    axes: Axes,
    known: Sequence[tuple[float, float, Mapping[str, Any]]],
    order: Sequence[str],
    level: float | None,
) -> None:
    """Unnamed configurations as rings, tiers as filled markers with labels that do not collide."""
    named = [item for item in known if item[2].get("tier")]
    for x, y, point in known:
        if not point.get("tier"):
            axes.plot(x, y, "o", ms=4.5, mfc="none", mec=LIGHT["muted"], mew=1)
    taken = [axes.transData.transform((x, y)) for x, y, _ in known]
    boxes = [(px - 5, py - 5, px + 5, py + 5) for px, py in taken]
    for x, _, point in named:
        first, last = _number(point, "low"), _number(point, "high")
        if first is not None and last is not None:
            (px, bottom), (_, top) = axes.transData.transform([(x, first), (x, last)])
            boxes.append((px - 2, bottom, px + 2, top))
    left, low, right, high = axes.get_window_extent().extents
    if level is not None:
        _, at = axes.transData.transform((0, level))
        boxes += [(left, at - 2, right, at + 2), (right - 170, at, right, at + 16)]
    named.sort(key=lambda item: item[0])
    order = list(dict.fromkeys([*order, *(str(point["tier"]) for _, _, point in named)]))
    for x, y, point in named:
        index = order.index(str(point["tier"]))
        colour = SERIES[index % len(SERIES)]
        first, last = _number(point, "low"), _number(point, "high")
        if first is not None and last is not None:
            axes.plot([x, x], [first, last], color=colour, linewidth=1.3)
        marker = MARKERS[index % len(MARKERS)]
        axes.plot(x, y, marker, color=colour, ms=9, mec=LIGHT["paper"], mew=1.2, clip_on=False)
        text = f"{shorten(point['tier'], 20)}  {y:.4g}"
        px, py = axes.transData.transform((x, y))
        wide, tall = 7.2 * len(text), 14
        heights = (-14, 5, -30, 21, -46, 37, *sorted(range(-250, 250, 2), key=abs))
        spots = [(dx, dy) for dy in heights for dx in (9, -9 - wide, -wide / 2)]
        free = [
            spot
            for spot in spots
            if left <= px + spot[0] and px + spot[0] + wide <= right + 20
            if low <= py + spot[1] and py + spot[1] + tall <= high + 16
            if not any(_overlap((px + spot[0], py + spot[1], wide, tall), box) for box in boxes)
        ]
        dx, dy = (free or spots)[0]
        boxes.append((px + dx, py + dy, px + dx + wide, py + dy + tall))
        axes.annotate(
            text, (x, y), (dx, dy + 2), textcoords="offset points", color=colour, weight="bold"
        )


def _overlap(spot: tuple[float, float, float, float], box: tuple[float, ...]) -> bool:
    x, y, wide, tall = spot
    return x < box[2] and box[0] < x + wide and y < box[3] and box[1] < y + tall


def _common_prefix(columns: Sequence[str]) -> str:
    """`dev_auc_` for dev_auc_low, dev_auc_high; at least `dev_`."""
    parts = [column.split("_") for column in columns]
    same = 0
    while all(len(part) > same + 1 and part[same] == parts[0][same] for part in parts):
        same += 1
    return "_".join(parts[0][: max(same, 1)]) + "_"


def _end_labels(axes: Axes, x: float, ends: Mapping[str, tuple[float, str, str]]) -> None:
    """Names at the right end of their lines, pushed apart where values are close."""
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
    axes.get_ylim()  # settles the limits, which transData below relies on
    lines = sorted(ends.values())
    heights = [axes.transData.transform((x, value))[1] for value, _, _ in lines]
    spread: list[float] = []
    for height in heights:
        spread.append(max([height, *(last + 14 for last in spread[-1:])]))
    down = float(np.mean(np.subtract(spread, heights))) if spread else 0.0
    for (value, colour, text), height, moved in zip(lines, heights, spread, strict=True):
        axes.annotate(
            text, (1, value), (8, moved - down - height - 4), xycoords=axes.get_yaxis_transform(),
            textcoords="offset points", color=colour, weight="bold", fontsize=10.5,
        )  # fmt: skip
