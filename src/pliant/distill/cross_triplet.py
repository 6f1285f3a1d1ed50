"""Cross-model triplets: a student of occluded images, a teacher of whole ones.

"Teacher-Student Training and Triplet Loss for Facial Expression Recognition under Occlusion", ICPR
2020, https://arxiv.org/abs/2008.01003; the longer version is https://arxiv.org/abs/2111.10561.
Equation numbers not checked: neither full text was read.

    a = student(occluded), p = teacher(whole, same class), n = student(occluded, other class)
    L_triplet = mean of max(0, ||a - p||² - ||a - n||² + μ) over the mined triplets
    loss = (1 - α) CE + α T² KL(teacher || student) + λ L_triplet

The paper trains two students, one by KD (here λ = 0) and one by triplets (here α = 0), and
classifies their joined embeddings, `joined_embedding`, with a linear head.

Departures, all readings: embeddings of length 1; μ = 0.2; semi-hard mining, that is the triplets
whose negative is farther than the positive by less than μ; an embedding of another length than
the teacher's goes through a linear projector, on the student's side alone. The terms may be mixed.

Occlude the images at test as in training: `half_occlude` is both. Triplets take memory of B³.

Shapes: B = batch, D = channels of an image, H, W = height and width, C = length of an embedding.
"""

from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from pliant.distill.offline import (
    Losses,
    OfflineTask,
    Outputs,
    check_equal_shapes,
    check_number,
    look,
)
from pliant.distill.taps import pooled, settle_taps
from pliant.errors import UserError

HALVES = ("upper", "lower", "left", "right")
MINING = ("semi-hard", "all")


def half_occlude(
    images: Float[Tensor, "B D H W"], half: str, *, fill: float = 0.0
) -> Float[Tensor, "B D H W"]:
    """Copies of the images with one half hidden; of an odd number of rows the middle one stays.

    Args:
        images: Any values.
        half: What is hidden: upper, lower, left or right.
        fill: Value of a hidden pixel; 0 is the mean of a normalised input.

    Raises:
        UserError: on another half.
    """
    if half not in HALVES:
        raise UserError(f'unknown half "{half}"; allowed: {", ".join(HALVES)}')
    rows, columns = images.shape[2] // 2, images.shape[3] // 2
    hidden = images.clone()
    if half == "upper":
        hidden[:, :, :rows] = fill
    elif half == "lower":
        hidden[:, :, images.shape[2] - rows :] = fill
    elif half == "left":
        hidden[:, :, :, :columns] = fill
    else:
        hidden[:, :, :, images.shape[3] - columns :] = fill
    return hidden


def cross_triplet_loss(
    student: Float[Tensor, "B C"],
    teacher: Float[Tensor, "B C"],
    targets: Int[Tensor, " B"],
    *,
    margin: float = 0.2,
    normalize: bool = True,
    mining: Literal["semi-hard", "all"] = "semi-hard",
) -> Float[Tensor, ""]:
    """Mean hinge over the mined triplets of a batch; 0 if there are none.

    Args:
        student: Embeddings, anchors and negatives; gradients flow to these.
        teacher: Embeddings, positives; treated as constants.
        targets: The labels.
        margin: μ > 0.
        normalize: Give every embedding length 1.
        mining: `semi-hard`, or `all` triplets of two classes.

    Raises:
        UserError: if the shapes differ, or the mining is unknown.
    """
    check_equal_shapes("cross_triplet_loss", student, teacher)
    if mining not in MINING:
        raise UserError(f'unknown mining "{mining}"; allowed: {", ".join(MINING)}')
    teacher = teacher.detach()
    if normalize:
        student, teacher = F.normalize(student, dim=1), F.normalize(teacher, dim=1)
    to_positive = (student[:, None] - teacher[None]).square().sum(2)  # (a, p)
    to_negative = (student[:, None] - student[None]).square().sum(2)  # (a, n)
    gap = to_positive[:, :, None] - to_negative[:, None, :]  # (a, p, n)
    mined = valid_triplets(targets)
    if mining == "semi-hard":
        mined = mined & (gap < 0) & (gap > -margin)
    hinges = F.relu(gap + margin)[mined]
    return hinges.sum() / max(1, hinges.numel())


def valid_triplets(targets: Int[Tensor, " B"]) -> Bool[Tensor, "B B B"]:
    """Whether (a, p, n) has a positive of the anchor's class and a negative of another.

    The anchor's own image is a positive: the teacher sees it whole.
    """
    same = targets[:, None] == targets[None]
    return same[:, :, None] & ~same[:, None, :]


