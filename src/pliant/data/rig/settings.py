"""What a rig renders: how many people, clips, frames, how large, how hard."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pliant.errors import UserError

Array = NDArray[Any]
"""Planes of float32, unless said otherwise."""

ATTACKS = ("print_flat", "print_bent", "replay", "mask")
"""Every kind of attack that the rig can stage; also the `pai_species` in the manifest."""


@dataclass(frozen=True, kw_only=True)
class RigSettings:
    """Settings of a synthetic capture session."""

    subjects: int = 40
    """How many people, 3 to 9999; they are split 60/20/20 into train, dev and test."""
    clips_per_subject: int = 6
    """Bona fide clips of one person, 1 to 1000; each has its own light, place and camera."""
    attack_clips: int = 2
    """Clips of one person for each kind of attack, 0 to 1000."""
    frames: int = 3
    """Frames of one clip, 1 to 10000; pose, expression and the holding hand move between them."""
    size: int = 96
    """Side of the stored square frame in px, 32 to 1024; the face box is about half of it."""
    difficulty: float = 0.5
    """0: the attacks' clues are nearly trivial; 1: nearly invisible."""
    seed: int = 0
    """Another seed, other people; 0 to 2**31 - 1."""
    attacks: tuple[str, ...] = ATTACKS
    """Which attacks to stage, out of print_flat, print_bent, replay, mask."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "attacks", tuple(self.attacks))
        for name, low, high in (
            ("subjects", 3, 9999),
            ("clips_per_subject", 1, 1000),
            ("attack_clips", 0, 1000),
            ("frames", 1, 10_000),
            ("size", 32, 1024),
            ("seed", 0, 2**31 - 1),
        ):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
                raise UserError(
                    f"the rig's {name} is {value!r}; give a whole number from {low} to {high}"
                )
        if not 0.0 <= self.difficulty <= 1.0:
            raise UserError(
                f"the rig's difficulty is {self.difficulty!r}; give a number from 0 to 1"
            )
        unknown = [name for name in self.attacks if name not in ATTACKS]
        if unknown or len(set(self.attacks)) != len(self.attacks):
            raise UserError(
                f"the rig's attacks are {', '.join(self.attacks)}; "
                f"choose each at most once from {', '.join(ATTACKS)}"
            )

    def to_json(self) -> dict:
        """The settings as plain JSON values."""
        return asdict(self) | {"attacks": list(self.attacks)}


def stream(seed: int, *key: int) -> np.random.Generator:
    """A random stream that depends on the key alone, so that order and workers do not matter."""
    return np.random.default_rng([seed, *key])
