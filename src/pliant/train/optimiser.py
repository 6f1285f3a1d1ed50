"""The optimiser and its schedule: weight decay spares norms and biases; warm-up, then cosine."""

import math
from functools import partial

from torch import nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from pliant.train.settings import TrainSettings


def lr_factor(step: int, *, total: int, warmup: int) -> float:
    """Share of the peak learning rate at `step`, in (0, 1]: a line up, then half a cosine to 0.

    Args:
        step: From 0.
        total: Steps of the whole run; beyond it the last value stays.
        warmup: Steps of the rise, below `total`.
    """
    if step < warmup:
        return (step + 1) / (warmup + 1)
    progress = (step - warmup) / max(1, total - warmup)
    return 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """Two groups: weights of two axes and more decay; norms and biases, all 1-D, do not."""
    wanted = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in wanted if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in wanted if p.ndim <= 1], "weight_decay": 0.0},
    ]


def build_optimiser(
    model: nn.Module, settings: TrainSettings, *, total_steps: int
) -> tuple[Optimizer, LambdaLR]:
    """The optimiser of `settings` and the schedule, to be stepped once per training step."""
    groups = parameter_groups(model, settings.weight_decay)
    if settings.optimiser == "adamw":
        optimiser: Optimizer = AdamW(groups, lr=settings.lr)
    else:
        nesterov = settings.momentum > 0
        optimiser = SGD(groups, lr=settings.lr, momentum=settings.momentum, nesterov=nesterov)
    warmup = min(round(settings.warmup_epochs / settings.epochs * total_steps), total_steps - 1)
    schedule = partial(lr_factor, total=total_steps, warmup=warmup)
    return optimiser, LambdaLR(optimiser, schedule)
