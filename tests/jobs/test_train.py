"""`pliant train` from files to a finished run: what it leaves, what it says, what it refuses."""

import csv
import errno
import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from pliant.data.augment import Augment
from pliant.errors import UserError
from pliant.jobs.evaluate import evaluate
from pliant.jobs.train import summary, train
from pliant.pad.scores import read_scores
from pliant.runtime.crop import Preprocessing
from pliant.train.module import TrainModule
from pliant.train.run_folder import RunFolder
from pliant.train.settings import Machine, NetworkSettings, TrainSettings

SETTINGS = TrainSettings(
    epochs=2, batch_size=8, lr=0.02, tiers=("low", "max"), calibration_images=16
)
SMALL = {
    "settings": SETTINGS,
    "preprocessing": Preprocessing(size=32),
    "network": NetworkSettings(width=0.1),
    "augment": Augment(simulate=(), recompress=0.0),
    "machine": Machine(accelerator="cpu"),
}
LEFT = {
    *("state.json", "settings.json", "environment.json", "metrics.csv"),
    *("model.safetensors", "tiers.json", "skipped.csv", "report.html"),
    *("dev_scores_low.csv", "dev_scores_max.csv"),
}


def _photo(path, light, random):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = random.normal(light, 25, (56, 56, 3)).clip(0, 255).astype(np.uint8)
    assert cv2.imwrite(str(path), image)


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    """Six subjects, four bright bona fide and four dark printed photos each; a test split too."""
    root = tmp_path_factory.mktemp("faces")
    random = np.random.default_rng(0)
    rows = []
    for number in range(8):
        split = {5: "dev", 4: "dev", 6: "test", 7: "test"}.get(number, "train")
        for k in range(8):
            live = k < 4
            name = f"s{number}/{k}.png"
            _photo(root / name, 150 if live else 90, random)
            species = "" if live else "print"
            rows.append([name, f"s{number}", str(live).lower(), species, split, 14, 12, 28, 32])
    (root / "s1" / "0.png").write_bytes(b"")  # one of 64 is no image
    header = "path,subject,bona_fide,pai_species,split,box_x,box_y,box_w,box_h"
    lines = [header, *(",".join(map(str, row)) for row in rows)]
    (root / "manifest.csv").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture(scope="module")
