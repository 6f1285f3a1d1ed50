"""The ROC beside the DET: the same points, read as attacks accepted against people let in.

A DET shows where two systems differ; a ROC is what most readers know. Its APCER axis is
logarithmic, for the rates that matter lie below a few percent.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

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

FLOOR = 0.001
"""The lowest APCER shown; below it a logarithm has no place for zero."""


def figure_roc(
    lines: Mapping[str, Mapping[str, Sequence[float]]],
    *,
    operating: Mapping[str, tuple[float, float]] | None = None,
    title: str,
    name: str,
) -> Plot:
    """1 - BPCER against APCER, one line per key; what guessing would reach is the thin line.

    Args:
        lines: Label -> `apcer` and `bpcer`, equally long: a DET's record.
        operating: Label -> (APCER, BPCER) at the threshold in use, drawn as a marker.
        title: Of the figure, for readers who hear it.
        name: Unique within a page.
    """
    operating = operating or {}
    beside = 2 if all(len(label) <= 16 for label in lines) else 1
    legend = 19 * -(-len(lines) // beside)
    with house_style():
        figure = new_figure(340, 334 + legend)
        axes = place(figure, left=50, right=16, top=12 + legend, bottom=46)
        axes.set_xscale("log")
        chance = np.geomspace(FLOOR, 1, 100)
        axes.plot(chance, chance, color=LIGHT["rule"], linewidth=1)
        for index, (label, line) in enumerate(lines.items()):
            style: dict[str, Any] = {
                "color": SERIES[index % len(SERIES)],
                "linestyle": DASHES[index % len(DASHES)],
                "zorder": 2.6,  # over the axes' own lines, along which it may run
            }
            marker = {
                "marker": MARKERS[(index + index // len(DASHES)) % len(MARKERS)],
                "markersize": 7.5,
                "markeredgecolor": LIGHT["paper"],
            }
            at = operating.get(label)
            axes.plot(*roc_points(line, at), clip_on=False, **style)
            if at is not None:
                dot: dict[str, Any] = {"color": style["color"], "clip_on": False, "zorder": 3}
                axes.plot([max(at[0], FLOOR)], [1 - at[1]], **marker, **dot)
            axes.plot([], [], label=shorten(label, 26), **style, **(marker if at else {}))
        ticks = [0.001, 0.01, 0.1, 1.0]
        axes.set_xticks(ticks, [f"{100 * tick:g}" for tick in ticks])
        axes.set_xticks([], minor=True)
        axes.set_yticks(np.linspace(0, 1, 6), [f"{rate}" for rate in range(0, 101, 20)])
        axes.set_xlim(FLOOR, 1)
        axes.set_ylim(0, 1)
        axes.set_xlabel("APCER, % of attacks accepted")
        axes.set_ylabel("1 - BPCER, % of bona fide accepted")
        figure.legend(
            frameon=False, loc="upper left", bbox_to_anchor=(44 / 340, 0.985), ncols=beside,
            fontsize=10.5, handlelength=2.6, borderpad=0, borderaxespad=0,
        )  # fmt: skip
    said = "; ".join(
        f"{shorten(label, 26)} accepts {100 * x:.2g} % of attacks, {100 * (1 - y):.3g} % of bona "
        "fide"
        for label, (x, y) in operating.items()
    )
    return Plot(figure=figure, name=name, title=title, description=said or ", ".join(lines))


def roc_points(
    line: Mapping[str, Sequence[float]], point: tuple[float, float] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """APCER, falling to `FLOOR`, and 1 - BPCER; along the floor down to the point in use alone.

    Args:
        line: `apcer` and `bpcer`.
        point: (APCER, BPCER) at the threshold in use, which thinned lines may lack.
    """
    steps = [*zip(line["apcer"], line["bpcer"], strict=True), *([point] if point else [])]
    steps.sort(key=lambda step: (-step[0], step[1]))
    last = next((i for i, step in enumerate(steps) if step[0] <= FLOOR), len(steps) - 1)
    if point is not None:
        last = max(last, steps.index(point))
    x, y = np.array(steps[: last + 1], dtype=float).T
    return np.maximum(x, FLOOR), 1 - y
