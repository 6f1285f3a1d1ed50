import json
import time

import numpy as np
import pytest

from pliant.errors import UserError
from pliant.pad import metrics
from pliant.pad.evaluation import det_curves, evaluate_scores, score_histogram, tier_agreement
from pliant.pad.scores import Scores
from pliant.pad.thresholds import Threshold, fit_threshold


def some_scores(seed, *, n=400, num_subjects=20, shift=1.2, name=""):
    rng = np.random.default_rng(seed)
    bona_fide = np.arange(n) % 4 == 0
    logit = rng.normal(np.where(bona_fide, shift, -shift))
    return Scores.of(
        1 / (1 + np.exp(-logit)),
        bona_fide,
        species=np.where(bona_fide, "", np.where(np.arange(n) % 2 == 0, "print", "replay")),
        subject=[f"{name}{subject}" for subject in np.arange(n) // 4 % num_subjects],
    )


DEV, TEST = some_scores(0, name="d"), some_scores(1, name="t")
FITTED = fit_threshold(DEV, draws=100)


def test_record_says_what_the_functions_say():
    record = evaluate_scores(TEST, FITTED, draws=200, seed=7)
    at = FITTED.value
    for name, rate in metrics.apcer(TEST, at).items():
        assert rate.to_json().items() <= record["apcer"][name].items()
    assert record["apcer_ap"]["rate"] == max(rate["rate"] for rate in record["apcer"].values())
    assert record["apcer"][record["apcer_ap"]["species"]]["rate"] == record["apcer_ap"]["rate"]
    assert record["apcer_pooled"]["rate"] == metrics.apcer_pooled(TEST, at).rate
    assert record["bpcer"]["rate"] == metrics.bpcer(TEST, at).rate
    assert record["acer"]["value"] == metrics.acer(TEST, at)
    assert record["acer"]["name"] == "ACER (max APCER over species)"
    assert record["hter"]["value"] == metrics.hter(TEST, FITTED)
    assert record["eer"]["value"] == metrics.eer(TEST)
    assert record["auc"]["value"] == metrics.auc(TEST)
    assert record["bpcer20"]["value"] == metrics.bpcer_at_apcer(TEST, 0.05)
    assert (record["bpcer20"]["supported"], record["bpcer100"]["supported"]) == (True, False)
    assert (record["num_bona_fide"], record["num_attack"], record["num_subjects"]) == (100, 300, 20)
    assert (record["bootstrap_draws"], record["bootstrap_seed"]) == (200, 7)
    assert record["notes"] == []
    assert json.loads(json.dumps(record, allow_nan=False)) == record


def test_every_interval_holds_its_value():
    record = evaluate_scores(TEST, FITTED, draws=300)
    for name in ("acer", "hter", "eer", "auc", "bpcer10", "bpcer20"):
        assert record[name]["low"] <= record[name]["value"] <= record[name]["high"]
    for rate in (*record["apcer"].values(), record["bpcer"], record["apcer_pooled"]):
        assert rate["low"] <= rate["rate"] <= rate["high"]
        assert rate["cluster_low"] <= rate["rate"] <= rate["cluster_high"]


def test_refitting_the_threshold_widens_the_interval():
    held = evaluate_scores(TEST, FITTED, draws=300)
    refitted = evaluate_scores(TEST, FITTED, dev=DEV, draws=300)
    assert "threshold held" in held["interval_method"]
    assert "refitted on resampled dev" in refitted["interval_method"]

    def width(record, name):
        return record[name]["cluster_high"] - record[name]["cluster_low"]

    assert width(refitted, "bpcer") > 1.2 * width(held, "bpcer")
    assert refitted["auc"] == held["auc"]
    assert refitted["bpcer"]["rate"] == held["bpcer"]["rate"]


def test_same_seed_same_record():
    first = evaluate_scores(TEST, FITTED, dev=DEV, draws=50, seed=3)
    assert first == evaluate_scores(TEST, FITTED, dev=DEV, draws=50, seed=3)
    assert first["eer"] != evaluate_scores(TEST, FITTED, draws=50, seed=4)["eer"]


def test_frames_are_no_trials():
    """Ten equal frames of every presentation change neither a rate nor an interval."""
    rows = np.repeat(np.arange(len(TEST)), 10)
    ordered = TEST[np.lexsort((TEST.presentation, TEST.subject))]
    once = evaluate_scores(ordered, FITTED, draws=50)
    frames = evaluate_scores(ordered[rows], FITTED, draws=50)
    assert frames["bpcer"] == once["bpcer"]
    assert frames["eer"]["value"] == pytest.approx(once["eer"]["value"])


def test_hter_only_with_a_dev_threshold():
    assert evaluate_scores(DEV, FITTED, draws=0)["hter"] is None
    by_hand = Threshold(policy="fixed=0.5", value=0.5, source="given by hand")
    assert evaluate_scores(TEST, by_hand, draws=0)["hter"] is None
    assert evaluate_scores(TEST, by_hand, draws=20)["acer"]["low"] is not None


def test_without_a_threshold_no_decision():
    record = evaluate_scores(TEST, None, draws=20)
    names = ("apcer", "apcer_ap", "apcer_pooled", "bpcer", "acer", "hter")
    assert [record[name] for name in names] == [None] * 6
    assert record["auc"]["low"] < record["auc"]["value"]


def test_one_subject_has_no_cluster_interval():
    alone = Scores.of(TEST.score, TEST.bona_fide, species=TEST.species, subject=["a"] * 400)
    record = evaluate_scores(alone, FITTED)
    assert (record["eer"]["low"], record["bpcer"]["cluster_high"]) == (None, None)
    assert record["bpcer"]["high"] > record["bpcer"]["rate"]
    assert "no resampling of subjects" in record["interval_method"]


def test_few_subjects_are_said():
    few = some_scores(1, num_subjects=3)
    assert "only 3 subjects" in evaluate_scores(few, FITTED, draws=20)["notes"][0]


def test_without_subjects_presentations_are_drawn():
    record = evaluate_scores(Scores.of(TEST.score, TEST.bona_fide), None, draws=20)
    assert "over presentations (no subject is named)" in record["interval_method"]
    assert record["num_subjects"] == 0


def test_trap_winning_class_probability():
    """It cannot be thresholded: a sure attack and a sure bona fide both read 0.99."""
    proper = some_scores(5, shift=4)
    winning = np.maximum(proper.score, 1 - proper.score)
    broken = Scores.of(winning, proper.bona_fide, species=proper.species)
    record = evaluate_scores(broken, None, draws=0)
    assert metrics.auc(proper) > 0.99
    assert abs(record["auc"]["value"] - 0.5) < 0.1
    assert "probabilities of the winning class" in " ".join(record["notes"])


def test_trap_scores_the_wrong_way_round():
    wrong = Scores.of(1 - TEST.score, TEST.bona_fide, species=TEST.species)
    notes = evaluate_scores(wrong, None, draws=0)["notes"]
    assert "below chance" in notes[0]
    assert "higher means more bona fide" in notes[0]


def test_shared_subjects_are_said():
    notes = evaluate_scores(some_scores(3, name="d"), FITTED, dev=DEV, draws=0)["notes"]
    assert notes == ["20 subjects are in dev and in test, 'd0' among them"]


def test_a_threshold_of_the_judged_scores_is_said():
    """Without subjects' names nothing else could tell."""
    nameless = Scores.of(TEST.score, TEST.bona_fide, species=TEST.species)
    fitted = fit_threshold(nameless, draws=0)
    [note] = evaluate_scores(nameless, fitted, dev=nameless, draws=0)["notes"]
    assert "fitted on the scores that it judges" in note
    assert not evaluate_scores(nameless, FITTED, draws=0)["notes"]


def test_refusals():
    with pytest.raises(ValueError, match="not those that the threshold was fitted on"):
        evaluate_scores(TEST, FITTED, dev=some_scores(9))
    with pytest.raises(UserError, match="both classes are needed"):
        evaluate_scores(TEST[TEST.bona_fide], FITTED)


def test_det_and_histogram_records():
    det = det_curves(TEST)
    assert list(det) == ["print", "replay", "all"]
    assert max(len(line["apcer"]) for line in det.values()) <= 200
    histogram = score_histogram(TEST, bins=10)
    assert (len(histogram["edges"]), sum(histogram["bona_fide"])) == (11, 100)
    assert sum(histogram["print"]) + sum(histogram["replay"]) == 300


def at(value):
    return Threshold(policy=f"fixed={value}", value=value, source="given by hand")


def test_agreement_by_hand():
    """Of four presentations the tiers differ about two, and `low` is wrong about both."""
    labels = [True, True, False, False]
    low = Scores.of([0.9, 0.3, 0.6, 0.1], labels, presentation=["a", "b", "c", "d"])
    high = Scores.of([0.9, 0.8, 0.2, 0.1], labels, presentation=["a", "b", "c", "d"])
    shuffled = high[np.array([3, 1, 0, 2])]
    [pair] = tier_agreement({"low": (low, at(0.5)), "high": (shuffled, at(0.5))})
    assert (pair["a"], pair["b"], pair["n"], pair["different"]) == ("low", "high", 4, 2)
    assert (pair["rate"], pair["only_a_errs"], pair["only_b_errs"]) == (0.5, 2, 0)
    assert (pair["different_bona_fide"], pair["different_attack"]) == (1, 1)
    assert pair["mcnemar_p"] == 0.5  # two flips, both one way: 2 x (1/2)^2
    assert pair["low"] < 0.5 < pair["high"]


def test_each_tier_decides_at_its_own_threshold():
    halved = Scores.of(TEST.score / 2, TEST.bona_fide, species=TEST.species, subject=TEST.subject)
    tiers = {"low": (halved, at(0.25)), "high": (TEST, at(0.5)), "max": (TEST, at(0.6))}
    record = tier_agreement(tiers)
    assert [(pair["a"], pair["b"]) for pair in record] == [
        ("low", "high"),
        ("low", "max"),
        ("high", "max"),
    ]
    assert (record[0]["different"], record[0]["mcnemar_p"]) == (0, 1)
    assert record[1]["different"] == record[2]["different"] > 0
    with pytest.raises(UserError, match="scored different presentations"):
        tier_agreement({"low": (TEST, at(0.5)), "high": (DEV, at(0.5))})


def test_two_thousand_draws_of_ten_thousand_scores_take_seconds():
    test, dev = (some_scores(seed, n=10_000, num_subjects=100) for seed in (0, 1))
    started = time.perf_counter()
    fitted = fit_threshold(dev)
    evaluate_scores(test, fitted, dev=dev)
    assert time.perf_counter() - started < 20  # about 3 s on one idle core
