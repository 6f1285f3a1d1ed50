"""What `pliant train --model pipenet` asks of flags and frames before the first step."""

from dataclasses import replace
from pathlib import Path

from pliant.data.augment import Augment
from pliant.data.captures import DevCrops
from pliant.data.modal import ModalCrops, problem_notes, refuse_absent, write_problems
from pliant.errors import UserError
from pliant.jobs.samples import Prepared, say
from pliant.runtime.crop import Preprocessing
from pliant.train.data_module import CropData
from pliant.train.pipenet import BLACK_IS_ZERO, PIPENET, PipeNetSettings
from pliant.train.settings import NetworkSettings

UNUSABLE = "unusable_modalities.csv"
"""In a run folder: the frames of which a modality cannot be used, with the reason."""


def check_pipenet(
    model: str,
    pipenet: PipeNetSettings,
    preprocessing: Preprocessing,
    *,
    task: str,
    init: Path | None,
    network: NetworkSettings,
    augment: Augment,
) -> Preprocessing:
    """The preprocessing of the model; refuses flags that would do nothing.

    A PipeNet's input is x / 255: mean 0 and standard deviation 1.

    Raises:
        UserError: naming the flag.
    """
    if model != PIPENET:
        if pipenet != PipeNetSettings():
            raise UserError(
                f"--pipenet.* shape a PipeNet; leave them out, or give --model {PIPENET}"
            )
        return preprocessing
    if task != "pad":
        raise UserError("a PipeNet tells bona fide from attack; leave --task classify out")
    if init is not None:
        raise UserError("a PipeNet starts from random weights; leave --init out")
    if network != NetworkSettings():
        raise UserError(
            "--width, --padding, --light-expand, --merge, --dropout and --stem-stride shape a "
            "MobileNetV2; a PipeNet has --pipenet.*"
        )
    if augment != Augment():
        raise UserError("--augment.* vary colour crops alone; a PipeNet has --pipenet.*")
    given = {"mean": preprocessing.mean, "std": preprocessing.std}
    usual = {"mean": Preprocessing().mean, "std": Preprocessing().std}
    if given not in (usual, BLACK_IS_ZERO):
        raise UserError("a PipeNet's input is x / 255; leave --mean and --std out")
    pipenet.check_fits(preprocessing)
    return replace(preprocessing, **BLACK_IS_ZERO)


def check_frames(batches: CropData, prepared: Prepared) -> list[str]:
    """Sentences on what cannot be used, also said on stderr.

    Args:
        batches: Of the run; every frame is read once, and kept as far as memory allows.
        prepared: Whose crops they are.

    Raises:
        UserError: if no frame of train or of dev has a modality, or dev has no whole frame of a
            class.
    """
    notes = []
    for side, crops in zip(("train", "dev"), _crops(batches), strict=True):
        problems = crops.problems()
        where = f"{side} of {prepared.record['name']}"
        refuse_absent(crops.modalities, problems, where)
        notes += [f"{side}: {sentence}" for sentence in problem_notes(problems)]
        whole = {t for t, lacks in zip(crops.targets, problems, strict=True) if not lacks}
        if side == "dev" and whole != set(crops.targets):
            raise UserError(
                f"no {'attack' if 1 in whole else 'bona fide'} frame of {where} has all of "
                f"{', '.join(crops.modalities)}; leave one out with --pipenet.modalities"
            )
    say(*notes)
    return notes


def write_unusable(batches: CropData, folder: Path) -> None:
    """Lists the frames of train and dev of which a modality cannot be used; no file without one."""
    samples, problems = [], []
    for crops in _crops(batches):
        samples += crops.samples
        problems += crops.problems()
    if any(problems):
        write_problems(samples, problems, folder / UNUSABLE)


def _crops(batches: CropData) -> tuple[ModalCrops, ModalCrops]:
    """Of train and of dev."""
    train, dev = batches.train_set, batches.all_dev
    assert isinstance(train, ModalCrops)
    assert isinstance(dev, DevCrops)
    assert isinstance(dev.plain, ModalCrops)
    return train, dev.plain
