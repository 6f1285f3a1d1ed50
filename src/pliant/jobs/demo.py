"""`pliant demo`: synthetic faces and attacks -> training -> evaluation -> a report, and a bundle.

    OUT/data-synthetic/   the rig's images and manifest
    OUT/run/              the run folder: weights, tiers, thresholds
    OUT/evaluation/       evaluation.json, scores_<tier>.csv
    OUT/face.pliant       the model for every device, in one file
    OUT/report.html       what to open

A file UNFINISHED stands in OUT until all is there; a folder that holds it may be replaced.
"""

import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import arg

from pliant.jobs.folders import refuse_existing

if TYPE_CHECKING:
    from pliant.data.rig import RigSettings

MARK = "UNFINISHED"


@dataclass(frozen=True, kw_only=True)
class DemoSettings:
    """What the demo renders and how long it trains; the defaults fit 4 minutes on 2 cores."""

    subjects: int = 48
    """Synthetic people, split by subject into train, dev and test."""
    clips_per_subject: int = 10
    """Bona fide clips of each."""
    attack_clips: int = 5
    """Clips of each for every kind of attack."""
    frames: int = 1
    """Frames of a clip; errors are counted by clip, so more clips tell more than more frames."""
    difficulty: float = 0.25
    """Of the attacks, 0 (plain to see) to 1."""
    size: int = 64
    """Input side of the network, pixels."""
    width: float = 0.5
    """Channel multiplier of the network."""
    epochs: int = 16
    """Passes over the training images."""
    seed: int = 0
    """Of the people, the start and the order."""


def demo(
    out: Path = Path("pliant-demo"),
    *,
    settings: Annotated[DemoSettings, arg(name="")] = DemoSettings(),
) -> dict[str, Any]:
    """Render a data set, train on it, evaluate every tier, write report.html and a bundle.

    Args:
        out: A new folder.
        settings: How much and how long.

    Raises:
        UserError: if `out` is taken, or a setting lies outside its range.
        KeyboardInterrupt: on Ctrl-C; nothing is left behind.
    """
    if not (out / MARK).is_file():
        refuse_existing(out)
    _rig(settings)  # bad numbers are refused here,
    _training(settings)  # before anything is rendered
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    (out / MARK).write_text("pliant demo did not finish here; this folder may be removed\n")
    try:
        result = _steps(out, settings)
    except BaseException as error:
        shutil.rmtree(out, ignore_errors=True)
        if isinstance(error, KeyboardInterrupt):
            raise KeyboardInterrupt(f"stopped by Ctrl-C; {out} was removed") from None
        raise
    (out / MARK).unlink()
    return result


def _rig(settings: DemoSettings) -> "RigSettings":
    from pliant.data.rig import RigSettings

    return RigSettings(
        subjects=settings.subjects,
        clips_per_subject=settings.clips_per_subject,
        attack_clips=settings.attack_clips,
        frames=settings.frames,
        difficulty=settings.difficulty,
        seed=settings.seed,
    )


def _training(settings: DemoSettings) -> dict[str, Any]:
    """Keywords of `train`: from scratch on few images, so Adam, one rate, the rig's own attacks."""
    from pliant.data.augment import Augment
    from pliant.runtime.crop import Preprocessing
    from pliant.train.settings import NetworkSettings, TrainSettings

    return {
        "settings": TrainSettings(
            epochs=settings.epochs,
            optimiser="adamw",
            lr=0.004,
            light_lr=1.0,
            sampler="sandwich",
            distill_weight=0.5,
            dev_images=128,
            seed=settings.seed,
        ),
        "preprocessing": Preprocessing(size=settings.size),
        "network": NetworkSettings(width=settings.width),
        "augment": Augment(simulate=(), camera=0.0, recompress=0.0),
    }


def _steps(out: Path, settings: DemoSettings) -> dict[str, Any]:
    from pliant.data.rig import write_rig
    from pliant.jobs.evaluate import evaluate
    from pliant.jobs.export import export
    from pliant.jobs.train import train

    begin = time.perf_counter()
    data, run, evaluation = out / "data-synthetic", out / "run", out / "evaluation"
    _say(f"1/4 rendering {settings.subjects} synthetic people and their attacks")
    write_rig(_rig(settings), data)
    _say("2/4 training one network for all tiers")
    train(data, run, **_training(settings))
    _say("3/4 evaluating every tier on people it has never seen")
    result = evaluate(run, data, evaluation, seed=settings.seed)
    _say("4/4 writing all tiers into one file")
    exported = export(run, out=out / "face.pliant", name="pliant demo", licence="Apache-2.0")
    report = (evaluation / "report.html").replace(out / "report.html")
    seconds = time.perf_counter() - begin
    return {
        "report": report,
        "bundle": exported.out,
        "seconds": seconds,
        "evaluation": result | {"report": report},
    }


def summary(result: Mapping[str, Any]) -> list:
    """The evaluation's table and where the report is."""
    from pliant.jobs.evaluate import summary as table

    minutes, seconds = divmod(round(result["seconds"]), 60)
    return [
        table(result["evaluation"])[0],
        f"{minutes} min {seconds} s. Open {result['report']}; "
        f"see it run with pliant web {result['bundle']}",
    ]


def _say(sentence: str) -> None:
    print(sentence, file=sys.stderr)
