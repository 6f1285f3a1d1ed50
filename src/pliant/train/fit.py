"""One call of Lightning's Trainer: progress on stderr, checkpoints, resume, Ctrl-C."""

import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import (
    Callback,
    EMAWeightAveraging,
    ModelCheckpoint,
)
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import SIGTERMException

from pliant.errors import UserError
from pliant.train.callbacks import BestCheckpoint, CalibrateTiers, EpochTable, Measure, RunProgress
from pliant.train.checkpoints import WholeCheckpoints, read_checkpoint
from pliant.train.data_module import CropData
from pliant.train.module import TrainModule
from pliant.train.run_folder import RunFolder
from pliant.train.settings import Machine, TrainSettings

EXPECTED_WARNINGS = (
    ".*does not have many workers.*",  # crops are cached in this process on purpose
    ".*exists and is not empty.*",  # the checkpoint folder of a resumed run
    ".*in eval mode at the start.*",  # frozen batch norms
    ".*isinstance.treespec, LeafSpec.*",  # Lightning 2.6 on torch 2.13
    ".*sync_dist=True.*",  # one process of ddp: its numbers are the whole
    ".*find_unused_parameters=True was specified.*",  # some steps do use every branch
    ".*AMP with fp16 is not supported on CPU.*",  # refused in _trainer
)


def is_first_process() -> bool:
    """Whether this process writes the run folder; the others of a distributed run only compute."""
    return getattr(rank_zero_only, "rank", 0) == 0 and int(os.environ.get("NODE_RANK", "0")) == 0


def fit(
    module: TrainModule,
    data: CropData,
    folder: RunFolder,
    *,
    settings: TrainSettings,
    machine: Machine,
    resume: bool = False,
) -> pl.Trainer:
    """Trains, leaves `best.ckpt` and `last.ckpt`, and loads the best weights into the module.

    Args:
        module: The task and its settings.
        data: Its batches.
        folder: Where checkpoints and metrics.csv go.
        settings: The recipe.
        machine: Where to compute.
        resume: Go on from `last.ckpt` if there is one.

    Raises:
        KeyboardInterrupt: on Ctrl-C, with a sentence on how to go on.
        SystemExit: on SIGTERM, with 143.
        UserError: if the machine cannot be used as asked, or the loss is not a number.
    """
    table = EpochTable(folder)
    callbacks: list[Callback] = [CalibrateTiers(data), table, Measure(data)]
    if settings.ema:
        callbacks.insert(0, EMAWeightAveraging(decay=settings.ema))
    callbacks += _checkpoints(folder)
    if sys.stderr.isatty():
        callbacks.append(RunProgress())
    start = folder.last_checkpoint if resume and folder.last_checkpoint.exists() else None
    with _calm():
        trainer = _trainer(
            machine,
            max_epochs=settings.epochs,
            gradient_clip_val=settings.clip_gradient or None,
            callbacks=callbacks,
            default_root_dir=folder.path,
        )
        try:
            trainer.fit(module, datamodule=data, ckpt_path=start, weights_only=True)
        except SIGTERMException:  # a SystemExit that would say nothing and leave with 0
            print(f"stopped by SIGTERM {_how_to_go_on(table, settings)}", file=sys.stderr)
            raise SystemExit(128 + signal.SIGTERM) from None
        except (KeyboardInterrupt, SystemExit) as stop:
            # Lightning turns Ctrl-C into exit(1)
            if isinstance(stop, SystemExit) and not isinstance(stop.__context__, KeyboardInterrupt):
                raise
            raise KeyboardInterrupt(f"stopped by Ctrl-C {_how_to_go_on(table, settings)}") from None
    module.load_state_dict(read_checkpoint(folder.best_checkpoint)["state_dict"])
    return trainer


def _how_to_go_on(table: EpochTable, settings: TrainSettings) -> str:
    done = len(table.rows)
    where = f"after epoch {done} of {settings.epochs}" if done else "in the first epoch"
    return f"{where}; the same command with --resume goes on"


def check_machine(machine: Machine) -> None:
    """Refuses a machine that cannot train as asked, before anything else is done.

    Raises:
        UserError: with Lightning's reason.
    """
    with _calm():
        _trainer(machine)


def _trainer(machine: Machine, **more: Any) -> pl.Trainer:
    try:
        trainer = pl.Trainer(
            accelerator=machine.accelerator,
            devices=machine.devices,
            strategy=_strategy(machine),
            num_nodes=machine.num_nodes,
            precision=machine.precision,
            plugins=[WholeCheckpoints()],
            logger=False,
            enable_progress_bar=sys.stderr.isatty(),
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,  # EpochOrder shares the images out itself
            inference_mode=False,
            **more,
        )
    except (ValueError, TypeError, RuntimeError, MisconfigurationException) as problem:
        raise UserError(f"this machine cannot train as asked: {problem}") from problem
    if trainer.precision != machine.precision:  # Lightning takes another one, with a warning
        raise UserError(
            f"this machine cannot train with --precision {machine.precision}; "
            f"give {trainer.precision} or 32-true"
        )
    return trainer


def _strategy(machine: Machine) -> str:
    """Lightning's name of the strategy, with leave for branches that a step does not use."""
    several = num_processes(machine) > 1
    name = "ddp" if machine.strategy == "auto" and several else machine.strategy
    if name in ("ddp", "ddp_spawn", "ddp_fork", "ddp_notebook"):
        return f"{name}_find_unused_parameters_true"
    return name


def num_processes(machine: Machine) -> int:
    """How many processes train together on `machine`."""
    return machine.num_nodes * _num_devices(machine)


def _num_devices(machine: Machine) -> int:
    if machine.devices in ("auto", "-1"):
        on_gpu = machine.accelerator in ("auto", "gpu", "cuda")
        return max(1, torch.cuda.device_count()) if on_gpu else 1
    if "," in machine.devices:
        return len([index for index in machine.devices.split(",") if index.strip()])
    return int(machine.devices)


def _checkpoints(folder: RunFolder) -> list[Callback]:
    shared = {
        "dirpath": folder.last_checkpoint.parent,
        "enable_version_counter": False,
        "save_on_train_epoch_end": True,
        "auto_insert_metric_name": False,
    }
    best = folder.best_checkpoint.stem
    return [
        BestCheckpoint(
            filename=best, monitor="dev_mean", mode="max", save_weights_only=True, **shared
        ),
        ModelCheckpoint(filename=folder.last_checkpoint.stem, **shared),
    ]


@contextmanager
def _calm() -> Iterator[None]:
    """No chatter of Lightning's, torch's global seed and the Ctrl-C handler as they were."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    main_thread = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT) if main_thread else None
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings(), torch.random.fork_rng():
            for message in EXPECTED_WARNINGS:
                warnings.filterwarnings("ignore", message=message)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if handler is not None:
            signal.signal(signal.SIGINT, handler)
