"""KD: match the teacher's softened class probabilities.

Hinton, Vinyals, Dean. "Distilling the Knowledge in a Neural Network", 2015.
https://arxiv.org/abs/1503.02531

    q_i = exp(z_i / T) / Σ_j exp(z_j / T)                                  (1)
    loss = (1 - w) CE(student, label) + w T² KL(q_teacher || q_student)

Departure: KL divergence where the paper has cross-entropy; the gradient is the same, and the loss
is zero when student and teacher agree. The defaults T = 4, w = 0.9 are RepDistiller's.

Shapes: B = batch, K = classes.
"""

from dataclasses import dataclass

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


def kd_loss(
    student: Float[Tensor, "B K"], teacher: Float[Tensor, "B K"], *, temperature: float
) -> Float[Tensor, ""]:
    """KL(teacher || student) of the softened predictions, times T²; mean over B, in nats.

    Args:
        student: Logits; gradients flow to these.
        teacher: Logits; treated as constants.
        temperature: T > 0; 1 leaves the probabilities unsoftened.

    Raises:
        UserError: if the shapes differ.
    """
    check_equal_shapes("kd_loss", student, teacher)
    log_q = F.log_softmax(student / temperature, dim=-1)  # eq. 1
    log_p = F.log_softmax(teacher.detach() / temperature, dim=-1)  # eq. 1
    kl = F.kl_div(log_q, log_p, log_target=True, reduction="batchmean")
    return kl * temperature**2  # section 2: keeps the gradient's scale when T changes


@dataclass(frozen=True, kw_only=True)
class KD:
    """Settings; `build()` makes the task."""

    temperature: float = 4.0
    """T of eq. 1, > 0; larger is softer."""
    weight: float = 0.9
    """Share of the teacher's term, 0 to 1; the label's gets the rest."""

    def __post_init__(self) -> None:
        check_number(self.temperature > 0, "KD.temperature", "> 0", self.temperature)
        check_number(0 <= self.weight <= 1, "KD.weight", "in [0, 1]", self.weight)

    def build(
        self, student: nn.Module, teacher: nn.Module, example: Float[Tensor, "B D S S"]
    ) -> OfflineTask:
        """The task; `example` is a batch of images on which bad input is found out.

        Raises:
            UserError: if the networks do not fit together.
        """
        return OfflineTask(student, teacher, KDLoss(self)).checked(example)


class KDLoss(nn.Module):
    """Weighted sum of the teacher's term, `kd`, and the label's, `ce`."""

    def __init__(self, settings: KD) -> None:
        super().__init__()
        self.settings = settings

    def forward(
        self, student: Outputs, teacher: Outputs, targets: Int[Tensor, " B"], step: int
    ) -> Losses:
        kd = kd_loss(student.logits, teacher.logits, temperature=self.settings.temperature)
        ce = F.cross_entropy(student.logits, targets)
        weight = self.settings.weight
        return {"loss": (1 - weight) * ce + weight * kd, "kd": kd, "ce": ce}
