"""The figures: what they draw, where, and that nothing outside them changes."""

import math
from itertools import pairwise
from xml.etree import ElementTree

import cv2
import matplotlib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from scipy.special import ndtri

from pliant.errors import UserError
from pliant.pad import score_plots, svg
from pliant.pad.plots import figure_quality_against_cost, figure_training, pareto_front
from pliant.pad.score_plots import figure_det, figure_histogram

POINTS = [
    {"tier": "low", "configuration": "LL", "macs": 1e7, "latency_ms": 1.0, "quality": 0.90},
    {"tier": None, "configuration": "LH", "macs": 2e7, "latency_ms": 2.0, "quality": 0.88},
    {"tier": "high", "macs": 4e7, "latency_ms": {"median": 4.0, "p90": 5.0}, "quality": 0.97},
    {"tier": "lost", "configuration": "BB", "macs": None, "latency_ms": None, "quality": None},
]  # fmt: skip
LINES = {"print": {"apcer": [1.0, 0.2, 0.02, 0.0], "bpcer": [0.0, 0.01, 0.1, 1.0]}}
HISTOGRAM = {"edges": [0, 0.25, 0.5, 0.75, 1], "bona_fide": [0, 1, 3, 12], "print": [9, 4, 2, 1]}
CURVE = [
    {"epoch": 0, "loss": 0.7, "dev_auc_low": 0.6, "dev_auc_high": 0.62},
    {"epoch": 1, "loss": math.nan, "dev_auc_low": 0.8, "dev_auc_high": None},
    {"epoch": 2, "loss": 0.2, "dev_auc_low": 0.9, "dev_auc_high": 0.95},
]


def every_plot() -> list[svg.Plot]:
    return [
        figure_quality_against_cost(POINTS, quality_name="AUC", baseline=0.85),
        figure_det(LINES, operating={"print": (0.02, 0.1)}, title="DET", name="det"),
        figure_histogram(HISTOGRAM, threshold=0.6, notes={"print": "1 of 16"}, title="S", name="s"),
        figure_training(CURVE),
    ]


def words_of(text: str) -> str:
    return " ".join(ElementTree.fromstring(text).itertext())


@pytest.mark.parametrize("plot", every_plot(), ids=lambda plot: plot.name)
def test_each_is_sound_svg_in_page_colours(plot):
    root = ElementTree.fromstring(plot.inline())
    assert root.tag == "svg"
    assert root.attrib["role"] == "img"
    assert root.attrib["aria-label"].startswith(plot.title)
    ids = [element.attrib["id"] for element in root.iter() if "id" in element.attrib]
    assert len(set(ids)) == len(ids)
    assert all(name.startswith(f"{plot.name}-") for name in ids)
    text = plot.inline()
    assert "var(--muted, #5d6670)" in text
    assert "font-family" not in text
    assert "metadata" not in text
    for outside in ("http:", "https:", "xlink", "<script", "<!"):
        assert outside not in text


@pytest.mark.parametrize("plot", every_plot(), ids=lambda plot: plot.name)
def test_each_goes_to_file(plot, tmp_path):
    alone = svg.write_figure(plot, tmp_path / "plot.svg")
    text = alone.read_text(encoding="utf-8")
    assert ElementTree.fromstring(text).tag == "{http://www.w3.org/2000/svg}svg"
    assert "prefers-color-scheme:dark" in text
    assert "<desc>" in text
    picture = cv2.imread(str(svg.write_figure(plot, tmp_path / "plot.png")))
    assert picture is not None
    width, height = plot.figure.get_size_inches() * 144
    assert picture.shape[:2] == (round(height), round(width))
    assert picture.std() > 5, "something is drawn"
    with pytest.raises(UserError, match=r"\.svg or \.png, got \"plot.pdf\""):
        svg.write_figure(plot, tmp_path / "plot.pdf")


def test_no_state_of_matplotlib_changes():
    with matplotlib.rc_context({"axes.grid": False, "font.size": 7}):
        before = dict(matplotlib.rcParams)
        backend = matplotlib.get_backend()
        for plot in every_plot():
            plot.inline()
            plot.png()
        assert dict(matplotlib.rcParams) == before
        assert matplotlib.get_backend() == backend


