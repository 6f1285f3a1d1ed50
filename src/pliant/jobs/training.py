"""What `pliant train` and `pliant distill` have in common: start, batches, one run in its folder.

Shapes: B = batch, D = channels, S = input side in pixels.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from pliant.adaptive.network import AdaptiveNetwork, load_start
from pliant.data.augment import Augment
from pliant.jobs.modal_samples import write_unusable
from pliant.jobs.samples import Prepared, say
from pliant.runtime.crop import Preprocessing
from pliant.runtime.files import sha256_file
from pliant.train.data_module import CropData
from pliant.train.environment import environment
from pliant.train.module import Augmentation, Normalise, ReflectedMargin, TrainModule, to_floats
from pliant.train.pipenet import PipeNetSettings
from pliant.train.run_folder import RunFolder
from pliant.train.settings import Machine, TrainSettings

PLAIN_AUGMENT = Augment(simulate=(), camera=0.0, recompress=0.0)
"""What `classify` gets where no augmentation was asked for: crops, turns, flips."""


def start_of(
    net: AdaptiveNetwork, batches: CropData, preprocessing: Preprocessing, init: Path | None
) -> dict[str, Any]:
    """Loads the given weights; the record of where the run started, also said on stderr.

    Args:
        net: What gets them; on the CPU.
        batches: Of the run, for light branches that are fitted to images.
        preprocessing: The network's input.
        init: The weights; None: random ones stay.
    """
    how, seed = batches.settings.light_start, batches.settings.seed
    if init is None:
        say(f"start: random weights, seed {seed}")
        return {"kind": "random", "seed": seed}
    images = None
    if how == "fitted":
        images = first_images(batches, preprocessing)
    notes = load_start(net, init, how, images=images, seed=seed)
    say(f"start: weights {init.name}", *notes)
    return {"kind": "weights", "file": init.name, "sha256": sha256_file(init), "notes": notes}


def first_images(
    batches: CropData, preprocessing: Preprocessing, limit: int | None = None
) -> Float[Tensor, "B D S S"]:
    """Some plain training images, as the network takes them."""
    return Normalise(preprocessing)(to_floats(next(batches.calibration_batches(limit))))


def augment_of(augment: Augment, task: str) -> Augment:
    """Simulated attacks make no sense for other tasks, nor does anti-spoofing's default."""
    if task == "pad":
        return augment
    return PLAIN_AUGMENT if augment == Augment() else replace(augment, simulate=())


def batches_of(
    prepared: Prepared,
    settings: TrainSettings,
    preprocessing: Preprocessing,
    augment: Augment,
    pipenet: PipeNetSettings = PipeNetSettings(),  # noqa: B008
) -> tuple[CropData, Augmentation | None]:
    """The batches of a run, and what varies them."""
    size = preprocessing.size
    plain = prepared.crops(prepared.train, preprocessing)
    varied, augmentation = plain, None
    if prepared.modalities:
        augmentation = pipenet.augmentation(wanted=settings.augmentation)
    elif settings.augmentation:
        augmentation, canvas = augment.build(size), augment.canvas_px(size)
        if all(sample.box for sample in prepared.train):
            scale = augment.canvas_scale(preprocessing.crop_scale, size)
            varied = prepared.crops(prepared.train, preprocessing, size=canvas, scale=scale)
        else:  # a whole image has nothing around it: its margin is reflected
            augmentation = ReflectedMargin(augmentation, (canvas - size) // 2)
    simulated = augment if settings.augmentation and not prepared.modalities else None
    dev = prepared.dev_crops(preprocessing, simulated, settings.seed)
    batches = CropData(
        train=varied,
        dev=dev,
        calibration=plain,
        train_targets=plain.targets,
        dev_targets=dev.targets,
        settings=settings,
    )
    return batches, augmentation


def carry_out(
    module: TrainModule,
    batches: CropData,
    prepared: Prepared,
    out: Path,
    record: Mapping[str, Any],
    *,
    publish: Callable[[RunFolder], None],
    settings: TrainSettings,
    machine: Machine,
    resume: bool = False,
    settled: Sequence[str] = (),
) -> None:
    """Trains inside a run folder; where it fails, the folder says so or is gone.

    Args:
        module: The task and its settings.
        batches: Its batches.
        prepared: The samples behind them.
        out: The run folder, new or, with `resume`, unfinished.
        record: settings.json.
        publish: What writes the network and finishes the folder, with the best weights loaded.
        settings: The recipe.
        machine: Where to compute.
        resume: Go on with an unfinished run.
        settled: See `RunFolder.resume`.
    """
    from pliant.train.fit import fit, is_first_process

    if not is_first_process():
        fit(module, batches, RunFolder(out), settings=settings, machine=machine, resume=resume)
        raise SystemExit(0)  # the first process writes the rest
    if resume:
        folder = RunFolder.resume(out, record, settled=settled)
    else:
        folder = RunFolder.create(out, record)
    try:
        folder.write_json("environment.json", environment() | asdict(machine))
        folder.write_csv("skipped.csv", prepared.skipped, ["path", "reason"])
        if prepared.modalities:
            write_unusable(batches, folder.path)
        trainer = fit(module, batches, folder, settings=settings, machine=machine, resume=resume)
        module.to(trainer.strategy.root_device)
        publish(folder)
    except Exception as error:
        folder.fail(str(error))
        raise
