"""Errors of two rounds of decisions about the same presentations, and their paired difference.

Decisions, not scores, are judged, because out-of-fold scores each met the threshold of their own
fold. The intervals hold those thresholds as they are: the folds share captures, so no resampling of
subjects could refit them without meeting what they were fitted on.

Shapes: N = presentations.
"""

from typing import Any

import numpy as np
from jaxtyping import Bool

from pliant.pad import metrics
from pliant.pad.evaluation import evaluate_scores
from pliant.pad.intervals import can_resample, percentile_interval, subject_bootstrap
from pliant.pad.paired import compare, mcnemar
from pliant.pad.scores import Scores
from pliant.pad.thresholds import Threshold

RATES = ("apcer", "apcer_ap", "apcer_pooled", "bpcer", "acer")
_HALF = Threshold(policy="fixed=0.5", value=0.5, source="decisions")


def rates(
    presentations: Scores, accepted: Bool[np.ndarray, " N"], *, draws: int, seed: int
) -> dict[str, Any]:
    """`RATES` as in evaluation.json; without attacks all but `bpcer` are None.

    Args:
        presentations: What was decided about; their scores are not looked at.
        accepted: Taken for bona fide.
        draws: Of the subject bootstrap; 0: none.
        seed: Of the bootstrap.

    Raises:
        UserError: if no presentation is bona fide.
    """
    decided = _decided(presentations, accepted)
    if not decided.bona_fide.all():
        found = evaluate_scores(decided, _HALF, draws=draws, seed=seed)
        return {name: found[name] for name in RATES}
    rejected = (~accepted).astype(float)
    low, high = _over_subjects(decided, rejected, draws=draws, seed=seed)
    bpcer = metrics.bpcer(decided, 0.5).to_json() | {"cluster_low": low, "cluster_high": high}
    return dict.fromkeys(RATES) | {"bpcer": bpcer}


def difference(
    presentations: Scores,
    before: Bool[np.ndarray, " N"],
    after: Bool[np.ndarray, " N"],
    *,
    draws: int,
    seed: int,
) -> dict[str, Any]:
    """After minus before of each rate, with its interval over subjects, and McNemar's test.

    Args:
        presentations: What was decided about.
        before: Accepted by the first.
        after: Accepted by the second.
        draws: Of the paired subject bootstrap, >= 1.
        seed: Of the bootstrap.
    """
    if not presentations.bona_fide.all():
        a, b = (_decided(presentations, accepted) for accepted in (before, after))
        found = compare(a, b, _HALF, _HALF, draws=draws, seed=seed)
        kept = {name: found["differences"][name] for name in RATES if name != "apcer"}
        return kept | {"mcnemar": found["mcnemar"]}
    change = before.astype(float) - after.astype(float)
    low, high = _over_subjects(presentations, change, draws=draws, seed=seed)
    bpcer = {
        "a": float((~before).mean()),
        "b": float((~after).mean()),
        "difference": float(change.mean()),
        "low": low,
        "high": high,
        "differs": low is not None and high is not None and not low <= 0 <= high,
    }
    test = {"bona_fide": mcnemar(before, after), "attack": None, "all": mcnemar(before, after)}
    return {"apcer_ap": None, "apcer_pooled": None, "bpcer": bpcer, "acer": None, "mcnemar": test}


def _decided(presentations: Scores, accepted: np.ndarray) -> Scores:
    """Scores that say no more than the decision."""
    return Scores(
        subject=presentations.subject,
        presentation=presentations.presentation,
        bona_fide=presentations.bona_fide,
        species=presentations.species,
        score=accepted.astype(np.float64),
    )


def _over_subjects(
    presentations: Scores, values: np.ndarray, *, draws: int, seed: int
) -> tuple[float | None, float | None]:
    """The interval of a mean over presentations, where subjects can be drawn."""
    if not draws or not can_resample(presentations):
        return None, None
    drawn = subject_bootstrap(
        presentations,
        lambda weights: {"mean": weights @ values / weights.sum(axis=1)},
        draws=draws,
        seed=seed,
    )
    return percentile_interval(drawn["mean"]) or (None, None)