def test_same_input_same_bytes():
    assert [p.svg() for p in every_plot()] == [p.svg() for p in every_plot()]


def test_a_users_style_does_not_leak_in():
    plain = figure_training(CURVE).inline()
    with matplotlib.rc_context({"lines.linewidth": 9, "axes.facecolor": "pink"}):
        assert figure_training(CURVE).inline() == plain


def test_quality_figure_by_hand():
    plot = figure_quality_against_cost(POINTS, quality_name="AUC")
    assert plot.description == (
        "AUC against median latency of one image, ms: low 0.9 at 1, high 0.97 at 4."
    )
    shown = words_of(plot.inline())
    assert "low  0.9" in shown
    assert "high  0.97" in shown
    assert "lost" not in shown
    macs = figure_quality_against_cost(POINTS, cost="macs").description
    assert "low 0.9 at 10, high 0.97 at 40" in macs
    assert "millions" in figure_quality_against_cost([POINTS[0] | {"latency_ms": None}]).description


def test_a_far_baseline_is_named_and_a_near_one_drawn():
    near, far = (figure_quality_against_cost(POINTS, baseline=level) for level in (0.85, 0.2))
    assert "baseline 0.85" in words_of(near.inline())
    assert near.figure.axes[0].get_ylim()[0] < 0.85
    assert "baseline 0.2, below this plot" in words_of(far.inline())
    assert far.figure.axes[0].get_ylim()[0] > 0.8


def test_quality_figure_without_points():
    assert "no tier has both numbers" in figure_quality_against_cost([]).description
    assert figure_quality_against_cost([]).inline()


def test_quality_labels_do_not_collide():
    crowd = [
        {"tier": f"tier{i}", "latency_ms": 2 + 0.02 * i, "quality": 0.9 + 0.0005 * i}
        for i in range(4)
    ]
    wide = [{"tier": "far", "latency_ms": 9.0, "quality": 0.99}]
    plot = figure_quality_against_cost([*crowd, *wide])
    root = ElementTree.fromstring(plot.inline())
    spots = [
        (float(e.attrib["x"]), float(e.attrib["y"]))
        for e in root.iter("text")
        if (e.text or "").startswith("tier") and "x" in e.attrib
    ]
    assert len(spots) == 4
    for i, (x, y) in enumerate(spots):
        assert all(abs(y - v) >= 8 or abs(x - u) >= 60 for u, v in spots[i + 1 :])


def test_quality_labels_keep_clear_of_intervals():
    points = [
        {"tier": "low", "latency_ms": 4.0, "quality": 0.881, "low": 0.821, "high": 0.943},
        {"tier": "mid", "latency_ms": 4.87, "quality": 0.884, "low": 0.841, "high": 0.931},
        {"tier": "high", "latency_ms": 5.64, "quality": 0.901, "low": 0.850, "high": 0.947},
        {"tier": "max", "latency_ms": 9.25, "quality": 0.890, "low": 0.855, "high": 0.928},
    ]
    plot = figure_quality_against_cost(points, baseline=0.84)
    FigureCanvasAgg(plot.figure).draw()
    axes = plot.figure.axes[0]
    words = [w.get_window_extent() for w in axes.texts if w.get_text()[:3] in "low mid hig max"]
    assert len(words) == 4
    for point in points:
        (x, low), (_, high) = axes.transData.transform(
            [(point["latency_ms"], point[end]) for end in ("low", "high")]
        )
        assert not any(w.x0 <= x <= w.x1 and w.y0 <= high and w.y1 >= low for w in words)


def slow_front(points: list[tuple[float, float]]) -> set[tuple[float, float]]:
    return {
        p
        for p in points
        if not any((q[0] <= p[0] and q[1] >= p[1] and q != p) for q in points)
    }  # fmt: skip


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=30))
def test_pareto_front_equals_the_slow_one(points):
    front = pareto_front(points)
    assert set(front) == slow_front(points)
    assert front == sorted(front)


def test_det_axes_are_probit():
    """A line through (2 %, 20 %) and (20 %, 2 %) has its points where ndtri puts them."""
    line = {"apcer": [0.2, 0.02], "bpcer": [0.02, 0.2]}
    figure = figure_det({"a": line}, title="t", name="n").figure
    drawn = [d for d in figure.axes[0].lines if len(d.get_xdata()) == 2]
    x, y = drawn[-1].get_data()
    assert np.allclose(x, ndtri([0.2, 0.02]))
    assert np.allclose(y, ndtri([0.02, 0.2]))
    assert figure.axes[0].get_xlim() == figure.axes[0].get_ylim()


