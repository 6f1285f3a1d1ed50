"""FitNets: the student's middle layers predict the teacher's, through a regressor.

Romero, Ballas, Kahou, Chassang, Gatta, Bengio. "FitNets: Hints for Thin Deep Nets", 2014.
https://arxiv.org/abs/1412.6550

    L_HT = 1/2 ||u_h(x; W_Hint) - r(v_g(x; W_Guided); W_r)||²             (3)

u_h is the teacher's hint layer, v_g the student's guided layer, r the regressor. The number of the
equation is from memory.

Departures: the mean of the squares where the paper has half their sum, with the weight 100 that
RepDistiller gives to it; a 1 x 1 convolution as regressor, and maps of different size are averaged
down to the smaller; several pairs of layers may be given. The paper trains the hint alone and then
goes on with KD; here `hint_steps` is the length of that first stage (0: none), and from then on the
loss is the label's plus the hint.

Shapes: B = batch, C = channels, H, W = height and width.
"""

from collections.abc import Sequence
from dataclasses import dataclass

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
    look,
)
from pliant.distill.taps import as_map, check_taps, same_size, settle_taps


def hint_loss(
    student: Float[Tensor, "B C H W"], teacher: Float[Tensor, "B C H W"]
) -> Float[Tensor, ""]:
    """Mean squared difference of the regressed feature and the hint.

    Args:
        student: After the regressor; gradients flow to it.
        teacher: Treated as a constant.

    Raises:
        UserError: if the shapes differ.
    """
    check_equal_shapes("hint_loss", student, teacher)
    return (student - teacher.detach()).square().mean()  # eq. 3, the mean for half the sum


@dataclass(frozen=True, kw_only=True)
class FitNets:
    """Settings; `build()` makes the task."""

    student_taps: tuple[str, ...] = ()
    """Module paths of the guided layers."""
    teacher_taps: tuple[str, ...] = ()
    """Module paths of the hint layers, one for each of `student_taps`."""
    weight: float = 100.0
    """Of the hint beside the label's term, >= 0."""
    hint_steps: int = 0
    """Steps at the start that train the hint alone, >= 0."""

    def __post_init__(self) -> None:
        settle_taps(self)
        check_number(self.weight >= 0, "FitNets.weight", ">= 0", self.weight)
        check_number(self.hint_steps >= 0, "FitNets.hint_steps", ">= 0", self.hint_steps)

    def build(
        self, student: nn.Module, teacher: nn.Module, example: Float[Tensor, "B D S S"]
    ) -> OfflineTask:
        """The task; `example` is a batch of images that shows the regressors their channels.

        Raises:
            UserError: if the networks or the taps do not fit together.
        """
        check_taps(self, least=1)
        own = look(student, example, self.student_taps).features
        taught = look(teacher, example, self.teacher_taps).features
        return OfflineTask(
            student,
            teacher,
            FitNetsLoss(self, own, taught),
            student_taps=self.student_taps,
            teacher_taps=self.teacher_taps,
        ).checked(example)


class FitNetsLoss(nn.Module):
    """The label's term `ce` and the mean `hint` over pairs of layers; owns the regressors."""

    def __init__(
        self, settings: FitNets, student: Sequence[Tensor], teacher: Sequence[Tensor]
    ) -> None:
        super().__init__()
        self.settings = settings
        self.regressors = nn.ModuleList(
            nn.Conv2d(guided.shape[1], hint.shape[1], kernel_size=1).to(guided)
            for guided, hint in zip(student, teacher, strict=True)
        )

    def forward(
        self, student: Outputs, teacher: Outputs, targets: Int[Tensor, " B"], step: int
    ) -> Losses:
        ce = F.cross_entropy(student.logits, targets)
        hints = []
        for regressor, guided, hint in zip(
            self.regressors, student.features, teacher.features, strict=True
        ):
            hints.append(hint_loss(*same_size(regressor(as_map(guided)), hint)))
        hint = torch.stack(hints).mean()
        labels_too = step >= self.settings.hint_steps  # 0 * ce leaves no parameter without gradient
        return {"loss": labels_too * ce + self.settings.weight * hint, "hint": hint, "ce": ce}
