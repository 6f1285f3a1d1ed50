"""What one training run is told: the recipe, the network, the machine. No torch here.

The three dataclasses are the Python API, the flags of `pliant train`, their help, and the record in
settings.json. `Machine` says where a run computes and not what, so a run may be resumed on another.
"""

import math
import re
from dataclasses import dataclass
from typing import Literal

from pliant.errors import UserError


def _need(right: bool, name: str, wanted: str, got: object) -> None:
    if isinstance(got, float) and not math.isfinite(got):
        right, wanted = False, f"a finite number, {wanted}"
    if not right:
        raise UserError(f"{name} must be {wanted}, got {got!r}")


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """The recipe."""

    epochs: int = 20
    """Passes over the training images, >= 1."""
    batch_size: int = 32
    """Images per step and process; at most the training set."""
    optimiser: Literal["sgd", "adamw"] = "sgd"
    """`sgd` with Nesterov momentum, or `adamw`."""
    lr: float = 0.01
    """Peak learning rate, > 0; it rises over the warm-up and falls by a cosine to 0."""
    light_lr: float = 4.0
    """Learning rate of the light branches in units of `lr`, > 0; they start further from done."""
    momentum: float = 0.9
    """Of SGD, 0 to below 1."""
    weight_decay: float = 5e-4
    """On convolution and linear weights; never on norms and biases."""
    warmup_epochs: float = 0.5
    """Length of the linear warm-up; the cosine takes the rest."""
    label_smoothing: float = 0.0
    """Share of the label given to all classes alike, 0 to below 1."""
    clip_gradient: float = 0.0
    """Largest norm of the gradient; 0: no limit."""
    balance: bool = True
    """Draw every class equally often; an epoch keeps its number of images."""
    light_start: Literal["largest", "rank1", "fitted", "random"] = "fitted"
    """How light branches start where weights are given; see pliant.adaptive.start."""
    sampler: str = "sandwich"
    """Which configurations a step trains; see pliant.adaptive.sampling."""
    sample_weights: tuple[float, ...] = ()
    """Odds of each tier in `presets`, in the order of `tiers`; (): the first twice as often."""
    distill_weight: float = 0.5
    """Share of the loss by which the heaviest configuration teaches the others, 0 to 1."""
    distill_temperature: float = 2.0
    """Softening of that teaching, > 0; larger is softer."""
    ema: float = 0.0
    """Decay of a running average of the weights, such as 0.998; 0: off."""
    freeze_batch_norm: bool = False
    """Keep the start's batch-norm statistics while training."""
    augmentation: bool = True
    """Off: the plain crop, not even flipped."""
    tiers: tuple[str, ...] = ("low", "mid", "high", "max")
    """Presets that get statistics, a threshold and a cost; the best epoch is theirs on average."""
    dev_images: int = 256
    """Dev images that rank the epochs, drawn once, >= 2; the final evaluation uses all. 0: all."""
    calibration_images: int = 512
    """Training images, not augmented, behind each tier's batch-norm statistics, >= 2."""
    workers: int = 0
    """Extra loading processes; 0 loads in this one, whose crops stay in memory."""
    seed: int = 0
    """Of everything random: start, order, augmentation, sampled configurations."""

    def __post_init__(self) -> None:
        for name in ("tiers", "sample_weights"):  # JSON knows lists alone
            if isinstance(value := getattr(self, name), list):
                object.__setattr__(self, name, tuple(value))
        _need(self.epochs >= 1, "epochs", ">= 1", self.epochs)
        _need(self.batch_size >= 2, "batch_size", ">= 2", self.batch_size)
        _need(self.optimiser in ("sgd", "adamw"), "optimiser", "sgd or adamw", self.optimiser)
        _need(self.lr > 0, "lr", "> 0", self.lr)
        _need(self.light_lr > 0, "light_lr", "> 0", self.light_lr)
        fits = not self.sample_weights or (
            len(self.sample_weights) == len(self.tiers)
            and all(weight >= 0 and math.isfinite(weight) for weight in self.sample_weights)
            and sum(self.sample_weights) > 0
        )
        _need(fits, "sample_weights", "one weight >= 0 for each tier", self.sample_weights)
        _need(0 <= self.momentum < 1, "momentum", "in [0, 1)", self.momentum)
        _need(self.weight_decay >= 0, "weight_decay", ">= 0", self.weight_decay)
        _need(self.warmup_epochs >= 0, "warmup_epochs", ">= 0", self.warmup_epochs)
        _need(0 <= self.label_smoothing < 1, "label_smoothing", "in [0, 1)", self.label_smoothing)
        _need(self.clip_gradient >= 0, "clip_gradient", ">= 0", self.clip_gradient)
        _need(0 <= self.distill_weight <= 1, "distill_weight", "in [0, 1]", self.distill_weight)
        _need(self.distill_temperature > 0, "distill_temperature", "> 0", self.distill_temperature)
        _need(0 <= self.ema < 1, "ema", "in [0, 1)", self.ema)
        starts = ("largest", "rank1", "fitted", "random")
        _need(self.light_start in starts, "light_start", ", ".join(starts), self.light_start)
        _need(len(self.tiers) > 0, "tiers", "at least one preset", self.tiers)
        _need(len(set(self.tiers)) == len(self.tiers), "tiers", "different presets", self.tiers)
        some = self.dev_images == 0 or self.dev_images >= 2
        _need(some, "dev_images", ">= 2, or 0 for all", self.dev_images)
        _need(self.calibration_images >= 2, "calibration_images", ">= 2", self.calibration_images)
        _need(self.workers >= 0, "workers", ">= 0", self.workers)
        _need(0 <= self.seed < 2**63, "seed", "in [0, 2^63)", self.seed)


