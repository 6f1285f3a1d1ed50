"""PipeNet's test crops: the mean of the logits of 36 patches of a frame.

Yang, Zhu, Fwu, Ye, You, Zhu. "PipeNet", 2020. https://arxiv.org/abs/2004.11744; from the authors'
code: the patch in the centre and its eight neighbours, one patch away and held inside the frame,
each in four flips (none, left-right, both, upside down).

Departure: the average is part of the network, so whatever runs the network (dev, thresholds, costs,
latency) runs what is tested.

Shapes: B = batch, P = B times the patches of a frame, C = channels, K = classes, S = side of a
frame in pixels, s = that of a patch.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pliant.models.pipenet import PipeNet

CROPS = (1, 36)
"""How many patches of a frame may be averaged: the centre alone, or nine places in four flips."""
FLIPS: tuple[tuple[int, ...], ...] = ((), (3,), (2, 3), (2,))
"""The axes that each flip turns round."""


def corners(size: int, patch: int) -> list[tuple[int, int]]:
    """(top, left) of the centre patch, then of its eight neighbours, row by row.

    Args:
        size: S.
        patch: s, at most S.
    """
    middle, last = (size - patch) // 2, size - patch
    steps = [min(max(middle + k * patch, 0), last) for k in (-1, 0, 1)]
    places = [(top, left) for top in steps for left in steps]
    return [places.pop(4), *places]


def patches(x: Float[Tensor, "B C S S"], patch: int, crops: int) -> list[Tensor]:
    """The patches to be averaged, (B, C, s, s) each: `crops` of them."""
    if crops == 1:
        top, left = corners(x.shape[-1], patch)[0]
        return [x[..., top : top + patch, left : left + patch]]
    cut = [
        x[..., top : top + patch, left : left + patch] for top, left in corners(x.shape[-1], patch)
    ]
    return [part.flip(flip) if flip else part for part in cut for flip in FLIPS]


class PatchMean(nn.Module):
    """Logits of patches as they are, and of larger frames the mean over their test crops.

    Args:
        net: What scores patches, (B, C, s, s) -> (B, K).
        patch: s.
        crops: 36, or 1 for the centre alone.
    """

    def __init__(self, net: nn.Module, *, patch: int, crops: int) -> None:
        super().__init__()
        if crops not in CROPS:
            raise ValueError(f"PatchMean averages 1 or 36 crops, got {crops}")
        self.net = net
        self.patch, self.crops = patch, crops

    def forward(self, x: Float[Tensor, "B C S S"]) -> Float[Tensor, "B K"]:
        cut = self.cut(x)
        return self.mean(self.net(cut), len(x))

    def of_subsets(
        self, x: Float[Tensor, "B C S S"], chosen: Sequence[Sequence[str]]
    ) -> list[Float[Tensor, "B K"]]:
        """The same with each choice of modalities; `net` is a PipeNet."""
        assert isinstance(self.net, PipeNet)
        return [self.mean(logits, len(x)) for logits in self.net.of_subsets(self.cut(x), chosen)]

    def cut(self, x: Float[Tensor, "B C S S"]) -> Float[Tensor, "P C s s"]:
        """All patches, place by place; a patch stays as it is."""
        return x if x.shape[-1] == self.patch else torch.cat(patches(x, self.patch, self.crops))

    def mean(self, logits: Float[Tensor, "P K"], num_frames: int) -> Float[Tensor, "B K"]:
        """Over the patches of each frame."""
        return logits.view(-1, num_frames, logits.shape[1]).mean(dim=0)
