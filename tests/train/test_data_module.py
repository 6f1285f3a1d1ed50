"""The order of an epoch: seeded, balanced where asked, the same images on one process or many."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import Dataset

from pliant.train.data_module import CropData, EpochOrder, class_share, epoch_order
from pliant.train.settings import TrainSettings

labels = st.lists(st.integers(0, 2), min_size=4, max_size=60).map(np.array)


@given(targets=labels, seed=st.integers(0, 9), epoch=st.integers(0, 9))
def test_plain_order_is_a_permutation(targets, seed, epoch):
    order = epoch_order(targets, seed=seed, epoch=epoch, balance=False)
    assert sorted(order) == list(range(len(targets)))


@given(targets=labels, seed=st.integers(0, 9), epoch=st.integers(0, 9))
def test_balanced_order_draws_every_class_equally(targets, seed, epoch):
    order = epoch_order(targets, seed=seed, epoch=epoch, balance=True)
    again = epoch_order(targets, seed=seed, epoch=epoch, balance=True)
    assert np.array_equal(order, again)
    assert len(order) == len(targets)
    drawn = [int((targets[order] == label).sum()) for label in np.unique(targets)]
    assert max(drawn) - min(drawn) <= 1
    for label in np.unique(targets):  # a class repeats only when all of it was used
        times = np.bincount(order, minlength=len(targets))[targets == label]
        assert times.max() - times.min() <= 1


def test_epochs_and_seeds_differ():
    targets = np.arange(40) % 2
    first = epoch_order(targets, seed=0, epoch=0, balance=True)
    assert not np.array_equal(first, epoch_order(targets, seed=0, epoch=1, balance=True))
    assert not np.array_equal(first, epoch_order(targets, seed=1, epoch=0, balance=True))


@given(targets=labels, world=st.integers(1, 3), batch_size=st.integers(1, 5))
def test_processes_share_the_global_batches(targets, world, batch_size):
    def steps(rank: int, processes: int, size: int) -> list[list[int]]:
        order = EpochOrder(
            targets, batch_size=size, seed=3, balance=True, rank=rank, world=processes
        )
        order.set_epoch(2)
        drawn = list(order)
        assert len(drawn) == len(order)
        assert len(drawn) % size == 0
        return [drawn[i : i + size] for i in range(0, len(drawn), size)]

    alone = steps(0, 1, batch_size * world)
    together = [steps(rank, world, batch_size) for rank in range(world)]
    for k, batch in enumerate(alone):
        assert sorted(batch) == sorted(index for share in together for index in share[k])


@given(targets=labels, wanted=st.integers(1, 80))
def test_class_share_is_as_even_as_can_be(targets, wanted):
    chosen = class_share(targets, wanted, seed=0)
    assert len(chosen) == len(set(chosen.tolist())) == min(wanted, len(targets))
    counts = {c: int((targets[chosen] == c).sum()) for c in np.unique(targets)}
    have = {c: int((targets == c).sum()) for c in counts}
    for c in counts:  # a class below the largest share gave all it has
        assert counts[c] >= max(counts.values()) - 1 or counts[c] == have[c]


def test_no_limit_takes_all():
    assert class_share(np.array([0, 1, 1]), 0, seed=0).tolist() == [0, 1, 2]


class Squares(Dataset):
    """Image k is filled with the value k."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __len__(self) -> int:
        return self.number

    def __getitem__(self, k: int) -> dict:
        return {"image": torch.full((3, 4, 4), k, dtype=torch.uint8), "target": k % 2}


@pytest.fixture
def data() -> CropData:
    return CropData(
        train=Squares(21),
        dev=Squares(30),
        calibration=Squares(21),
        train_targets=[k % 2 for k in range(21)],
        dev_targets=[k % 2 for k in range(30)],
        settings=TrainSettings(batch_size=8, dev_images=10, calibration_images=12),
    )


def test_training_batches_are_whole(data):
    batches = list(data.train_dataloader())
    assert [len(b["target"]) for b in batches] == [8, 8]
    assert batches[0]["image"].dtype == torch.uint8


def test_fewer_images_than_a_batch_make_one(data):
    data.train_targets = data.train_targets[:5]
    assert [len(b["target"]) for b in data.train_dataloader()] == [5]


def test_dev_and_calibration_are_drawn_once_and_evenly(data):
    drawn = torch.cat([b["target"] for b in data.val_dataloader()])
    assert drawn.tolist().count(0) == drawn.tolist().count(1) == 5
    first, again = (torch.cat(list(data.calibration_batches())) for _ in range(2))
    assert first.shape == (12, 3, 4, 4)
    assert torch.equal(first, again)
    assert torch.equal(torch.cat(list(data.calibration_batches(limit=3))), first[:3])
