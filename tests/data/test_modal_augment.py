"""PipeNet's augmentation: against a slow version, joint or not, and what is erased."""

import math

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pliant.data.modal_augment import (
    ModalAugmentation,
    erase_modalities,
    lose_pixels,
    random_patches,
)

PLAIN = {"flip": 0.0, "rotation": 0.0, "downscale": 0.0, "erase": 0.0}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def frames(batch: int = 4, modalities: int = 3, side: int = 20) -> torch.Tensor:
    return torch.rand(batch, 3 * modalities, side, side, generator=seeded(9))


def same(images: torch.Tensor) -> torch.Tensor:
    """The first modality in place of all."""
    return images[:, :3].repeat(1, images.shape[1] // 3, 1, 1)


def test_a_patch_is_cut_turned_and_flipped_as_by_opencv() -> None:
    views, size = frames(6, 1, 24), 11
    found = random_patches(views, size, flip=0.5, rotation=30.0, groups=6, generator=seeded(3))
    across, down, turn, left, top = torch.rand((5, 6), generator=seeded(3)).double().numpy()
    for k, view in enumerate(views):
        image = view.permute(1, 2, 0).numpy()
        degrees = (2 * turn[k] - 1) * 30
        middle = (24 - 1) / 2
        matrix = cv2.getRotationMatrix2D((middle, middle), degrees, 1.0)
        turned = cv2.warpAffine(image, matrix, (24, 24), borderMode=cv2.BORDER_REFLECT)
        x, y = (min(13, math.floor(d[k] * 14)) for d in (left, top))
        patch = turned[y : y + size, x : x + size]
        patch = patch[:, ::-1] if across[k] < 0.5 else patch
        patch = patch[::-1] if down[k] < 0.5 else patch
        # OpenCV rounds places to 1/32 px
        np.testing.assert_allclose(found[k].permute(1, 2, 0), patch, atol=0.08)


def test_without_turns_a_patch_is_an_exact_piece() -> None:
    views = frames(5, 1, 12)
    found = random_patches(views, 5, flip=0.0, rotation=0.0, groups=5, generator=seeded())
    for view, patch in zip(views, found, strict=True):
        pieces = view.unfold(1, 5, 1).unfold(2, 5, 1).permute(1, 2, 0, 3, 4).flatten(0, 1)
        assert (pieces - patch).abs().amax(dim=(1, 2, 3)).min() < 1e-5


def test_joint_keeps_the_modalities_registered_and_independent_does_not() -> None:
    images = same(frames())
    joint, _ = ModalAugmentation(size=8, joint=True, erase=0.0)(images, torch.zeros(4), seeded())
    assert torch.equal(joint, same(joint))
    apart, _ = ModalAugmentation(size=8, erase=0.0)(images, torch.zeros(4), seeded())
    parts = apart.unflatten(1, (3, 3))
    assert all(not torch.equal(row[0], row[k]) for row in parts for k in (1, 2))


def test_the_same_generator_gives_the_same_bits_and_targets_stay() -> None:
    make, targets = ModalAugmentation(size=8), torch.tensor([0, 1, 1, 0])
    a, said = make(frames(), targets, seeded(5))
    b, _ = make(frames(), targets, seeded(5))
    c, _ = make(frames(), targets, seeded(6))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    assert torch.equal(said, targets)
    assert a.shape == (4, 9, 8, 8)


def test_a_whole_frame_as_patch_stays_when_nothing_is_asked_for() -> None:
    images = frames(side=16)
    found, _ = ModalAugmentation(size=16, **PLAIN)(images, torch.zeros(4), seeded())
    assert torch.allclose(found, images, atol=1e-5)


def test_lost_pixels_by_a_slow_version() -> None:
    views = frames(8, 1, 10)
    found = lose_pixels(views, share=0.5, groups=8, generator=seeded(2))
    drawn = torch.rand((2, 8), generator=seeded(2))
    for k, view in enumerate(views):
        expected = view[None]
        if drawn[0, k] < 0.5:
            pixels = int((0.2 + 0.8 * drawn[1, k]).mul(10).round())
            small = torch.nn.functional.adaptive_avg_pool2d(expected, pixels)
            expected = torch.nn.functional.interpolate(small, (10, 10), mode="bilinear")
        assert torch.allclose(found[k], expected[0], atol=1e-6)
    assert torch.equal(lose_pixels(views, share=0.0, groups=8, generator=seeded()), views)


@given(st.integers(0, 10_000), st.integers(2, 4))
def test_erasing_leaves_one_or_all_but_one(seed: int, modalities: int) -> None:
    images = frames(8, modalities, 4)
    found = erase_modalities(images, share=1.0, generator=seeded(seed))
    kept = found.unflatten(1, (modalities, 3)).flatten(2).amax(dim=2) > 0
    assert set(kept.sum(dim=1).tolist()) <= {1, modalities - 1}
    left = kept.repeat_interleave(3, dim=1)
    assert torch.equal(found[left], images[left]), "what is left is as it was"


def test_how_often_is_erased() -> None:
    images = torch.ones(4000, 9, 1, 1)
    kept = erase_modalities(images, share=0.5, generator=seeded()).unflatten(1, (3, 3))[:, :, 0]
    counts = torch.bincount(kept.sum(dim=(1, 2, 3)).long(), minlength=4) / 4000
    assert counts.tolist() == pytest.approx([0.0, 0.25, 0.25, 0.5], abs=0.03)
    assert torch.equal(erase_modalities(images, share=0.0, generator=seeded()), images)


def test_erasing_never_leaves_nothing() -> None:
    images = torch.zeros(200, 6, 2, 2)
    images[:, 3:] = 1.0  # the first modality was missing before
    found = erase_modalities(images, share=1.0, generator=seeded())
    assert torch.equal(found, images)
    single = frames(modalities=1)
    assert torch.equal(erase_modalities(single, share=1.0, generator=seeded()), single)
