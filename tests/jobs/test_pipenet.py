"""A PipeNet from files to a verdict on clips: trained, resumed, evaluated, and what is refused."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pliant.cli import main
from pliant.data.augment import Augment
from pliant.data.manifest import read_manifest, write_manifest
from pliant.data.rig import RigSettings, write_rig
from pliant.errors import UserError
from pliant.jobs.evaluate import evaluate, summary
from pliant.jobs.train import train
from pliant.pad import report
from pliant.pad.scores import read_scores
from pliant.pad.table import read_table
from pliant.runtime.crop import Preprocessing
from pliant.train.module import TrainModule
from pliant.train.pipenet import PipeNetSettings
from pliant.train.run_folder import RunFolder
from pliant.train.settings import Machine, NetworkSettings, TrainSettings

SMALL = {
    "model": "pipenet",
    "settings": TrainSettings(epochs=2, batch_size=8, lr=0.01, calibration_images=16, dev_images=8),
    "preprocessing": Preprocessing(size=24),
    "pipenet": PipeNetSettings(patch=16, share_trunk=True, crops=1),
    "machine": Machine(accelerator="cpu"),
}
FAST = {"draws": 20, "runs": 1}
SUBSETS = 7


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten synthetic people, clips of three frames."""
    settings = RigSettings(
        subjects=10, clips_per_subject=1, attack_clips=1, frames=3, size=48, attacks=("replay",)
    )
    return write_rig(settings, tmp_path_factory.mktemp("rig") / "rig", progress=False)


