"""Decisions before and after, by hand, and against the evaluator's own record."""

import numpy as np
import pytest

from pliant.errors import UserError
from pliant.pad.before_after import difference, rates
from pliant.pad.evaluation import evaluate_scores
from pliant.pad.paired import mcnemar
from pliant.pad.scores import Scores
from pliant.pad.thresholds import Threshold


@pytest.fixture
def scores():
    rng = np.random.default_rng(0)
    live = np.arange(60) % 3 == 0
    return Scores.of(
        1 / (1 + np.exp(-rng.normal(np.where(live, 1, -1)))),
        live,
        species=np.where(live, "", np.where(np.arange(60) % 2, "print", "replay")),
        subject=[f"s{k // 6}" for k in range(60)],
    )


def test_rates_are_those_of_the_evaluator(scores):
    threshold = Threshold(policy="fixed=0.4", value=0.4, source="x")
    whole = evaluate_scores(scores, threshold, draws=50)
    found = rates(scores, threshold.accepts(scores.score), draws=50, seed=0)
    assert found == {name: whole[name] for name in found}


def test_difference_by_hand(scores):
    before, after = scores.score >= 0.6, scores.score >= 0.4
    found = difference(scores, before, after, draws=50, seed=0)
    a, b = (rates(scores, accepted, draws=0, seed=0) for accepted in (before, after))
    assert found["bpcer"]["difference"] == b["bpcer"]["rate"] - a["bpcer"]["rate"] < 0
    assert found["acer"]["difference"] == pytest.approx(b["acer"]["value"] - a["acer"]["value"])
    live = scores.bona_fide
    assert found["mcnemar"]["bona_fide"] == mcnemar(before[live], after[live])


def test_bona_fide_alone(scores):
    live = scores[scores.bona_fide]
    before, after = live.score >= 0.9, live.score >= 0.3
    found = rates(live, before, draws=50, seed=0)
    assert found["acer"] is None
    assert found["bpcer"]["errors"] == int((~before).sum())
    assert found["bpcer"]["cluster_low"] <= found["bpcer"]["rate"] <= found["bpcer"]["cluster_high"]
    change = difference(live, before, after, draws=50, seed=0)
    assert change["acer"] is None
    assert change["bpcer"]["difference"] == pytest.approx(before.mean() - after.mean())
    assert change["bpcer"]["differs"]
    same = difference(live, before, before, draws=50, seed=0)["bpcer"]
    assert not same["differs"]
    with pytest.raises(UserError, match="both classes are needed"):
        rates(scores[~scores.bona_fide], np.zeros(40, dtype=bool), draws=0, seed=0)
