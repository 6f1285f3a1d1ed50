"""Similarity-preserving: images that excite the teacher alike excite the student alike.

Tung, Mori. "Similarity-Preserving Knowledge Distillation", 2019. https://arxiv.org/abs/1907.09682
Equation numbers not checked.

    Q = features of the batch, one row of C H W numbers for each image
    G = Q Qᵀ with each row divided by its length
    L_SP = 1/b² Σ ||G_T - G_S||²_F over pairs of layers
    loss = CE + γ L_SP

γ = 3000, as in the paper. No departures known. Of the features' shapes only the batch must agree.

Shapes: B = batch, the paper's b.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from pliant.distill.offline import Losses, OfflineTask, Outputs, check_number
from pliant.distill.taps import check_taps, settle_taps
from pliant.errors import UserError


def similarities(feature: Float[Tensor, "B ..."]) -> Float[Tensor, "B B"]:
    """Inner products of the images' features, each row of length 1; the scale does not matter."""
    rows = feature.flatten(1)
    return F.normalize(rows @ rows.T, dim=1)  # a row of zeros stays zero


def similarity_loss(
    student: Float[Tensor, "B ..."], teacher: Float[Tensor, "B ..."]
) -> Float[Tensor, ""]:
    """Squared Frobenius distance of the two matrices of similarities, over B².

    Args:
        student: Features of any shape; gradients flow to these.
        teacher: Features of any shape; treated as constants.

    Raises:
        UserError: if the batches differ.
    """
    if len(student) != len(teacher):
        raise UserError(
            f"similarity_loss needs equal batches, got student {tuple(student.shape)} and teacher "
            f"{tuple(teacher.shape)}"
        )
    return (similarities(teacher.detach()) - similarities(student)).square().mean()


@dataclass(frozen=True, kw_only=True)
class SimilarityPreserving:
    """Settings; `build()` makes the task."""

    student_taps: tuple[str, ...] = ()
    """Module paths in the student; the paper takes the last convolutional layer."""
    teacher_taps: tuple[str, ...] = ()
    """Module paths in the teacher, one for each of `student_taps`."""
    weight: float = 3000.0
    """γ, >= 0."""

    def __post_init__(self) -> None:
        settle_taps(self)
        check_number(self.weight >= 0, "SimilarityPreserving.weight", ">= 0", self.weight)

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
            SimilarityPreservingLoss(self),
            student_taps=self.student_taps,
            teacher_taps=self.teacher_taps,
        ).checked(example)


class SimilarityPreservingLoss(nn.Module):
    """The label's term `ce` and the sum `similarity` over pairs of layers."""

    def __init__(self, settings: SimilarityPreserving) -> None:
        super().__init__()
        self.settings = settings

    def forward(
        self, student: Outputs, teacher: Outputs, targets: Int[Tensor, " B"], step: int
    ) -> Losses:
        ce = F.cross_entropy(student.logits, targets)
        pairs = zip(student.features, teacher.features, strict=True)
        similarity = torch.stack([similarity_loss(own, taught) for own, taught in pairs]).sum()
        return {"loss": ce + self.settings.weight * similarity, "similarity": similarity, "ce": ce}
