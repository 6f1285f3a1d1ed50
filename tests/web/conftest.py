"""A bundle from the exporter, its server, and a headless Chromium that looks at it.

The network was never trained, but its scores differ between faces and tiers, and each tier's
threshold lies in the middle of its golden scores, so that both verdicts occur.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from pliant.adaptive.calibration import calibrate
from pliant.errors import UserError
from pliant.export.golden import golden_images
from pliant.jobs import export_int8
from pliant.jobs.export import export
from pliant.jobs.web import page_files, page_folder, serving
from pliant.runtime.crop import Preprocessing
from pliant.train.finish import tier_entries
from pliant.train.network import build
from pliant.train.run_folder import RunFolder
from pliant.train.settings import NetworkSettings, TrainSettings

SIZE = 64
TIERS = ("low", "mid", "high", "max")
CHROMIUM = os.environ.get("PLIANT_CHROMIUM", "/usr/bin/chromium")
FLAGS = [
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four tiers, eight golden faces, a threshold with an interval in every tier."""
    folder = tmp_path_factory.mktemp("web")
    _write_run(folder / "run")
    export(folder / "run", out=folder / "face.pliant", name="test model", licence="CC0-1.0")
    return folder / "face.pliant"


@pytest.fixture(scope="session")
def int8_bundle(bundle: Path) -> Path:
    """Two tiers (each takes seconds) in 8 bits, calibrated on golden faces, judged by nobody."""
    run, path = bundle.parent / "two tiers", bundle.parent / "small.pliant"
    _write_run(run, ("low", "max"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export_int8, "_splits", lambda *_: ([], [], {"data": "golden faces"}))
        patch.setattr(export_int8, "inputs_of", lambda run, _: _golden_inputs(run.preprocessing))
        patch.setattr(export_int8, "quality", lambda *_: export_int8.Quality())
        export(run, out=path, int8=True, data=bundle.parent, name="small model")
    return path


def _golden_inputs(preprocessing: Preprocessing) -> np.ndarray:
    return np.stack([golden.input(preprocessing) for golden in golden_images()])


def _write_run(path: Path, tiers: tuple[str, ...] = TIERS) -> None:
    preprocessing = Preprocessing(size=SIZE)
    batch = torch.from_numpy(_golden_inputs(preprocessing))
    shape = NetworkSettings(width=0.35)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build("pta_mobilenet_v2", shape, num_classes=2).eval()
    linear = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
    with torch.no_grad():
        linear.weight *= 8  # spreads the scores
    for tier in tiers:
        calibrate(network, tier, [batch], name=tier)
    scores = {}
    for tier in tiers:
        with network.use(tier), torch.inference_mode():
            scores[tier] = network(batch).softmax(dim=1)[:, 1]
    folder = RunFolder.create(path, _settings(preprocessing, shape, tiers))
    folder.write_model(network)
    entries = tier_entries(network, input_shape=(1, 3, SIZE, SIZE))
    folder.write_tiers(
        [
            entry
            | {"dev": {"auc": 0.8 + 0.01 * place}, "threshold": _threshold(scores[entry["tier"]])}
            for place, entry in enumerate(entries)
        ]
    )
    folder.finish()


def _settings(
    preprocessing: Preprocessing, shape: NetworkSettings, tiers: tuple[str, ...]
) -> dict[str, Any]:
    return {
        "task": "pad",
        "classes": ["attack", "bona_fide"],
        "model": "pta_mobilenet_v2",
        "network": asdict(shape),
        "preprocessing": preprocessing.to_json(),
        "training": asdict(TrainSettings(tiers=tiers)) | {"policy": "min_acer"},
        "augment": None,
        "data": {"name": "rig", "sha256": "0" * 64, "synthetic": True, "notes": []},
        "start": {"kind": "random", "seed": 0},
    }


def _threshold(scores: torch.Tensor) -> dict[str, Any]:
    fourth, fifth = scores.sort().values[3:5].tolist()
    value = (fourth + fifth) / 2
    return {
        "policy": "min_acer",
        "value": value,
        "source": "dev split of a test",
        "dev_sha256": "0" * 64,
        "num_bona_fide": 4,
        "num_attack": 4,
        "interval": [max(0.0, value - 0.05), min(1.0, value + 0.05)],
    }


@pytest.fixture(scope="session")
def address(bundle: Path) -> Iterator[str]:
    """Of the page, as long as the tests run."""
    try:
        page_files(page_folder())
    except UserError as missing:
        pytest.skip(str(missing))
    with serving(bundle) as address:
        yield address


@pytest.fixture(scope="session")
def launch() -> Iterator[Callable[..., Any]]:
    """Starts a Chromium with further flags; all end with the tests."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not Path(CHROMIUM).is_file():
        pytest.skip(f"there is no {CHROMIUM}; set PLIANT_CHROMIUM")
    with api.sync_playwright() as playwright:
        browsers = []

        def start(*flags: str) -> Any:
            args = [*FLAGS, *flags]
            browsers.append(playwright.chromium.launch(executable_path=CHROMIUM, args=args))
            return browsers[-1]

        yield start
        for browser in browsers:
            browser.close()


@pytest.fixture(scope="session")
def browser(launch: Callable[..., Any]) -> Any:
    """One Chromium for every test that needs no camera."""
    return launch()
