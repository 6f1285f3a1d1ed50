"""Adjusted KD: where the teacher is wrong, its probabilities are corrected before they are taught.

"Knowledge Distillation with a Precise Teacher and Prediction with Abstention", ICPR 2020,
https://doi.org/10.1109/ICPR48806.2021.9412696; the adjustment is that of Wen, Lai, Qian.
"Preparing Lessons: Improve Knowledge Distillation with Better Supervision", 2019.
https://arxiv.org/abs/1911.07471. Equation numbers not checked: neither full text was read.

With t the teacher's softened probabilities, y the label, m the teacher's top class:

    probability shift   q = t with t_y and t_m swapped, where m ≠ y; q = t elsewhere
    label smoothing     q = 1 - ε on y and ε / (K - 1) on the others, where m ≠ y; q = t elsewhere
    loss                T² KL(q || student's softened probabilities), in place of the mixture of
                        teacher and label

Departures: the share of the term is a setting, 1 as in the paper. ε = 0.1 comes from KD_Lib. The
student of the ICPR paper also abstains; that loss is not here. A teacher whose top classes tie with
the label's counts as right.

Shapes: B = batch, K = classes.
"""

from dataclasses import dataclass
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
)
from pliant.errors import UserError

ADJUSTMENTS = ("shift", "smooth")


def is_wrong(
    probabilities: Float[Tensor, "B K"], targets: Int[Tensor, " B"]
) -> Bool[Tensor, "B 1"]:
    """Rows that give some class more than the label's."""
    own = probabilities.gather(1, targets[:, None])
    return own < probabilities.max(dim=1, keepdim=True).values


def shift_probabilities(
    probabilities: Float[Tensor, "B K"], targets: Int[Tensor, " B"]
) -> Float[Tensor, "B K"]:
    """Probability shift: wrong rows have the label's and the top class's probability swapped."""
    top = probabilities.max(dim=1, keepdim=True)
    own = probabilities.gather(1, targets[:, None])
    swapped = probabilities.scatter(1, top.indices, own).scatter(1, targets[:, None], top.values)
    return torch.where(is_wrong(probabilities, targets), swapped, probabilities)


def smooth_labels(
    probabilities: Float[Tensor, "B K"], targets: Int[Tensor, " B"], *, smoothing: float
) -> Float[Tensor, "B K"]:
    """Label smoothing: wrong rows become 1 - smoothing on the label, the rest spread evenly.

    Args:
        probabilities: Rows that sum to 1, K >= 2.
        targets: The labels.
        smoothing: ε, 0 to below 1 - 1/K, so that the label stays on top.
    """
    even = torch.full_like(probabilities, smoothing / (probabilities.shape[1] - 1))
    smoothed = even.scatter(1, targets[:, None], 1 - smoothing)
    return torch.where(is_wrong(probabilities, targets), smoothed, probabilities)


def adjusted_kd_loss(
    student: Float[Tensor, "B K"],
    teacher: Float[Tensor, "B K"],
    targets: Int[Tensor, " B"],
    *,
    temperature: float,
    adjustment: Literal["shift", "smooth"] = "shift",
    smoothing: float = 0.1,
) -> Float[Tensor, ""]:
    """KL(adjusted teacher || student), times T²; mean over B, in nats.

    Args:
        student: Logits; gradients flow to these.
        teacher: Logits; treated as constants.
        targets: The labels.
        temperature: T > 0, of both.
        adjustment: `shift` or `smooth`.
        smoothing: ε of `smooth`.

    Raises:
        UserError: if the shapes differ, or the adjustment is unknown.
    """
    check_equal_shapes("adjusted_kd_loss", student, teacher)
    t = F.softmax(teacher.detach() / temperature, dim=-1)
    if adjustment == "shift":
        q = shift_probabilities(t, targets)
    elif adjustment == "smooth":
        q = smooth_labels(t, targets, smoothing=smoothing)
    else:
        raise UserError(f'unknown adjustment "{adjustment}"; allowed: {", ".join(ADJUSTMENTS)}')
    log_p = F.log_softmax(student / temperature, dim=-1)
    return F.kl_div(log_p, q, reduction="batchmean") * temperature**2


@dataclass(frozen=True, kw_only=True)
class AdjustedKD:
    """Settings; `build()` makes the task."""

    adjustment: Literal["shift", "smooth"] = "shift"
    """What becomes of a wrong teacher: `shift` swaps its top class with the label; `smooth` puts a
    smoothed label in its place."""
    temperature: float = 4.0
    """Softening, > 0; larger is softer."""
    smoothing: float = 0.1
    """Of `smooth`: what the label leaves to the other classes, 0 to below 1/2."""
    weight: float = 1.0
    """Share of the teacher's term, 0 to 1; the label's gets the rest."""

    def __post_init__(self) -> None:
        if self.adjustment not in ADJUSTMENTS:
            raise UserError(
                f"AdjustedKD.adjustment must be one of {', '.join(ADJUSTMENTS)}, got "
                f'"{self.adjustment}"'
            )
        check_number(self.temperature > 0, "AdjustedKD.temperature", "> 0", self.temperature)
        check_number(
            0 <= self.smoothing < 0.5, "AdjustedKD.smoothing", "in [0, 0.5)", self.smoothing
        )
        check_number(0 <= self.weight <= 1, "AdjustedKD.weight", "in [0, 1]", self.weight)

    def build(
        self, student: nn.Module, teacher: nn.Module, example: Float[Tensor, "B D S S"]
    ) -> OfflineTask:
        """The task; `example` is a batch of images on which bad input is found out.

        Raises:
            UserError: if the networks do not fit together.
        """
        return OfflineTask(student, teacher, AdjustedKDLoss(self)).checked(example)


class AdjustedKDLoss(nn.Module):
    """Weighted sum of the adjusted teacher's term, `kd`, and the label's, `ce`."""

    def __init__(self, settings: AdjustedKD) -> None:
        super().__init__()
        self.settings = settings

    def forward(
        self, student: Outputs, teacher: Outputs, targets: Int[Tensor, " B"], step: int
    ) -> Losses:
        settings = self.settings
        kd = adjusted_kd_loss(
            student.logits,
            teacher.logits,
            targets,
            temperature=settings.temperature,
            adjustment=settings.adjustment,
            smoothing=settings.smoothing,
        )
        ce = F.cross_entropy(student.logits, targets)
        return {
            "loss": (1 - settings.weight) * ce + settings.weight * kd,
            "kd": kd,
            "ce": ce,
            "corrected": is_wrong(teacher.logits, targets).float().mean(),
        }
