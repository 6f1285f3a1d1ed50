"""`pliant pad adapt`: a run for a new camera, and what is said about it."""

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from pliant.cli import main
from pliant.data.manifest import read_manifest, write_manifest
from pliant.data.source import open_source
from pliant.errors import UserError
from pliant.jobs.adapt import adapt
from pliant.jobs.adapt_head import head_of, set_head
from pliant.jobs.adapting import units_of
from pliant.jobs.evaluate import evaluate
from pliant.jobs.export import export
from pliant.jobs.record import overlap
from pliant.jobs.scoring import tier_probabilities, to_scores
from pliant.pad.adapt import Head
from pliant.pad.scores import read_scores
from pliant.pad.thresholds import Threshold
from pliant.runtime.bundle import Bundle
from pliant.train.run_folder import RunFolder

PAD = ("attack", "bona_fide")
Rewrite = Callable[..., Path]


@pytest.fixture(scope="module")
def rewrite(rig: Path, tmp_path_factory: pytest.TempPathFactory) -> Rewrite:
    """The rig without sides, its attacks tinted so that random features see them; or hazy too."""
    samples = [replace(s, split=None) for s in read_manifest(rig)]

    def write(change=lambda sample: sample, *, camera: bool = True) -> Path:
        folder = tmp_path_factory.mktemp("captures")
        found = []
        for sample in filter(None, map(change, samples)):
            path = folder / sample.name.replace("/", "_")
            photo = cv2.imread(str(sample.path)).astype(np.float32)
            if not sample.bona_fide:
                photo *= np.array([1, 0.7, 0.4], np.float32)
            if camera:
                photo = photo * 0.5 + 120  # hazy
            cv2.imwrite(str(path), photo.astype(np.uint8))
            found.append(replace(sample, path=path, name=path.name, depth_path=None, ir_path=None))
        write_manifest(found, folder / "manifest.csv")
        return folder / "manifest.csv"

    return write


