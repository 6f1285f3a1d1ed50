"""Used by test_distributed.py: a tiny run on one process, or as one of several, on the CPU.

distributed_run.py FOLDER DEVICES BATCH_SIZE
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch.utils.data import Dataset

from pliant.runtime.crop import Preprocessing
from pliant.train.data_module import CropData
from pliant.train.fit import fit, is_first_process
from pliant.train.module import TrainModule
from pliant.train.network import build, task_of, tiers_of
from pliant.train.run_folder import RunFolder
from pliant.train.settings import Machine, NetworkSettings, TrainSettings

SIZE = 32


class Brightness(Dataset):
    """Noise; a little brighter where the target is 1."""

    def __init__(self, number: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.targets = [k % 2 for k in range(number)]
        light = torch.tensor(self.targets).view(-1, 1, 1, 1) * 30 + 80
        noise = torch.randn((number, 3, SIZE, SIZE), generator=generator) * 30
        self.images = (light + noise).clamp(0, 255).to(torch.uint8)

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, k: int) -> dict:
        return {"image": self.images[k], "target": self.targets[k]}


def main(path: Path, devices: str, batch_size: int) -> None:
    """Trains without what differs by process on purpose: dropout, augmentation, batch norm."""
    settings = TrainSettings(
        epochs=4,
        batch_size=batch_size,
        lr=0.0005,
        light_lr=1.0,
        freeze_batch_norm=True,
        sampler="per_block",
        distill_weight=0.0,
        tiers=("low", "max"),
        calibration_images=8,
    )
    torch.manual_seed(0)
    network = build("pta_mobilenet_v2", NetworkSettings(width=0.35, dropout=0.0), num_classes=2)
    module = TrainModule(
        task_of(network, settings),
        settings,
        preprocessing=Preprocessing(size=SIZE),
        tiers=tiers_of(network, settings.tiers),
    )
    train, dev = Brightness(32, seed=0), Brightness(13, seed=1)
    with torch.no_grad():  # statistics worth freezing
        for norm in network.modules():
            if isinstance(norm, torch.nn.BatchNorm2d):
                norm.momentum = 0.5
        for step in range(20):
            with network.use(module.task.configurations(1000 + step)[0]):
                network(module.normalise(train.images.float() / 255))
    batches = CropData(
        train=train,
        dev=dev,
        calibration=train,
        train_targets=train.targets,
        dev_targets=dev.targets,
        settings=settings,
    )
    folder = RunFolder.create(path, {}) if is_first_process() else RunFolder(path)
    machine = Machine(accelerator="cpu", devices=devices)
    fit(module, batches, folder, settings=settings, machine=machine)
    if is_first_process():
        weights = {name: value.contiguous() for name, value in network.state_dict().items()}
        save_file(weights, path / "weights.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