def run(faces, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    assert train(faces, out, **SMALL) == out
    return out


def _json(path):
    return json.loads(path.read_text(encoding="utf-8"))


def test_the_folder_is_whole(run):
    assert {path.name for path in run.iterdir()} == LEFT
    assert _json(run / "state.json")["status"] == "finished"
    assert "Dev is judged" in (run / "report.html").read_text(encoding="utf-8")


def test_settings_record_everything(run):
    settings = _json(run / "settings.json")
    assert settings["start"] == {"kind": "random", "seed": 0}
    assert settings["task"] == "pad"
    assert settings["classes"] == ["attack", "bona_fide"]
    assert settings["training"]["epochs"] == 2
    data = settings["data"]
    assert data["train_subjects"] == ["s0", "s1", "s2", "s3"]
    assert data["dev_subjects"] == ["s4", "s5"]
    assert (data["num_train"], data["num_dev"], data["num_test"]) == (31, 16, 16)
    assert _json(run / "environment.json")["accelerator"] == "cpu"


def test_skipped_images_are_listed(run):
    rows = list(csv.DictReader((run / "skipped.csv").read_text().splitlines()))
    assert [row["path"].rpartition("/")[2] for row in rows] == ["0.png"]
    assert rows[0]["reason"]


def test_tiers_have_costs_and_dev_thresholds(run):
    tiers = _json(run / "tiers.json")["tiers"]
    assert [tier["tier"] for tier in tiers] == ["low", "max"]
    assert tiers[0]["macs"] < tiers[1]["macs"]
    for tier in tiers:
        threshold = tier["threshold"]
        assert threshold["policy"] == "min_acer"
        assert (threshold["num_bona_fide"], threshold["num_attack"]) == (8, 8)
        assert threshold["num_subjects"] == 2
        assert 0 <= tier["dev"]["auc"] <= 1


def test_dev_scores_are_those_of_the_threshold(run):
    for tier in _json(run / "tiers.json")["tiers"]:
        kept = read_scores(run / f"dev_scores_{tier['tier']}.csv")
        assert kept.sha256 == tier["threshold"]["dev_sha256"]
        assert len(kept) == 16


def test_the_classes_of_a_run_are_judged_on_what_training_held_out(tmp_path, run_path):
    random = np.random.default_rng(1)
    for name, light in (("day", 170), ("night", 60)):
        for k in range(12):
            _photo(tmp_path / "photos" / name / f"{k}.png", light, random)
    small = {**SMALL, "augment": Augment(), "settings": replace(SETTINGS, epochs=1)}
    train(tmp_path / "photos", run_path, task="classify", model="mobilenet_v2", **small)
    held_out = _json(run_path / "settings.json")["data"]["num_dev"]
    result = evaluate(run_path, tmp_path / "photos", tmp_path / "out", runs=1)
    assert result["data"]["role"] == "dev"
    assert result["data"]["counts"]["images"] == held_out < 24


def test_a_limit_that_dev_cannot_support_is_refused_before_training(faces, run_path):
    with pytest.raises(UserError, match="rule of three"):
        train(faces, run_path, policy="bpcer<=0.1", **SMALL)
    assert not run_path.exists()


def test_metrics_hold_one_row_per_epoch(run):
    rows = list(csv.DictReader((run / "metrics.csv").read_text().splitlines()))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert int(rows[1]["total_samples"]) == 2 * 24  # 31 images: three whole batches of 8
    assert int(rows[1]["total_macs"]) > 0
    assert "dev_auc_low" in rows[0]


def test_the_run_opens_and_scores(run):
    opened = RunFolder.open(run)
    assert opened.task == "pad"
    assert 0 <= opened.tiers["max"].threshold.value <= 1.1
    with opened.model.use("low"), torch.inference_mode():
        assert opened.model(torch.zeros(1, 3, 32, 32)).shape == (1, 2)


def test_the_summary_shows_every_tier(run, capsys):
    from rich.console import Console

    for part in summary(run):
        Console(width=100).print(part)
    said = capsys.readouterr().out
    assert all(word in said for word in ("low", "max", "auc", "pliant evaluate"))


def test_a_taken_folder_is_refused_and_left_alone(faces, run):
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    with pytest.raises(UserError, match="holds a finished run"):
        train(faces, run, **SMALL)
    with pytest.raises(UserError, match="nothing to resume"):
        train(faces, run, resume=True, **SMALL)
    assert before == {path.name: path.read_bytes() for path in run.iterdir()}


def test_a_killed_run_is_resumed_to_the_same_result(faces, run, run_path, monkeypatch):
    step = TrainModule.training_step

    def killed_in_epoch_2(self, batch, batch_idx):
        if self.current_epoch == 1:
            raise KeyboardInterrupt
        return step(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(TrainModule, "training_step", killed_in_epoch_2)
        with pytest.raises(KeyboardInterrupt, match="after epoch 1 of 2"):
            train(faces, run_path, **SMALL)
    assert _json(run_path / "state.json")["status"] == "running"
    with pytest.raises(UserError, match="unfinished run"):
        train(faces, run_path, **SMALL)
    other = {**SMALL, "settings": replace(SETTINGS, lr=0.5)}
    with pytest.raises(UserError, match=r"other settings \(training.lr: 0.02 -> 0.5\)"):
        train(faces, run_path, resume=True, **other)
    train(faces, run_path, resume=True, **SMALL)
    assert {path.name for path in run_path.iterdir()} == LEFT
    for name in ("model.safetensors", "tiers.json"):
        assert (run_path / name).read_bytes() == (run / name).read_bytes()


def test_a_full_disk_leaves_no_half_run(faces, run_path, monkeypatch):
    def full(*args, **more):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(RunFolder, "write_csv", full)
    with pytest.raises(OSError, match="No space left"):
        train(faces, run_path, **SMALL)
    assert not run_path.exists()


def test_a_full_disk_at_the_end_can_be_resumed(faces, run, run_path, monkeypatch):
    def full(*args, **more):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "write_model", full)
        with pytest.raises(OSError, match="No space left"):
            train(faces, run_path, **SMALL)
    assert _json(run_path / "state.json")["status"] == "failed"
    train(faces, run_path, resume=True, **SMALL)
    assert (run_path / "tiers.json").read_bytes() == (run / "tiers.json").read_bytes()


def test_a_loss_that_is_no_number_leaves_nothing(faces, run_path):
    wild = {**SMALL, "settings": replace(SETTINGS, lr=1e30, warmup_epochs=0)}
    with pytest.raises(UserError, match="give a lower --lr than 1e"):
        train(faces, run_path, **wild)
    assert not run_path.exists()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"model": "pta_mobilnet_v2"}, 'did you mean "pta_mobilenet_v2"'),
        ({"policy": "min_acre"}, "unknown threshold policy"),
        ({"settings": replace(SETTINGS, tiers=("lwo",))}, 'unknown tier "lwo"'),
        ({"settings": replace(SETTINGS, sampler="sandwhich")}, 'did you mean "sandwich"'),
        ({"init": Path("nowhere.safetensors")}, "no weights at nowhere.safetensors"),
        ({"detector": Path("nope.onnx")}, "no such face detector: nope.onnx"),
        ({"machine": Machine(accelerator="gpux")}, "this machine cannot train as asked"),
    ],
)
def test_bad_words_are_refused_before_data_is_read(tmp_path, run_path, change, sentence):
    with pytest.raises(UserError, match=sentence):
        train(tmp_path / "nowhere", run_path, **{**SMALL, **change})
    assert not run_path.exists()


