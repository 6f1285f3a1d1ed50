"""The best of all configurations under a budget, for `pliant tiers RUN --search DATA`.

Costs are additive and exact (MACs, bytes) or fitted (latency); quality is measured on the dev split
with batch-norm statistics of the configuration's own, as if it were a tier.
"""

import sys
from collections.abc import Callable
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
from pliant.data.crops import load_or_skip
from pliant.data.manifest import Sample
from pliant.data.progress import watched
from pliant.data.source import open_source
from pliant.errors import UserError
from pliant.jobs.scoring import crops_of, normalise
from pliant.pad.metrics import auc
from pliant.pad.scores import Scores
from pliant.train.run_folder import Run

CANDIDATE = "candidate"
FINALISTS = 8
CALIBRATION_IMAGES = 128
DEV_IMAGES = 384
"""Drawn evenly along the list; enough to rank configurations."""


def search(run: Run, data: Path, unit: str, budget: float, *, threads: int) -> dict[str, Any]:
    """Best configuration and Pareto front: `best`, `front`, `kind`, `num_measured`, `table_error`.

    Args:
        run: Opened; its tiers are not changed.
        data: With a dev split; statistics come from its train split, or from dev where it has none.
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
    measure = quality_on(run, data)
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


def quality_on(run: Run, data: Path) -> Callable[[Configuration], float]:
    """A function from a configuration to its dev AUC, or accuracy for other tasks."""
    samples = open_source(data, run.task).samples
    dev = _some([s for s in samples if s.split == "dev"], DEV_IMAGES)
    if not dev:
        raise UserError(f"{data} has no dev split; --search ranks configurations on one")
    plain = _some([s for s in samples if s.split == "train"], CALIBRATION_IMAGES)
    dev = load_or_skip(dev)[0]
    images = _tensor(run, dev)
    batches = (_tensor(run, load_or_skip(plain)[0]) if plain else images).split(64)
    batches = [batch for batch in batches if len(batch) > 1]
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


def _some(samples: list[Sample], most: int) -> list[Sample]:
    """At most `most` of them, evenly along the list."""
    return samples[:: max(1, -(-len(samples) // most))]


def _tensor(run: Run, samples: list[Sample]) -> Tensor:
    crops = crops_of(samples, run.preprocessing)
    images = [crops[i]["image"] for i in watched(range(len(crops)), len(crops), "cutting")]
    return normalise(torch.stack(images), run.preprocessing)
