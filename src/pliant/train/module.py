"""The LightningModule that wraps a task: one step, one dev batch, the optimiser.

Everything random in a step is drawn from (seed, step, process), so a resumed run draws as an
uninterrupted one does.

Shapes: B = batch, C = canvas side, D = channels, three of every modality, K = classes, S = input
side in pixels.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import cast

import lightning.pytorch as pl
import numpy as np
import torch
from jaxtyping import Float, UInt8
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torchmetrics import Metric
from torchmetrics.classification import BinaryAUROC, MulticlassAccuracy

from pliant.adaptive.configuration import Configuration
from pliant.adaptive.network import AdaptiveNetwork
from pliant.errors import UserError
from pliant.runtime.crop import Preprocessing
from pliant.train.optimiser import build_optimiser
from pliant.train.settings import TrainSettings
from pliant.train.task import Predicting, Task

Augmentation = Callable[[Tensor, Tensor, torch.Generator], tuple[Tensor, Tensor]]


def seed_of(*parts: int) -> int:
    """A well-mixed 63-bit seed of several whole numbers >= 0; equal parts give equal seeds."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))


def to_floats(images: UInt8[Tensor, "B D C C"]) -> Float[Tensor, "B D C C"]:
    """Bytes to [0, 1]."""
    return images.float() / 255