@pytest.fixture(scope="module")
def run(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        _without_pictures(patch)
        return train(clips, tmp_path_factory.mktemp("runs") / "run", **SMALL)


def _without_pictures(patch: pytest.MonkeyPatch) -> None:
    def write(evaluation: dict, folder: Path) -> None:
        (folder / "report.html").write_text("x")

    patch.setattr(report, "write_report", write)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    _without_pictures(monkeypatch)


@pytest.fixture
def changed(clips: Path):
    """Writes a manifest of the same frames with other columns."""

    def write(name: str, change) -> Path:
        path = clips.parent / name
        write_manifest(map(change, read_manifest(clips)), path)
        return path

    return write


def _json(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def test_the_run_is_whole_and_opens_again(run: Path) -> None:
    settings = _json(run / "settings.json")
    assert settings["pipenet"]["modalities"] == ["colour", "depth", "infrared"]
    assert settings["preprocessing"]["mean"] == [0, 0, 0]
    assert settings["augment"] is None
    opened = RunFolder.open(run, several_modalities=True)
    assert opened.pipenet == SMALL["pipenet"]
    assert opened.input_shape == (1, 9, 24, 24)
    again = RunFolder.open(run, several_modalities=True)
    image = torch.rand(2, 9, 24, 24)
    with torch.inference_mode(), opened.model.use("plain"), again.model.use("plain"):
        assert torch.equal(opened.model(image), again.model(image))


def test_the_threshold_is_of_clips(run: Path) -> None:
    (tier,) = _json(run / "tiers.json")["tiers"]
    assert (tier["threshold"]["num_bona_fide"], tier["threshold"]["num_attack"]) == (2, 2)
    assert len(read_scores(run / "dev_scores_plain.csv")) == 4
    head, row, *_ = csv.reader((run / "metrics.csv").read_text().splitlines())
    step = int(dict(zip(head, row, strict=True))["macs_per_step"])
    assert step == 8 * tier["macs"], "a step sees one patch of each of 8 frames"


def test_an_interrupted_run_goes_on_to_the_same_weights(
    run: Path, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _without_pictures(monkeypatch)
    stop, steps = TrainModule.training_step, []

    def interrupted(self, batch, batch_idx):
        if self.current_epoch == 1 and not steps:
            steps.append(1)
            raise RuntimeError("the power went")
        return stop(self, batch, batch_idx)

    monkeypatch.setattr(TrainModule, "training_step", interrupted)
    with pytest.raises(RuntimeError, match="power"):
        train(clips, tmp_path / "run", **SMALL)
    train(clips, tmp_path / "run", resume=True, **SMALL)
    first, second = (p / "model.safetensors" for p in (run, tmp_path / "run"))
    assert first.read_bytes() == second.read_bytes()


def test_every_subset_is_judged_on_clips(run: Path, clips: Path, tmp_path: Path) -> None:
    result = evaluate(run, clips, tmp_path / "out", **FAST)
    assert result["tiers"][0]["vote"] == {
        "rule": "mean", "k": 3.0, "trim": 0.1, "presentations": 4, "num_frames": 12,
        "num_rejected": 0, "num_missing": 0,
    }  # fmt: skip
    rows = result["subsets"]
    assert [len(row["modalities"]) for row in rows] == [1, 1, 1, 2, 2, 2, 3]
    for row in rows:
        scores = read_table(tmp_path / "out" / row["scores_csv"]).scores
        wrong = (scores.score >= row["threshold"]["value"]) != scores.bona_fide
        apcer, bpcer = wrong[~scores.bona_fide].mean(), wrong[scores.bona_fide].mean()
        assert row["metrics"]["acer"]["value"] == pytest.approx((apcer + bpcer) / 2)
        assert "bootstrap over subjects" in row["metrics"]["interval_method"]
    whole = read_table(tmp_path / "out" / "scores_plain.csv").score
    all_three = read_table(tmp_path / "out" / rows[-1]["scores_csv"]).score
    assert whole.tolist() == all_three.tolist()
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "colour + depth + infrared" in page
    assert "Votes of frames" in page
    assert summary(result)[1].row_count == SUBSETS


@pytest.mark.usefixtures("quick")
def test_another_vote_gets_a_threshold_of_its_own(run: Path, clips: Path, tmp_path: Path) -> None:
    before = (run / "tiers.json").read_bytes()
    result = evaluate(
        run, clips, tmp_path / "out", vote="medstd", modalities=("colour,depth",), **FAST
    )
    (row,) = result["tiers"]
    assert row["threshold"]["source"] == "dev split, vote medstd, colour + depth"
    assert result["modalities"]["used"] == ["colour", "depth"]
    assert (run / "tiers.json").read_bytes() == before
    same = next(r for r in result["subsets"] if r["modalities"] == ["colour", "depth"])
    assert same["metrics"]["acer"] == row["metrics"]["acer"]


@pytest.mark.usefixtures("quick")
def test_a_clip_without_depth_is_a_non_response(run: Path, changed, tmp_path: Path) -> None:
    test = [s for s in read_manifest(changed("same.csv", lambda s: s)) if s.split == "test"]
    lost = next(s.clip for s in test if s.bona_fide)
    first = next(s.name for s in test if not s.bona_fide)
    data = changed(
        "lost.csv",
        lambda s: replace(s, depth_path=None) if s.clip == lost or s.name == first else s,
    )
    result = evaluate(run, data, tmp_path / "out", **FAST)
    (row,) = result["tiers"]
    assert row["nonresponse"]["num"] == 1
    assert row["nonresponse"]["reasons"] == {"modality missing: depth": 1}
    assert row["nonresponse"]["bpnrr"]["errors"] == 1
    assert (row["vote"]["num_frames"], row["vote"]["num_missing"]) == (8, 4)
    assert result["modalities"]["unusable"] == {"depth": {"no file named": 4}}
    silent = {"+".join(r["modalities"]): r["nonresponse"]["num"] for r in result["subsets"]}
    assert silent["colour"] == silent["colour+infrared"] == 0
    assert silent["depth"] == silent["colour+depth"] == 1
    assert "No response to 1 presentations" in " ".join(map(str, summary(result)[2:]))


@pytest.mark.usefixtures("quick")
def test_data_without_depth_says_what_to_leave_out(run: Path, changed, tmp_path: Path) -> None:
    data = changed("flat.csv", lambda s: replace(s, depth_path=None))
    with pytest.raises(UserError, match=r"modality missing: depth.*--modalities"):
        evaluate(run, data, tmp_path / "out", **FAST)
    result = evaluate(run, data, tmp_path / "two", modalities=("colour", "infrared"), **FAST)
    rows = {"+".join(r["modalities"]): r for r in result["subsets"]}
    assert rows["depth"]["metrics"] is None
    assert rows["depth"]["reason"]
    with pytest.raises(UserError, match=r"no frame of train of .* has depth .*leave depth out"):
        train(data, tmp_path / "run", **SMALL)
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("quick")
def test_frames_that_lack_a_modality_are_listed(changed, tmp_path: Path) -> None:
    data = changed("some.csv", lambda s: replace(s, ir_path=None) if "-0001.jpg" in s.name else s)
    small = SMALL | {"settings": replace(SMALL["settings"], epochs=1)}
    out = train(data, tmp_path / "run", **small)
    lines = (out / "unusable_modalities.csv").read_text().splitlines()
    assert len(lines) == 1 + 16
    assert lines[1].endswith("-0001.jpg,infrared,no file named")
    notes = " ".join(_json(out / "settings.json")["data"]["notes"])
    assert "train: infrared cannot be used in 12 of 36 frames" in notes
    assert "dev: infrared cannot be used in 4 of 12 frames" in notes


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"model": "mobilenet_v2"}, r"--pipenet\.\* shape a PipeNet"),
        ({"task": "classify"}, "leave --task classify out"),
        ({"init": Path("x.safetensors")}, "x.safetensors|random weights"),
        ({"network": NetworkSettings(width=0.5)}, "shape a MobileNetV2"),
        ({"augment": Augment(camera=0.5)}, "colour crops alone"),
        ({"preprocessing": Preprocessing(size=24, std=(0.2, 0.2, 0.2))}, "x / 255"),
        ({"preprocessing": Preprocessing(size=16), "pipenet": PipeNetSettings()}, "at most"),
    ],
)
def test_flags_that_do_not_fit(flags: dict, said: str, clips: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said):
        train(clips, tmp_path / "run", **(SMALL | flags))


