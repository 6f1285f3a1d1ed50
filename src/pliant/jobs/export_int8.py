"""The 8-bit half of `pliant export --int8`: calibrate on training crops, judge on the dev split.

Rounding moves scores, and a threshold does not move along; so what counts is not how far a logit
moved but how many more attacks pass and how many more real faces are turned away at the threshold
that is shipped. If either rises by more than was allowed, in any tier, nothing is written.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pliant.data.crops import load_or_skip
from pliant.data.manifest import Sample
from pliant.data.progress import watched
from pliant.errors import UserError
from pliant.export.int8 import int8_onnx
from pliant.export.onnx import AdaptiveOnnx
from pliant.export.parity import logits, session, softmax
from pliant.export.static import INPUT, OUTPUT
from pliant.jobs.samples import say
from pliant.jobs.scoring import crops_of, normalise, to_scores
from pliant.jobs.search import dev_and_train
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
        data: That of the training, or other data with a dev split.
        golden: Inputs, float32 (B, 3, size, size).
        default: The tier that the file runs unless told otherwise.
        max_change: Most that an error rate may rise, in [0, 1].

    Raises:
        UserError: if there are no training or dev crops, or an error rate rises too far.
    """
    dev, train = dev_and_train(run, data)
    dev = load_or_skip(dev)[0]
    train = load_or_skip(_some(train, CALIBRATION_IMAGES))[0]
    if not dev or not train:
        raise UserError(
            f"{data} gives {len(train)} training and {len(dev)} dev images; 8 bits are calibrated "
            "on the former and judged on the latter, so both are needed"
        )
    calibration, inputs = inputs_of(run, train), inputs_of(run, dev)
    exported = int8_onnx(run.model, calibration, default=default)
    records: dict[str, dict[str, Any]] = {}
    probabilities: dict[str, np.ndarray] = {}
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
            "dev_images": len(dev),
            "dev_fp32": asdict(first),
            "dev_int8": asdict(then),
            "mean_abs_score": float(np.abs(before - after)[:, -1].mean()),
        }
        _guard(tier, first, then, max_change)
    return exported, records, probabilities


def quality(run: Run, tier: str, dev: Sequence[Sample], probabilities: np.ndarray) -> Quality:
    """Error rates at the tier's stored threshold, or accuracy; presentations, not frames, count."""
    if run.task != "pad":
        names = [run.classes[k] for k in probabilities.argmax(axis=1)]
        right = [name == sample.label for name, sample in zip(names, dev, strict=True)]
        return Quality(accuracy=sum(right) / len(right))
    stored = run.tiers[tier].threshold
    if stored is None:
        return Quality()
    scores = pool_presentations(to_scores(dev, probabilities[:, 1]))
    attacked, live = not scores.bona_fide.all(), bool(scores.bona_fide.any())
    species = apcer(scores, stored.value) if attacked else {}
    return Quality(
        apcer=species[worst_species(species)].rate if attacked else None,
        bpcer=bpcer(scores, stored.value).rate if live else None,
    )


def _guard(tier: str, before: Quality, after: Quality, max_change: float) -> None:
    if before == Quality():
        say(f"{tier} has no threshold, so what 8 bits change in its error rates cannot be said")
    for name, change in after.worse_than(before).items():
        if change > max_change:
            raise UserError(
                f"8 bits raise the {name} of {tier} on dev by {100 * change:.1f} percentage points "
                f"(allowed {100 * max_change:g}); nothing was written: ship float32, or allow more "
                "with --max-change"
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
