"""The 8-bit half of `pliant export --int8`: calibrate on training crops, judge on the dev split.

Rounding moves scores, and a threshold does not move along; so what counts is not how far a logit
moved but how many more attacks pass and how many more real faces are turned away at the threshold
that is shipped. If either rises by more than was allowed, in any tier, nothing is written.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pliant.data.crops import load_or_skip
from pliant.data.manifest import Sample
from pliant.data.progress import watched
from pliant.data.source import open_source
from pliant.errors import UserError
from pliant.export.int8 import int8_onnx
from pliant.export.onnx import AdaptiveOnnx
from pliant.export.parity import count_flips, logits, session, softmax
from pliant.export.static import INPUT, OUTPUT
from pliant.jobs.samples import split_as_trained
from pliant.jobs.scoring import crops_of, normalise, to_scores
from pliant.pad.metrics import apcer, bpcer, worst_species
from pliant.pad.scores import pool_presentations
from pliant.train.run_folder import Run

CALIBRATION_IMAGES = 256
"""Training crops that the ranges of the activations come from, evenly along the training split."""


@dataclass(frozen=True, kw_only=True)
class Quality:
    """One tier on the dev split; what a task does not have is None."""

    apcer: float | None = None
    """Of the worst species, at the stored threshold."""
    bpcer: float | None = None
    """At the stored threshold."""
    accuracy: float | None = None
    """For other tasks than anti-spoofing."""

    def worse_than(self, before: "Quality") -> dict[str, float]:
        """By how much each measure is worse, > 0."""
        pairs = {
            "APCER": (self.apcer, before.apcer),
            "BPCER": (self.bpcer, before.bpcer),
            "1 - accuracy": tuple(
                None if q.accuracy is None else 1 - q.accuracy for q in (self, before)
            ),
        }
        return {
            name: after - first
            for name, (after, first) in pairs.items()
            if after is not None and first is not None and after > first
        }


def int8_model(
    run: Run, data: Path, golden: np.ndarray, *, default: str, max_change: float
) -> tuple[AdaptiveOnnx, dict[str, dict[str, Any]], dict[str, np.ndarray]]:
    """The 8-bit file, a record per tier, and the probabilities of the golden images per tier.

    Args:
        run: An opened run.
        data: That of the training.
        golden: Inputs, float32 (B, 3, size, size).
        default: The tier that the file runs unless told otherwise.
        max_change: Most that an error rate may rise, in [0, 1].

    Raises:
        UserError: if it is other data or cannot judge, or an error rate rises too far.
    """
    dev, train, source = _splits(run, data)
    calibration, inputs = inputs_of(run, train), inputs_of(run, dev)
    exported = int8_onnx(run.model, calibration, default=default)
    records: dict[str, dict[str, Any]] = {}
    probabilities: dict[str, np.ndarray] = {}
    worse: dict[str, tuple[Quality, Quality]] = {}
    for tier in watched(list(run.tiers), len(run.tiers), "judging"):
        call = session(exported.configured("", tier)).run
        before = softmax(_batched(lambda x, t=tier: logits(run.model, t, x), inputs))
        after = softmax(_batched(lambda x, c=call: c([OUTPUT], {INPUT: x})[0], inputs))
        there = np.asarray(call([OUTPUT], {INPUT: golden})[0])
        here = logits(run.model, tier, golden)
        probabilities[tier] = softmax(there)
        first, then = (quality(run, tier, dev, p) for p in (before, after))
        records[tier] = {
            "max_abs_logits": float(np.abs(here - there).max()),
            "images": len(golden),
            "flips": count_flips(here, there, _threshold(run, tier)),
            "calibrated_on": source | {"images": len(train)},
            "dev_images": len(dev),
            "dev_fp32": asdict(first),
            "dev_int8": asdict(then),
            "mean_abs_score": float(np.abs(before - after)[:, -1].mean()),
        }
        worse[tier] = first, then
    _guard(worse, max_change)
    return exported, records, probabilities


def _splits(run: Run, data: Path) -> tuple[list[Sample], list[Sample], dict[str, Any]]:
    """Dev and training samples as the training split them, and which data that is.

    Raises:
        UserError: if it is other data, a split is empty, or dev cannot judge: a tier has no
            threshold, or a class is missing.
    """
    source = open_source(data, run.task, crop_scale=run.preprocessing.crop_scale)
    trained = run.settings["data"]
    if source.sha256 != trained.get("sha256"):
        raise UserError(
            f"{data} is not the data that {run.path} was trained on; 8 bits are calibrated and "
            "judged on that, so give it with --data"
        )
    split = split_as_trained(source.samples, trained)
    dev = load_or_skip(split.dev)[0]
    train = load_or_skip(_some(split.train, CALIBRATION_IMAGES))[0]
    if not dev or not train:
        raise UserError(
            f"{data} gives {len(train)} training and {len(dev)} dev images; 8 bits are calibrated "
            "on the former and judged on the latter, so both are needed"
        )
    if run.task == "pad":
        without = [name for name, tier in run.tiers.items() if tier.threshold is None]
        if without:
            raise UserError(
                f"{', '.join(without)} has no threshold, so APCER and BPCER in 8 bits cannot be "
                "compared; fit one with pliant evaluate on data with a dev split"
            )
        if len({sample.bona_fide for sample in dev}) < 2:
            raise UserError(
                f"the dev split of {data} lacks attacks or bona fide photos, so APCER and BPCER in "
                "8 bits cannot be compared; ship float32"
            )
    return dev, train, {"data": source.name, "data_sha256": source.sha256}


def quality(run: Run, tier: str, dev: Sequence[Sample], probabilities: np.ndarray) -> Quality:
    """Error rates at the tier's stored threshold, or accuracy; presentations, not frames, count."""
    if run.task != "pad":
        names = [run.classes[k] for k in probabilities.argmax(axis=1)]
        right = [name == sample.label for name, sample in zip(names, dev, strict=True)]
        return Quality(accuracy=sum(right) / len(right))
    threshold = _threshold(run, tier)
    assert threshold is not None  # _splits refuses a tier without one
    scores = pool_presentations(to_scores(dev, probabilities[:, 1]))
    species = apcer(scores, threshold)
    return Quality(apcer=species[worst_species(species)].rate, bpcer=bpcer(scores, threshold).rate)


