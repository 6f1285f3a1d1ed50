"""The task that the offline methods share: a frozen teacher, a student, and the loss between them.

A method supplies the loss, a module: (student's outputs, teacher's outputs, targets, step) -> dict
with `loss` and its parts. What the loss itself learns, such as a regressor, is a parameter of the
task and of neither network.

Shapes: B = batch, D = channels of an image, S = side in pixels, K = classes.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from pliant.adaptive.configuration import Configuration
from pliant.adaptive.network import AdaptiveNetwork
from pliant.distill.taps import record
from pliant.errors import UserError

Losses = dict[str, Tensor]
View = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Outputs:
    """What a network says of a batch: its logits, and the features at its taps, in their order."""

    logits: Float[Tensor, "B K"]
    features: tuple[Tensor, ...] = ()


@contextmanager
def evaluating(*networks: nn.Module) -> Iterator[None]:
    """Evaluation mode inside; afterwards every module is in the mode that it was in before."""
    before = [(module, module.training) for net in networks for module in net.modules()]
    for net in networks:
        net.eval()
    try:
        yield
    finally:
        for module, mode in before:
            module.training = mode


def observe(network: nn.Module, images: Float[Tensor, "B D S S"], taps: Sequence[str]) -> Outputs:
    """One forward pass.

    Raises:
        UserError: if the network does not return logits of B x K, or a tap is wrong.
    """
    with record(network, taps) as features:
        logits = network(images)
    shape = tuple(logits.shape) if isinstance(logits, Tensor) else ()
    if len(shape) != 2 or shape[0] != len(images) or shape[1] < 2:
        raise UserError(
            f"{type(network).__name__} must return logits of shape ({len(images)}, classes) for "
            f"{len(images)} images and two or more classes, got {shape or type(logits).__name__}"
        )
    return Outputs(logits, tuple(features[tap] for tap in taps))


def look(network: nn.Module, images: Float[Tensor, "B D S S"], taps: Sequence[str]) -> Outputs:
    """One forward pass without gradient, in evaluation mode; the network stays as it was.

    Raises:
        UserError: as `observe`.
    """
    with torch.no_grad(), evaluating(network):
        return observe(network, images, taps)


def teach(teacher: nn.Module, images: Float[Tensor, "B D S S"], taps: Sequence[str]) -> Outputs:
    """What a teacher says; it stays as it was.

    Raises:
        UserError: as `observe`; and if anything that it says is not finite.
    """
    outputs = look(teacher, images, taps)
    for what, tensor in zip(
        ("its logits", *taps), (outputs.logits, *outputs.features), strict=True
    ):
        if not tensor.isfinite().all():
            raise UserError(
                f"the teacher {type(teacher).__name__} puts out NaN or infinity in {what}; check "
                "its weights and its input"
            )
    return outputs


class OfflineTask(nn.Module):
    """A student learns from labels and from a teacher that does not change.

    `model` is the student, the network that a loop trains, evaluates and saves. The teacher is no
    submodule: it is in no state dict and no optimiser, but it moves with the task.

    Args:
        student: Any network that returns logits.
        teacher: Any other one of as many classes.
        loss: (student's outputs, teacher's outputs, targets, step) -> dict with `loss`.
        student_taps: Module paths in the student; see `pliant.distill.taps`.
        teacher_taps: Module paths in the teacher.
        view: What the student gets to see of the images; the teacher sees them whole.
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module,
        loss: nn.Module,
        *,
        student_taps: Sequence[str] = (),
        teacher_taps: Sequence[str] = (),
        view: View | None = None,
    ) -> None:
        super().__init__()
        if student is teacher:
            raise UserError("student and teacher are the same network; give two")
        self.model = student
        self.loss = loss
        self._teacher = (teacher,)  # in a tuple torch does not register it
        self.student_taps = tuple(student_taps)
        self.teacher_taps = tuple(teacher_taps)
        self.view = view

    @property
    def student(self) -> nn.Module:
        """The network that learns; the same as `model`."""
        return self.model

    @property
    def teacher(self) -> nn.Module:
        """The network that does not."""
        return self._teacher[0]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "OfflineTask":
        self.teacher._apply(fn, recurse)  # `task.to(device)` takes the teacher along
        return super()._apply(fn, recurse)

    def configurations(self, step: int) -> list[Configuration]:
        """None to choose: the student's own one, where it has one."""
        return [self.model.configuration] if isinstance(self.model, AdaptiveNetwork) else []

    def outputs(self, images: Float[Tensor, "B D S S"]) -> tuple[Outputs, Outputs]:
        """What the student and the teacher say of a batch, in this order.

        Raises:
            UserError: if their classes differ; and as `observe` and `teach`.
        """
        taught = teach(self.teacher, images, self.teacher_taps)
        seen = images if self.view is None else self.view(images)
        own = observe(self.model, seen, self.student_taps)
        if own.logits.shape != taught.logits.shape:
            raise UserError(
                f"student and teacher must know the same classes; the student "
                f"{type(self.model).__name__} has {own.logits.shape[1]}, the teacher "
                f"{type(self.teacher).__name__} {taught.logits.shape[1]}"
            )
        return own, taught

    def forward(
        self, images: Float[Tensor, "B D S S"], targets: Int[Tensor, " B"], step: int
    ) -> Losses:
        own, taught = self.outputs(images)
        return plainly(self.loss, images.device.type, own, taught, targets, step)

    def checked(self, example: Float[Tensor, "B D S S"]) -> "OfflineTask":
        """This task, after a step on `example` that changes nothing: bad input is refused here.

        Raises:
            UserError: on whatever a step refuses.
        """
        targets = torch.zeros(len(example), dtype=torch.long, device=example.device)
        with torch.no_grad(), evaluating(self):
            self(example, targets, 0)
        return self


def plainly(
    loss: nn.Module, device: str, own: Outputs, taught: Outputs, targets: Tensor, step: int
) -> Losses:
    """The loss outside of autocast: sums of squares of half-precision features overflow."""
    if not torch.is_autocast_enabled(device):
        return loss(own, taught, targets, step)
    own, taught = (
        Outputs(o.logits.float(), tuple(f.float() for f in o.features)) for o in (own, taught)
    )
    with torch.autocast(device, enabled=False):
        return loss(own, taught, targets, step)


def check_equal_shapes(what: str, student: Tensor, teacher: Tensor) -> None:
    """Refuses tensors of different shapes, which torch would broadcast without a word."""
    if student.shape != teacher.shape:
        raise UserError(
            f"{what} needs equal shapes, got student {tuple(student.shape)} and teacher "
            f"{tuple(teacher.shape)}"
        )


def check_number(right: bool, name: str, wanted: str, got: int | float) -> None:
    """Refuses a setting out of its range; never a NaN or an infinity."""
    if not right or not math.isfinite(got):
        raise UserError(f"{name} must be {wanted}, got {got}")
