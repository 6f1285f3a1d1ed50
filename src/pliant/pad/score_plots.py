"""The report's figures of a tier's scores: DET curves and histograms around the threshold.

Every function takes blocks of evaluation.json and returns a `Plot` (pliant.pad.svg). Rates and
scores lie in [0, 1].
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from scipy.special import ndtri

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

DET_TICKS = (0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.7, 0.9, 0.98)
DET_FLOOR, DET_CEILING = 0.0008, 0.6
DET_HIGHEST = 0.995
"""Of a ceiling that is raised for an operating point."""
BAR = 0.55
"""Height of a figure's highest histogram bar, of a row's height; words stand above it."""


def figure_det(
    lines: Mapping[str, Mapping[str, Sequence[float]]],
    *,
    operating: Mapping[str, tuple[float, float]] | None = None,
    order: Sequence[str] = (),
    colour: str | None = None,
    ceiling: float = DET_CEILING,
    title: str,
    name: str,
) -> Plot:
    """Error trade-offs on probit axes (a normal deviate is a straight line), one line per key.

    Args:
        lines: Label -> `apcer` and `bpcer`, equally long.
        operating: Label -> (APCER, BPCER) at the threshold in use, drawn as a marker.
        order: Of all labels on the page, which gives each its dash, marker and colour.
        colour: Of every line, where lines differ in dash and marker alone.
        ceiling: The highest rate shown.
        title: Of the figure, for readers who hear it.
        name: Unique within a page.
    """
    operating = operating or {}
    order = list(dict.fromkeys([*order, *lines]))
    beside = 2 if all(len(label) <= 16 for label in lines) else 1
    legend = 19 * -(-len(lines) // beside)
    with house_style():
        figure = new_figure(340, 334 + legend)
        axes = place(figure, left=50, right=12, top=12 + legend, bottom=46)
        ends = _probit([DET_FLOOR, ceiling], ceiling)
        axes.plot(ends, ends, color=LIGHT["rule"], linewidth=1)
        for label, line in lines.items():
            index = order.index(label)
            style: dict[str, Any] = {
                "color": colour or SERIES[index % len(SERIES)],
                "linestyle": DASHES[index % len(DASHES)],
                "zorder": 2.6,  # over the axes' own lines, along which it may run
            }
            marker = {
                "marker": MARKERS[(index + index // len(DASHES)) % len(MARKERS)],
                "markersize": 7.5,
                "markeredgecolor": LIGHT["paper"],
            }
            x, y = _det_points(line, operating.get(label), ceiling)
            axes.plot(x, y, marker="." if len(x) == 1 else "", clip_on=False, **style)
            if label in operating:
                at = _probit(operating[label], ceiling)
                dot = {"color": style["color"], "clip_on": False, "zorder": 3}
                axes.plot(*at[:, None], **marker, **dot)
            shown = marker if label in operating else {}
            axes.plot([], [], label=" " + shorten(label, 32 // beside), **style, **shown)
        for axis in (axes.xaxis, axes.yaxis):
            ticks = [tick for tick in DET_TICKS if tick < ceiling]
            axis.set_ticks(_probit(ticks, ceiling), [f"{100 * tick:g}" for tick in ticks])
        axes.set_xlim(*ends)
        axes.set_ylim(*ends)
        axes.set_xlabel("APCER, % of attacks accepted")
        axes.set_ylabel("BPCER, % of bona fide rejected")
        if lines:
            figure.legend(
                frameon=False, loc="upper left", bbox_to_anchor=(44 / 340, 0.985), ncols=beside,
                fontsize=10.5, handlelength=2.6, borderpad=0, borderaxespad=0,
            )  # fmt: skip
    where = "; ".join(
        f"{shorten(label, 26)} works at APCER {100 * x:.2g} %, BPCER {100 * y:.2g} %"
        for label, (x, y) in operating.items()
    )
    return Plot(figure=figure, name=name, title=title, description=where or ", ".join(lines))


def det_ceiling(points: Iterable[tuple[float, float]]) -> float:
    """A `ceiling` for figure_det that shows every (APCER, BPCER) of a page."""
    highest = max((rate for point in points for rate in point), default=0.0)
    return max(DET_CEILING, min(1.15 * highest, DET_HIGHEST))


def figure_histogram(
    histogram: Mapping[str, Sequence[float]],
    *,
    threshold: float | None,
    notes: Mapping[str, str] | None = None,
    title: str,
    name: str,
) -> Plot:
    """One row of bars per class (bona fide first, then each species); decided wrongly is solid.

    Heights go with the square root of the share within the row, so few errors stay visible;
    the highest bar of all rows has the whole height.

    Args:
        histogram: `edges` (n + 1, rising), `bona_fide` and one entry per species, n counts each.
        threshold: Where accepting starts; None: no line, nothing is right or wrong.
        notes: Row -> a short text at its right end.
        title: Of the figure, for readers who hear it.
        name: Unique within a page.
    """
    rows = {key: counts for key, counts in histogram.items() if key != "edges"}
    rows = {"bona_fide": rows.pop("bona_fide"), **rows} if "bona_fide" in rows else rows
    edges = np.asarray(histogram.get("edges", (0, 1)), dtype=float)
    step, gap = 58, 38
    height = 22 + step * max(len(rows), 1) + gap
    with house_style():
        figure = new_figure(252, height)
        axes = place(figure, left=8, right=8, top=22, bottom=gap)
        axes.set_xlim(0, 1)
        axes.set_ylim(-len(rows), 0)
        axes.grid(visible=False)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "", "0.5", "", "1"])
        axes.set_xlabel("score (higher: more bona fide)")
        shares = {key: _shares(counts) for key, counts in rows.items()}
        highest = max((float(share.max(initial=0.0)) for share in shares.values()), default=0.0)
        for index, (label, share) in enumerate(shares.items()):
            is_live = label == "bona_fide"
            heights = BAR * np.sqrt(share / highest) if highest else share
            _row(axes, -index - 1, edges, heights, threshold, is_live)
            text = "bona fide" if is_live else shorten(label, 20)
            axes.text(0, -index - 0.31, text, fontsize=11, va="center")
            if notes and label in notes:
                muted: dict[str, Any] = {"fontsize": 10, "color": LIGHT["muted"]}
                axes.text(1, -index - 0.31, notes[label], va="center", ha="right", **muted)
            if threshold is not None:  # beside the bars, not through the words above them
                at, foot = min(threshold, 1.0), -index - 1
                line: dict[str, Any] = {"color": LIGHT["ink"], "linewidth": 1.3, "clip_on": False}
                axes.plot([at, at], [foot, foot + BAR], solid_capstyle="butt", **line)
        if threshold is not None:
            at = min(threshold, 1.0)
            side = "left" if at < 0.25 else "right" if at > 0.75 else "center"
            axes.annotate(
                f"threshold {threshold:.3g}", (at, 0), (0, 5), textcoords="offset points",
                ha=side, fontsize=10.5,
            )  # fmt: skip
    said = "; ".join(f"{shorten(key, 22)}: {note}" for key, note in (notes or {}).items())
    return Plot(figure=figure, name=name, title=title, description=said.replace("_", " "))


def figure_reliability(bins: Sequence[Mapping[str, float]], *, name: str) -> Plot:
    """Share of bona fide against mean score, a dot with its interval per bin, area by its size.

    Args:
        bins: With `mean_score`, `bona_fide`, `low`, `high` and `n`.
        name: Unique within a page.
    """
    most = max((row["n"] for row in bins), default=1)
    with house_style():
        figure = new_figure(340, 330)
        axes = place(figure, left=50, right=14, top=12, bottom=46)
        axes.plot([0, 1], [0, 1], color=LIGHT["rule"], linewidth=1)
        for row in bins:
            x = row["mean_score"]
            axes.plot([x, x], [row["low"], row["high"]], color=LIGHT["muted"], linewidth=1.1)
            size = 3 + 7 * (row["n"] / most) ** 0.5
            dot: dict[str, Any] = {"marker": "o", "markersize": size, "color": LIGHT["live"]}
            axes.plot([x], [row["bona_fide"]], clip_on=False, zorder=3, **dot)
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
        axes.set_xlabel("mean score of the bin")
        axes.set_ylabel("share of bona fide")
    said = "; ".join(f"{row['bona_fide']:.2f} at {row['mean_score']:.2f}" for row in bins)
    return Plot(figure=figure, name=name, title="Reliability diagram", description=said)


def _det_points(
    line: Mapping[str, Sequence[float]],
    point: tuple[float, float] | None = None,
    ceiling: float = DET_CEILING,
) -> tuple[np.ndarray, np.ndarray]:
    """The line as far as it is inside the axes; along an edge it runs to the point in use alone."""
    found = [*zip(line["apcer"], line["bpcer"], strict=True), *([point] if point else [])]
    steps = sorted(found, key=lambda step: (-step[0], step[1]))
    while len(steps) > 1 and steps[0] != point:
        if steps[1][0] < ceiling and steps[1][1] > DET_FLOOR:
            break
        del steps[0]
    while len(steps) > 1 and steps[-1] != point:
        if steps[-2][1] < ceiling and steps[-2][0] > DET_FLOOR:
            break
        del steps[-1]
    x, y = np.array(steps, dtype=float).reshape(-1, 2).T
    return _probit(x, ceiling), _probit(y, ceiling)


def _probit(rates: Sequence[float] | np.ndarray, ceiling: float = DET_CEILING) -> np.ndarray:
    return ndtri(np.clip(np.asarray(rates, dtype=float), DET_FLOOR, ceiling))


def _shares(counts: Sequence[float]) -> np.ndarray:
    """Of the row's presentations, per bin; zeros without any."""
    found = np.asarray(counts, dtype=float)
    return found / max(found.sum(), 1.0)


def _row(
    axes: Axes,
    base: float,
    edges: np.ndarray,
    heights: np.ndarray,
    threshold: float | None,
    is_live: bool,
) -> None:
    """Bars of one class on its own base line; those on the wrong side of the threshold solid."""
    axes.plot([0, 1], [base, base], color=LIGHT["rule"], linewidth=0.8)
    colour = LIGHT["live" if is_live else "attack"]
    if threshold is not None and edges[0] < threshold < edges[-1] and threshold not in edges:
        cut = int(np.searchsorted(edges, threshold))
        edges = np.insert(edges, cut, threshold)
        heights = np.insert(heights, cut, heights[cut - 1])
    middles = (edges[:-1] + edges[1:]) / 2
    wrong = np.zeros(len(middles), dtype=bool)
    if threshold is not None:
        wrong = (middles < threshold) == is_live
    for side, alpha in ((~wrong, 0.32), (wrong, 1.0)):
        tops = base + np.where(side, heights, 0.0)
        axes.stairs(tops, edges, baseline=base, fill=True, color=colour, alpha=alpha, lw=0)