def joined_embedding(
    by_kd: Float[Tensor, "B C1"], by_triplets: Float[Tensor, "B C2"]
) -> Float[Tensor, "B C3"]:
    """Both students' embeddings side by side, each of length 1, for a linear head."""
    return torch.cat([F.normalize(by_kd, dim=1), F.normalize(by_triplets, dim=1)], dim=1)


@dataclass(frozen=True, kw_only=True)
class CrossTriplet:
    """Settings; `build()` makes the task."""

    student_taps: tuple[str, ...] = ()
    """Module path of the student's embedding, maps averaged; none: the logits."""
    teacher_taps: tuple[str, ...] = ()
    """Module path of the teacher's embedding; none: the logits."""
    half: Literal["upper", "lower", "left", "right"] = "lower"
    """What is hidden from the student."""
    fill: float = 0.0
    """Value of a hidden pixel, after normalisation."""
    margin: float = 0.2
    """μ, > 0."""
    normalize: bool = True
    """Give every embedding length 1."""
    mining: Literal["semi-hard", "all"] = "semi-hard"
    """Which triplets count."""
    triplet_weight: float = 1.0
    """λ, >= 0."""
    kd_weight: float = 0.5
    """α, the teacher's share beside the label, 0 to 1."""
    temperature: float = 4.0
    """T, > 0; larger is softer."""

    def __post_init__(self) -> None:
        settle_taps(self)
        if len(self.student_taps) > 1:
            raise UserError(
                f"CrossTriplet takes one embedding of each, got {len(self.student_taps)} taps"
            )
        for name, allowed in (("half", HALVES), ("mining", MINING)):
            if (value := getattr(self, name)) not in allowed:
                raise UserError(
                    f'CrossTriplet.{name} must be one of {", ".join(allowed)}, got "{value}"'
                )
        check_number(True, "CrossTriplet.fill", "a finite number", self.fill)
        check_number(self.margin > 0, "CrossTriplet.margin", "> 0", self.margin)
        check_number(
            self.triplet_weight >= 0, "CrossTriplet.triplet_weight", ">= 0", self.triplet_weight
        )
        check_number(
            0 <= self.kd_weight <= 1, "CrossTriplet.kd_weight", "in [0, 1]", self.kd_weight
        )
        check_number(self.temperature > 0, "CrossTriplet.temperature", "> 0", self.temperature)

    def build(
        self, student: nn.Module, teacher: nn.Module, example: Float[Tensor, "B D S S"]
    ) -> OfflineTask:
        """The task; `example` is a batch of images that shows the projector its lengths.

        Raises:
            UserError: if the networks or the taps do not fit together.
        """
        own = embedding(look(student, example, self.student_taps))
        taught = embedding(look(teacher, example, self.teacher_taps))
        return OfflineTask(
            student,
            teacher,
            CrossTripletLoss(self, own, taught),
            student_taps=self.student_taps,
            teacher_taps=self.teacher_taps,
            view=partial(half_occlude, half=self.half, fill=self.fill),
        ).checked(example)


def embedding(seen: Outputs) -> Float[Tensor, "B C"]:
    """The tapped feature as a vector; without a tap the logits."""
    return pooled(seen.features[0]) if seen.features else seen.logits


class CrossTripletLoss(nn.Module):
    """The terms `ce`, `kd` and `triplet`; owns the projector, where one is needed."""

    def __init__(
        self,
        settings: CrossTriplet,
        student: Float[Tensor, "B C1"],
        teacher: Float[Tensor, "B C2"],
    ) -> None:
        super().__init__()
        self.settings = settings
        lengths = student.shape[1], teacher.shape[1]
        self.projector = (
            nn.Identity()
            if lengths[0] == lengths[1]
            else nn.Linear(*lengths, bias=False).to(student)
        )

    def forward(
        self, student: Outputs, teacher: Outputs, targets: Int[Tensor, " B"], step: int
    ) -> Losses:
        settings = self.settings
        ce = F.cross_entropy(student.logits, targets)
        log_q = F.log_softmax(student.logits / settings.temperature, dim=-1)
        log_p = F.log_softmax(teacher.logits / settings.temperature, dim=-1)
        kl = F.kl_div(log_q, log_p, log_target=True, reduction="batchmean")
        kd = kl * settings.temperature**2
        triplet = cross_triplet_loss(
            self.projector(embedding(student)),
            embedding(teacher),
            targets,
            margin=settings.margin,
            normalize=settings.normalize,
            mining=settings.mining,
        )
        alpha = settings.kd_weight
        loss = (1 - alpha) * ce + alpha * kd + settings.triplet_weight * triplet
        return {"loss": loss, "ce": ce, "kd": kd, "triplet": triplet}
