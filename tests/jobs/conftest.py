"""A tiny rig, and tiny runs that were never trained: the jobs do not mind."""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from pliant.adaptive.calibration import calibrate
from pliant.data.manifest import Sample, read_manifest, write_manifest
from pliant.data.rig import RigSettings, write_rig
from pliant.data.source import open_source
from pliant.runtime.crop import Preprocessing
from pliant.train.finish import tier_entries
from pliant.train.network import build
from pliant.train.run_folder import RunFolder
from pliant.train.settings import NetworkSettings, TrainSettings

SIZE = 32
TIERS = ("low", "high")
HALF = {
    "policy": "min_acer",
    "value": 0.5,
    "source": "dev split of a test",
    "dev_sha256": "0" * 64,
    "num_bona_fide": 3,
    "num_attack": 3,
}


@pytest.fixture(scope="session")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The manifest of ten synthetic people: two attacks, one frame a clip."""
    settings = RigSettings(
        subjects=10, clips_per_subject=2, frames=1, size=64, attacks=("print_flat", "replay")
    )
    return write_rig(settings, tmp_path_factory.mktemp("rig") / "synthetic-rig", progress=False)


@pytest.fixture
def without_split(rig: Path) -> Callable[..., Path]:
    """Writes a manifest of the rig's images with other columns; its path comes back."""

    def write(name: str, change: Callable[[Sample], Sample | None]) -> Path:
        samples = [change(sample) for sample in read_manifest(rig)]
        path = rig.parent / name
        write_manifest([s for s in samples if s is not None], path)
        return path

    return write


@pytest.fixture(scope="session")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[tuple[str, ...]], Path]:
    """A run folder of an untrained network with these classes; written once."""
    folders: dict[tuple[str, ...], Path] = {}

    def of(classes: tuple[str, ...]) -> Path:
        if classes not in folders:
            folders[classes] = _write_run(tmp_path_factory.mktemp("run") / "run", classes)
        return folders[classes]

    return of


def _write_run(path: Path, classes: tuple[str, ...]) -> Path:
    shape = NetworkSettings(width=0.35)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build("pta_mobilenet_v2", shape, num_classes=len(classes))
        for tier in TIERS:
            calibrate(network, tier, [torch.randn(8, 3, SIZE, SIZE)], name=tier)
    pad = classes[-1] == "bona_fide"
    folder = RunFolder.create(
        path,
        {
            "task": "pad" if pad else "classify",
            "classes": list(classes),
            "model": "pta_mobilenet_v2",
            "network": asdict(shape),
            "preprocessing": Preprocessing(size=SIZE).to_json(),
            "training": asdict(TrainSettings(tiers=TIERS)) | {"policy": "min_acer"},
            "augment": None,
            "data": {},
            "start": {"kind": "random", "seed": 0},
        },
    )
    folder.write_model(network)
    entries = tier_entries(network, input_shape=(1, 3, SIZE, SIZE))
    folder.write_tiers(
        [
            entry | {"dev": {"auc" if pad else "accuracy": 0.5 + 0.1 * place}, "threshold": None}
            for place, entry in enumerate(entries)
        ]
    )
    folder.finish()
    return path


@pytest.fixture
def make_run(tmp_path: Path, rig: Path, untrained: Callable[..., Path]) -> Callable[..., Path]:
    """Writes a run folder that says it was trained on the rig, or on other data."""

    def make(
        *,
        threshold: dict | None = HALF,
        classes: tuple[str, ...] = ("attack", "bona_fide"),
        data: Path = rig,
        train_subjects: list[str] | None = None,
        dev_subjects: list[str] | None = None,
    ) -> Path:
        run = tmp_path / "run"
        shutil.copytree(untrained(classes), run)
        settings = json.loads((run / "settings.json").read_text())
        source = open_source(data, settings["task"], progress=False)

        def subjects(side: str) -> list[str]:
            return sorted({s.subject for s in source.samples if s.split == side and s.subject})

        settings["data"] = {
            "name": source.name,
            "sha256": source.sha256,
            "train_subjects": subjects("train") if train_subjects is None else train_subjects,
            "dev_subjects": subjects("dev") if dev_subjects is None else dev_subjects,
            "notes": [],
        }
        (run / "settings.json").write_text(json.dumps(settings))
        if threshold is not None:
            for tier in TIERS:
                RunFolder.store_threshold(run, tier, threshold)
        return run

    return make


@pytest.fixture
def unsplit(without_split: Callable[..., Path]) -> Path:
    """The rig without sides."""
    return without_split("unsplit.csv", lambda sample: replace(sample, split=None))
