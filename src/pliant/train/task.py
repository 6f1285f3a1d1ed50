"""Tasks: what a batch of images and targets costs, under the configurations that a step trains.

A task is an `nn.Module`: (images, targets, step) -> dict of losses with key `loss`; and it says
which configurations a step runs, so that the step's compute can be counted.

In-place distillation follows Yu and Huang, "Universally Slimmable Networks and Improved Training
Techniques", 2019, https://arxiv.org/abs/1903.05134, section 3.3: the heaviest network's detached
soft labels teach the others. Departures: a temperature, and a weight beside the label's own loss.

Shapes: B = batch, D = channels, K = classes, S = side in pixels.
"""

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from pliant.adaptive.configuration import Configuration
from pliant.adaptive.network import AdaptiveNetwork

Losses = dict[str, Tensor]


@runtime_checkable
class Task(Protocol):
    """What `TrainModule` asks of a task, beside being an `nn.Module`.

    Two attributes more are heard where a task has them: `decay_scales`, see `parameter_groups`,
    and `measure(batches)`, called after every epoch with held-out (images, targets).
    """

    @property
    def model(self) -> nn.Module:
        """What is trained and kept."""
        ...

    def configurations(self, step: int) -> Sequence[Configuration]:
        """Those of an adaptive network that a step runs; else none."""
        ...

    def __call__(self, images: Tensor, targets: Tensor, step: int) -> Losses:
        """Losses of a step: `loss` and its parts."""
        ...


@runtime_checkable
class Predicting(Task, Protocol):
    """A task of several networks: it is measured by what each predictor says."""

    def predictors(self, images: Tensor) -> dict[str, Tensor]:
        """Logits by predictor."""
        ...


def soft_label_loss(
    student: Float[Tensor, "B K"], teacher: Float[Tensor, "B K"], *, temperature: float
) -> Float[Tensor, ""]:
    """KL(teacher || student) of the softened predictions, times T^2; mean over B, in nats.

    Args:
        student: Logits; gradients flow to these.
        teacher: Logits; treated as constants.
        temperature: T > 0; T^2 keeps the gradient's scale when T changes.
    """
    log_q = F.log_softmax(student / temperature, dim=-1)
    log_p = F.log_softmax(teacher.detach() / temperature, dim=-1)
    return F.kl_div(log_q, log_p, log_target=True, reduction="batchmean") * temperature**2


class PlainTask(nn.Module):
    """Cross-entropy of a network whose configuration stays as it is."""

    def __init__(self, model: nn.Module, *, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.model = model
        self.label_smoothing = label_smoothing

    def configurations(self, step: int) -> Sequence[Configuration]:
        """None to choose: the network's own one, where it has one."""
        return [self.model.configuration] if isinstance(self.model, AdaptiveNetwork) else []

    def forward(
        self, images: Float[Tensor, "B D S S"], targets: Int[Tensor, " B"], step: int
    ) -> Losses:
        loss = F.cross_entropy(self.model(images), targets, label_smoothing=self.label_smoothing)
        return {"loss": loss}


class AdaptiveTask(nn.Module):
    """Mean over a step's configurations of cross-entropy, and of what the heaviest one teaches.

    Args:
        model: The network.
        sampler: step -> configurations; pure, so that all processes agree.
        heaviest: The teacher; a step that does not train it runs it without gradient.
        distill_weight: Share of the taught term, 0 to 1; at 0 nobody teaches.
        temperature: See `soft_label_loss`.
        label_smoothing: See `torch.nn.functional.cross_entropy`.
    """

    def __init__(
        self,
        model: AdaptiveNetwork,
        sampler: Callable[[int], Sequence[Configuration]],
        *,
        heaviest: Configuration,
        distill_weight: float = 0.0,
        temperature: float = 2.0,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        self.model = model
        self.sampler = sampler
        self.heaviest = heaviest
        self.distill_weight = distill_weight
        self.temperature = temperature
        self.label_smoothing = label_smoothing

    def configurations(self, step: int) -> list[Configuration]:
        """Every configuration that `step` runs, the teacher first where there is one."""
        sampled = list(self.sampler(step))
        if not self.distill_weight:
            return sampled
        return [self.heaviest, *(c for c in sampled if c != self.heaviest)]

    def forward(
        self, images: Float[Tensor, "B D S S"], targets: Int[Tensor, " B"], step: int
    ) -> Losses:
        """Losses of one step: `loss`, and with a teacher also `ce`, the labels' part alone."""
        trained = list(self.sampler(step))
        teacher: Tensor | None = None
        ces, taught = [], []
        for configuration in self.configurations(step):
            with (
                self.model.use(configuration),
                torch.set_grad_enabled(configuration in trained and torch.is_grad_enabled()),
            ):
                logits = self.model(images)
            if self.distill_weight and configuration == self.heaviest:
                teacher = logits.detach()
                if configuration not in trained:
                    continue
            ces.append(F.cross_entropy(logits, targets, label_smoothing=self.label_smoothing))
            if teacher is None or configuration == self.heaviest:
                taught.append(ces[-1])  # the teacher learns from the labels alone
            else:
                kl = soft_label_loss(logits, teacher, temperature=self.temperature)
                taught.append((1 - self.distill_weight) * ces[-1] + self.distill_weight * kl)
        loss = torch.stack(taught).mean()
        if teacher is None:
            return {"loss": loss}
        return {"loss": loss, "ce": torch.stack(ces).mean()}