def test_det_line_stops_at_the_edge():
    x, y = score_plots._det_points({"apcer": [1, 0.3, 0, 0, 0], "bpcer": [0, 0, 0.1, 0.3, 1]})
    floor = ndtri(score_plots.DET_FLOOR)
    assert np.allclose(x, [ndtri(0.3), floor])
    assert np.allclose(y, [floor, ndtri(0.1)])
    perfect = score_plots._det_points({"apcer": [1, 0, 0], "bpcer": [0, 0, 1]})
    assert np.allclose(np.ravel(perfect), [floor, floor])


@pytest.mark.parametrize("point", [(0.2, 0.7), (0.0, 0.5), (0.02, 0.05), (1.0, 0.0)])
def test_det_markers_lie_on_the_line(point):
    """In a step above the usual ceiling, on an edge, on a thinned step, in a corner."""
    ceiling = score_plots.det_ceiling([point])
    lines = {
        "a": {"apcer": [1, 0.2, 0.2, 0.02, 0.02, 0, 0], "bpcer": [0, 0, 0.01, 0.01, 0.1, 0.1, 1]}
    }
    if point == (0.2, 0.7):
        lines = {"a": {"apcer": [1.0, 0.2, 0.2, 0.0], "bpcer": [0.0, 0.0, 0.9, 1.0]}}
    plot = figure_det(lines, operating={"a": point}, ceiling=ceiling, title="t", name="n")
    drawn = [line for line in plot.figure.axes[0].lines if len(line.get_xdata())]
    (x, y), (at_x, at_y) = drawn[1].get_data(), drawn[2].get_data()
    steps = list(zip(x, y, strict=True))
    assert any(
        min(a, c) - 1e-9 <= at_x[0] <= max(a, c) + 1e-9
        and min(b, d) - 1e-9 <= at_y[0] <= max(b, d) + 1e-9
        and (a == c or b == d)
        for (a, b), (c, d) in pairwise(steps)
    )
    low, high = plot.figure.axes[0].get_xlim()
    for values in (x, y):
        assert low <= np.min(values)
        assert np.max(values) <= high


def test_det_species_differ_in_dash_and_keep_the_tiers_colour():
    line = LINES["print"]
    plot = figure_det({"b": line, "a": line}, order="ab", colour="#123456", title="t", name="n")
    b, a = [
        x for x in plot.figure.axes[0].lines if x.get_color() == "#123456" and len(x.get_xdata())
    ]
    assert (a.get_linestyle(), b.get_linestyle()) == ("-", "--")
    tiers = (
        figure_det({"mid": line}, order=["low", "mid"], title="t", name="n").figure.axes[0].lines
    )
    assert tiers[1].get_color() == svg.SERIES[1]


def test_histogram_words_stand_clear_of_the_threshold():
    plot = figure_histogram(HISTOGRAM, threshold=0.6, notes={"print": "x"}, title="t", name="n")
    axes = plot.figure.axes[0]
    spans = [line.get_ydata() for line in axes.lines if line.get_xdata()[0] == 0.6]
    assert len(spans) == 2
    for _, y in (word.get_position() for word in axes.texts if word.get_text() != "threshold 0.6"):
        assert not any(low <= y <= high for low, high in spans)


def test_histogram_splits_right_from_wrong_at_the_threshold():
    """The bin that holds the threshold is cut there."""
    plot = figure_histogram(HISTOGRAM, threshold=0.6, title="t", name="n")
    live_right, live_wrong, _, attack_wrong = (p.get_data() for p in plot.figure.axes[0].patches)
    assert live_wrong.edges.tolist() == [0, 0.25, 0.5, 0.6, 0.75, 1]
    height = score_plots.BAR * np.sqrt(np.array([0, 1, 3, 3, 12]) / 12)  # 12 of 16: the highest
    assert np.allclose(live_wrong.values + 1, height * [1, 1, 1, 0, 0])
    assert np.allclose(live_right.values + 1, height * [0, 0, 0, 1, 1])
    attack = score_plots.BAR * np.sqrt(np.array([9, 4, 2, 2, 1]) / 12)
    assert np.allclose(attack_wrong.values + 2, attack * [0, 0, 0, 1, 1])