def _threshold(run: Run, tier: str) -> float | None:
    stored = run.tiers[tier].threshold
    return stored and stored.value


def _guard(measured: Mapping[str, tuple[Quality, Quality]], max_change: float) -> None:
    """Refuses if a rate of any tier rises too far; all that do are named."""
    risen = [
        f"{rate} of {tier} by {100 * change:.1f}"
        for tier, (before, after) in measured.items()
        for rate, change in after.worse_than(before).items()
        if change > max_change
    ]
    if risen:
        raise UserError(
            f"8 bits raise on dev, in percentage points: {', '.join(risen)} (allowed "
            f"{100 * max_change:g}); nothing was written: ship float32, or allow more with "
            "--max-change"
        )


def inputs_of(run: Run, samples: Sequence[Sample]) -> np.ndarray:
    """The network's input, float32 (N, 3, size, size)."""
    crops = crops_of(samples, run.preprocessing)
    images = [crops[i]["image"] for i in watched(range(len(crops)), len(crops), "cutting")]
    return normalise(torch.stack(images), run.preprocessing).numpy()


def _batched(call: Any, inputs: np.ndarray) -> np.ndarray:
    """Logits of all inputs, 64 at a time."""
    return np.concatenate([np.asarray(call(inputs[i : i + 64])) for i in range(0, len(inputs), 64)])


def _some(samples: Sequence[Sample], most: int) -> list[Sample]:
    return list(samples[:: max(1, -(-len(samples) // most))])
