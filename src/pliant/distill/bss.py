"""BSS: student and teacher agree on images pushed to the teacher's decision boundary, too.

Heo, Lee, Yun, Choi. "Knowledge Distillation with Adversarial Samples Supporting Decision Boundary",
AAAI 2019. https://arxiv.org/abs/1805.05532 Equation numbers not checked; the constants are those of
the authors' code, as the specification reports them.

    base samples   both networks right; the 64 with the largest Σ_{k≠y} (p_k^teacher - p_k^student)²
    target class   k ≠ y, drawn in proportion to the teacher's p_k
    attack         x ← x + η (f_y - f_k + ε) g / ||g||₂,  g = ∇_x (f_k - f_y), while the teacher
                   still says y; f = the teacher's logits, η = 0.3, ε = 1e-4, at most 10 times
    loss           CE + α KL_T(images) + β KL_T(boundary samples),  T = 3
                   α = 1 + max(3 (1 - r), 0),  β = max(2 (1 - 4r/3), 0),  r = share of training done

Departures: KL divergence where the code has cross-entropy (same gradient, zero at equality),
without T² as there; the weights fall with the step and not with the epoch. That f is the logit and
not the probability is a reading. Target classes are drawn from (seed, step), so a step may be
repeated. With fewer than two base samples the third term is zero.

A step costs up to `attack_steps` passes of the teacher and one more of the student.

Shapes: B = batch, N = base samples, D = channels of an image, S = side in pixels, K = classes.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from pliant.distill.offline import (
    Losses,
    OfflineTask,
    check_equal_shapes,
    check_number,
    evaluating,
)

EPSILON = 1e-4
"""Of the attack: carries a sample across the boundary and not only up to it."""


def soft_kl(
    student: Float[Tensor, "B K"], teacher: Float[Tensor, "B K"], *, temperature: float
) -> Float[Tensor, ""]:
    """KL(teacher || student) of the softened predictions, not scaled; mean over B, in nats.

    Raises:
        UserError: if the shapes differ.
    """
    check_equal_shapes("soft_kl", student, teacher)
    log_q = F.log_softmax(student / temperature, dim=-1)
    log_p = F.log_softmax(teacher.detach() / temperature, dim=-1)
    return F.kl_div(log_q, log_p, log_target=True, reduction="batchmean")


def base_samples(
    student: Float[Tensor, "B K"],
    teacher: Float[Tensor, "B K"],
    targets: Int[Tensor, " B"],
    *,
    count: int,
) -> Int[Tensor, " N"]:
    """Indices of the at most `count` images to push, of those that both networks get right.

    Args:
        student: Logits.
        teacher: Logits.
        targets: The labels.
        count: Largest N; those whose probabilities off the label differ most.
    """
    right = (student.argmax(1) == targets) & (teacher.argmax(1) == targets)
    gap = (teacher.softmax(1) - student.softmax(1)).square()
    gap = gap.scatter(1, targets[:, None], 0.0).sum(1)
    ranked = gap.masked_fill(~right, -1.0).argsort(descending=True, stable=True)
    return ranked[: min(count, int(right.sum()))]


def draw_classes(
    teacher: Float[Tensor, "N K"], targets: Int[Tensor, " N"], generator: torch.Generator
) -> Int[Tensor, " N"]:
    """For each image a class other than its label, in proportion to the teacher's probabilities.

    Args:
        teacher: Logits, K >= 2.
        targets: The labels.
        generator: On the CPU, so that every device draws alike.
    """
    others = teacher.scatter(1, targets[:, None], float("-inf")).softmax(1)
    drawn = torch.multinomial(others.double().cpu(), 1, generator=generator)[:, 0]
    return drawn.to(targets.device)


def boundary_samples(
    teacher: nn.Module,
    images: Float[Tensor, "N D S S"],
    targets: Int[Tensor, " N"],
    classes: Int[Tensor, " N"],
    *,
    attack_steps: int = 10,
    step_size: float = 0.3,
    input_range: tuple[float, float] | None = None,
) -> Float[Tensor, "N D S S"]:
    """Images moved until the teacher just takes each for another class.

    Args:
        teacher: Images to logits; it stays as it was, and gets no gradient.
        images: Such as the teacher gets right.
        targets: Their labels.
        classes: The class that each is moved towards.
        attack_steps: Most moves, >= 0.
        step_size: η, > 0.
        input_range: Smallest and largest value of an input; None: those of `images`.
    """
    low, high = input_range or (float(images.min()), float(images.max()))
    x = images.detach().clone()
    with evaluating(teacher), torch.enable_grad():
        for _ in range(attack_steps):
            x.requires_grad_(True)
            logits = teacher(x)
            still = logits.argmax(1) == targets
            if not still.any():
                break
            rival, own = (logits.gather(1, which[:, None])[:, 0] for which in (classes, targets))
            (g,) = torch.autograd.grad((rival - own).sum(), x)  # no parameter gets a gradient
            length = step_size * still * (own - rival + EPSILON).detach()
            along = F.normalize(g.flatten(1), dim=1).view_as(g)
            x = (x.detach() + length[:, None, None, None] * along).clamp(low, high)
    return x.detach()


def falling_weights(done: float) -> tuple[float, float]:
    """α and β after a share `done`, 0 to 1, of the training."""
    return 1 + max(3 * (1 - done), 0.0), max(2 * (1 - 4 * done / 3), 0.0)


@dataclass(frozen=True, kw_only=True)
class BSS:
    """Settings; `build()` makes the task."""

    temperature: float = 3.0
    """T, > 0; larger is softer."""
    total_steps: int = 10_000
    """Steps over which the weights fall, >= 1: those of the whole training."""
    samples: int = 64
    """Most images that are pushed in a step, >= 2."""
    attack_steps: int = 10
    """Most moves of an image, >= 1."""
    step_size: float = 0.3
    """η of the attack, > 0, for inputs of a standard deviation about 1."""
    input_range: tuple[float, float] | None = None
    """Smallest and largest value of an input; none given: those of the images at hand."""
    seed: int = 0
    """Of the target classes, >= 0."""

    def __post_init__(self) -> None:
        if self.input_range is not None:
            low, high = self.input_range
            object.__setattr__(self, "input_range", (low, high))  # JSON knows lists alone
            check_number(low < high, "BSS.input_range", "an increasing pair", high - low)
        check_number(self.temperature > 0, "BSS.temperature", "> 0", self.temperature)
        check_number(self.total_steps >= 1, "BSS.total_steps", ">= 1", self.total_steps)
        check_number(self.samples >= 2, "BSS.samples", ">= 2", self.samples)
        check_number(self.attack_steps >= 1, "BSS.attack_steps", ">= 1", self.attack_steps)
        check_number(self.step_size > 0, "BSS.step_size", "> 0", self.step_size)
        check_number(self.seed >= 0, "BSS.seed", ">= 0", self.seed)

    def build(
        self, student: nn.Module, teacher: nn.Module, example: Float[Tensor, "B D S S"]
    ) -> OfflineTask:
        """The task; `example` is a batch of images on which bad input is found out.

        Raises:
            UserError: if the networks do not fit together.
        """
        return BSSTask(self, student, teacher).checked(example)


class BSSTask(OfflineTask):
    """The label's term `ce`, the teacher's `kd`, and `boundary`; `found` counts base samples."""

    def __init__(self, settings: BSS, student: nn.Module, teacher: nn.Module) -> None:
        super().__init__(student, teacher, loss=nn.Identity())
        self.settings = settings

    def forward(
        self, images: Float[Tensor, "B D S S"], targets: Int[Tensor, " B"], step: int
    ) -> Losses:
        settings = self.settings
        own, taught = (seen.logits for seen in self.outputs(images))
        ce = F.cross_entropy(own, targets)
        kd = soft_kl(own, taught, temperature=settings.temperature)
        alpha, beta = falling_weights(step / settings.total_steps)
        found, boundary = own.new_tensor(0.0), own.new_tensor(0.0)
        if beta:
            chosen = base_samples(own.detach(), taught, targets, count=settings.samples)
            found = own.new_tensor(float(len(chosen)))
            if len(chosen) >= 2:  # batch norm cannot train on one
                moved = self.push(images[chosen], targets[chosen], taught[chosen], step)
                own_moved, taught_moved = (seen.logits for seen in self.outputs(moved))
                boundary = soft_kl(own_moved, taught_moved, temperature=settings.temperature)
        loss = ce + alpha * kd + beta * boundary
        return {"loss": loss, "ce": ce, "kd": kd, "boundary": boundary, "found": found}

    def push(
        self,
        images: Float[Tensor, "N D S S"],
        targets: Int[Tensor, " N"],
        taught: Float[Tensor, "N K"],
        step: int,
    ) -> Float[Tensor, "N D S S"]:
        """The boundary samples of a step's base samples."""
        settings = self.settings
        generator = torch.Generator().manual_seed(settings.seed + 1_000_003 * step)
        return boundary_samples(
            self.teacher,
            images,
            targets,
            draw_classes(taught, targets, generator),
            attack_steps=settings.attack_steps,
            step_size=settings.step_size,
            input_range=settings.input_range,
        )
