"""PipeNet's augmentation: flips, turns, lost resolution, a random patch, erased modalities.

Yang, Zhu, Fwu, Ye, You, Zhu. "PipeNet", 2020. https://arxiv.org/abs/2004.11744; from the authors'
code: flips left-right and upside down with probability 0.5 each, a turn of up to 30 degrees, with
probability 0.5 fewer pixels by a factor from 0.2 to 1 and back, a random patch, all drawn for each
modality by itself; then modal feature erasing: with probability 0.5 a modality is picked, and
either it or all others become zeros.

Departures: `joint` draws once for all modalities, so that their pixels stay registered; turn, flips
and patch are one bilinear sampling, with what lies outside the frame reflected; pixels are lost in
the patch, not before it is cut; erasing never leaves an image of zeros alone.

Shapes: B = batch, M = modalities, S = side of a frame, s = side of a patch, V = B * M views.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

CHANNELS = 3
"""Of every modality."""
LEAST_SCALE = 0.2
"""Of the pixels that are left, along a side."""


def random_patches(
    views: Float[Tensor, "V 3 S S"],
    size: int,
    *,
    flip: float,
    rotation: float,
    groups: int,
    generator: torch.Generator,
) -> Float[Tensor, "V 3 s s"]:
    """A patch of every view: turned about the frame's middle, flipped, at a random place.

    Args:
        views: Frames, so that view v belongs to group v // (V / groups).
        size: s, at most S.
        flip: Probability of each of the two flips.
        rotation: Largest turn, degrees.
        groups: Views of one group share what is drawn.
        generator: Of everything drawn.
    """
    number, side = len(views), views.shape[-1]
    drawn = torch.rand((5, groups), generator=generator, device=views.device)
    drawn = drawn.repeat_interleave(number // groups, dim=1)
    across, down = (torch.where(d < flip, -1.0, 1.0) for d in drawn[:2])
    turn = (drawn[2] * 2 - 1) * rotation * math.pi / 180
    left, top = ((d * (side - size + 1)).floor().clamp_max(side - size) for d in drawn[3:])
    share = size / side  # of the patch, in units of the frame's half side
    x, y = (2 * (corner + size / 2) / side - 1 for corner in (left, top))
    cos, sin = turn.cos(), turn.sin()
    # output (u, v) of the patch -> place in the flipped frame -> turned back to the stored one
    rows = [
        torch.stack([cos * share * across, -sin * share * down, cos * x - sin * y], dim=1),
        torch.stack([sin * share * across, cos * share * down, sin * x + cos * y], dim=1),
    ]
    grid = F.affine_grid(
        torch.stack(rows, dim=1), [number, views.shape[1], size, size], align_corners=False
    )
    return F.grid_sample(views, grid, padding_mode="reflection", align_corners=False)


def lose_pixels(
    views: Float[Tensor, "V 3 s s"], *, share: float, groups: int, generator: torch.Generator
) -> Float[Tensor, "V 3 s s"]:
    """With probability `share`: fewer pixels, by a factor from 0.2 to 1 along a side, and back."""
    side = views.shape[-1]
    drawn = torch.rand((2, groups), generator=generator, device=views.device)
    drawn = drawn.repeat_interleave(len(views) // groups, dim=1)
    factor = LEAST_SCALE + (1 - LEAST_SCALE) * drawn[1]
    small = torch.where(drawn[0] < share, (factor * side).round().clamp_min(1), side).long()
    found = views.clone()
    for pixels in small.unique().tolist():
        if pixels < side:
            rows = small == pixels
            less = F.interpolate(views[rows], size=(pixels, pixels), mode="area")
            found[rows] = F.interpolate(less, (side, side), mode="bilinear", align_corners=False)
    return found


def erase_modalities(
    images: Float[Tensor, "B C S S"], *, share: float, generator: torch.Generator
) -> Float[Tensor, "B C S S"]:
    """With probability `share`: one modality becomes zeros, or all others do.

    An image of which nothing would be left, because the rest was missing before, stays as it was.
    """
    number = images.shape[1] // CHANNELS
    if number < 2 or share == 0:
        return images
    drawn = torch.rand((3, len(images)), generator=generator, device=images.device)
    picked = F.one_hot((drawn[1] * number).long().clamp_max(number - 1), number).bool()
    kept = torch.where((drawn[2] < 0.5)[:, None], ~picked, picked)
    kept |= (drawn[0] >= share)[:, None]
    parts = images.unflatten(1, (number, CHANNELS))
    some = (parts.flatten(2).abs().amax(dim=2) > 0) & kept
    kept |= ~some.any(dim=1, keepdim=True)
    return (parts * kept[:, :, None, None, None]).flatten(1, 2)


@dataclass(frozen=True, kw_only=True)
class ModalAugmentation:
    """(images, targets, generator) -> (patches, targets); the targets stay as they are."""

    size: int
    """s, the patch's side."""
    joint: bool = False
    """Draw once for all modalities, so that they stay registered."""
    flip: float = 0.5
    """Probability of each of the two flips."""
    rotation: float = 30.0
    """Largest turn, degrees."""
    downscale: float = 0.5
    """Probability of losing pixels."""
    erase: float = 0.5
    """Probability of modal feature erasing."""

    def __call__(
        self,
        images: Float[Tensor, "B C S S"],
        targets: Int[Tensor, " B"],
        generator: torch.Generator,
    ) -> tuple[Float[Tensor, "B C s s"], Int[Tensor, " B"]]:
        number = images.shape[1] // CHANNELS
        views = images.unflatten(1, (number, CHANNELS)).flatten(0, 1)
        groups = len(images) if self.joint else len(views)
        views = random_patches(
            views,
            self.size,
            flip=self.flip,
            rotation=self.rotation,
            groups=groups,
            generator=generator,
        )
        views = lose_pixels(views, share=self.downscale, groups=groups, generator=generator)
        patches = views.unflatten(0, (len(images), number)).flatten(1, 2)
        return erase_modalities(patches, share=self.erase, generator=generator), targets