def test_a_run_is_no_start_for_another(run, tmp_path, run_path):
    with pytest.raises(UserError, match="holds the network of a pliant run"):
        train(tmp_path / "nowhere", run_path, init=run / "model.safetensors", **SMALL)


def test_data_that_is_all_for_the_test(faces, run_path):
    lines = (faces / "manifest.csv").read_text().splitlines()
    manifest = faces / "test.csv"
    manifest.write_text("\n".join([lines[0], *(line for line in lines if ",test," in line)]) + "\n")
    with pytest.raises(UserError, match=r"all 16 samples of .*test.csv are marked test"):
        train(manifest, run_path, **SMALL)
    assert not run_path.exists()


def test_missing_data(tmp_path, run_path):
    with pytest.raises(UserError):
        train(tmp_path / "nowhere", run_path, **SMALL)
    assert not run_path.exists()


def test_a_plain_network_on_class_folders(tmp_path, run_path, capsys):
    random = np.random.default_rng(0)
    for name, light in (("day", 170), ("night", 60), ("dusk", 115)):
        for k in range(8):
            _photo(tmp_path / "photos" / name / f"{k}.png", light, random)
    small = {**SMALL, "augment": Augment(), "settings": replace(SETTINGS, epochs=1)}
    train(tmp_path / "photos", run_path, task="classify", model="mobilenet_v2", **small)
    run = RunFolder.open(run_path)
    assert run.classes == ("day", "dusk", "night")
    assert list(run.tiers) == ["plain"]
    assert run.tiers["plain"].threshold is None
    assert 0 <= _json(run_path / "tiers.json")["tiers"][0]["dev"]["accuracy"] <= 1
    assert "start: random weights, seed 0" in capsys.readouterr().err


def test_given_weights_are_said_and_recorded(faces, tmp_path, run_path, capsys):
    from safetensors.torch import save_file

    from pliant.models.mobilenet_v2 import mobilenet_v2

    save_file(mobilenet_v2(width=0.1, num_classes=5).state_dict(), tmp_path / "start.safetensors")
    small = {**SMALL, "settings": replace(SETTINGS, epochs=1, light_start="fitted")}
    train(faces, run_path, init=tmp_path / "start.safetensors", **small)
    start = _json(run_path / "settings.json")["start"]
    assert (start["kind"], start["file"]) == ("weights", "start.safetensors")
    assert len(start["sha256"]) == 64
    said = capsys.readouterr().err
    assert "start: weights start.safetensors" in said
    assert any("classifier of 5 classes was replaced" in note for note in start["notes"])
    assert all(note in said for note in start["notes"])


def test_other_processes_of_a_run_write_nothing(faces, run_path, monkeypatch):
    import pliant.train.fit

    monkeypatch.setattr(pliant.train.fit, "is_first_process", lambda: False)
    monkeypatch.setattr(pliant.train.fit, "fit", lambda *args, **more: None)
    with pytest.raises(SystemExit) as leaving:
        train(faces, run_path, **SMALL)
    assert leaving.value.code == 0
    assert not run_path.exists()


@pytest.fixture
def run_path(tmp_path):
    return tmp_path / "run"
