import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pliant.pad.metrics import det_curve
from pliant.pad.roc import FLOOR, figure_roc, roc_points
from pliant.pad.scores import Scores

LINE = {"apcer": [1.0, 0.5, 0.5, 0.0, 0.0, 0.0], "bpcer": [0.0, 0.0, 0.25, 0.25, 0.5, 1.0]}


def test_by_hand():
    x, y = roc_points(LINE)
    assert x.tolist() == [1, 0.5, 0.5, FLOOR]
    assert y.tolist() == [1, 1, 0.75, 0.75]


def test_along_the_floor_it_reaches_the_point_in_use():
    x, y = roc_points(LINE, (0.0, 0.5))
    assert x.tolist() == [1, 0.5, 0.5, FLOOR, FLOOR]
    assert y.tolist() == [1, 1, 0.75, 0.75, 0.5]


def test_a_point_that_a_thinned_line_lacks_lies_on_it():
    x, y = roc_points({"apcer": [1.0, 0.0], "bpcer": [0.0, 1.0]}, (0.25, 0.5))
    assert (0.25, 0.5) in zip(x.tolist(), y.tolist(), strict=True)


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=2, max_size=40))
def test_it_rises_inside_the_axes(rows):
    live = np.array([True, False, *(one for _, one in rows)])
    score = np.array([0.6, 0.4, *(value for value, _ in rows)])
    line = det_curve(Scores.of(score, live)).to_json()
    x, y = roc_points(line)
    assert (np.diff(x) <= 0).all()
    assert (np.diff(y) <= 0).all()
    assert x.min() >= FLOOR
    assert ((y >= 0) & (y <= 1)).all()
    known = {(max(a, FLOOR), 1 - b) for a, b in zip(line["apcer"], line["bpcer"], strict=True)}
    assert set(zip(x.tolist(), y.tolist(), strict=True)) <= known  # nothing is computed anew


@pytest.mark.parametrize("operating", [{}, {"print": (0.0, 0.5)}])
def test_the_figure(operating):
    plot = figure_roc({"print": LINE, "<x>": LINE}, operating=operating, title="ROC", name="roc")
    text = plot.inline()
    assert "var(--series1" in text
    assert "<x>" not in text
    said = "print accepts 0 % of attacks, 50 % of bona fide"
    assert plot.description == (said if operating else "print, <x>")
    axes = plot.figure.axes[0]
    assert axes.get_xscale() == "log"
    assert axes.get_xlim() == (FLOOR, 1)
