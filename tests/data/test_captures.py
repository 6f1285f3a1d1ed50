import torch

from pliant.data.augment import Augment
from pliant.data.captures import simulated_captures

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
