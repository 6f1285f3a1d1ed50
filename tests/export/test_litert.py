"""Parity needs the extra and is skipped without it; the refusals run everywhere."""

import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from pliant.adaptive.calibration import calibrate
from pliant.adaptive.network import AdaptiveNetwork, make_adaptive
from pliant.errors import UserError
from pliant.export.litert import run_litert, write_litert
from pliant.export.mobile import tier_parity
from pliant.export.sharing import tier_graphs
from pliant.models.mobilenet_v2 import inverted_residual

pytestmark = [  # what LiteRT and jax say while they are imported and while they export
    pytest.mark.filterwarnings(f"ignore::{kind}")
    for kind in ("DeprecationWarning", "FutureWarning", "UserWarning")
]
SHAPE = (2, 3, 16, 16)
TIERS = ("low", "max", "my-own")


@pytest.fixture(scope="module")
def small() -> AdaptiveNetwork:
    """Two adaptive blocks; every tier was calibrated on images of another contrast."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = make_adaptive(
            nn.Sequential(
                nn.Sequential(nn.Conv2d(3, 24, 3, 2, 1), nn.BatchNorm2d(24), nn.ReLU6()),
                inverted_residual(24, 32, stride=2, expand=6, padding="same_tf"),
                inverted_residual(32, 32, stride=1, expand=6, padding="same_tf"),
                nn.AdaptiveAvgPool2d(1),
                nn.Flatten(),
                nn.Linear(32, 2),
            ),
            light_start="random",
        )
        for place, tier in enumerate(TIERS):
            images = torch.randn(8, *SHAPE[1:]) * (1 + place)
            calibrate(net, "LH" if tier == "my-own" else tier, [images], name=tier)
    return net.eval()


@pytest.fixture(scope="module")
def written(small: AdaptiveNetwork, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("litert_torch", reason="needs pliant[litert]")
    path = tmp_path_factory.mktemp("tflite") / "net.tflite"
    write_litert(small, TIERS, SHAPE, path)
    return path


def images() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(4, *SHAPE[1:])).astype(np.float32)


def test_every_tier_computes_what_pytorch_does(small: AdaptiveNetwork, written: Path):
    parity = tier_parity(small, TIERS, images(), partial(run_litert, written))
    assert list(parity) == list(TIERS)
    assert max(parity.values()) < 1e-5


def test_tiers_differ_and_a_name_is_mapped(written: Path):
    ran = [run_litert(written, m, images()) for m in ("tier_low", "tier_my_own")]
    assert np.abs(ran[0] - ran[1]).max() > 1e-2


def test_a_shared_weight_is_stored_once(small: AdaptiveNetwork, written: Path):
    """The bytes of 1x1 kernels that two tiers run, searched in the file."""
    graphs = tier_graphs(small, TIERS, SHAPE)
    contents = {
        tier: {b.numpy().tobytes() for n, b in graph.named_buffers() if n.endswith("_weight")}
        for tier, graph in graphs.items()
    }
    both = [c for c in contents["max"] & contents["my-own"] if len(c) >= 4 * 32 * 192]
    data = written.read_bytes()
    assert [data.count(content) for content in both] == [1, 1]
    halves = [(np.frombuffer(content, np.float32) / 2).tobytes() for content in both]
    assert not any(half in data for half in halves)  # the mean of branches, folded by a converter


def test_nothing_but_the_file_is_left(written: Path):
    assert [p.name for p in written.parent.iterdir()] == ["net.tflite"]


@pytest.mark.parametrize(
    ("signature", "shape", "said"),
    [
        ("forward", SHAPE, 'has no signature "forward"; it has: tier_low, tier_max, tier_my_own'),
        ("tier_low", (3, 3, 16, 16), r"batches of 2 images of shape \(3, 16, 16\)"),
        ("tier_low", (2, 3, 8, 8), r"got an array of shape \(2, 3, 8, 8\)"),
    ],
)
def test_refusals_of_a_file(written: Path, signature: str, shape: tuple[int, ...], said: str):
    with pytest.raises(UserError, match=said):
        run_litert(written, signature, np.zeros(shape, np.float32))


@pytest.mark.parametrize(
    ("tiers", "said"),
    [
        ([], "at least one tier; this network has: low, max, my-own"),
        (["low", "medium"], 'unknown tier "medium"; this network has: low, max, my-own'),
        (["low", "low"], 'the tiers "low" and "low" would both be called tier_low'),
    ],
)
def test_refusals_of_tiers(small: AdaptiveNetwork, tmp_path: Path, tiers: list[str], said: str):
    with pytest.raises(UserError, match=said):
        write_litert(small, tiers, SHAPE, tmp_path / "net.tflite")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_extra_names_its_install_line(
    small: AdaptiveNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for name in ("litert_torch", "ai_edge_litert.interpreter"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match=r"-c constraints-litert.txt 'pliant\[litert\]'"):
        write_litert(small, ["low"], SHAPE, tmp_path / "net.tflite")
    with pytest.raises(UserError, match=r"-c constraints-litert.txt 'pliant\[litert\]'"):
        run_litert(tmp_path / "net.tflite", "tier_low", images())
