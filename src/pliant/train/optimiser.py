"""The optimiser and its schedule: weight decay spares norms and biases; warm-up, then cosine."""

import math
from collections.abc import Mapping
from functools import partial

from torch import nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from pliant.adaptive.block import PTABlock
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


def parameter_groups(
    model: nn.Module,
    *,
    lr: float,
    weight_decay: float,
    light_lr: float,
    decay_scales: Mapping[str, float] | None = None,
) -> list[dict]:
    """Groups by two questions: does it decay, and is it of a branch other than the heavy ones?

    Weights of two axes and more decay; norms and biases, all 1-D, do not. Heavy branches, stem,
    head and classifier learn at `lr`; the other branches, in no checkpoint, at `lr * light_lr`.

    Args:
        model: Its parameters that want a gradient.
        lr: Learning rate.
        weight_decay: Of what decays.
        light_lr: In units of `lr`.
        decay_scales: Parts with a weight decay of their own, by path, in units of `weight_decay`.
    """
    scales = {
        id(parameter): scale
        for path, scale in (decay_scales or {}).items()
        for parameter in model.get_submodule(path).parameters()
    }
    lighter = {
        id(parameter)
        for block in model.modules()
        if isinstance(block, PTABlock)
        for branch in list(block.branches.values())[:-1]
        for parameter in branch.parameters()
    }
    groups = []
    for light in (False, True):
        wanted = [p for p in model.parameters() if p.requires_grad and (id(p) in lighter) == light]
        rate = lr * light_lr if light else lr
        spared = [p for p in wanted if p.ndim <= 1]
        for scale in dict.fromkeys((1.0, *scales.values())):
            decays = [p for p in wanted if p.ndim > 1 and scales.get(id(p), 1.0) == scale]
            decay = weight_decay * scale
            groups.append({"params": decays, "weight_decay": decay, "lr": rate})
        groups.append({"params": spared, "weight_decay": 0.0, "lr": rate})
    return [group for group in groups if group["params"]]


def build_optimiser(
    model: nn.Module, settings: TrainSettings, *, total_steps: int
) -> tuple[Optimizer, LambdaLR]:
    """The optimiser of `settings` and the schedule, to be stepped once per training step.

    Args:
        model: What learns; a task with `decay_scales` says which parts of it decay otherwise.
        settings: The recipe.
        total_steps: Of the whole run.
    """
    groups = parameter_groups(
        model,
        lr=settings.lr,
        weight_decay=settings.weight_decay,
        light_lr=settings.light_lr,
        decay_scales=getattr(model, "decay_scales", None),
    )
    if settings.optimiser == "adamw":
        optimiser: Optimizer = AdamW(groups, lr=settings.lr)
    else:
        nesterov = settings.momentum > 0
        optimiser = SGD(groups, lr=settings.lr, momentum=settings.momentum, nesterov=nesterov)
    warmup = min(round(settings.warmup_epochs / settings.epochs * total_steps), total_steps - 1)
    schedule = partial(lr_factor, total=total_steps, warmup=warmup)
    return optimiser, LambdaLR(optimiser, schedule)
