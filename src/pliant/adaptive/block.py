"""The PTA block: several branches of different cost, one of which (or all) runs.

Khabarlak. "Post-Train Adaptive MobileNetV2 for Fast Anti-Spoofing", 2022.
https://arxiv.org/abs/2207.13410

The paper's block could not be read in full. From its abstract: the block replaces MobileNetV2's
inverted residual; it has branches of different compute cost; which of them run is chosen after
training, on the device; configurations are sampled while training. Our choices: two branches by
default, light (expansion 1) and heavy (the unmodified inverted residual); `both` takes the mean;
one residual around the block and none inside; batch norms belong to their branch. They live in this
class and in `merge_branches`, so a correction stays here.

Shapes: B = batch, C, D = channels, H, W and h, w = height and width in pixels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from pliant.adaptive.configuration import ALL, Configuration
from pliant.adaptive.statistics import TierStatistics

Merge = Literal["mean", "sum"]


@dataclass(frozen=True)
class Selection:
    """What runs now."""

    configuration: Configuration
    """A branch for every block."""
    letters: str
    """Its letters; the blocks index this."""
    statistics: TierStatistics | None = None
    """Batch-norm statistics of the tier; None: the ones that training keeps."""


class Switch:
    """The one place that every block and batch norm of a network looks at; `use` swaps `selection`.

    Not a module: a deep copy of the network takes a copy of its switch along, and no more than one.
    """

    def __init__(self, selection: Selection) -> None:
        self.selection = selection
        self.version = 0
        """Grows whenever weights may have changed; tiers remember theirs."""


def merge_branches(
    outputs: Sequence[Float[Tensor, "B D h w"]], how: Merge
) -> Float[Tensor, "B D h w"]:
    """Outputs of all branches as one: their mean, which keeps the scale, or their sum."""
    total = outputs[0]
    for output in outputs[1:]:
        total = total + output
    return total / len(outputs) if how == "mean" else total


class PTABlock(nn.Module):
    """Runs the branch (or all of them) that the switch names for it, and adds the residual once.

    Args:
        branches: By name, cheapest first, without residuals of their own; the letter of a branch is
            the first letter of its name, in capitals.
        switch: The network's.
        index: Number of this block in the network, from 0.
        residual: Whether x is added; needs equal input and output shapes.
        merge: How `B` joins the branches.

    Raises:
        ValueError: if fewer than two branches are given, two share a letter, or one would be B.
    """

    def __init__(
        self,
        branches: Mapping[str, nn.Module],
        *,
        switch: Switch,
        index: int,
        residual: bool,
        merge: Merge = "mean",
    ) -> None:
        super().__init__()
        self.names = {name[0].upper(): name for name in branches}
        if len(branches) < 2 or len(self.names) < len(branches) or ALL in self.names:
            raise ValueError(
                "PTABlock needs two or more branches whose names begin with different letters, "
                f"none of them {ALL}; got {', '.join(branches)}"
            )
        if merge not in ("mean", "sum"):
            raise ValueError(f"PTABlock.merge must be mean or sum, got {merge!r}")
        self.branches = nn.ModuleDict(branches)
        self.switch = switch
        self.index = index
        self.residual = residual
        self.merge: Merge = merge

    @property
    def letters(self) -> str:
        """What a configuration may say for this block, cheapest first, B last."""
        return "".join(self.names) + ALL

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
        letter = self.switch.selection.letters[self.index]
        if letter == ALL:
            y = merge_branches([branch(x) for branch in self.branches.values()], self.merge)
        else:
            y = self.branches[self.names[letter]](x)
        return x + y if self.residual else y

    def extra_repr(self) -> str:
        return f"index={self.index}, letters={self.letters}, residual={self.residual}"


class AllBranches(nn.Module):
    """What is left of a PTA block that was extracted as B: every branch, no switch."""

    def __init__(self, branches: nn.ModuleDict, *, residual: bool, merge: Merge) -> None:
        super().__init__()
        self.branches = branches
        self.residual = residual
        self.merge: Merge = merge

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
        y = merge_branches([branch(x) for branch in self.branches.values()], self.merge)
        return x + y if self.residual else y
