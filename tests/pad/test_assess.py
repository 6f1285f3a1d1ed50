import json

import numpy as np
import pytest

import pliant.pad
from pliant.errors import UserError
from pliant.pad import metrics
from pliant.pad.assess import evaluate
from pliant.pad.scores import Scores
from pliant.pad.table import ScoreTable, write_table
from pliant.pad.thresholds import fit_threshold


def some_table(seed, *, n=240, name="t", silent=True):
    rng = np.random.default_rng(seed)
    live = np.arange(n) % 3 == 0
    score = 1 / (1 + np.exp(-rng.normal(np.where(live, 1.5, -1.5))))
    quiet = (np.arange(n) % 40 == 0) if silent else np.zeros(n, dtype=bool)
    return ScoreTable(
        subject=np.array([f"{name}{i // 12}" for i in range(n)]),
        presentation=np.arange(n).astype(str),
        bona_fide=live,
        species=np.where(live, "", np.where(np.arange(n) % 2 == 0, "print", "replay")),
        score=np.where(quiet, np.nan, score),
        reason=np.where(quiet, "no face", ""),
        extra={
            "device": np.where(np.arange(n) % 4 < 2, "old", "new"),
            "total_ms": np.arange(n).astype(str),
        },
    )


TEST, DEV = some_table(1), some_table(0, name="d")


def test_everything_is_in_the_record():
    record = evaluate(TEST, dev=DEV, draws=50, celeba=True)
    [tier] = record["tiers"]
    fitted = fit_threshold(DEV.scores, source="memory", draws=50)
    assert tier["threshold"] == fitted.to_json()
    assert tier["metrics"]["hter"]["value"] == metrics.hter(TEST.scores, fitted)
    assert tier["metrics"]["apcer_at_bpcer1"]["value"] == metrics.apcer_at_bpcer(TEST.scores, 0.01)
    assert tier["metrics"]["apcer_at_bpcer1"]["supported"] is False
    assert list(tier["det"]) == ["print", "replay", "all"]
    assert tier["nonresponse"]["num"] == 6
    assert set(tier["slices"]["columns"]) == {"device"}
    duration = tier["durations"]["total_ms"]
    assert duration == pytest.approx({"n": 240, "p50": 119.5, "p95": 227.05, "max": 239})
    assert [entry["limit"] for entry in tier["celeba_official"]] == [0.01, 0.005, 0.001]
    assert record["data"]["counts"] == {
        "presentations": 240,
        "bona_fide": 80,
        "attack": 160,
        "subjects": 20,
        "without_response": 6,
    }
    assert "6 presentations of dev got no response and fitted nothing" in tier["metrics"]["notes"]
    assert json.loads(json.dumps(record, allow_nan=False)) == record


def test_from_files_to_a_report(tmp_path):
    for table, name in ((TEST, "test"), (DEV, "dev")):
        write_table(table, tmp_path / f"{name}.csv", bob=name == "dev")
    record = pliant.pad.evaluate(
        tmp_path / "test.csv", dev=tmp_path / "dev.csv", draws=20, out=tmp_path
    )
    assert json.loads((tmp_path / "evaluation.json").read_text()) == record
    assert record["tiers"][0]["metrics"] == evaluate(TEST, dev=DEV, draws=20)["tiers"][0]["metrics"]
    assert "test.csv" in (tmp_path / "report.html").read_text()


def test_row_order_changes_no_figure():
    shuffled = TEST[np.random.default_rng(0).permutation(len(TEST))]
    one, two = (
        evaluate(table, policy="fixed=0.5", draws=20)["tiers"][0] for table in (TEST, shuffled)
    )
    sums = [tier.pop("reliability") for tier in (one, two)]
    assert one == two
    assert sums[0]["brier"] == pytest.approx(sums[1]["brier"], abs=1e-14)


def test_without_threshold():
    record = evaluate(TEST, draws=0)
    assert record["tiers"][0]["slices"] is record["tiers"][0]["threshold"] is None
    assert "no threshold" in record["limits"][-1]
    by_hand = evaluate(TEST, policy="fixed=0.5", draws=0)
    assert by_hand["tiers"][0]["metrics"]["hter"] is None
    assert "set by hand" in by_hand["limits"][-1]


def test_a_stored_threshold():
    fitted = fit_threshold(DEV.scores, draws=0)
    record = evaluate(TEST, threshold=fitted, draws=20)
    assert record["tiers"][0]["metrics"]["hter"] is not None
    assert "hold the threshold for fixed" in record["limits"][-1]
    assert len(evaluate(TEST, threshold=fitted, dev=DEV, draws=20)["limits"]) == 2
    with pytest.raises(UserError, match=r"not fitted on memory \(another hash\)"):
        evaluate(TEST, threshold=fitted, dev=some_table(7), draws=0)
    with pytest.raises(UserError, match="both a threshold and a policy"):
        evaluate(TEST, threshold=fitted, policy="eer")


def test_notes_say_what_is_new_or_unnamed():
    scores = Scores.of([0.9, 0.1, 0.2], [True, False, False], species=[None, None, "mask"])
    notes = evaluate(scores, dev=DEV, draws=0)["tiers"][0]["metrics"]["notes"]
    assert "1 attacks name no species and count as one, called unnamed" in notes
    assert "the threshold has seen no attack of species mask, unnamed" in notes


def test_refusals():
    with pytest.raises(UserError, match="both classes are needed"):
        evaluate(Scores.of([0.5], [True]), draws=0)
    with pytest.raises(UserError, match="unsupported by data"):
        evaluate(TEST, dev=DEV, policy="apcer<=0.01", draws=0)
    slow = ScoreTable.of(TEST.scores, total_ms=["fast"] * len(TEST.scores))
    with pytest.raises(UserError, match="'total_ms' must hold milliseconds"):
        evaluate(slow, draws=0)
    twice = Scores.of([0.5, 0.4], [True, True], presentation=["a", "a"])
    with pytest.raises(UserError, match="occurs more than once"):
        evaluate(twice, draws=0)


def test_frames_are_pooled_and_said():
    clips = Scores.of(
        [0.9, 0.7, 0.1], [True, True, False], presentation=["a", "a", "b"], subject=["x"] * 3
    )
    record = evaluate(clips, frames="mean", draws=0)
    assert record["data"]["frames_pooled"] == 3
    assert "3 rows were pooled into 2 presentations" in record["tiers"][0]["metrics"]["notes"]


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"draws": -1}, "draws must be >= 0, got -1"),
        ({"seed": -1}, "seed must be >= 0, got -1"),
        ({"threshold": 0.5}, 'must be a pliant.pad.Threshold, got 0.5; .* policy="fixed=0.5"'),
        ({"out": "no/such/folder"}, "there is no folder no/such/folder for the report"),
        ({"dev": Scores.of([], [])}, "there are no scores"),
        ({"frames": "median"}, "frames must be one of refuse, mean"),
    ],
)
def test_arguments_without_sense_are_refused(wrong, sentence):
    with pytest.raises(UserError, match=sentence):
        evaluate(TEST, **wrong)


def test_no_scores_at_all():
    with pytest.raises(UserError, match="there are no scores"):
        evaluate(Scores.of([], []))
