"""Evaluation of tiny untrained runs: what is judged, what is stored, what is written."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from pliant.data.manifest import read_manifest
from pliant.errors import UserError
from pliant.jobs.evaluate import evaluate, summary
from pliant.pad import report
from pliant.pad.scores import read_scores
from pliant.train.run_folder import RunFolder

FAST = {"draws": 20, "runs": 2}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No report: drawing its figures takes longer than all else."""
    monkeypatch.setattr(report, "write_report", lambda evaluation, folder: folder / "report.html")


def test_everything_is_written_and_agrees(make_run, rig: Path, tmp_path: Path):
    out = tmp_path / "out"
    result = evaluate(make_run(), rig, out, **FAST)
    assert sorted(p.name for p in out.iterdir()) == [
        "evaluation.json",
        "report.html",
        "scores_high.csv",
        "scores_low.csv",
    ]
    assert result.pop("report") == out / "report.html"
    assert json.loads((out / "evaluation.json").read_text()) == json.loads(json.dumps(result))
    assert [row["tier"] for row in result["tiers"]] == ["low", "high"]
    assert result["data"]["role"] == "test"
    assert result["data"]["synthetic"]
    assert result["data"]["subject_overlap"].startswith("none")
    assert result["limits"][0].startswith("synthetic")
    assert result["baseline"]["metrics"]["auc"]["value"] >= 0
    assert result["agreement"][0]["n"] == len(read_scores(out / "scores_low.csv"))
    assert {entry["tier"] for entry in result["sheet"]} == {"low", "high"}


@pytest.mark.usefixtures("quick")
def test_rates_follow_from_the_scores_csv(make_run, rig: Path, tmp_path: Path):
    result = evaluate(make_run(), rig, tmp_path / "out", **FAST)
    scores = read_scores(tmp_path / "out" / "scores_low.csv")
    metrics = result["tiers"][0]["metrics"]
    live = scores.score[scores.bona_fide]
    assert metrics["bpcer"]["rate"] == pytest.approx((live < 0.5).mean())
    for species, rate in metrics["apcer"].items():
        attacks = scores.score[scores.species == species]
        assert rate["rate"] == pytest.approx((attacks >= 0.5).mean())


@pytest.mark.usefixtures("quick")
def test_a_missing_threshold_is_fitted_on_dev_and_stored(make_run, rig: Path, tmp_path: Path):
    run = make_run(threshold=None)
    first = evaluate(run, rig, tmp_path / "first", **FAST)
    stored = RunFolder.open(run).tiers["low"].threshold
    assert stored is not None
    assert stored.value == first["tiers"][0]["threshold"]["value"]
    assert first["tiers"][0]["threshold"]["source"] == "dev split"
    second = evaluate(run, rig, tmp_path / "second", **FAST)
    assert second["tiers"][0]["threshold"] == first["tiers"][0]["threshold"]


@pytest.mark.usefixtures("quick")
def test_without_dev_and_threshold_there_are_scores_but_no_decisions(
    make_run, unsplit: Path, tmp_path: Path
):
    run = make_run(threshold=None)
    result = evaluate(run, unsplit, tmp_path / "out", **FAST)
    assert result["data"]["role"] == "all"
    assert all(row["threshold"] is None for row in result["tiers"])
    assert result["tiers"][0]["metrics"]["bpcer"] is None
    assert result["tiers"][0]["metrics"]["auc"]["value"] >= 0
    assert any("no threshold" in sentence for sentence in result["limits"])
    assert RunFolder.open(run).tiers["low"].threshold is None


@pytest.mark.usefixtures("quick")
def test_subjects_of_the_training_are_named(make_run, unsplit: Path, tmp_path: Path):
    result = evaluate(make_run(), unsplit, tmp_path / "out", **FAST)
    said = result["data"]["subject_overlap"]
    assert said.startswith("warning: 6 of 10 subjects")
    assert "data sets differ" in said
    assert result["baseline"] is None


@pytest.mark.usefixtures("quick")
def test_photos_of_the_training_are_judged_on_held_out_subjects(
    make_run, unsplit: Path, tmp_path: Path
):
    names = sorted({s.subject for s in read_manifest(unsplit) if s.subject})
    run = make_run(data=unsplit, train_subjects=names[2:], dev_subjects=names[:2])
    result = evaluate(run, unsplit, tmp_path / "out", **FAST)
    assert result["data"]["role"] == "dev"
    assert result["data"]["counts"]["subjects"] == 2
    assert "optimistic" in result["data"]["split_note"]


