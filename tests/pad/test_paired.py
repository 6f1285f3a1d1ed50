import numpy as np
import pytest

from pliant.errors import UserError
from pliant.pad import metrics
from pliant.pad.intervals import subject_weights
from pliant.pad.paired import compare, mcnemar
from pliant.pad.scores import Scores
from pliant.pad.table import ScoreTable
from pliant.pad.thresholds import Threshold, fit_threshold

N = 400


def two(seed=0, *, gain=0.6):
    """The same presentations, scored by two systems that err alike; the second is better."""
    rng = np.random.default_rng(seed)
    live = np.arange(N) % 4 == 0
    sign = np.where(live, 1, -1)
    hard = rng.normal(1.2 * sign)
    logits = (hard, hard + gain * sign + rng.normal(size=N) * 0.3)
    species = np.where(live, "", np.where(np.arange(N) % 2 == 0, "print", "mask"))
    return tuple(
        Scores.of(1 / (1 + np.exp(-x)), live, species=species, subject=np.arange(N) // 20 % 10)
        for x in logits
    )


A, B = two()
HALF = Threshold(policy="fixed=0.5", value=0.5, source="given by hand")


def test_mcnemar_by_hand():
    a, b = np.array([True, False, False, False, True]), np.array([True, True, True, True, False])
    test = mcnemar(a, b)
    assert (test["n"], test["only_a_errs"], test["only_b_errs"]) == (5, 3, 1)
    assert test["p"] == pytest.approx(2 * (1 + 4) / 16)  # two-sided: P(<= 1 of 4) twice
    assert mcnemar(a, a)["p"] == 1


def test_values_are_those_of_each_alone():
    record = compare(A, B, HALF, HALF, draws=50)
    found = record["differences"]
    assert (found["auc"]["a"], found["auc"]["b"]) == (metrics.auc(A), metrics.auc(B))
    assert found["bpcer"]["b"] == metrics.bpcer(B, 0.5).rate
    assert found["apcer mask"]["a"] == metrics.apcer(A, 0.5)["mask"].rate
    for entry in found.values():
        assert entry["difference"] == entry["b"] - entry["a"]
    assert found["auc"]["differs"]
    assert record["mcnemar"]["all"]["only_a_errs"] > record["mcnemar"]["all"]["only_b_errs"]
    flips = [record["mcnemar"][kind]["n"] for kind in ("bona_fide", "attack", "all")]
    assert flips == [100, 300, 400]


def test_pairs_are_drawn_together():
    """The slow way: build each resample of both, then take the difference."""
    record = compare(A, B, HALF, HALF, draws=30, seed=2)
    order = np.lexsort((A.presentation, A.subject))
    a, b = A[order], B[order]
    drawn = []
    for _, weights in subject_weights(a, draws=30, seed=2):
        for times in weights:
            rows = np.repeat(np.arange(N), times)
            drawn.append(metrics.auc(b[rows]) - metrics.auc(a[rows]))
    low, high = np.quantile(drawn, [0.025, 0.975])
    found = record["differences"]["auc"]
    assert (found["low"], found["high"]) == pytest.approx((low, high), abs=1e-12)
    assert found["high"] - found["low"] < 0.06


def test_swap_symmetry_and_row_order():
    once = compare(A, B, HALF, HALF, draws=40)
    back = compare(B, A[np.arange(N)[::-1]], HALF, HALF, draws=40)
    for name, entry in once["differences"].items():
        other = back["differences"][name]
        assert other["difference"] == -entry["difference"]
        assert (other["low"], other["high"]) == pytest.approx((-entry["high"], -entry["low"]))
    assert once["mcnemar"]["all"]["p"] == back["mcnemar"]["all"]["p"]


def test_a_system_equals_itself():
    record = compare(A, A, HALF, HALF, draws=20)
    for entry in record["differences"].values():
        assert (entry["difference"], entry["low"], entry["high"]) == (0, 0, 0)
        assert not entry["differs"]


def test_thresholds_are_refitted_on_the_same_dev_subjects():
    dev_a, dev_b = two(9)
    fitted = [fit_threshold(dev, draws=0) for dev in (dev_a, dev_b)]
    record = compare(A, B, *fitted, dev_a=dev_a, dev_b=dev_b, draws=40)
    assert record["thresholds_refitted"]
    same = compare(A, A, fitted[0], fitted[0], dev_a=dev_a, dev_b=dev_a, draws=40)
    assert same["differences"]["bpcer"]["low"] == same["differences"]["bpcer"]["high"] == 0


def test_without_thresholds_no_decisions():
    record = compare(A, B, draws=10)
    assert record["mcnemar"] is None
    assert "bpcer" not in record["differences"]
    assert not record["thresholds_refitted"]


def by_hand(score):
    """Two bona fide presentations and four attacks; NaN: no response."""
    score = np.array(score)
    return ScoreTable(
        subject=np.array(list("aabbcc")), presentation=np.array(list("uvwxyz")),
        bona_fide=np.array([True, True, False, False, False, False]),
        species=np.array(["", "", "print", "print", "mask", "mask"]), score=score,
        reason=np.where(np.isnan(score), "no face", ""),
    )  # fmt: skip


def test_silence_of_the_one_leaves_the_rates_of_the_other():
    a = by_hand([0.9, 0.4, 0.8, 0.1, 0.1, 0.1])
    b = by_hand([0.9, np.nan, np.nan, 0.0, 0.1, 0.1])
    record = compare(a, b, HALF, HALF, draws=20)
    found = record["differences"]
    assert (found["apcer print"]["a"], found["apcer print"]["b"]) == (0.5, 0)
    assert found["apcer print"]["difference"] == -0.5
    assert (found["bpcer"]["a"], found["bpcer"]["b"], found["bpcer"]["b_of_all"]) == (0.5, 0, 0.5)
    assert found["bpcer"]["difference"] == 0  # silence is no admission
    assert (found["apnrr print"]["difference"], found["apnrr mask"]["difference"]) == (0.5, 0)
    assert found["bpnrr"]["difference"] == 0.5
    assert (record["n"], record["n_a"], record["n_b"], record["only_b_no_response"]) == (6, 6, 4, 2)
    assert record["mcnemar"]["all"] == {"n": 6, "only_a_errs": 1, "only_b_errs": 0, "p": 1}
    assert any("fall silent" in note for note in record["notes"])
    assert not compare(a, a, HALF, HALF, draws=20)["notes"]


def test_no_threshold_accepts_silence():
    a = by_hand([0.9, 0.4, 0.0, np.nan, np.nan, np.nan])
    all_in = Threshold(policy="fixed=0.0", value=0.0, source="given by hand")
    found = compare(a, a, all_in, all_in, draws=5)["differences"]
    assert (found["apcer print"]["a"], found["apcer print"]["a_of_all"]) == (1, 0.5)
    assert (found["apcer mask"]["a"], found["apcer mask"]["a_of_all"]) == (None, 0)


def test_hter_needs_a_threshold_of_other_scores():
    assert "hter" not in compare(A, B, HALF, HALF, draws=5)["differences"]
    dev_a, dev_b = two(9)
    fitted = [fit_threshold(dev, draws=0) for dev in (dev_a, dev_b)]
    found = compare(A, B, *fitted, dev_a=dev_a, dev_b=dev_b, draws=5)
    assert "hter" in found["differences"]
    assert any("A: 10 subjects are in dev and in test" in note for note in found["notes"])
    own = [fit_threshold(test, draws=0) for test in (A, B)]
    found = compare(A, B, *own, dev_a=A, dev_b=B, draws=5)
    assert "hter" not in found["differences"]
    assert any("B: the threshold was fitted on the scores" in note for note in found["notes"])


def test_refusals():
    with pytest.raises(UserError, match="1 are in the first alone, 0 in the second alone, '0'"):
        compare(A, B[np.arange(1, N)])
    other = Scores.of(B.score, ~B.bona_fide, subject=B.subject)
    with pytest.raises(UserError, match="draws must be >= 1, got -1"):
        compare(A, B, draws=-1)
    with pytest.raises(UserError, match=r"must be a pliant\.pad\.Threshold, got 0\.5"):
        compare(A, B, 0.5, 0.5)  # pyright: ignore[reportArgumentType]
    with pytest.raises(UserError, match=r"label presentation .* differently \(400 such"):
        compare(A, other)
