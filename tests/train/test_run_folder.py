"""The run folder: made once, marked until it is whole, rebuilt bit by bit, refused when damaged."""

import json
import shutil
from dataclasses import asdict

import pytest
import torch

from pliant.adaptive.calibration import calibrate
from pliant.errors import UserError
from pliant.runtime.crop import Preprocessing
from pliant.train.finish import tier_entries
from pliant.train.network import build, tiers_of
from pliant.train.run_folder import RunFolder
from pliant.train.settings import NetworkSettings

NETWORK = NetworkSettings(width=0.35)
PREPROCESSING = Preprocessing(size=32)
THRESHOLD = {"policy": "eer", "value": 0.5, "interval": [0.4, 0.6]}


def _settings(model="pta_mobilenet_v2", **more):
    return {
        "task": "pad",
        "classes": ["attack", "bona_fide"],
        "model": model,
        "network": asdict(NETWORK),
        "preprocessing": PREPROCESSING.to_json(),
        **more,
    }


def _finished(path, model="pta_mobilenet_v2"):
    """A finished run and its network."""
    torch.manual_seed(0)
    network = build(model, NETWORK, num_classes=2)
    for name, configuration in tiers_of(network, ["low", "max"]).items():
        calibrate(network, configuration, [torch.randn(4, 3, 32, 32)], name=name)
    folder = RunFolder.create(path, _settings(model))
    folder.write_model(network)
    entries = tier_entries(network, input_shape=(1, 3, 32, 32))
    folder.write_tiers([{**entry, "threshold": None} for entry in entries])
    folder.finish()
    return network.eval()


@pytest.mark.parametrize("model", ["pta_mobilenet_v2", "mobilenet_v2"])
def test_open_rebuilds_the_network_to_the_last_bit(run_path, model):
    network = _finished(run_path, model)
    run = RunFolder.open(run_path)
    images = torch.randn(2, 3, 32, 32)
    assert list(run.tiers) == list(network.tiers)
    with torch.inference_mode():
        for tier in run.tiers:
            with network.use(tier), run.model.use(tier):
                assert torch.equal(network(images), run.model(images))
    assert run.classes == ("attack", "bona_fide")
    assert run.preprocessing == PREPROCESSING
    assert not run.model.training


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    path = tmp_path_factory.mktemp("original") / "run"
    _finished(path)
    return path


@pytest.fixture
def finished(original, run_path):
    """A finished run to read or to damage."""
    shutil.copytree(original, run_path)
    return run_path


def test_tiers_come_cheapest_first_with_their_cost(finished):
    tiers = RunFolder.open(finished).tiers
    assert list(tiers) == ["low", "max"]
    assert str(tiers["low"].configuration) == "L" * 16
    assert 0 < tiers["low"].macs < tiers["max"].macs
    assert 0 < tiers["low"].params < tiers["max"].params
    assert tiers["low"].calibrated["images"] == 4
    assert tiers["low"].threshold is None


def test_a_threshold_is_stored(finished):
    RunFolder.store_threshold(finished, "low", THRESHOLD)
    tiers = RunFolder.open(finished).tiers
    assert tiers["low"].threshold.value == 0.5
    assert tiers["low"].threshold.record == THRESHOLD
    assert tiers["max"].threshold is None
    with pytest.raises(UserError, match=r'has no tier "lower" \(low, max\)'):
        RunFolder.store_threshold(finished, "lower", THRESHOLD)


def test_no_file_is_a_pickle(finished):
    names = {path.name for path in finished.iterdir()}
    assert names == {"state.json", "settings.json", "tiers.json", "model.safetensors"}


def test_create_refuses_what_is_there(run_path):
    run_path.mkdir()
    RunFolder.create(run_path, {})  # an empty folder is free
    with pytest.raises(UserError, match=r"unfinished run \(running\); continue it with --resume"):
        RunFolder.create(run_path, {})
    RunFolder(run_path).finish()
    with pytest.raises(UserError, match="holds a finished run; give --out another name"):
        RunFolder.create(run_path, {})
    with pytest.raises(UserError, match="is finished; there is nothing to resume"):
        RunFolder.resume(run_path, {})