class Normalise(nn.Module):
    """Images in [0, 1] to the network's input, (x - mean) / std, in channels-last memory.

    Mean and standard deviation hold for every three channels.
    """

    scale: Tensor
    offset: Tensor

    def __init__(self, preprocessing: Preprocessing) -> None:
        super().__init__()
        mean, std = (
            torch.tensor(v).view(1, 3, 1, 1) for v in (preprocessing.mean, preprocessing.std)
        )
        self.register_buffer("scale", 1 / std, persistent=False)
        self.register_buffer("offset", -mean / std, persistent=False)

    def forward(self, images: Float[Tensor, "B D S S"]) -> Float[Tensor, "B D S S"]:
        times = (1, images.shape[1] // 3, 1, 1)
        scaled = images * self.scale.repeat(times) + self.offset.repeat(times)
        return scaled.contiguous(memory_format=torch.channels_last)


class ReflectedMargin:
    """An augmentation that wants more than there is: the images get a reflected margin first."""

    def __init__(self, augment: Augmentation, margin: int) -> None:
        self.augment = augment
        self.margin = margin

    def __call__(
        self, images: Tensor, targets: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        return self.augment(F.pad(images, [self.margin] * 4, mode="reflect"), targets, generator)


class TrainModule(pl.LightningModule):
    """Steps a task, and measures the named tiers, or its predictors, on the dev split.

    Args:
        task: (images, targets, step) -> dict with `loss`; its `model` is the network.
        settings: The recipe.
        preprocessing: Mean and standard deviation of the network's input.
        tiers: Named configurations to measure on dev.
        num_classes: K; None for anti-spoofing, which is judged by AUC and not by accuracy.
        macs: Forward MACs of one image under a configuration.
        augment: (images in [0, 1], targets, generator) -> (images at input size, targets).
        predictors: Of a task without tiers: names of what its `predictors` answers, to be measured
            on dev in their place. `ranking` of them make the mean that ranks epochs.
        ranking: Some of `predictors`; (): all.
        more_macs: Forward MACs of one image beside those of configurations, such as a teacher's.

    After every step `step_macs` holds the forward MACs of the step and `last_loss` its loss.
    """

    def __init__(
        self,
        task: Task,
        settings: TrainSettings,
        *,
        preprocessing: Preprocessing,
        tiers: Mapping[str, Configuration],
        num_classes: int | None = None,
        macs: Callable[[Configuration], float] = lambda configuration: 0,
        augment: Augmentation | None = None,
        predictors: Sequence[str] = (),
        ranking: Sequence[str] = (),
        more_macs: int = 0,
    ) -> None:
        super().__init__()
        self.task = task
        # Channels last: 2.5 times faster on a CPU.
        nn.utils.convert_conv2d_weight_memory_format(task.model, torch.channels_last)
        self.settings = settings
        self.normalise = Normalise(preprocessing)
        self.tiers = dict(tiers)
        self.measure = "auc" if num_classes is None else "accuracy"
        self.macs = macs
        self.augment = augment
        self.more_macs = more_macs
        names = [*self.tiers] or [*predictors]
        self.ranking = tuple(ranking) or tuple(names)
        self.dev = nn.ModuleDict({name: _dev_metric(num_classes) for name in names})
        self.last_loss = float("nan")
        self.step_macs = 0

    @property
    def network(self) -> AdaptiveNetwork:
        """What is trained."""
        model = self.task.model
        assert isinstance(model, AdaptiveNetwork)
        return model

    def train(self, mode: bool = True) -> "TrainModule":
        super().train(mode)
        if self.settings.freeze_batch_norm:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def on_fit_start(self) -> None:
        self.train()  # Lightning leaves the mode as it finds it

    def training_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> Tensor:
        step = self.global_step
        seed = seed_of(self.settings.seed, step, self.global_rank)
        torch.manual_seed(seed)  # for dropout
        images, targets = to_floats(batch["image"]), batch["target"]
        if self.augment is not None:
            with torch.no_grad():
                generator = torch.Generator(device=images.device)
                generator.manual_seed(seed)
                images, targets = self.augment(images, targets, generator)
        losses = self.task(self.normalise(images), targets, step)
        self.last_loss = float(losses["loss"].detach())
        if not np.isfinite(self.last_loss):
            raise UserError(self._diverged(f"the loss became {self.last_loss}"))
        configurations = self.task.configurations(step)
        image_macs = sum(map(self.macs, configurations)) + self.more_macs
        self.step_macs = len(targets) * round(image_macs)
        self.log("loss", losses["loss"].detach(), prog_bar=True, logger=False)
        return losses["loss"]

    def _diverged(self, what: str) -> str:
        other = "" if self.trainer.precision == "32-true" else ", or --precision 32-true"
        return (
            f"{what} in epoch {self.current_epoch + 1}, step {self.global_step}; give a lower --lr "
            f"than {self.settings.lr:g}, or a limit such as --clip-gradient 1{other}"
        )

    def validation_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> None:
        images, targets = self.normalise(to_floats(batch["image"])), batch["target"]
        for name, logits in self.answers(images):
            if not logits.isfinite().all():  # the last step's damage shows here first
                what = f"tier {name}" if self.tiers else name
                raise UserError(self._diverged(f"the outputs of {what} are no numbers"))
            metric = self.dev[name]
            assert isinstance(metric, Metric)
            metric.update(logits.softmax(dim=1)[:, 1] if self.measure == "auc" else logits, targets)

    def answers(self, images: Float[Tensor, "B D S S"]) -> Iterator[tuple[str, Tensor]]:
        """Name and logits of every tier; of a task without tiers, of every predictor."""
        for tier in self.tiers:
            with self.network.use(tier):
                logits = self.network(images).float()
            yield tier, logits
        if not self.tiers and len(self.dev):
            found = cast(Predicting, self.task).predictors(images)
            yield from ((name, found[name].float()) for name in self.dev)

    def on_validation_epoch_end(self) -> None:
        values = {}
        for tier, metric in self.dev.items():
            assert isinstance(metric, Metric)
            values[f"dev_{self.measure}_{tier}"] = metric.compute()
            metric.reset()
        ranking = [values[f"dev_{self.measure}_{name}"] for name in self.ranking]
        mean = torch.stack(ranking).mean()
        several = self.trainer.world_size > 1
        self.log_dict(values, logger=False, sync_dist=several)
        self.log("dev_mean", mean, prog_bar=True, logger=False, sync_dist=several)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimiser, schedule = build_optimiser(
            cast(nn.Module, self.task),
            self.settings,
            total_steps=int(self.trainer.estimated_stepping_batches),
        )
        return {
            "optimizer": optimiser,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }


def _dev_metric(num_classes: int | None) -> Metric:
    if num_classes is None:
        return BinaryAUROC()
    return MulticlassAccuracy(num_classes, average="micro")