def test_histogram_without_threshold_or_counts():
    nothing = {"edges": [0, 0.5, 1], "bona_fide": [0, 0], "print": [1, 0]}
    plot = figure_histogram(nothing, threshold=None, title="t", name="n")
    assert "threshold" not in words_of(plot.inline())
    solid = [bar.get_data() for bar in plot.figure.axes[0].patches if bar.get_alpha() == 1.0]
    assert all((data.values == data.baseline).all() for data in solid)


def test_training_takes_the_tiers_colours():
    """Columns come in another order than tiers; `low` ends the name of `very_low` too."""
    curve = [{"epoch": e, "loss": 1.0, "dev_auc_high": 0.9, "dev_auc_very_low": 0.7,
              "dev_auc_low": 0.8, "dev_auc_new": 0.6} for e in range(2)]  # fmt: skip
    tiers = ["low", "very_low", "high", "unseen"]
    axes = figure_training(curve, tiers=tiers).figure.axes[1]
    colour = {round(float(line.get_ydata()[-1]), 1): line.get_color() for line in axes.lines}
    wanted = {0.8: 0, 0.7: 1, 0.9: 2, 0.6: 4}
    assert colour == {level: svg.SERIES[place] for level, place in wanted.items()}
    assert [word.get_text() for word in axes.texts] == ["new", "very_low", "low", "high"]


def test_training_of_one_epoch_is_dots():
    plot = figure_training(CURVE[:1], tiers=["low", "high"])
    dots = [line for axes in plot.figure.axes for line in axes.lines]
    assert [line.get_marker() for line in dots] == ["o", "o", "o"]
    assert plot.figure.axes[0].get_xlim() == (-1, 1)
    assert plot.title == "Training over 1 epoch"


def test_training_names_its_lines():
    plot = figure_training(CURVE)
    shown = words_of(plot.inline())
    for word in ("training loss", "dev AUC", "low", "high", "epoch"):
        assert word in shown
    assert plot.description == "At the end: loss 0.2, dev_auc_low 0.9, dev_auc_high 0.95."
    assert figure_training([{"epoch": 0, "loss": 1.0}]).inline()
    assert figure_training([]).inline()


@pytest.mark.parametrize(
    "bad", ["$x^2", "$\\frac{", "<b>&amp;", "_hidden", "\x07\x1b[0m", "面具🎭"]
)
def test_any_name_can_be_drawn(bad):
    """Names are never mathematics or markup; the page's fonts have what matplotlib's lack."""
    point = {"tier": bad, "latency_ms": 1.0, "quality": 0.9}
    drawn = [
        figure_quality_against_cost([point]),
        figure_det({bad: LINES["print"]}, title=bad, name="n"),
        figure_histogram({**HISTOGRAM, bad: [1, 1, 1, 1]}, threshold=0.5, title=bad, name="n"),
        figure_training([{"epoch": 0, "loss": 1.0, f"dev_{bad}": 0.5}, {"epoch": 1, "loss": 0.5}]),
    ]
    for plot in drawn:
        root = ElementTree.fromstring(plot.inline())
        assert svg.plain(bad).strip(" _") in " ".join(root.itertext())


def test_unknown_cost_is_refused():
    with pytest.raises(ValueError, match="unknown cost 'joule'; allowed are latency_ms, macs"):
        figure_quality_against_cost(POINTS, cost="joule")


def luminance(colour: str) -> float:
    """Relative luminance of WCAG 2, in [0, 1]."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


@pytest.mark.parametrize("side", [0, 1], ids=["light", "dark"])
def test_colours_can_be_read_on_their_background(side):
    paper = luminance(svg.PALETTE["paper"][side])
    for name, pair in svg.PALETTE.items():
        if name in ("paper", "rule"):
            continue
        low, high = sorted((paper, luminance(pair[side])))
        contrast = (high + 0.05) / (low + 0.05)
        least = 3.0 if name == "series5" else 4.0
        assert contrast >= least, f"{name}: {contrast:.2f}"
