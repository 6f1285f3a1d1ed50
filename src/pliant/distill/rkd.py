"""RKD: the distances and angles between the images of a batch are as the teacher sees them.

Park, Kim, Lu, Cho. "Relational Knowledge Distillation", 2019. https://arxiv.org/abs/1904.05068
Equation numbers not checked.

    ψ_D(i, j) = ||t_i - t_j|| / μ,  μ = the mean of ||t_i - t_j|| over pairs of the batch
    ψ_A(i, j, k) = cos ∠ t_i t_j t_k = <e_ij, e_kj>,  e_ij = (t_i - t_j) / ||t_i - t_j||
    L = mean of l(ψ(teacher), ψ(student)) over pairs or triplets,  l = Huber's loss with δ = 1

Departures: means over ordered pairs and triplets of distinct images where the paper has sums; the
weights 25 and 50 are RepDistiller's. A batch with too few images for pairs (2) or triplets (3)
costs nothing. The lengths of the two embeddings may differ.

The angles take memory of B³ numbers.

Shapes: B = batch, C = length of an embedding, which may differ between student and teacher,
P = ordered pairs, Q = ordered triplets.
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
from pliant.distill.taps import pooled, settle_taps
from pliant.errors import UserError

TINY = 1e-12


def distances(embedding: Float[Tensor, "B C"]) -> Float[Tensor, " P"]:
    """ψ_D: distances of the ordered pairs of distinct images, in units of their mean."""
    count = len(embedding)
    apart = ~torch.eye(count, dtype=torch.bool, device=embedding.device)
    squares = (embedding[:, None] - embedding[None]).square().sum(dim=2)[apart]
    lengths = squares.clamp(min=TINY).sqrt()  # no infinite slope where two images coincide
    return lengths / lengths.mean()


def angles(embedding: Float[Tensor, "B C"]) -> Float[Tensor, " Q"]:
    """ψ_A: cosines at j of the ordered triplets i, j, k of distinct images."""
    count = len(embedding)
    sides = F.normalize(embedding[:, None] - embedding[None], dim=2, eps=TINY**0.5)  # e_ij
    cosines = torch.einsum("ijc,kjc->ijk", sides, sides)
    index = torch.arange(count, device=embedding.device)
    i, j, k = index[:, None, None], index[None, :, None], index[None, None, :]
    return cosines[(i != j) & (j != k) & (i != k)]


def rkd_distance_loss(
    student: Float[Tensor, "B C1"], teacher: Float[Tensor, "B C2"]
) -> Float[Tensor, ""]:
    """Huber's loss between distances; 0 at equality up to a common scale, shift and rotation.

    Args:
        student: Embeddings; gradients flow to these.
        teacher: Embeddings; treated as constants.

    Raises:
        UserError: if the batches differ.
    """
    _check_batches("rkd_distance_loss", student, teacher)
    if len(student) < 2:
        return student.sum() * 0
    return F.smooth_l1_loss(distances(student), distances(teacher.detach()))


def rkd_angle_loss(
    student: Float[Tensor, "B C1"], teacher: Float[Tensor, "B C2"]
) -> Float[Tensor, ""]:
    """Huber's loss between angles; 0 at equality up to a common scale, shift and rotation.

    Args:
        student: Embeddings; gradients flow to these.
        teacher: Embeddings; treated as constants.

    Raises:
        UserError: if the batches differ.
    """
    _check_batches("rkd_angle_loss", student, teacher)
    if len(student) < 3:
        return student.sum() * 0
    return F.smooth_l1_loss(angles(student), angles(teacher.detach()))


def _check_batches(what: str, student: Tensor, teacher: Tensor) -> None:
    if student.ndim != 2 or teacher.ndim != 2 or len(student) != len(teacher):
        raise UserError(
            f"{what} needs embeddings (batch, length) of equal batches, got student "
            f"{tuple(student.shape)} and teacher {tuple(teacher.shape)}"
        )


@dataclass(frozen=True, kw_only=True)
class RKD:
    """Settings; `build()` makes the task."""

    student_taps: tuple[str, ...] = ()
    """Module path of the student's embedding, maps averaged; none: the logits."""
    teacher_taps: tuple[str, ...] = ()
    """Module path of the teacher's embedding; none: the logits."""
    distance_weight: float = 25.0
    """Of the distances beside the label's term, >= 0."""
    angle_weight: float = 50.0
    """Of the angles, >= 0."""

    def __post_init__(self) -> None:
        settle_taps(self)
        if len(self.student_taps) > 1:
            raise UserError(f"RKD takes one embedding of each, got {len(self.student_taps)} taps")
        for name in ("distance_weight", "angle_weight"):
            value = getattr(self, name)
            check_number(value >= 0, f"RKD.{name}", ">= 0", value)

    def build(
        self, student: nn.Module, teacher: nn.Module, example: Float[Tensor, "B D S S"]
    ) -> OfflineTask:
        """The task; `example` is a batch of images on which bad input is found out.

        Raises:
            UserError: if the networks or the taps do not fit together.
        """
        return OfflineTask(
            student,
            teacher,
            RKDLoss(self),
            student_taps=self.student_taps,
            teacher_taps=self.teacher_taps,
        ).checked(example)


class RKDLoss(nn.Module):
    """The label's term `ce`, the `distance` and the `angle` term."""

    def __init__(self, settings: RKD) -> None:
        super().__init__()
        self.settings = settings

    def forward(
        self, student: Outputs, teacher: Outputs, targets: Int[Tensor, " B"], step: int
    ) -> Losses:
        own, taught = (
            pooled(seen.features[0]) if seen.features else seen.logits
            for seen in (student, teacher)
        )
        ce = F.cross_entropy(student.logits, targets)
        distance = rkd_distance_loss(own, taught)
        angle = rkd_angle_loss(own, taught)
        settings = self.settings
        loss = ce + settings.distance_weight * distance + settings.angle_weight * angle
        return {"loss": loss, "distance": distance, "angle": angle, "ce": ce}
