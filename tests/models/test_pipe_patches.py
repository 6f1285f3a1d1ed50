"""The 36 test crops: places by hand, and the mean against a slow loop."""

import pytest
import torch
from torch import nn

from pliant.models.pipe_patches import PatchMean, corners, patches
from pliant.models.pipenet import pipenet, subsets, without


def test_the_nine_places_by_hand() -> None:
    # at 60 px the middle patch of 20 begins at 20; 0 and 40 are one patch away
    assert corners(60, 20) == [(20, 20)] + [
        (y, x) for y in (0, 20, 40) for x in (0, 20, 40) if (y, x) != (20, 20)
    ]
    assert corners(56, 16)[1:4] == [(4, 4), (4, 20), (4, 36)]
    assert sorted({y for y, _ in corners(56, 16)}) == [4, 20, 36]
    assert sorted({y for y, _ in corners(30, 20)}) == [0, 5, 10], "held inside the frame"
    assert set(corners(20, 20)) == {(0, 0)}


def test_the_mean_of_36_against_a_slow_loop() -> None:
    torch.manual_seed(0)
    net = pipenet(dict.fromkeys(("colour", "depth"), "resnet18")).eval()
    frames, s = torch.rand(2, 6, 40, 40), 16
    with torch.inference_mode():
        found = PatchMean(net, patch=s, crops=36)(frames)
        total = torch.zeros(2, 2)
        for dy in (-1, 0, 1):
            for dx in (-1, 0, 1):
                top, left = (min(max(12 + s * d, 0), 24) for d in (dy, dx))
                piece = frames[:, :, top : top + s, left : left + s]
                for flipped in (
                    piece,
                    torch.flip(piece, [3]),
                    torch.flip(torch.flip(piece, [3]), [2]),
                    torch.flip(piece, [2]),
                ):
                    total += net(flipped)
    assert torch.allclose(found, total / 36, atol=1e-5)


def test_a_patch_is_scored_as_it_is() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(48, 2))
    patch = torch.rand(3, 3, 4, 4)
    assert torch.equal(PatchMean(net, patch=4, crops=36)(patch), net(patch))


def test_one_crop_is_the_middle() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(48, 2))
    frame = torch.rand(3, 3, 8, 8)
    middle = frame[..., 2:6, 2:6]
    assert torch.equal(PatchMean(net, patch=4, crops=1)(frame), net(middle))
    assert len(patches(frame, 4, 36)) == 36


def test_subsets_against_images_with_zeros() -> None:
    torch.manual_seed(0)
    names = ("colour", "depth", "infrared")
    net = PatchMean(pipenet(dict.fromkeys(names, "resnet18")), patch=16, crops=36).eval()
    frames = torch.rand(2, 9, 24, 24)
    with torch.inference_mode():
        found = net.of_subsets(frames, subsets())
        for kept, logits in zip(subsets(), found, strict=True):
            assert torch.allclose(logits, net(without(frames, kept)), atol=1e-5)


def test_other_numbers_of_crops_are_refused() -> None:
    with pytest.raises(ValueError, match="1 or 36"):
        PatchMean(nn.Identity(), patch=4, crops=9)
