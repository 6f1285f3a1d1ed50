"""`pliant evaluate RUN --data PATH --out DIR`: every tier measured, said in JSON, CSV and HTML.

The threshold of a tier comes from a dev split alone: the one stored in the run, or, where the run
has none yet and the data has a dev split, one fitted there and stored in the run.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from pliant import __version__
from pliant.errors import UserError
from pliant.jobs.evaluate_summary import summary as summary
from pliant.jobs.folders import appearing, refuse_existing
from pliant.runtime.frame_vote import Rule, VoteSettings

if TYPE_CHECKING:
    from pliant.data.manifest import Sample
    from pliant.data.source import Source
    from pliant.train.run_folder import Run

STATEMENT = "self-assessment, not a certification"
PAD_LIMITS = (
    "attacks before the camera only: injected video and deepfakes were not tested",
    "attack species that this data does not hold were not tested",
    "photos without a usable face are counted as skipped, not as decisions",
)
DEV_NOTE = "Dev is judged, so numbers at a threshold fitted on it are optimistic."
TRAINED_SYNTHETIC = "the model has seen synthetic faces alone: it is no judge of these"
SYNTHETIC = "synthetic faces and attacks: the numbers say nothing about real ones"


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """Which samples are judged, which may fit a threshold, and what has to be said of that."""

    role: str
    """`test`, `all` or `dev`."""
    judged: "list[Sample]"
    """What is measured."""
    dev: "list[Sample]"
    """Empty where the data has no dev split, or where dev itself is judged."""
    note: str
    """For the report; may be empty."""


def evaluate(
    run: Annotated[Path, Positional, arg(metavar="RUN")],
    data: Path,
    out: Path,
    *,
    policy: str = "min_acer",
    train_data: Path | None = None,
    detector: Path | None = None,
    vote: Rule = "mean",
    modalities: tuple[str, ...] = (),
    batch_size: int = 64,
    draws: int = 2000,
    seed: int = 0,
    runs: int = 30,
    threads: int = 1,
) -> dict[str, Any]:
    """Measure every tier of a run; writes evaluation.json, scores_<tier>.csv and report.html.

    The test split is judged where there is one, else the samples without a split, else the dev
    split; the report says which.

    Args:
        run: A run folder of `pliant train`.
        data: A manifest CSV, or a folder.
        out: A new folder.
        policy: How a threshold is fitted where the run has none: min_acer, eer, apcer<=x, bpcer<=x.
        train_data: The run's training data, for the colour baseline; None: taken from `data` where
            that is the data of the training.
        detector: A YuNet ONNX file for photos without face boxes; None: OpenCV's cascade.
        vote: How the frames of a clip become one score: mean, median, trimmed, meanstd, medstd. For
            another rule than mean the threshold is fitted anew on the data's dev split.
        modalities: What a PipeNet decides on, such as colour,depth; (): all that it knows.
        batch_size: Images per forward pass, >= 1.
        draws: Draws of the subject bootstrap, >= 1.
        seed: Of the bootstrap, >= 0.
        runs: Timed passes per tier, >= 1.
        threads: CPU threads while timing, at most the machine's cores.

    Raises:
        UserError: if `out` exists, a number lies outside its range, or the data cannot be used or
            holds one class only.
    """
    refuse_existing(out)
    _check(policy, detector, threads, batch_size=batch_size, draws=draws, runs=runs, seed=seed)
    from pliant.data.source import open_source
    from pliant.data.split import check_subjects
    from pliant.jobs.modal_judging import chosen_modalities
    from pliant.runtime.files import write_atomic
    from pliant.train.run_folder import RunFolder

    opened = RunFolder.open(run, several_modalities=True)
    kept = chosen_modalities(opened, modalities)
    if opened.task != "pad" and vote != "mean":
        raise UserError("frames of a clip vote in anti-spoofing alone; leave --vote out")
    scale = opened.preprocessing.crop_scale
    source = open_source(data, opened.task, detector=detector, crop_scale=scale)
    check_subjects(source.samples)
    chosen = choose(source, opened)
    if opened.task == "pad":
        check_classes(chosen.judged, data)
    training = (
        training_samples(source, opened, train_data, detector) if opened.task == "pad" else []
    )
    with appearing(out) as folder:
        result = measure(
            opened, source, chosen, training, folder,
            policy=policy, batch_size=batch_size, draws=draws, seed=seed, runs=runs,
            threads=threads, vote=vote, modalities=kept, each_subset=True,
        )  # fmt: skip
        write_atomic(folder / "evaluation.json", json.dumps(result, indent=1, allow_nan=False))
    return result | {"report": out / "report.html"}


def _check(policy: str, detector: Path | None, threads: int, *, seed: int, **counts: int) -> None:
    """Refuses at once what would otherwise be refused after every image was read."""
    from pliant.metrics.latency import check_threads
    from pliant.pad.thresholds import parse_policy
    from pliant.runtime.yunet import YuNet

    parse_policy(policy)
    check_threads(threads)
    for name, count in counts.items():
        if count < 1:
            raise UserError(f"{name} must be >= 1, got {count}")
    if seed < 0:
        raise UserError(f"seed must be >= 0, got {seed}")
    if detector is not None:
        YuNet(detector)


def measure(
    run: "Run",
    source: "Source",
    chosen: Chosen,
    training: "Sequence[Sample]",
    folder: Path,
    *,
    policy: str = "min_acer",
    batch_size: int = 64,
    draws: int = 2000,
    seed: int = 0,
    runs: int = 30,
    threads: int = 1,
    vote: Rule = "mean",
    modalities: tuple[str, ...] = (),
    each_subset: bool = False,
) -> dict[str, Any]:
    """The contents of evaluation.json; scores_<tier>.csv and report.html are in `folder` then.

    Args:
        run: The opened run.
        source: Where the samples come from.
        chosen: Which of them are judged.
        training: The run's training images, for the colour baseline; none: no baseline.
        folder: An existing folder.
        policy: See `evaluate`, as the rest.
        batch_size: Images per forward pass.
        draws: Draws of the subject bootstrap.
        seed: Of the bootstrap.
        runs: Timed passes per tier.
        threads: CPU threads while timing.
        vote: How the frames of a clip become one score.
        modalities: What a PipeNet decides on; () for other networks.
        each_subset: Judge a PipeNet on every subset of its modalities too.

    Raises:
        UserError: if too many images cannot be read, or those left hold one class only.
    """
    from pliant.data.crops import load_or_skip
    from pliant.jobs import judging, record
    from pliant.jobs.tiers import cost_rows
    from pliant.pad.report import write_report
    from pliant.train.environment import environment

    judged, skipped = load_or_skip(chosen.judged)
    if run.task == "pad":
        check_classes(judged, source.name)
    rows = cost_rows(run, runs=runs, threads=threads)
    result: dict[str, Any] = {
        "pliant": __version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "statement": STATEMENT,
        "task": run.task,
        "model": record.of_model(run),
        "data": record.of_data(source, run, judged, chosen.role, chosen.note, skipped),
        "tiers": rows,
        "baseline": None,
        "sheet": [],
        "training": record.of_training(run),
        "settings": {
            "policy": policy,
            "batch_size": batch_size,
            "draws": draws,
            "seed": seed,
            "vote": vote,
            "training": run.settings,
        },
        "environment": environment(),
    }
    if run.task == "pad":
        dev = load_or_skip(chosen.dev)[0] if chosen.dev else []
        result |= judging.judge_pad(
            run, judged, dev, rows, folder,
            role=chosen.role, policy=policy, batch_size=batch_size, draws=draws, seed=seed,
            how=VoteSettings(rule=vote), modalities=modalities, each_subset=each_subset,
        )  # fmt: skip
        if training:
            result["baseline"] = judging.judge_baseline(
                run, load_or_skip(training)[0], judged, draws=draws, seed=seed
            )
    else:
        result |= judging.judge_classes(run, judged, rows, batch_size=batch_size)
    result["limits"] = limits(result)
    write_report(result, folder)
    return result


def choose(source: "Source", run: "Run") -> Chosen:
    """Test if there is one, else what has no split, else dev.

    Photos without a split that the run was trained on are judged on its held-out dev subjects.

    Raises:
        UserError: if there is a train split alone.
    """
    sides: dict[str | None, list[Sample]] = {}
    for sample in source.samples:
        sides.setdefault(sample.split, []).append(sample)
    test, unsplit, dev = (sides.get(name, []) for name in ("test", None, "dev"))
    if test:
        return Chosen(role="test", judged=test, dev=dev, note="")
    trained = run.settings["data"]
    if unsplit and source.sha256 == trained["sha256"]:
        from pliant.jobs.samples import split_as_trained

        return Chosen(
            role="dev",
            judged=split_as_trained(source.samples, trained).dev,
            dev=[],
            note="This is the data of the training: its dev samples alone are judged, on which "
            "epochs were ranked and thresholds fitted, so the numbers are optimistic.",
        )
    if unsplit:
        return Chosen(role="all", judged=unsplit, dev=dev, note="No test split: all is judged.")
    if dev:
        return Chosen(
            role="dev",
            judged=dev,
            dev=[],
            note=f"No test split. {DEV_NOTE}",
        )
    raise UserError(f"{source.name} has a train split alone; evaluate needs test or dev samples")


def check_classes(judged: "Sequence[Sample]", data: Path | str) -> None:
    """Refuses data that cannot show both kinds of error.

    Raises:
        UserError: if bona fide samples or attacks are missing.
    """
    live = sum(s.bona_fide is True for s in judged)
    if not live or live == len(judged):
        have, lack = ("attacks", "bona fide") if not live else ("bona fide", "attack")
        raise UserError(f"{data} holds {have} only; evaluate needs {lack} samples too")


def training_samples(
    source: "Source", run: "Run", train_data: Path | None, detector: Path | None
) -> "list[Sample]":
    """The run's training images, for the baseline; none where they cannot be reached.

    Raises:
        UserError: if `train_data` is given and is not what the run was trained on.
    """
    from pliant.data.source import open_source
    from pliant.jobs.samples import split_as_trained

    trained = run.settings["data"]
    if train_data is not None:
        scale = run.preprocessing.crop_scale
        source = open_source(train_data, run.task, detector=detector, crop_scale=scale)
    if source.sha256 != trained["sha256"]:
        if train_data is None:
            return []
        raise UserError(
            f"{train_data} is not the data that {run.path} was trained on ({trained['name']}); "
            "give --train-data the same data, or leave it out"
        )
    return split_as_trained(source.samples, trained).train


def limits(result: Mapping[str, Any]) -> list[str]:
    """What this evaluation cannot show."""
    said: list[str] = [*PAD_LIMITS] if result["task"] == "pad" else []
    if result["data"]["synthetic"]:
        said.insert(0, SYNTHETIC)
    elif result["settings"]["training"]["data"].get("synthetic"):
        said.insert(0, TRAINED_SYNTHETIC)
    if result["task"] == "pad" and result["baseline"] is None:
        said.append("no colour baseline: the training data is not reachable (see --train-data)")
    without = [row["tier"] for row in result["tiers"] if row["threshold"] is None]
    if result["task"] == "pad" and without:
        said.append(
            f"no threshold, so no decisions, for {', '.join(without)}: fit one on a dev split"
        )
    said.append("latency is that of PyTorch on this machine; a device's own run time differs")
    return said
