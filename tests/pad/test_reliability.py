import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pliant.pad.reliability import reliability_record
from pliant.pad.scores import Scores


def test_by_hand():
    scores = Scores.of([0.1, 0.2, 0.9, 1.0], [False, True, True, True])
    record = reliability_record(scores, bins=2)
    assert [(b["n"], b["bona_fide"]) for b in record["bins"]] == [(2, 0.5), (2, 1.0)]
    assert [b["mean_score"] for b in record["bins"]] == pytest.approx([0.15, 0.95])
    assert record["ece"] == pytest.approx((2 * 0.35 + 2 * 0.05) / 4)
    assert record["brier"] == pytest.approx((0.01 + 0.64 + 0.01 + 0) / 4)
    assert record["share_bona_fide"] == 0.75


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=50))
def test_slow_reference(rows):
    scores = Scores.of([s for s, _ in rows], [b for _, b in rows])
    record = reliability_record(scores, bins=5)
    error = 0.0
    for index in range(5):
        inside = [(s, b) for s, b in rows if min(int(s * 5), 4) == index]
        if inside:
            error += abs(sum(s for s, _ in inside) - sum(b for _, b in inside))
    assert record["ece"] == pytest.approx(error / len(rows), abs=1e-12)
    assert record["brier"] == pytest.approx(np.mean([(s - b) ** 2 for s, b in rows]), abs=1e-12)
    assert sum(b["n"] for b in record["bins"]) == len(rows)


def test_oracle_and_constant():
    oracle = reliability_record(Scores.of([1.0, 0.0], [True, False]))
    assert (oracle["ece"], oracle["brier"]) == (0, 0)
    constant = reliability_record(Scores.of([0.5] * 4, [True, False] * 2))
    assert (constant["ece"], constant["brier"]) == (0, 0.25)
