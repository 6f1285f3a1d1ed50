"""The report's figures of a tier's scores: DET curves and histograms around the threshold.

Every function takes blocks of evaluation.json and returns a `Plot` (pliant.pad.svg). Rates and
scores lie in [0, 1].
"""

from collections.abc import Mapping, Sequence
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

DET_TICKS = (0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4)
DET_FLOOR, DET_CEILING = 0.0008, 0.6
HALO: dict[str, Any] = {"facecolor": LIGHT["paper"], "edgecolor": "none", "alpha": 0.75, "pad": 0.8}


def figure_det(
    lines: Mapping[str, Mapping[str, Sequence[float]]],
    *,
    operating: Mapping[str, tuple[float, float]] | None = None,
    title: str,
    name: str,
) -> Plot:
    """Error trade-offs on probit axes (a normal deviate is a straight line), one line per key.

    Args:
        lines: Label -> `apcer` and `bpcer`, equally long.
        operating: Label -> (APCER, BPCER) at the threshold in use, drawn as a marker.
        title: Of the figure, for readers who hear it.
        name: Unique within a page.
    """
    operating = operating or {}
    with house_style():
        figure = new_figure(340, 336)
        axes = place(figure, left=50, right=12, top=10, bottom=46)
        ends = ndtri([DET_FLOOR, DET_CEILING])
        axes.plot(ends, ends, color=LIGHT["rule"], linewidth=1)
        for index, (label, line) in enumerate(lines.items()):
            colour, dash = SERIES[index % len(SERIES)], DASHES[index % len(DASHES)]
            x, y = _det_points(line)
            dot = "." if len(x) == 1 else ""
            axes.plot(x, y, color=colour, linestyle=dash, marker=dot, clip_on=False)
            marker, size = MARKERS[index % len(MARKERS)], 6.5
            if label in operating:
                at = _probit(operating[label])
                axes.plot(*at[:, None], marker, color=colour, ms=size, mec=LIGHT["paper"], mew=1)
                axes.lines[-1].set_clip_on(False)
            axes.plot(
                [], [], color=colour, linestyle=dash, marker=marker if label in operating else "",
                markeredgecolor=LIGHT["paper"], markersize=size, label=" " + shorten(label, 26),
            )  # fmt: skip
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_ticks(ndtri(DET_TICKS), [f"{100 * tick:g}" for tick in DET_TICKS])
        axes.set_xlim(*ends)
        axes.set_ylim(*ends)
        axes.set_xlabel("APCER, % of attacks accepted")
        axes.set_ylabel("BPCER, % of bona fide rejected")
        if lines:
            axes.legend(frameon=False, loc="best", fontsize=10.5, handlelength=2.6)
    where = "; ".join(
        f"{shorten(label, 26)} works at APCER {100 * x:.2g} %, BPCER {100 * y:.2g} %"
        for label, (x, y) in operating.items()
    )
    return Plot(figure=figure, name=name, title=title, description=where or ", ".join(lines))


def figure_histogram(
    histogram: Mapping[str, Sequence[float]],
    *,
    threshold: float | None,
    notes: Mapping[str, str] | None = None,
    title: str,
    name: str,
) -> Plot:
    """One row of bars per class (bona fide first, then each species); decided wrongly is solid.

    Heights go with the square root of the share within the row, so few errors stay visible.

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
    step, gap = 48, 38
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
        for index, (label, counts) in enumerate(rows.items()):
            is_live = label == "bona_fide"
            _row(axes, -index - 1, edges, np.asarray(counts, dtype=float), threshold, is_live)
            side, at = ("left", 0.0) if is_live else ("right", 1.0)  # where only errors lie
            words: dict[str, Any] = {"va": "center", "ha": side, "bbox": HALO}
            text = "bona fide" if is_live else shorten(label, 22)
            axes.text(at, -index - 0.24, text, fontsize=11, **words)
            if notes and label in notes:
                muted: dict[str, Any] = {"fontsize": 10, "color": LIGHT["muted"]}
                axes.text(at, -index - 0.54, notes[label], **muted, **words)
        if threshold is not None:
            at = min(threshold, 1.0)
            axes.plot([at, at], [-len(rows), 0], color=LIGHT["ink"], linewidth=1.3, clip_on=False)
            side = "left" if at < 0.25 else "right" if at > 0.75 else "center"
            axes.annotate(
                f"threshold {threshold:.3g}", (at, 0), (0, 5), textcoords="offset points",
                ha=side, fontsize=10.5,
            )  # fmt: skip
    said = "; ".join(f"{shorten(key, 22)}: {note}" for key, note in (notes or {}).items())
    return Plot(figure=figure, name=name, title=title, description=said.replace("_", " "))


def _det_points(line: Mapping[str, Sequence[float]]) -> tuple[np.ndarray, np.ndarray]:
    """The line inside the axes: where it has reached an edge, it does not run along it."""
    x, y = np.asarray(line["apcer"], dtype=float), np.asarray(line["bpcer"], dtype=float)
    shown = (x <= DET_CEILING) & (y <= DET_CEILING)
    at_left, at_bottom = x <= DET_FLOOR, y <= DET_FLOOR
    if at_left.any():
        shown &= ~at_left | (y == y[at_left].min())
    if at_bottom.any():
        shown &= ~at_bottom | (x == x[at_bottom].min())
    return _probit(x[shown]), _probit(y[shown])


def _probit(rates: Sequence[float] | np.ndarray) -> np.ndarray:
    return ndtri(np.clip(np.asarray(rates, dtype=float), DET_FLOOR, DET_CEILING))


def _row(
    axes: Axes,
    base: float,
    edges: np.ndarray,
    counts: np.ndarray,
    threshold: float | None,
    is_live: bool,
) -> None:
    """Bars of one class on its own base line; those on the wrong side of the threshold solid."""
    axes.plot([0, 1], [base, base], color=LIGHT["rule"], linewidth=0.8)
    if not counts.sum() > 0:
        return
    heights = 0.86 * np.sqrt(counts / counts.sum())
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