def test_create_refuses_foreign_things(tmp_path):
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(UserError, match="exists already"):
        RunFolder.create(tmp_path, {})
    with pytest.raises(UserError, match="exists already"):
        RunFolder.create(tmp_path / "note.txt", {})
    with pytest.raises(UserError, match="exists already"):
        RunFolder.resume(tmp_path, {})
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]


def test_resume_names_the_settings_that_differ(run_path):
    RunFolder.create(run_path, {"training": {"lr": 0.1, "tiers": ("low",)}, "start": "x"})
    RunFolder.resume(run_path, {"training": {"lr": 0.1, "tiers": ("low",)}, "start": "x"})
    with pytest.raises(UserError, match=r"other settings \(training.lr: 0.1 -> 0.2\)"):
        RunFolder.resume(run_path, {"training": {"lr": 0.2, "tiers": ("low",)}, "start": "x"})


def test_resume_lets_the_end_settle_some(run_path):
    RunFolder.create(run_path, {"model": "b", "start": "x"})
    RunFolder.resume(run_path, {"model": "a", "start": "x"}, settled=("model",))
    with pytest.raises(UserError, match=r"\(start: 'x' -> 'y'\)"):
        RunFolder.resume(run_path, {"model": "a", "start": "y"}, settled=("model",))


def test_a_folder_that_cannot_be_written_is_not_left(run_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        RunFolder.create(run_path, {"lr": float("inf")})
    assert not run_path.exists()


def test_resume_without_a_run_starts_one(run_path):
    RunFolder.resume(run_path, {})
    assert json.loads((run_path / "state.json").read_text())["status"] == "running"


def test_a_failure_before_the_first_epoch_leaves_nothing(run_path):
    RunFolder.create(run_path, {}).fail("no")
    assert not run_path.exists()


def test_a_later_failure_leaves_a_marked_run(run_path):
    folder = RunFolder.create(run_path, {})
    folder.last_checkpoint.parent.mkdir()
    folder.last_checkpoint.write_bytes(b"")
    folder.fail("the loss became nan")
    state = json.loads((run_path / "state.json").read_text())
    assert (state["status"], state["reason"]) == ("failed", "the loss became nan")
    with pytest.raises(UserError, match="unfinished run"):
        RunFolder.open(run_path)


def test_open_refuses(run_path, tmp_path):
    with pytest.raises(UserError, match="is no run folder"):
        RunFolder.open(tmp_path / "nowhere")
    RunFolder.create(run_path, _settings())
    with pytest.raises(UserError, match=r"unfinished run \(running\)"):
        RunFolder.open(run_path)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("model.safetensors", None, "no weights at"),
        ("model.safetensors", b"\x80\x04pickle", "is not a safetensors file"),
        ("tiers.json", None, "tiers.json is missing"),
        ("tiers.json", b"{", "tiers.json is damaged"),
        ("tiers.json", b"[]", "it holds no JSON object"),
        ("tiers.json", b'{"format": 1}', "cannot be read as a run"),
        ("tiers.json", b'{"format": 2, "tiers": []}', "is of format 2, this pliant reads 1"),
        ("settings.json", b'{"format": 1}', "cannot be read as a run"),
    ],
)
def test_open_refuses_damage(finished, name, content, sentence):
    (finished / name).unlink()
    if content is not None:
        (finished / name).write_bytes(content)
    with pytest.raises(UserError, match=sentence):
        RunFolder.open(finished)


def test_open_refuses_weights_of_another_network(finished):
    settings = json.loads((finished / "settings.json").read_text())
    settings["network"]["width"] = 0.5
    (finished / "settings.json").write_text(json.dumps(settings))
    with pytest.raises(UserError, match=r"model.safetensors is no checkpoint .* has shape") as no:
        RunFolder.open(finished)
    assert len(str(no.value)) < 300
