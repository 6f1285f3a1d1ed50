"""Attention transfer: the student looks where the teacher looks.

Zagoruyko, Komodakis. "Paying More Attention to Attention: Improving the Performance of
Convolutional Neural Networks via Attention Transfer", 2016. https://arxiv.org/abs/1612.03928
Equation numbers not checked.

    F(A) = Σ_c |A_c|^p                        the attention map, p = 2
    Q = vec(F(A)) / ||vec(F(A))||₂
    loss = CE + β Σ_j mean((Q_S^j - Q_T^j)²)  over pairs j of layers

Departures: the mean over batch and positions where the paper has a norm of the difference, as
RepDistiller (β = 1000); of maps of different size the larger is averaged down.

Shapes: B = batch, C = channels, H, W = height and width, N = H W positions.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from pliant.distill.offline import (
    Losses,
    OfflineTask,
    Outputs,
    check_number,
)
from pliant.distill.taps import check_taps, same_size, settle_taps
from pliant.errors import UserError


def attention(feature: Float[Tensor, "B C H W"], *, power: float = 2.0) -> Float[Tensor, "B N"]:
    """The attention map of each image as a vector of length 1; it does not depend on the scale.

    Args:
        feature: Any number of channels.
        power: p >= 1; the larger, the more the strongest channel counts.
    """
    summed = feature.abs().pow(power).sum(dim=1).flatten(1)
    return F.normalize(summed, dim=1)  # a map of zeros stays zero


def attention_loss(
    student: Float[Tensor, "B C1 H W"], teacher: Float[Tensor, "B C2 H W"], *, power: float = 2.0
) -> Float[Tensor, ""]:
    """Mean squared difference of the two attention maps.

    Args:
        student: Gradients flow to it.
        teacher: Treated as a constant; its channels may be others.
        power: See `attention`.

    Raises:
        UserError: if batch, height or width differ.
    """
    own = attention(student, power=power)
    taught = attention(teacher.detach(), power=power)
    if student.shape[2:] != teacher.shape[2:] or len(student) != len(teacher):
        raise UserError(
            f"attention_loss needs equal batch, height and width, got student "
            f"{tuple(student.shape)} and teacher {tuple(teacher.shape)}"
        )
    return (own - taught).square().mean()


@dataclass(frozen=True, kw_only=True)
class AttentionTransfer:
    """Settings; `build()` makes the task."""

    student_taps: tuple[str, ...] = ()
    """Module paths of maps in the student, such as the ends of its stages."""
    teacher_taps: tuple[str, ...] = ()
    """Module paths in the teacher, one for each of `student_taps`."""
    weight: float = 1000.0
    """β, >= 0."""
    power: float = 2.0
    """p, >= 1."""

    def __post_init__(self) -> None:
        settle_taps(self)
        check_number(self.weight >= 0, "AttentionTransfer.weight", ">= 0", self.weight)
        check_number(self.power >= 1, "AttentionTransfer.power", ">= 1", self.power)

    def build(
        self, student: nn.Module, teacher: nn.Module, example: Float[Tensor, "B D S S"]
    ) -> OfflineTask:
        """The task; `example` is a batch of images on which bad input is found out.

        Raises:
            UserError: if the networks or the taps do not fit together.
        """
        check_taps(self, least=1)
        return OfflineTask(
            student,
            teacher,
            AttentionTransferLoss(self),
            student_taps=self.student_taps,
            teacher_taps=self.teacher_taps,
        ).checked(example)


class AttentionTransferLoss(nn.Module):
    """The label's term `ce` and the sum `attention` over pairs of layers."""

    def __init__(self, settings: AttentionTransfer) -> None:
        super().__init__()
        self.settings = settings

    def forward(
        self, student: Outputs, teacher: Outputs, targets: Int[Tensor, " B"], step: int
    ) -> Losses:
        ce = F.cross_entropy(student.logits, targets)
        terms = []
        for path, own, taught in zip(
            self.settings.student_taps, student.features, teacher.features, strict=True
        ):
            own, taught = same_size(own, taught)
            if own.shape[2:].numel() < 2:
                raise UserError(
                    f'attention transfer needs a map, but the one of "{path}" and its teacher has '
                    "a single position; tap an earlier module"
                )
            terms.append(attention_loss(own, taught, power=self.settings.power))
        transfer = torch.stack(terms).sum()
        loss = ce + self.settings.weight * transfer
        return {"loss": loss, "attention": transfer, "ce": ce}