@pytest.fixture(scope="module")
def base(
    untrained: Callable[..., Path], rewrite: Rewrite, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A run that knows one camera: random features, a head fitted on them by the verb."""
    folder = tmp_path_factory.mktemp("base")
    start = folder / "start"
    shutil.copytree(untrained(PAD), start)
    settings = json.loads((start / "settings.json").read_text())
    settings["data"] = {
        "name": "elsewhere", "sha256": "0" * 64, "train_subjects": ["a"], "dev_subjects": ["b"],
    }  # fmt: skip
    (start / "settings.json").write_text(json.dumps(settings))
    adapt(start, rewrite(camera=False), folder / "run", what="head", draws=20)
    return folder / "run"


@pytest.fixture(scope="module")
def captures(rewrite: Rewrite) -> Path:
    return rewrite()


def files_of(folder: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.iterdir())
    }


def test_threshold_alone(base: Path, captures: Path, tmp_path: Path):
    before, out = files_of(base), tmp_path / "run2"
    result = adapt(base, captures, out, draws=50)
    assert files_of(base) == before
    assert files_of(out)["model.safetensors"] == before["model.safetensors"]
    assert result["judged"] == {"unit": "subject", "num_parts": 5}
    opened, old = RunFolder.open(out), RunFolder.open(base)
    source = open_source(captures, "pad")
    found = tier_probabilities(opened.model, source.samples, opened.preprocessing, ["low", "high"])
    for entry in result["tiers"]:
        tier = entry["tier"]
        stored = opened.tiers[tier].threshold
        assert stored is not None
        kept = read_scores(out / f"dev_scores_{tier}.csv")
        threshold = Threshold.from_json(stored.record)
        assert threshold.dev_sha256 == kept.sha256
        assert threshold.interval is not None
        own = to_scores(source.samples, found[tier][:, 1])
        assert sorted(kept.score) == pytest.approx(sorted(own.score))
        assert entry["num_bona_fide"] + entry["num_attack"] == len(kept)  # each is judged once
        assert entry["old_dev"]["after"]["acer"]["value"] >= 0
    adapted = json.loads((out / "settings.json").read_text())["adapted"]
    assert adapted["run"]["sha256"] == before["model.safetensors"]
    assert adapted["run"]["adapted"]["what"] == "head"  # how the run itself came about
    assert adapted["data"]["sha256"] == source.sha256
    assert len(adapted["data"]["subjects"]) == 10
    said = overlap(source, opened, source.samples)
    assert said.endswith("are subjects of the captures that the run was adapted to")
    first = json.loads((out / "tiers.json").read_text())["tiers"][0]
    assert first["before_adapting"]["threshold"] == old.tiers["low"].threshold.record
    assert json.loads((out / "adaptation.json").read_text())["tiers"] == result["tiers"]


def test_a_new_camera_costs_errors_that_adapting_wins_back(
    base: Path, captures: Path, tmp_path: Path
):
    acer = {}
    for what in ("threshold", "head"):
        low = adapt(base, captures, tmp_path / what, what=what, draws=20)["tiers"][0]
        acer["before"], acer[what] = (low[when]["acer"]["value"] for when in ("before", "after"))
        assert low["difference"]["acer"]["difference"] < 0
    assert low["auc"] > low["auc_before"]
    assert acer["head"] < 0.3 < acer["threshold"] < acer["before"]


def test_a_test_split_alone_judges(base: Path, rewrite: Rewrite, tmp_path: Path):
    def mark(sample):
        return replace(sample, split="test" if sample.subject in ("s0000", "s0001") else None)

    result = adapt(base, rewrite(mark), tmp_path / "run2", what="head", draws=20)
    assert result["judged"] == {"unit": "test split", "num_parts": 1}
    assert {entry["num_subjects"] for entry in result["tiers"]} == {2}
    assert result["tiers"][0]["threshold"]["num_subjects"] == 8
    with pytest.raises(UserError, match="all 60 captures are marked test"):
        adapt(base, rewrite(lambda sample: replace(sample, split="test")), tmp_path / "run3")


@pytest.mark.slow
def test_an_adapted_run_evaluates_and_ships(base: Path, captures: Path, tmp_path: Path):
    out = tmp_path / "run2"
    adapt(base, captures, out, what="head", draws=20)
    opened, old = RunFolder.open(out), RunFolder.open(base)
    moved = [
        n for n, t in opened.model.state_dict().items() if (t != old.model.state_dict()[n]).any()
    ]
    assert moved == ["net.classifier.1.weight", "net.classifier.1.bias"]
    assert opened.settings["adapted"]["strength"] > 0
    report = evaluate(out, captures, tmp_path / "evaluation", draws=20, runs=1)
    assert report["tiers"][0]["threshold"]["source"].startswith("captures captures")
    export(out, out=tmp_path / "face.pliant")
    bundle = Bundle.open(tmp_path / "face.pliant")
    inputs = np.random.default_rng(0).uniform(-1, 1, (2, 3, 32, 32)).astype(np.float32)
    for tier in bundle.contract.tiers:
        bundle.use(tier.name)
        with torch.inference_mode(), opened.model.use(tier.name):
            expected = opened.model(torch.from_numpy(inputs)).numpy()
        assert np.abs(bundle.run(inputs) - expected).max() < 1e-4


def test_a_head_moves_both_logits_alike(base: Path):
    model = RunFolder.open(base).model
    old = head_of(model)
    layer = model.net.classifier[-1]
    sums = layer.weight.sum(dim=0).clone()
    new = Head(weight=old.weight + 0.5, bias=old.bias - 2)
    set_head(model, new)
    assert head_of(model).bias == pytest.approx(new.bias, abs=1e-6)
    np.testing.assert_allclose(head_of(model).weight, new.weight, atol=1e-6)
    torch.testing.assert_close(layer.weight.sum(dim=0), sums)


def test_live_captures_alone(base: Path, rewrite: Rewrite, tmp_path: Path):
    live = rewrite(lambda sample: sample if sample.bona_fide else None)
    with pytest.raises(UserError, match="needs attacks and the captures hold none"):
        adapt(base, live, tmp_path / "run2")
    with pytest.raises(UserError, match="a head needs attacks too"):
        adapt(base, live, tmp_path / "run2", what="head", policy="bpcer<=0.2")
    with pytest.raises(UserError, match=r"rule of three"):
        adapt(base, live, tmp_path / "run2", policy="bpcer<=0.01")
    assert not (tmp_path / "run2").exists()
    result = adapt(base, live, tmp_path / "run2", policy="bpcer<=0.2", draws=20)
    assert result["tiers"][0]["after"]["acer"] is None
    assert result["tiers"][0]["after"]["bpcer"]["n"] == 20
    assert (
        "the captures hold no attacks: how many would be accepted is not known" in result["notes"]
    )
    assert RunFolder.open(tmp_path / "run2").tiers["low"].threshold is not None
    assert not (tmp_path / "run2" / "dev_scores_low.csv").exists()


def test_one_person(base: Path, rewrite: Rewrite, tmp_path: Path):
    def everyone_is_one(sample):
        return replace(sample, subject="me", clip=f"{sample.subject}{sample.clip}", session=None)

    result = adapt(base, rewrite(everyone_is_one), tmp_path / "run2", draws=20)
    assert result["judged"]["unit"] == "clip"
    assert result["notes"][0].startswith(
        "warning: one person alone is named, so judging is by clip"
    )

    def one_clip(sample):
        label = "live" if sample.bona_fide else "attack"
        species = None if sample.bona_fide else "print"
        return replace(sample, subject="me", clip=label, session=None, pai_species=species)

    with pytest.raises(UserError, match="too few captures to judge"):
        adapt(base, rewrite(one_clip), tmp_path / "run3", draws=20)
    assert not (tmp_path / "run3").exists()


def test_frames_of_a_clip_are_one_presentation(base: Path, rewrite: Rewrite, tmp_path: Path):
    def joined(sample):
        return replace(sample, clip=sample.clip if not sample.bona_fide else "all live")

    result = adapt(base, rewrite(joined), tmp_path / "run2", draws=20)
    assert result["tiers"][0]["num_bona_fide"] == 10  # one clip of each person
    assert result["data"]["num_bona_fide"] == 20


def test_neighbours_stay_together(rig: Path):
    samples = [
        replace(s, subject=None, clip=None, session=None, name=f"img_{k}.jpg")
        for k, s in enumerate(read_manifest(rig))
    ]
    units = units_of(samples, to_scores(samples, np.zeros(len(samples))))
    assert list(units) == ["image"]
    live = [k for k, s in enumerate(samples) if s.bona_fide]
    assert sorted({str(u) for u in units["image"][live]}) == list(
        dict.fromkeys(units["image"][live])
    )
    assert len(set(units["image"][live])) == 5


def test_refusals(base: Path, captures: Path, tmp_path: Path):
    out = tmp_path / "run2"
    with pytest.raises(UserError, match=r'no tier "huge" \(low, high\)'):
        adapt(base, captures, out, tiers=("huge",))
    with pytest.raises(UserError, match="all tiers share the head"):
        adapt(base, captures, out, what="head", tiers=("low",))
    with pytest.raises(UserError, match="strength must be a finite number > 0"):
        adapt(base, captures, out, what="head", strength=0)
    with pytest.raises(UserError, match="fits nothing"):
        adapt(base, captures, out, policy="fixed=0.5")
    with pytest.raises(UserError, match="draws must be >= 1"):
        adapt(base, captures, out, draws=0)
    again = tmp_path / "again"
    shutil.copytree(base, again)
    settings = json.loads((again / "settings.json").read_text())
    (again / "settings.json").write_text(json.dumps(settings | {"task": "classify"}))
    with pytest.raises(UserError, match="of task classify"):
        adapt(again, captures, out)
    settings["data"]["sha256"] = open_source(captures, "pad").sha256
    (again / "settings.json").write_text(json.dumps(settings))
    with pytest.raises(UserError, match=r"is what .* was trained on"):
        adapt(again, captures, out)
    assert not out.exists()
    with pytest.raises(UserError, match="exists already"):
        adapt(base, captures, again)


def test_the_verb(base: Path, captures: Path, tmp_path: Path, capsys):
    words = ["pad", "adapt", str(base), "--data", str(captures), "--out", str(tmp_path / "run2")]
    assert main([*words, "--tiers", "low", "--draws", "20"]) == 0
    said = capsys.readouterr().out
    assert "of ACER over subjects" in said
    assert "cross-fitted by subject in 5 parts" in said
    assert f"adapted (threshold): {tmp_path / 'run2'}" in said
    new, old = (RunFolder.open(path).tiers["high"] for path in (tmp_path / "run2", base))
    assert new == old
    assert main(words) == 2
