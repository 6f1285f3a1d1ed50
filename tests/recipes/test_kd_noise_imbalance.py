"""The study of distillation under noise and imbalance: what it does to labels, and its summary."""

import argparse
import sys
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from pliant.distill.families import OFFLINE
from pliant.errors import UserError

sys.path.insert(0, str(Path(__file__).parents[2] / "recipes"))  # as when a user runs the script
import kd_noise_imbalance as recipe


@pytest.mark.parametrize(("share", "wrong"), [(0.0, 0), (0.25, 3), (0.4, 5), (1.0, 12)])
def test_so_many_labels_become_another_class(share: float, wrong: int):
    targets = np.arange(12) % 3
    moved = recipe.noisy_labels(targets, share, num_classes=3, seed=0)
    assert (moved != targets).sum() == wrong
    assert set(moved) <= {0, 1, 2}
    assert targets.tolist() == [0, 1, 2] * 4  # the true ones stay


def test_with_two_classes_the_other_one_is_known():
    moved = recipe.noisy_labels(np.array([0, 1, 1, 0]), 1.0, num_classes=2, seed=3)
    assert moved.tolist() == [1, 0, 0, 1]


def test_wrong_classes_are_all_alike():
    moved = recipe.noisy_labels(np.zeros(9000, dtype=int), 0.5, num_classes=4, seed=0)
    counts = np.bincount(moved)
    assert counts[0] == 4500
    assert abs(counts[1:] - 1500).max() < 5 * 1500**0.5


def test_classes_become_rarer_by_hand():
    targets = np.repeat([0, 1, 2], 100)
    kept = recipe.unequal_classes(targets, 100.0, num_classes=3, seed=0)
    assert np.bincount(targets[kept]).tolist() == [100, 10, 1]  # 100 / 100^(k / 2)
    assert np.array_equal(kept, np.unique(kept))
    even = recipe.unequal_classes(targets, 1.0, num_classes=3, seed=0)
    assert np.array_equal(even, np.arange(300))
    rare = recipe.unequal_classes(targets, 1e6, num_classes=3, seed=0)
    assert np.bincount(targets[rare]).tolist() == [100, 1, 1]  # none dies out


def test_a_seed_draws_the_same_again_and_another_not():
    targets = np.repeat([0, 1, 2], 50)
    for change, amount in ((recipe.noisy_labels, 0.3), (recipe.unequal_classes, 10.0)):
        one, same, other = (change(targets, amount, num_classes=3, seed=s) for s in (1, 1, 2))
        assert np.array_equal(one, same)
        assert not np.array_equal(one, other)


def test_conditions_spoil_the_training_set_alone():
    split = recipe.gratings(40, side=16, num_classes=4, seed=0)
    assert recipe.spoiled(split, "clean", num_classes=4, seed=0) is split
    noisy = recipe.spoiled(split, "noise 0.4", num_classes=4, seed=0)
    assert noisy.images is split.images
    assert int((noisy.targets != split.targets).sum()) == 16
    rare = recipe.spoiled(split, "imbalance 10", num_classes=4, seed=0)
    assert torch.bincount(rare.targets).tolist() == [10, 5, 2, 1]  # 10 / 10^(k / 3)
    assert len(rare.images) == 18


def test_the_plan_goes_seed_by_seed():
    given = argparse.Namespace(seeds=2, noise=[0.0, 0.4], imbalance=[10.0, 1.0])
    each = ["clean", "noise 0.4", "imbalance 10"]
    assert list(recipe.plan(given)) == [(seed, name) for seed in (0, 1) for name in each]


def test_the_summary_pairs_by_seed_by_hand():
    def row(method: str, seed: int, right: float) -> dict[str, str]:
        named = {"condition": "clean", "seed": str(seed), "method": method}
        return named | {"accuracy": str(right), "nll": "1", "ece": "0.1"}

    pairs = ((0.5, 0.52), (0.6, 0.64), (0.7, 0.76))
    rows = [
        row(method, seed, pair[place])
        for seed, pair in enumerate(pairs)
        for place, method in enumerate(("vanilla", "kd"))
    ]
    kd = recipe.summarise([*rows, row("kd", 9, 0.1)])[1]  # seed 9 has no vanilla
    assert (kd["method"], kd["seeds"]) == ("kd", 3)
    assert kd["accuracy_more"] == pytest.approx(0.04)
    assert kd["accuracy_half_width"] == pytest.approx(4.303 * 0.02 / 3**0.5)  # t of 2 degrees
    assert kd["nll_half_width"] == 0


def test_an_archive_is_read_by_class(tmp_path: Path):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as tar:
        for side in ("train", "test"):
            for label, value in (("dog", 200), ("cat", 40)):
                for number in range(3):
                    file = tmp_path / f"{number}.jpg"
                    cv2.imwrite(str(file), np.full((32, 32, 3), value, np.uint8))
                    tar.add(file, f"{side}/{label}/{number}.jpg")
    train, test = recipe.read_archive(path, side=16, images=4, test_images=6)
    assert train.images.shape == (4, 3, 16, 16)
    assert train.targets.tolist() == [0, 0, 1, 1]
    assert test.targets.tolist() == [0] * 3 + [1] * 3
    assert train.images.float().mean((1, 2, 3)).round().tolist() == [40, 40, 200, 200]
    with tarfile.open(tmp_path / "empty.tar", "w"):
        pass
    with pytest.raises(UserError, match="must hold train/CLASS"):
        recipe.read_archive(tmp_path / "empty.tar", side=16, images=4, test_images=6)


def test_a_study_goes_on_where_it_stopped(tmp_path: Path):
    assert set(OFFLINE) < set(recipe.METHODS)
    given = argparse.Namespace(
        data=None, out=tmp_path, images=32, test_images=16, side=16, epochs=1, depth=8,
        teacher_depth=8, seeds=1, noise=[0.4], imbalance=[], methods=["vanilla", "kd"],
        batch_size=8, lr=0.01, device="cpu",
    )  # fmt: skip
    said: list[str] = []
    summary = recipe.run_recipe(given, said.append)
    assert [(r["condition"], r["method"]) for r in summary] == [
        (condition, method) for condition in ("clean", "noise 0.4") for method in ("vanilla", "kd")
    ]
    assert len(said) == 4
    assert recipe.run_recipe(given, said.append)[1]["accuracy"] == summary[1]["accuracy"]
    assert len(said) == 4
