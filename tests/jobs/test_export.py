"""`pliant export`: a run becomes a bundle that the run time opens, or nothing is written."""

import json
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pliant.adaptive.calibration import calibrate
from pliant.adaptive.network import AdaptiveNetwork
from pliant.cli import main
from pliant.errors import UserError
from pliant.export import parity
from pliant.jobs import export as job
from pliant.jobs import export_int8
from pliant.jobs.export import Exported, export
from pliant.models.mobilenet_v2 import mobilenet_v2
from pliant.runtime.bundle import Bundle
from pliant.train.finish import tier_entries
from pliant.train.run_folder import RunFolder

TIERS = ("low", "high")


@pytest.fixture(scope="module")
def shipped(
    untrained: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path, Exported]:
    """(run, bundle, what the export said)."""
    folder = tmp_path_factory.mktemp("shipped")
    run = folder / "gate"
    shutil.copytree(untrained(("attack", "bona_fide")), run)
    settings = json.loads((run / "settings.json").read_text())
    settings["data"] = {
        "name": "photos",
        "sha256": "0" * 64,
        "synthetic": True,
        "train_subjects": ["quill", "rowan"],
        "dev_subjects": ["sylvie"],
    }
    (run / "settings.json").write_text(json.dumps(settings))
    record = {"policy": "min_acer", "value": 0.5, "source": "dev split of photos",
              "dev_sha256": "0" * 64, "num_bona_fide": 3, "num_attack": 3}  # fmt: skip
    RunFolder.store_threshold(run, "low", record)
    return run, folder / "face.pliant", export(run, out=folder / "face.pliant", licence="CC-BY-4.0")


def test_the_bundle_opens_and_gives_the_networks_scores(shipped) -> None:
    run, path, _ = shipped
    bundle, opened = Bundle.open(path), RunFolder.open(run)
    assert [tier.name for tier in bundle.contract.tiers] == list(TIERS)
    inputs = np.random.default_rng(0).uniform(-1, 1, (3, 3, 32, 32)).astype(np.float32)
    for name in (*TIERS, "LHB" * 5 + "L"):
        bundle.use(name)
        with torch.inference_mode(), opened.model.use(name):
            expected = opened.model(torch.from_numpy(inputs)).numpy()
        assert np.abs(bundle.run(inputs) - expected).max() < 1e-4


def test_the_contract_says_what_the_run_knows(shipped) -> None:
    run, path, said = shipped
    contract = Bundle.open(path, self_test=False).contract
    assert contract.name == "gate"
    assert contract.licence == "CC-BY-4.0"
    assert contract.default_tier == "high"
    assert contract.synthetic
    low, high = contract.tiers
    assert (low.threshold, high.threshold) == (0.5, None)
    assert low.threshold_record is not None
    assert low.threshold_record["dev_sha256"] == "0" * 64
    opened = RunFolder.open(run)
    assert [tier.macs for tier in contract.tiers] == [t.macs for t in opened.tiers.values()]
    assert all(tier.parity["max_abs_logits"] < 1e-4 for tier in contract.tiers)
    assert said.configurations >= 50 + 2 + 7
    assert said.size_bytes <= 1.05 * said.weights_bytes


def test_names_of_subjects_stay_at_home(shipped) -> None:
    with zipfile.ZipFile(shipped[1]) as archive:
        text = archive.read("bundle.json").decode()
    assert json.loads(text)["provenance"]["data"]["num_train_subjects"] == 2
    for name in ("quill", "rowan", "sylvie"):
        assert name not in text


def test_golden_images_are_four_heads_live_and_attacked(shipped) -> None:
    contract = Bundle.open(shipped[1], self_test=False).contract
    assert len(contract.golden) == 8
    with zipfile.ZipFile(shipped[1]) as archive:
        pictures = {archive.read(one.file) for one in contract.golden}
    assert len(pictures) == 8


