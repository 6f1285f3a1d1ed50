"""The batches of a run: training crops in a seeded order, a dev subset, and crops for calibration.

Crops stay in memory (the data set's own bounded cache), so only the first epoch reads files. The
order is a pure function of (seed, epoch), and the processes of a distributed run take turns along
it: step k sees the same images on one process as on many.

Shapes: N = samples, B = batch, S = input side in pixels.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from jaxtyping import Int
from torch.utils.data import DataLoader, Dataset, Sampler, Subset

from pliant.train.settings import TrainSettings

DEV_BATCH = CALIBRATION_BATCH = 64
"""Images per forward pass where nothing is learnt."""


def epoch_order(
    targets: Int[np.ndarray, " N"], *, seed: int, epoch: int, balance: bool
) -> Int[np.ndarray, " N"]:
    """N indices in the order of one epoch.

    Without `balance` every sample comes once. With it every class gets N / classes of the places
    (one more for some where that does not divide): a rare class repeats, each time all of it in
    another order, and a common one leaves some out.
    """
    random = np.random.default_rng((seed, epoch))
    if not balance:
        return random.permutation(len(targets))
    classes = np.unique(targets)
    places = np.full(len(classes), len(targets) // len(classes))
    places[random.permutation(len(classes))[: len(targets) % len(classes)]] += 1
    chosen = []
    for label, wanted in zip(classes, places, strict=True):
        members = np.flatnonzero(targets == label)
        rounds = -(-wanted // len(members))
        order = np.concatenate([random.permutation(members) for _ in range(rounds)])
        chosen.append(order[:wanted])
    return random.permutation(np.concatenate(chosen))


def class_share(targets: Int[np.ndarray, " N"], wanted: int, *, seed: int) -> Int[np.ndarray, " M"]:
    """At most `wanted` indices, sorted, as evenly over the classes as they allow; 0: all."""
    if not wanted or wanted >= len(targets):
        return np.arange(len(targets))
    random = np.random.default_rng((seed, len(targets)))
    place_in_class = np.empty(len(targets), dtype=np.int64)
    for label in np.unique(targets):
        members = random.permutation(np.flatnonzero(targets == label))
        place_in_class[members] = np.arange(len(members))
    return np.sort(np.lexsort((random.permutation(len(targets)), place_in_class))[:wanted])


class EpochOrder(Sampler[int]):
    """`epoch_order` cut to whole batches, and of it the share of one process.

    Args:
        targets: Class indices.
        batch_size: Images per step and process.
        seed: Of the order.
        balance: See `epoch_order`.
        rank: This process, from 0.
        world: Processes.
    """

    def __init__(
        self,
        targets: Int[np.ndarray, " N"],
        *,
        batch_size: int,
        seed: int,
        balance: bool,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.targets, self.seed, self.balance = np.asarray(targets), seed, balance
        self.rank, self.world, self.epoch = rank, world, 0
        self.num_samples = len(self.targets) // (batch_size * world) * batch_size

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this before every epoch, a resumed one too."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.num_samples

    def __iter__(self) -> Iterator[int]:
        order = epoch_order(self.targets, seed=self.seed, epoch=self.epoch, balance=self.balance)
        return iter(order[self.rank :: self.world][: self.num_samples].tolist())


class CropData(pl.LightningDataModule):
    """The three streams of a run; every data set yields dict(image uint8 (3, S, S), target).

    Args:
        train: Crops as the augmentation wants them (its canvas), or plain ones.
        dev: Plain crops of the dev split.
        calibration: Plain crops of the training split.
        train_targets: Class index of every training crop.
        dev_targets: Class index of every dev crop.
        settings: The recipe.
    """

    def __init__(
        self,
        *,
        train: Dataset[Any],
        dev: Dataset[Any],
        calibration: Dataset[Any],
        train_targets: Sequence[int],
        dev_targets: Sequence[int],
        settings: TrainSettings,
    ) -> None:
        super().__init__()
        self.train_set = train
        self.train_targets = np.asarray(train_targets)
        self.settings = settings
        few = class_share(np.asarray(dev_targets), settings.dev_images, seed=settings.seed)
        self.all_dev = dev
        self.dev_set = Subset(dev, few.tolist())
        few = class_share(self.train_targets, settings.calibration_images, seed=settings.seed)
        few = np.random.default_rng(settings.seed).permutation(few)  # the classes mixed
        self.calibration_set = Subset(calibration, few.tolist())

    def train_dataloader(self) -> DataLoader:
        world, rank = self._processes()
        batch_size = min(self.settings.batch_size, max(1, len(self.train_targets) // world))
        order = EpochOrder(
            self.train_targets,
            batch_size=batch_size,
            seed=self.settings.seed,
            balance=self.settings.balance,
            rank=rank,
            world=world,
        )
        return self._loader(self.train_set, batch_size, order)

    def val_dataloader(self) -> DataLoader:
        world, rank = self._processes()
        mine = Subset(self.dev_set, range(rank, len(self.dev_set), world))
        return self._loader(mine, DEV_BATCH, None)

    def calibration_batches(self, limit: int | None = None) -> Iterator[torch.Tensor]:
        """Plain training crops, uint8 (B, 3, S, S), at most `limit` images; the classes mixed."""
        number = len(self.calibration_set)
        number = number if limit is None else min(limit, number)
        # Even parts: a batch of one image has no variance.
        for part in np.array_split(np.arange(number), -(-number // CALIBRATION_BATCH)):
            yield torch.stack([self.calibration_set[int(k)]["image"] for k in part])

    def _processes(self) -> tuple[int, int]:
        if self.trainer is None:
            return 1, 0
        return self.trainer.world_size, self.trainer.global_rank

    def _loader(
        self, data: Dataset[Any], batch_size: int, order: Sampler[int] | None
    ) -> DataLoader:
        workers = self.settings.workers
        return DataLoader(
            data,
            batch_size=batch_size,
            sampler=order,
            drop_last=order is not None,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=torch.cuda.is_available(),
        )
