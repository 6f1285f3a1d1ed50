"""Callbacks of a run: batch-norm statistics before dev, the table of epochs, the best weights.

Their order in the Trainer matters: an average of the weights (Lightning's EMA) is swapped in first,
then the tiers are calibrated on it, then dev is measured; Lightning saves checkpoints last.
"""

import time
from collections.abc import Iterator
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, RichProgressBar
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import DataLoader

from pliant.adaptive.calibration import calibrate
from pliant.train.data_module import DEV_BATCH, CropData
from pliant.train.module import TrainModule, to_floats
from pliant.train.run_folder import RunFolder

EPOCH_CALIBRATION_IMAGES = 96
"""Enough to rank epochs; the statistics that are kept come from `calibration_images` at the end."""


def calibrate_tiers(module: TrainModule, data: CropData, *, limit: int | None = None) -> None:
    """Re-estimates every tier's batch-norm statistics from plain training crops.

    Args:
        module: Holds the network and its tiers.
        data: Gives the crops.
        limit: Images at most; None: `calibration_images`.
    """
    batches = [images.to(module.device) for images in data.calibration_batches(limit)]
    for tier, configuration in module.tiers.items():
        inputs = (module.normalise(to_floats(images)) for images in batches)
        calibrate(module.network, configuration, inputs, name=tier)


@torch.no_grad()
def calibrate_task(module: TrainModule, data: CropData, *, limit: int | None = None) -> None:
    """Re-estimates the batch-norm statistics of a task without tiers, in their place.

    Nothing is done to a task that has tiers or no `predictors`, nor to frozen batch norms. Every
    batch norm that the predictors run is re-estimated, those of the method's own parts too.

    Args:
        module: Holds the task.
        data: Gives plain training crops.
        limit: Images at most; None: `calibration_images`.
    """
    predictors = getattr(module.task, "predictors", None)
    if module.tiers or predictors is None or module.settings.freeze_batch_norm:
        return
    modes = [(part, part.training) for part in module.modules()]
    norms = [part for part in module.modules() if isinstance(part, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    seen = 0
    try:
        module.eval()
        for images in data.calibration_batches(limit):
            seen += len(images)
            for norm in norms:
                norm.training, norm.momentum = True, len(images) / seen  # a cumulative average
            predictors(module.normalise(to_floats(images.to(module.device))))
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for part, training in modes:
            part.training = training


def held_out(module: TrainModule, data: CropData) -> Iterator[tuple[Tensor, Tensor]]:
    """The dev images as the network takes them, with their targets; the same in every process."""
    for batch in DataLoader(data.dev_set, batch_size=DEV_BATCH):
        images = batch["image"].to(module.device)
        yield module.normalise(to_floats(images)), batch["target"].to(module.device)


class Measure(Callback):
    """Lets a task that has a `measure` see the dev images after every epoch."""

    def __init__(self, data: CropData) -> None:
        self.data = data

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, TrainModule)
        measure = getattr(pl_module.task, "measure", None)
        if measure is not None:
            measure(held_out(pl_module, self.data))


class CalibrateTiers(Callback):
    """Gives every tier, or a task without tiers, its statistics before the dev pass."""

    def __init__(self, data: CropData) -> None:
        self.data = data

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, TrainModule)
        calibrate_tiers(pl_module, self.data, limit=EPOCH_CALIBRATION_IMAGES)
        calibrate_task(pl_module, self.data, limit=EPOCH_CALIBRATION_IMAGES)


class EpochTable(Callback):
    """One row per epoch, kept in the checkpoint, so that a resumed run goes on with the table.

    Args:
        folder: Gets metrics.csv after every epoch, from the first process alone.

    Columns: epoch (from 1), steps, seconds (training), seconds_per_step, dev_seconds, loss (mean
    over steps), lr (last), macs_per_step (forward passes of all configurations of a step, mean),
    total_macs and total_samples (since the start, all processes), dev_<measure>_<tier>, dev_mean.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.rows: list[dict[str, Any]] = []
        self._clear()

    def _clear(self) -> None:
        self.loss_sum, self.macs, self.steps, self.samples = 0.0, 0, 0, 0
        self.seconds = self.dev_seconds = 0.0
        self.started = self.dev_started = time.perf_counter()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._clear()

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: dict[str, Tensor],
        batch_idx: int,
    ) -> None:
        assert isinstance(pl_module, TrainModule)
        self.loss_sum += pl_module.last_loss
        self.macs += pl_module.step_macs * trainer.world_size
        self.samples += len(batch["target"]) * trainer.world_size
        self.steps += 1
        self.seconds = time.perf_counter() - self.started

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.dev_started = time.perf_counter()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.dev_seconds = time.perf_counter() - self.dev_started

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        loss = self.loss_sum / max(1, self.steps)
        if trainer.world_size > 1:
            loss = float(trainer.strategy.reduce(torch.tensor(loss, device=pl_module.device)))
        before = self.rows[-1] if self.rows else {"total_macs": 0, "total_samples": 0}
        row: dict[str, Any] = {
            "epoch": trainer.current_epoch + 1,
            "steps": self.steps,
            "seconds": round(self.seconds, 4),
            "seconds_per_step": round(self.seconds / max(1, self.steps), 6),
            "dev_seconds": round(self.dev_seconds, 4),
            "loss": loss,
            "lr": trainer.optimizers[0].param_groups[0]["lr"],
            "macs_per_step": self.macs // max(1, self.steps),
            "total_macs": before["total_macs"] + self.macs,
            "total_samples": before["total_samples"] + self.samples,
        }
        measured = trainer.callback_metrics
        row |= {name: float(v) for name, v in sorted(measured.items()) if name.startswith("dev_")}
        self.rows.append(row)
        if trainer.is_global_zero:
            self.folder.write_csv("metrics.csv", self.rows, list(self.rows[0]))

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = list(state_dict["rows"])


class RunProgress(RichProgressBar):
    """Lightning's bar of the epoch, on stderr, with the time that is left of the whole run."""

    def __init__(self) -> None:
        super().__init__(refresh_rate=4, console_kwargs={"stderr": True})
        self.begun, self.first_step = time.perf_counter(), 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        self.begun, self.first_step = time.perf_counter(), trainer.global_step

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        """What stands behind the bar."""
        shown = super().get_metrics(trainer, pl_module)
        done = trainer.global_step - self.first_step
        if done > 0:
            left = trainer.estimated_stepping_batches - trainer.global_step
            minutes, seconds = divmod(round((time.perf_counter() - self.begun) * left / done), 60)
            shown["run"] = f"{minutes:.0f}:{seconds:02.0f} left"
        return shown


class BestCheckpoint(ModelCheckpoint):
    """Keeps the weights of the best epoch by `dev_mean`; of equal ones the latest.

    Dev AUC saturates, and the later of two equal epochs has seen more at a lower learning rate.
    """

    def check_monitor_top_k(self, trainer: pl.Trainer, current: Tensor | None = None) -> bool:
        tie = current is not None and self.best_model_score is not None
        if tie and bool(current == self.best_model_score):
            return True
        return super().check_monitor_top_k(trainer, current)