def test_entries_are_stored_and_dated_alike(shipped) -> None:
    with zipfile.ZipFile(shipped[1]) as archive:
        for entry in archive.infolist():
            assert entry.compress_type == zipfile.ZIP_STORED
            assert entry.date_time == (1980, 1, 1, 0, 0, 0)


def test_a_taken_name_is_refused_and_left_alone(shipped, capsys) -> None:
    run, path, _ = shipped
    before = path.read_bytes()
    assert main(["export", str(run), "--out", str(path)]) == 2
    assert "exists already; give --out another name" in capsys.readouterr().err
    assert path.read_bytes() == before


def test_a_difference_leaves_nothing_behind(shipped, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(parity, "TOLERANCE", 0.0)
    with pytest.raises(UserError, match=r"differs from the network.*nothing was written"):
        export(shipped[0], out=tmp_path / "face")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--int8"], "--int8 needs --data"),
        (["--data", "photos"], "--data is for --int8 alone"),
        (["--int8", "--data", "photos", "--target", "litert"], "--int8 is for --target onnx"),
        (["--int8", "--data", "photos", "--max-change", "2"], "--max-change must lie in [0, 1]"),
        (["--name", ""], "--name must be 1 to 200 printable characters"),
        (["--name", "a\tb"], "--name must be 1 to 200 printable characters"),
        (["--licence", "x" * 5000], "--licence must be 1 to 4096 printable characters"),
    ],
)
def test_wrong_words_are_refused(shipped, tmp_path, capsys, words, sentence) -> None:
    assert main(["export", str(shipped[0]), "--out", str(tmp_path / "x"), *words]) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_python_names_targets_too(tmp_path: Path):
    with pytest.raises(UserError, match='unknown target "tf"; allowed: onnx, executorch, litert'):
        export(tmp_path, out=tmp_path / "x.pliant", target="tf")


@pytest.mark.parametrize("name", ["model.onnx", "model.PTE", "model.tflite"])
def test_a_bundle_is_no_single_model(shipped, tmp_path, name) -> None:
    with pytest.raises(UserError, match="a bundle is more"):
        export(shipped[0], out=tmp_path / name)


def test_a_place_that_cannot_be_written_is_refused_before_the_work(shipped, tmp_path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="is no folder that can be written to"):
        export(shipped[0], out=tmp_path / "file" / "face.pliant")
    with pytest.raises(UserError, match="at most 200 characters"):
        export(shipped[0], out=tmp_path / f"{'x' * 250}.pliant")


def test_what_would_not_open_is_not_written(shipped, tmp_path, monkeypatch) -> None:
    files = {"bundle.json": b'{"format": 7}', "bundle.sha256": b"0" * 64 + b"\n"}
    monkeypatch.setattr(job, "_make", lambda *_, **__: SimpleNamespace(files={}))
    monkeypatch.setattr(job, "_contract", lambda *_, **__: None)
    monkeypatch.setattr("pliant.export.write.bundle_files", lambda *_: files)
    for out in ("face.pliant", "face"):
        with pytest.raises(UserError, match=r"would not open on a device: .*nothing was written"):
            export(shipped[0], out=tmp_path / out)
    assert list(tmp_path.iterdir()) == []


def test_a_plain_network(untrained, tmp_path) -> None:
    """A run of `--model mobilenet_v2` has one tier, and no other configuration."""
    run = tmp_path / "plain"
    shutil.copytree(untrained(("attack", "bona_fide")), run)
    network = AdaptiveNetwork(mobilenet_v2(width=0.35))
    calibrate(network, "plain", [torch.randn(8, 3, 32, 32)], name="plain")
    settings = json.loads((run / "settings.json").read_text())
    (run / "settings.json").write_text(json.dumps(settings | {"model": "mobilenet_v2"}))
    folder = RunFolder(run)
    folder.write_model(network)
    entries = tier_entries(network, input_shape=(1, 3, 32, 32))
    folder.write_tiers([entry | {"dev": None, "threshold": None} for entry in entries])
    said = export(run, out=tmp_path / "plain.pliant")
    assert said.configurations == 1
    bundle = Bundle.open(tmp_path / "plain.pliant")
    assert (bundle.tier, bundle.configuration) == ("plain", "")


