"""Simulated captures of a dev set: its faces under other cameras, and recaptured.

One camera and one kind of attack cannot place a threshold for another camera. So the dev set that
ranks epochs and fits thresholds is joined by simulated captures of the same subjects: every sample
once more through a random camera, and every bona fide face as each kind of simulated attack,
through a random camera too. They are labelled `simulated <kind>` wherever they are counted.

Shapes: N = samples, M = captures, C = canvas side, S = input side in pixels.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from pliant.data.augment import BONA_FIDE, Augment
from pliant.data.simulate import SIMULATIONS


@dataclass(frozen=True, kw_only=True)
class Captures:
    """What `simulated_captures` gives; row m was made from sample `source[m]`."""

    images: UInt8[Tensor, "M 3 S S"]
    """sRGB, at the network's input size."""
    targets: Int[Tensor, " M"]
    """1 bona fide, 0 attack."""
    kinds: tuple[str | None, ...]
    """Name of the simulated attack; None where the sample kept its label."""
    source: Int[Tensor, " M"]
    """Which sample it was made from."""


def simulated_captures(
    images: UInt8[Tensor, "N 3 C C"],
    targets: Int[Tensor, " N"],
    *,
    settings: Augment,
    size: int,
    seed: int,
    chunk: int = 64,
) -> Captures:
    """Every sample through a random camera, and every bona fide one as each simulated attack.

    Args:
        images: Wide crops, as `Augment.canvas_px` and `canvas_scale` ask for.
        targets: 1 bona fide, 0 attack.
        settings: The training run's augmentation; its kinds of attack and its camera are used.
        size: Side S of the network's input.
        seed: Of everything drawn.
        chunk: Samples at a time; part of what is drawn, so keep it.
    """
    generator = torch.Generator().manual_seed(seed)
    camera = replace(settings, simulate=()).build(size)
    made: list[tuple[Tensor, Tensor, list[str | None], Tensor]] = []
    for start in range(0, len(images), chunk):
        rows = torch.arange(start, min(start + chunk, len(images)))
        faces, labels = images[rows].float() / 255, targets[rows]
        seen, _ = camera(faces, labels, generator)
        made.append((seen, labels, [None] * len(rows), rows))
        live = labels == BONA_FIDE
        if not live.any():
            continue
        none = torch.zeros(int(live.sum()), dtype=labels.dtype)
        for kind in settings.simulate:
            shown, _ = camera(SIMULATIONS[kind](faces[live], generator), none, generator)
            made.append((shown, none, [kind] * len(none), rows[live]))
    return Captures(
        images=torch.cat([(seen * 255).round().to(torch.uint8) for seen, *_ in made]),
        targets=torch.cat([labels for _, labels, _, _ in made]),
        kinds=tuple(kind for _, _, kinds, _ in made for kind in kinds),
        source=torch.cat([rows for *_, rows in made]),
    )
