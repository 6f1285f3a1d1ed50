"""The best of all configurations under a budget, for `pliant tiers RUN --search DATA`.

Costs are additive and exact (MACs, bytes) or fitted (latency); quality is measured on the dev split
with batch-norm statistics of the configuration's own, as if it were a tier.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress
from torch import Tensor

from pliant.adaptive.calibration import calibrate
from pliant.adaptive.choose import choose
from pliant.adaptive.configuration import PRESETS, Configuration
from pliant.adaptive.cost import cost_tables, latency_table, prediction_error
from pliant.data.augment import Augment
from pliant.data.crops import load_or_skip
from pliant.data.manifest import Sample
from pliant.data.progress import watched
from pliant.data.source import open_source
from pliant.errors import UserError
from pliant.jobs.publish import on_dev, write_dev_scores
from pliant.jobs.samples import Prepared, split_as_trained
from pliant.jobs.scoring import crops_of, normalise, tier_probabilities
from pliant.pad.metrics import auc
from pliant.pad.scores import Scores
from pliant.train.finish import tier_entries
from pliant.train.network import check_new_name
from pliant.train.run_folder import Run, RunFolder

CANDIDATE = "candidate"
FINALISTS = 8
CALIBRATION_IMAGES = 128
DEV_IMAGES = 384
"""Drawn evenly along the list; enough to rank configurations."""


def search(run: Run, data: Path, unit: str, budget: float, *, threads: int) -> dict[str, Any]:
    """Best configuration and Pareto front: `best`, `front`, `kind`, `num_measured`, `table_error`.

    Args:
        run: Opened; its tiers are not changed.
        data: The data of the training, or other data with a dev split; statistics come from its
            train split, or from dev where it has none.
        unit: `ms`, `macs` or `bytes`.
        budget: In that unit.
        threads: CPU threads of the latency table.

    Raises:
        UserError: if there is no dev split, or no configuration fits.
    """
    shape = (1, 3, run.preprocessing.size, run.preprocessing.size)
    error = None
    if unit == "ms":
        table = latency_table(run.model, shape, threads=threads)
        error = prediction_error(run.model, table, shape, threads=threads)
        tables = {"latency_ms": table}
    else:
        tables = cost_tables(run.model, shape)
    dev, plain = dev_and_train(run, data)
    measure = quality_on(run, dev, plain)
    with Progress(
        console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True
    ) as bar:
        most = 1 + run.model.num_blocks * (len(run.model.letters) - 1) + FINALISTS + len(PRESETS)
        task = bar.add_task("measuring configurations", total=most)

        def quality(configuration: Configuration) -> float:
            bar.advance(task)
            return measure(configuration)

        choice = choose(
            run.model,
            quality=quality,
            tables=tables,
            budget_ms=budget if unit == "ms" else None,
            budget_macs=budget if unit == "macs" else None,
            budget_bytes=budget if unit == "bytes" else None,
            finalists=FINALISTS,
        )
    points = [
        {"configuration": str(p.configuration), choice.kind: p.cost, "quality": p.quality}
        for p in (choice.best, *choice.front)
    ]
    return {
        "best": points[0],
        "front": points[1:],
        "kind": choice.kind,
        "num_measured": choice.num_measured,
        "table_error": error,
    }


def dev_and_train(run: Run, data: Path) -> tuple[list[Sample], list[Sample]]:
    """Dev samples, and the training samples for statistics; those of the training on its own data.

    Raises:
        UserError: if there is no dev sample.
    """
    source = open_source(data, run.task, crop_scale=run.preprocessing.crop_scale)
    trained = run.settings["data"]
    if source.sha256 == trained["sha256"]:
        split = split_as_trained(source.samples, trained)
        return split.dev, split.train
    dev, train = ([s for s in source.samples if s.split == side] for side in ("dev", "train"))
    if not dev:
        raise UserError(
            f"{data} has no dev split and is not the data of the training; give data with one"
        )
    return dev, train


def add_tier(run: Run, name: str, configuration: Configuration, data: Path) -> dict[str, Any]:
    """Makes a configuration a tier of a finished run: statistics, cost, dev quality, threshold.

    The threshold is fitted as those of the run were: by its policy, on dev and, where training
    simulated attacks, on simulated captures of it. The run's files are replaced whole, the weights
    first: statistics without a record do no harm.

    Args:
        run: Opened; the network gets the tier too.
        name: Of the tier; none of the run's has it.
        configuration: What it runs.
        data: As for `search`.

    Returns:
        Its entry in tiers.json.

    Raises:
        UserError: if the name is taken, or the data cannot be used.
    """
    check_new_name(name)
    if name in run.tiers:
        raise UserError(f'{run.path} has a tier "{name}" already; give --name another one')
    dev, train = (load_or_skip(samples)[0] for samples in dev_and_train(run, data))
    training, augment = run.settings["training"], run.settings["augment"]
    plain = _some(train or dev, training["calibration_images"])
    calibrate(run.model, configuration, _batches(run, plain), name=name)
    prepared = Prepared(
        task=run.task, train=train, dev=dev, classes=run.classes, skipped=[],
        record={"name": data.name},
    )  # fmt: skip
    crops = prepared.dev_crops(run.preprocessing, augment and Augment(**augment), training["seed"])
    found = tier_probabilities(run.model, crops, run.preprocessing, [name], title="dev")[name]
    own = on_dev(found, crops.samples, prepared, training["policy"])
    if run.task == "pad":
        write_dev_scores(run.path, name, found, crops.samples)
    size = run.preprocessing.size
    entries = tier_entries(run.model, input_shape=(1, 3, size, size))
    new = next(entry | own for entry in entries if entry["tier"] == name)
    folder = RunFolder(run.path)
    folder.write_model(run.model)
    folder.write_tiers(
        sorted([*RunFolder.stored_tiers(run.path), new], key=lambda entry: entry["macs"])
    )
    return new


def quality_on(
    run: Run, dev: Sequence[Sample], train: Sequence[Sample]
) -> Callable[[Configuration], float]:
    """A function from a configuration to its dev AUC, or accuracy for other tasks."""
    dev = load_or_skip(_some(dev, DEV_IMAGES))[0]
    images = _tensor(run, dev)
    batches = _batches(run, load_or_skip(_some(train or dev, CALIBRATION_IMAGES))[0])
    live = np.array([s.bona_fide is True for s in dev])
    labels = np.array([-1 if s.label is None else _class_index(run, s.label) for s in dev])

    def quality(configuration: Configuration) -> float:
        calibrate(run.model, configuration, batches, name=CANDIDATE)
        with run.model.use(CANDIDATE), torch.inference_mode():
            logits = torch.cat([run.model(batch) for batch in images.split(64)])
        del run.model.tiers[CANDIDATE]
        found = logits.double().softmax(dim=1).numpy()
        if run.task == "pad":
            return auc(Scores.of(found[:, 1], live))
        return float((found.argmax(axis=1) == labels).mean())

    return quality


def _class_index(run: Run, label: str) -> int:
    return run.classes.index(label) if label in run.classes else -1


def _some(samples: Sequence[Sample], most: int) -> list[Sample]:
    """At most `most` of them, evenly along the list."""
    return list(samples[:: max(1, -(-len(samples) // most))])


def _batches(run: Run, samples: Sequence[Sample]) -> list[Tensor]:
    """The network's input in batches; none of a single image, which has no variance."""
    return [batch for batch in _tensor(run, samples).split(64) if len(batch) > 1]


def _tensor(run: Run, samples: Sequence[Sample]) -> Tensor:
    crops = crops_of(samples, run.preprocessing)
    images = [crops[i]["image"] for i in watched(range(len(crops)), len(crops), "cutting")]
    return normalise(torch.stack(images), run.preprocessing)