def test_a_classifier_as_a_folder(untrained, tmp_path, capsys) -> None:
    run = untrained(("cat", "dog", "eel"))
    assert main(["export", str(run), "--out", str(tmp_path / "pets"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["precision"] == "fp32"
    bundle = Bundle.open(tmp_path / "pets")
    found = bundle.predict(np.full((40, 40, 3), 90, np.uint8))
    assert found.verdict in ("cat", "dog", "eel")
    assert all(one.box is None for one in bundle.contract.golden)


class TestInt8:
    def test_a_quarter_of_the_size_and_every_tier(self, make_run, rig, tmp_path) -> None:
        run = make_run()
        said = export(run, out=tmp_path / "small.pliant", int8=True, data=rig, max_change=1.0)
        # 8 bits for 32, and for each tier its scales and biases: nothing is stored twice
        assert said.size_bytes < 0.5 * said.weights_bytes
        bundle = Bundle.open(tmp_path / "small.pliant")
        assert bundle.contract.precision == "int8"
        opened = RunFolder.open(run)
        inputs = np.random.default_rng(0).uniform(-1, 1, (8, 3, 32, 32)).astype(np.float32)
        for name in TIERS:
            bundle.use(name)
            with torch.inference_mode(), opened.model.use(name):
                expected = opened.model(torch.from_numpy(inputs)).numpy()
            found = bundle.run(inputs)
            assert np.abs(found - expected).max() < 0.5 * np.abs(expected).max()
            record = said.tiers[name]
            assert set(record["dev_fp32"]) == {"apcer", "bpcer", "accuracy"}
            assert 0 <= record["dev_int8"]["apcer"] <= 1
        with pytest.raises(UserError, match=r"runs its tiers alone|has low, high"):
            bundle.use("LHB" * 5 + "L")

    def test_a_rate_that_rises_too_far_leaves_nothing(
        self, make_run, rig, tmp_path, monkeypatch
    ) -> None:
        """The guard compares two measurements; here the second is made worse by 3 points."""
        measured = export_int8.quality
        calls = []

        def worse(*given):
            found = measured(*given)
            calls.append(found)
            if len(calls) % 2 == 0:
                return export_int8.Quality(apcer=found.apcer, bpcer=calls[-2].bpcer + 0.03)
            return found

        monkeypatch.setattr(export_int8, "quality", worse)
        sentence = r"percentage points: BPCER of low by 3.0, BPCER of high by 3.0 \(allowed 2\)"
        with pytest.raises(UserError, match=sentence):
            export(make_run(), out=tmp_path / "x.pliant", int8=True, data=rig)
        assert not (tmp_path / "x.pliant").exists()

    def test_other_data_and_tiers_without_a_threshold_are_refused(
        self, make_run, without_split, rig, tmp_path
    ) -> None:
        other = without_split("other.csv", lambda sample: replace(sample, session="another"))
        with pytest.raises(UserError, match=r"is not the data that .* was trained on"):
            export(make_run(), out=tmp_path / "x.pliant", int8=True, data=other)
        shutil.rmtree(tmp_path / "run")
        with pytest.raises(UserError, match="low, high has no threshold"):
            export(make_run(threshold=None), out=tmp_path / "x.pliant", int8=True, data=rig)
        assert not (tmp_path / "x.pliant").exists()

    def test_what_counts_as_worse(self) -> None:
        quality = export_int8.Quality
        before = quality(apcer=0.10, bpcer=0.20)
        assert quality(apcer=0.05, bpcer=0.25).worse_than(before) == {"BPCER": pytest.approx(0.05)}
        assert quality(apcer=0.10, bpcer=0.10).worse_than(before) == {}
        worse = quality(accuracy=0.7).worse_than(quality(accuracy=0.8))
        assert worse == {"1 - accuracy": pytest.approx(0.1)}