@dataclass(frozen=True, kw_only=True)
class NetworkSettings:
    """The network's shape; `pliant.train.network.build` makes it."""

    width: float = 1.0
    """Channel multiplier, 0.05 to 8; the ImageNet weights can start 1.0, 0.75, 0.5 and 0.35."""
    padding: Literal["same_tf", "symmetric"] = "same_tf"
    """At stride 2; the ImageNet start was trained with same_tf."""
    light_expand: int = 1
    """Expansion of the light branches: 1, 2 or 3."""
    merge: Literal["mean", "sum"] = "mean"
    """How `both` joins the branches."""
    dropout: float = 0.2
    """Before the classifier, 0 to below 1."""
    stem_stride: Literal[1, 2] = 2
    """1 keeps the resolution of small images such as CIFAR's."""

    def __post_init__(self) -> None:
        _need(0.05 <= self.width <= 8, "width", "in [0.05, 8]", self.width)
        _need(
            self.padding in ("same_tf", "symmetric"),
            "padding",
            "same_tf or symmetric",
            self.padding,
        )
        _need(self.light_expand in (1, 2, 3), "light_expand", "1, 2 or 3", self.light_expand)
        _need(self.merge in ("mean", "sum"), "merge", "mean or sum", self.merge)
        _need(0 <= self.dropout < 1, "dropout", "in [0, 1)", self.dropout)
        _need(self.stem_stride in (1, 2), "stem_stride", "1 or 2", self.stem_stride)


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where it computes; handed on to Lightning's Trainer."""

    accelerator: str = "auto"
    """auto, cpu, gpu, mps ..."""
    devices: str = "1"
    """How many (2), which (0,1), or auto for all."""
    strategy: str = "auto"
    """auto, ddp, ddp_spawn ...; branches that a step leaves unused are always allowed."""
    num_nodes: int = 1
    """Machines, >= 1."""
    precision: Literal["32-true", "16-mixed", "bf16-mixed"] = "32-true"
    """Of the steps; weights stay float32. 16-mixed needs a GPU."""

    def __post_init__(self) -> None:
        _need(self.num_nodes >= 1, "num_nodes", ">= 1", self.num_nodes)
        known = ("32-true", "16-mixed", "bf16-mixed")
        _need(self.precision in known, "precision", ", ".join(known), self.precision)
        right = re.fullmatch(r"auto|-1|[1-9]\d*|\d+(,\d*)+", self.devices)
        _need(right is not None, "devices", "a number, a list such as 0,1, or auto", self.devices)
