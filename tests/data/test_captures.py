from pathlib import Path

import cv2
import numpy as np
import torch

from pliant.data.augment import Augment
from pliant.data.captures import DevCrops, simulated_captures
from pliant.data.crops import CropDataset
from pliant.data.manifest import Sample

WISH = Augment()
SIZE = 32


def canvases(count: int) -> torch.Tensor:
    side = WISH.canvas_px(SIZE)
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, 3, side, side), generator=generator, dtype=torch.uint8)


def test_every_sample_once_and_every_face_as_every_attack() -> None:
    targets = torch.tensor([1, 0, 1, 0, 0])
    made = simulated_captures(canvases(5), targets, settings=WISH, size=SIZE, seed=3)
    assert made.images.shape == (5 + 2 * 2, 3, SIZE, SIZE)
    kept = [m for m, kind in enumerate(made.kinds) if kind is None]
    assert made.source[kept].tolist() == [0, 1, 2, 3, 4]
    assert torch.equal(made.targets[kept], targets)
    for kind in ("replay", "print"):
        rows = [m for m, k in enumerate(made.kinds) if k == kind]
        assert made.source[rows].tolist() == [0, 2]
        assert made.targets[rows].tolist() == [0, 0]


def test_repeatable_and_different_by_seed() -> None:
    targets = torch.tensor([1, 0, 1])
    first = simulated_captures(canvases(3), targets, settings=WISH, size=SIZE, seed=0)
    again = simulated_captures(canvases(3), targets, settings=WISH, size=SIZE, seed=0)
    other = simulated_captures(canvases(3), targets, settings=WISH, size=SIZE, seed=1)
    assert torch.equal(first.images, again.images)
    assert not torch.equal(first.images, other.images)


def test_attacks_only_are_only_seen_by_other_cameras() -> None:
    made = simulated_captures(
        canvases(3), torch.zeros(3, dtype=torch.long), settings=WISH, size=SIZE, seed=0
    )
    assert made.kinds == (None, None, None)


def test_chunks_cover_all_samples() -> None:
    targets = torch.ones(7, dtype=torch.long)
    made = simulated_captures(canvases(7), targets, settings=WISH, size=SIZE, seed=0, chunk=3)
    assert sorted(made.source.tolist()) == sorted(list(range(7)) * 3)


def test_dev_crops_are_followed_by_their_captures(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    samples = []
    for number in range(4):
        path = tmp_path / f"{number}.png"
        cv2.imwrite(str(path), generator.integers(0, 255, (80, 80, 3), dtype=np.uint8))
        samples.append(
            Sample(path=path, bona_fide=number % 2 == 0, subject="a", box=(20.0, 20.0, 40.0, 40.0))
        )
    plain = CropDataset(samples, size=SIZE, crop_scale=1.5)
    wide = CropDataset(samples, size=WISH.canvas_px(SIZE), crop_scale=WISH.canvas_scale(1.5, SIZE))
    dev = DevCrops(plain, wide, settings=WISH, seed=0)
    assert len(dev) == 4 + 4 + 2 * 2
    assert torch.equal(dev[1]["image"], plain[1]["image"])
    assert [int(item["target"]) for item in (dev[k] for k in range(len(dev)))] == dev.targets
    assert [int(bool(s.bona_fide)) for s in dev.samples] == dev.targets
    assert {s.pai_species for s in dev.samples[8:]} == {"simulated replay", "simulated print"}
    assert len({s.presentation for s in dev.samples}) == len(dev)
    assert len(DevCrops(plain, None, settings=WISH, seed=0)) == 4