@pytest.mark.parametrize(
    "words",
    [
        ("export", "RUN", "--out", "OUT"),
        ("predict", "RUN", "PHOTO"),
        ("tiers", "RUN", "--search", "DATA", "--budget-macs", "1e9"),
        ("evaluate", "RUN", "--data", "DATA", "--out", "OUT", "--modalities", "thermal"),
    ],
)
def test_verbs_of_colour_alone_refuse(
    words: tuple[str, ...], run: Path, clips: Path, tmp_path: Path, capsys
) -> None:
    photo = next(clips.parent.rglob("*.jpg"))
    places = {"RUN": run, "OUT": tmp_path / "out", "PHOTO": photo, "DATA": clips}
    assert main([str(places.get(word, word)) for word in words]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert "PipeNet" in said or "--modalities must be some of" in said


def test_tiers_shows_what_a_frame_costs(run: Path, capsys) -> None:
    assert main(["tiers", str(run), "--runs", "1", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["tiers"]
    assert row["macs"] == _json(run / "tiers.json")["tiers"][0]["macs"]
    assert row["latency_ms"]["median"] > 0


@pytest.mark.usefixtures("quick")
def test_a_colour_network_votes_too(make_run, clips: Path, tmp_path: Path) -> None:
    colour = make_run(data=clips)
    before = (colour / "tiers.json").read_bytes()
    result = evaluate(colour, clips, tmp_path / "out", vote="median", **FAST)
    for row in result["tiers"]:
        assert (row["vote"]["presentations"], row["vote"]["num_frames"]) == (4, 12)
        assert row["threshold"]["source"] == "dev split, vote median"
    assert (colour / "tiers.json").read_bytes() == before
    head, *_ = (tmp_path / "out" / "scores_low.csv").read_text().splitlines()
    assert head.endswith("reason,num_frames,num_rejected,num_missing")
    with pytest.raises(UserError, match="sees colour alone"):
        evaluate(colour, clips, tmp_path / "no", modalities=("depth",), **FAST)


def test_only_anti_spoofing_votes(make_run, changed, tmp_path: Path) -> None:
    def named(s):
        label = "b" if s.bona_fide else "a"
        return replace(s, bona_fide=None, pai_species=None, label=label)

    data = changed("named.csv", named)
    run = make_run(classes=("a", "b"), data=data, threshold=None)
    with pytest.raises(UserError, match="vote in anti-spoofing alone"):
        evaluate(run, data, tmp_path / "out", vote="median", **FAST)
