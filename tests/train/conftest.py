"""A tiny run: a small PTA network, and images whose class is their brightness."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset

from pliant.runtime.crop import Preprocessing
from pliant.train.data_module import CropData
from pliant.train.module import TrainModule
from pliant.train.network import build, task_of, tiers_of
from pliant.train.settings import NetworkSettings, TrainSettings

SIZE = 32
PREPROCESSING = Preprocessing(size=SIZE)
NETWORK = NetworkSettings(width=0.35, dropout=0.1)


class Brightness(Dataset):
    """Noise; a little brighter where the target is 1."""

    def __init__(self, number: int, *, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.targets = [k % 2 for k in range(number)]
        light = torch.tensor(self.targets).view(-1, 1, 1, 1) * 40 + 80
        noise = torch.randn((number, 3, SIZE, SIZE), generator=generator) * 30
        self.images = (light + noise).clamp(0, 255).to(torch.uint8)

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, k: int) -> dict:
        return {"image": self.images[k], "target": self.targets[k], "index": k}


def mirror(images: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """An augmentation with randomness in it."""
    flipped = torch.rand(len(images), generator=generator) < 0.5
    return torch.where(flipped.view(-1, 1, 1, 1), images.flip(3), images), targets


Parts = tuple[TrainModule, CropData]


@pytest.fixture
def parts() -> Callable[..., Parts]:
    """settings -> (module, batches) of a tiny run, always from the same start."""
    return make_parts


def make_parts(
    settings: TrainSettings, *, model: str = "pta_mobilenet_v2", number: int = 24
) -> Parts:
    """See `parts`."""
    train, dev = Brightness(number), Brightness(12, seed=1)
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        network = build(model, NETWORK, num_classes=2)
    module = TrainModule(
        task_of(network, settings),
        settings,
        preprocessing=PREPROCESSING,
        tiers=tiers_of(network, settings.tiers),
        macs=lambda configuration: 10,
        augment=mirror,
    )
    batches = CropData(
        train=train,
        dev=dev,
        calibration=train,
        train_targets=train.targets,
        dev_targets=dev.targets,
        settings=settings,
    )
    return module, batches


@pytest.fixture
def recipe() -> TrainSettings:
    """Three epochs of three steps; what the defaults may change is named."""
    return TrainSettings(
        epochs=3,
        batch_size=8,
        lr=0.05,
        light_lr=1.0,
        sampler="presets",
        distill_weight=0.0,
        tiers=("low", "max"),
        sample_weights=(1.0, 1.0),
        calibration_images=8,
    )


@pytest.fixture
def run_path(tmp_path: Path) -> Path:
    return tmp_path / "run"
