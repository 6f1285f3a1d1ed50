"""FSP: how features flow from one layer to a later one, as a matrix of products of their channels.

Yim, Joo, Bae, Kim. "A Gift from Knowledge Distillation: Fast Optimization, Network Minimization and
Transfer Learning", CVPR 2017. https://doi.org/10.1109/CVPR.2017.754

    G_ij(x) = Σ_{s,t} F¹_{s,t,i}(x) F²_{s,t,j}(x) / (h w)                 (1)
    L_FSP = 1/N Σ_x Σ_l λ_l ||G_l^T(x) - G_l^S(x)||²                      (2)

The equations' numbers are from memory.

Departures: the mean over a matrix's entries where eq. 2 has their sum, with the weight 50 that
RepDistiller gives to it, and equal λ; within a pair, the larger map is averaged down to the
smaller. The paper matches the matrices first and then trains on the labels alone, which is
`fsp_steps` with `keep=False`; the default adds both terms in every step.

Student and teacher need the same channels at the taps; sizes may differ.

Shapes: B = batch, C1, C2 = channels of the two layers, H, W = height and width.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from pliant.distill.offline import (
    Losses,
    OfflineTask,
    Outputs,
    check_equal_shapes,
    check_number,
)
from pliant.distill.taps import check_taps, same_size, settle_taps


def fsp_matrix(
    first: Float[Tensor, "B C1 H1 W1"], second: Float[Tensor, "B C2 H2 W2"]
) -> Float[Tensor, "B C1 C2"]:
    """The flow from one layer to another: mean over positions of the products of channels."""
    first, second = same_size(first, second)
    positions = first.shape[2] * first.shape[3]
    return torch.einsum("bihw,bjhw->bij", first, second) / positions  # eq. 1


def fsp_loss(
    student: Float[Tensor, "B C1 C2"], teacher: Float[Tensor, "B C1 C2"]
) -> Float[Tensor, ""]:
    """Mean squared difference of two batches of FSP matrices.

    Args:
        student: Gradients flow to it.
        teacher: Treated as a constant.

    Raises:
        UserError: if the shapes differ.
    """
    check_equal_shapes("fsp_loss (matrices of batch x channels x channels)", student, teacher)
    return (student - teacher.detach()).square().mean()  # eq. 2, the mean for the sum


@dataclass(frozen=True, kw_only=True)
class FSP:
    """Settings; `build()` makes the task."""

    student_taps: tuple[str, ...] = ()
    """Module paths in the student, two or more, in the order of the flow; a matrix for each two
    neighbours."""
    teacher_taps: tuple[str, ...] = ()
    """Module paths in the teacher, one for each of `student_taps`."""
    weight: float = 50.0
    """Of the FSP term beside the label's, >= 0."""
    fsp_steps: int = 0
    """Steps at the start that train the FSP term alone, >= 0."""
    keep: bool = True
    """Keep the FSP term after `fsp_steps`."""

    def __post_init__(self) -> None:
        settle_taps(self)
        check_number(self.weight >= 0, "FSP.weight", ">= 0", self.weight)
        check_number(self.fsp_steps >= 0, "FSP.fsp_steps", ">= 0", self.fsp_steps)

    def build(
        self, student: nn.Module, teacher: nn.Module, example: Float[Tensor, "B D S S"]
    ) -> OfflineTask:
        """The task; `example` is a batch of images on which bad input is found out.

        Raises:
            UserError: if the networks or the taps do not fit together.
        """
        check_taps(self, least=2)
        return OfflineTask(
            student,
            teacher,
            FSPLoss(self),
            student_taps=self.student_taps,
            teacher_taps=self.teacher_taps,
        ).checked(example)


class FSPLoss(nn.Module):
    """The label's term `ce` and the mean `fsp` over pairs of neighbouring taps."""

    def __init__(self, settings: FSP) -> None:
        super().__init__()
        self.settings = settings

    def forward(
        self, student: Outputs, teacher: Outputs, targets: Int[Tensor, " B"], step: int
    ) -> Losses:
        ce = F.cross_entropy(student.logits, targets)
        flows = zip(pairwise(student.features), pairwise(teacher.features), strict=True)
        terms = [fsp_loss(fsp_matrix(*own), fsp_matrix(*taught)) for own, taught in flows]
        fsp = torch.stack(terms).mean()
        first = step < self.settings.fsp_steps
        weight = self.settings.weight * (first or self.settings.keep)
        return {"loss": (not first) * ce + weight * fsp, "fsp": fsp, "ce": ce}
