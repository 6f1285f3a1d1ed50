"""Which configurations a training step runs: pure functions of the step's number.

A sampler is drawn from (seed, step) alone: every process of a distributed run and a resumed run
agree without a word. Branches that a step leaves out get no gradient, so DistributedDataParallel
needs find_unused_parameters=True.

Sandwich: Yu and Huang. "Universally Slimmable Networks and Improved Training Techniques", 2019.
https://arxiv.org/abs/1903.05134 (section 3.2).
"""

import random
from collections.abc import Callable, Sequence
from typing import Any

from pliant.adaptive.configuration import LETTERS, Configuration, preset

Sampler = Callable[[int], list[Configuration]]
"""Step number, from 0 -> the configurations that this step runs."""


def presets(
    names: Sequence[str | Configuration] = ("low", "mid", "high", "max"),
    num_blocks: int = 16,
    seed: int = 0,
    *,
    weights: Sequence[float] | None = None,
    letters: str = LETTERS,
) -> Sampler:
    """One preset for the whole network per step (uniform-global PTA-sampling).

    Args:
        names: Of PRESETS, or configurations of one's own.
        num_blocks: Adaptive blocks of the network.
        seed: Of the draws.
        weights: How often each is drawn, relative; None: equally often.
        letters: Of the network's blocks.

    Raises:
        ValueError: if there is no name, or not one weight for each.
    """
    if not names or (weights is not None and len(weights) != len(names)):
        raise ValueError(f"presets needs names, and one weight each: {names!r}, {weights!r}")
    choices = [
        name if isinstance(name, Configuration) else preset(name, num_blocks, letters)
        for name in names
    ]

    def sample(step: int) -> list[Configuration]:
        return _random(seed, step).choices(choices, weights)

    return sample


def per_block(num_blocks: int = 16, seed: int = 0, *, letters: str = LETTERS) -> Sampler:
    """One configuration per step, every block's letter drawn for itself, all letters alike."""

    def sample(step: int) -> list[Configuration]:
        return [_uniform(_random(seed, step), num_blocks, letters)]

    return sample


def sandwich(
    num_blocks: int = 16, seed: int = 0, num_random: int = 1, *, letters: str = LETTERS
) -> Sampler:
    """`max`, `low` and `num_random` configurations drawn block by block, all in one step."""
    ends = [preset("max", num_blocks, letters), preset("low", num_blocks, letters)]

    def sample(step: int) -> list[Configuration]:
        draw = _random(seed, step)
        return [*ends, *(_uniform(draw, num_blocks, letters) for _ in range(num_random))]

    return sample


SAMPLERS: dict[str, Callable[..., Any]] = {
    "presets": presets,
    "per_block": per_block,
    "sandwich": sandwich,
}
"""Samplers by name; each is called with num_blocks= and seed=."""


def _random(seed: int, step: int) -> random.Random:
    return random.Random(f"{seed}:{step}")  # text seeds are hashed: neighbours are unrelated


def _uniform(draw: random.Random, num_blocks: int, letters: str) -> Configuration:
    return Configuration("".join(draw.choices(letters, k=num_blocks)))