@pytest.mark.usefixtures("quick")
def test_other_tasks_get_accuracy(make_run, without_split, tmp_path: Path):
    data = without_split(
        "classes.csv", lambda s: replace(s, bona_fide=None, label=s.pai_species or "me")
    )
    run = make_run(classes=("me", "print_flat", "replay"), data=data)
    result = evaluate(run, data, tmp_path / "out", **FAST)
    accuracy = result["tiers"][0]["metrics"]["accuracy"]
    assert 0 <= accuracy["low"] <= accuracy["rate"] <= accuracy["high"] <= 1
    assert summary(result)[-1].endswith("report.html")


def test_nothing_is_overwritten(make_run, rig: Path, tmp_path: Path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").touch()
    with pytest.raises(UserError, match="exists already"):
        evaluate(make_run(), rig, out, **FAST)
    assert [p.name for p in out.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"policy": "foo"}, "unknown threshold policy"),
        ({"batch_size": 0}, "batch_size must be >= 1, got 0"),
        ({"draws": -1}, "draws must be >= 1, got -1"),
        ({"runs": 0}, "runs must be >= 1"),
        ({"seed": -1}, "seed must be >= 0, got -1"),
        ({"threads": 0}, "threads must be 1 to"),
        ({"detector": Path("nope.onnx")}, "no such face detector: nope.onnx"),
    ],
)
def test_bad_words_are_refused_before_the_run_is_opened(tmp_path: Path, change, said: str):
    with pytest.raises(UserError, match=said):
        evaluate(tmp_path / "nowhere", tmp_path / "nowhere", tmp_path / "out", **change)


def test_nothing_is_left_half_written(make_run, rig: Path, tmp_path: Path, monkeypatch):
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(report, "write_report", stop)
    with pytest.raises(KeyboardInterrupt):
        evaluate(make_run(), rig, tmp_path / "out", **FAST)
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize(("live", "said"), [(True, "bona fide only"), (False, "attacks only")])
def test_one_class_only(make_run, without_split, tmp_path: Path, live: bool, said: str):
    data = without_split("one.csv", lambda s: s if s.bona_fide is live else None)
    with pytest.raises(UserError, match=said):
        evaluate(make_run(), data, tmp_path / "out", **FAST)


def test_train_split_only(make_run, without_split, tmp_path: Path):
    data = without_split("train.csv", lambda s: s if s.split == "train" else None)
    with pytest.raises(UserError, match="train split alone"):
        evaluate(make_run(), data, tmp_path / "out", **FAST)


def test_other_training_data_is_refused(make_run, rig: Path, unsplit: Path, tmp_path: Path):
    with pytest.raises(UserError, match="is not the data"):
        evaluate(make_run(), rig, tmp_path / "out", train_data=unsplit, **FAST)


@pytest.mark.usefixtures("quick")
def test_a_subject_on_two_sides_is_refused(make_run, without_split, rig: Path, tmp_path: Path):
    def leak(sample):
        return replace(sample, subject="one") if sample.split != "dev" else sample

    with pytest.raises(UserError, match="more than one side"):
        evaluate(make_run(), without_split("leak.csv", leak), tmp_path / "out", **FAST)


@pytest.mark.usefixtures("quick")
def test_every_tier_refits_its_threshold_in_the_bootstrap(make_run, rig: Path, tmp_path: Path):
    run = make_run(threshold=None)
    evaluate(run, rig, tmp_path / "first", **FAST)  # fits, and stores, threshold and dev scores
    result = evaluate(run, rig, tmp_path / "second", **FAST)
    for row in result["tiers"]:
        assert "threshold refitted" in row["metrics"]["interval_method"]


@pytest.mark.usefixtures("quick")
def test_a_model_of_synthetic_faces_says_so_on_others(make_run, without_split, tmp_path: Path):
    run = make_run()
    settings = json.loads((run / "settings.json").read_text())
    settings["data"]["synthetic"] = True
    (run / "settings.json").write_text(json.dumps(settings))
    real = without_split("real.csv", lambda sample: replace(sample, device="phone", split=None))
    result = evaluate(run, real, tmp_path / "out", **FAST)
    assert "synthetic faces alone" in result["limits"][0]
