"""All measures of one set of scores as one record, and how far two tiers decide alike.

Every rate carries its Clopper-Pearson interval (`low`, `high`), which takes presentations for
independent, and the interval over resampled subjects (`cluster_low`, `cluster_high`), which does
not. Measures that are no plain share of errors carry the latter alone. Where the dev scores are
given, each resample of the test subjects meets a threshold refitted on a resample of the dev
subjects, so the intervals hold the uncertainty of the threshold too.
"""

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64
from scipy.stats import binomtest

from pliant.errors import UserError
from pliant.pad import curves, metrics
from pliant.pad.curves import ThresholdGrid
from pliant.pad.intervals import can_resample, percentile_interval, subject_weights
from pliant.pad.scores import Scores, pool_presentations
from pliant.pad.thresholds import Threshold, threshold_draws

ACER_NAME = "ACER (max APCER over species)"
BPCER_LIMITS = {"bpcer10": 0.10, "bpcer20": 0.05, "bpcer100": 0.01}
"""BPCERn is the smallest BPCER while APCER_AP stays at or below 1/n."""
APCER_LIMITS = {"apcer_at_bpcer1": 0.01, "apcer_at_bpcer05": 0.005, "apcer_at_bpcer01": 0.001}
"""The smallest APCER_AP while BPCER stays at or below 1 %, 0.5 %, 0.1 %."""
FEW_SUBJECTS = 10
"""Below this many subjects the record says that its intervals over subjects are rough."""


def evaluate_scores(
    test: Scores,
    threshold: Threshold | None,
    *,
    dev: Scores | None = None,
    draws: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """The `metrics` record of evaluation.json: plain numbers, None where a measure has no value.

    Args:
        test: Scores to judge; frames are pooled into presentations.
        threshold: The tier's own; None leaves out what needs one (a score, but no verdict).
        dev: The scores the threshold was fitted on, so that resamples refit it.
        draws: Resamples of the subjects; 0 leaves these intervals out.
        seed: Of the resampling.

    Raises:
        UserError: if a class is missing.
        ValueError: if `dev` are not the scores that the threshold was fitted on.
    """
    test = pool_presentations(test)
    grid = ThresholdGrid(test)
    dev = dev if dev is None else pool_presentations(dev)
    if dev is not None and threshold is not None and threshold.dev_sha256 not in (None, dev.sha256):
        raise ValueError("these dev scores are not those that the threshold was fitted on")
    resampled, refit, drawn = bool(draws) and can_resample(test), False, {}
    if resampled:
        thresholds, refit = thresholds_of(threshold, dev, draws=draws, seed=seed)
        drawn = resample(test, grid, thresholds, draws=draws, seed=seed)
    record: dict[str, Any] = _at_threshold(test, threshold, drawn)
    full = grid.curves()
    values = measures(full, None)
    for name in ("eer", "auc"):
        record[name] = _value(values[name][0], drawn.get(name))
    fewest = int(np.bincount(test.classes[~test.bona_fide]).min())
    num_bona_fide = int(test.bona_fide.sum())
    for limits, num in ((BPCER_LIMITS, fewest), (APCER_LIMITS, num_bona_fide)):
        for name, limit in limits.items():
            supported = num * limit >= 3 - 1e-9  # rule of three
            record[name] = _value(values[name][0], drawn.get(name)) | {"supported": supported}
    return record | {
        "num_bona_fide": num_bona_fide,
        "num_attack": len(test) - num_bona_fide,
        "num_subjects": test.num_subjects,
        "bootstrap_draws": draws if resampled else 0,
        "bootstrap_seed": seed,
        "interval_method": interval_method(test, resampled=resampled, refit=refit),
        "notes": _notes(test, record["auc"]["value"]) + overlap_notes(test, threshold, dev),
    }


def thresholds_of(
    threshold: Threshold | None, dev: Scores | None, *, draws: int, seed: int
) -> tuple[Float64[np.ndarray, " draws"] | None, bool]:
    """The threshold of each draw, and whether it was refitted on resampled dev subjects."""
    if threshold is None:
        return None, False
    held = np.full(draws, threshold.value)
    if threshold.dev_sha256 is None or dev is None or not can_resample(dev):
        return held, False
    fitted = threshold_draws(dev, threshold.policy, draws=draws, seed=seed + 1)
    return np.where(np.isnan(fitted), held, fitted), True


def resample(
    test: Scores,
    grid: ThresholdGrid,
    thresholds: Float64[np.ndarray, " draws"] | None,
    *,
    draws: int,
    seed: int,
) -> dict[str, Float64[np.ndarray, " draws"]]:
    """Every measure on every resample of the test subjects."""
    drawn: dict[str, list[np.ndarray]] = {}
    for rows, weights in subject_weights(test, draws=draws, seed=seed):
        at = None if thresholds is None else grid.at(thresholds[rows], weights)
        for name, values in measures(grid.curves(weights), at).items():
            drawn.setdefault(name, []).append(values)
    return {name: np.concatenate(chunks) for name, chunks in drawn.items()}


def measures(
    full: curves.ErrorCounts, at: curves.ErrorCounts | None
) -> dict[str, Float64[np.ndarray, " D"]]:
    """Every measure of each copy, by its name in the record; APCER per species as `apcer NAME`.

    Args:
        full: Counts at every threshold.
        at: Counts at the threshold in use; None leaves out what needs one.
    """
    found = {"eer": curves.eer(full), "auc": curves.auc(full)}
    for name, limit in BPCER_LIMITS.items():
        found[name] = curves.bpcer_at_apcer(full, limit)
    for name, limit in APCER_LIMITS.items():
        found[name] = curves.apcer_at_bpcer(full, limit)
    if at is not None:
        found |= {f"apcer {name}": at.apcer(name)[:, 0] for name in at.accepted}
        found["apcer_ap"], found["bpcer"] = at.apcer_ap[:, 0], at.bpcer[:, 0]
        found["apcer_pooled"] = at.apcer_pooled[:, 0]
        found["acer"] = (found["apcer_ap"] + found["bpcer"]) / 2
        found["hter"] = (found["apcer_pooled"] + found["bpcer"]) / 2
    return found


def _at_threshold(
    test: Scores, threshold: Threshold | None, drawn: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    """The measures that need a threshold."""
    names = ("apcer", "apcer_ap", "apcer_pooled", "bpcer", "acer", "hter")
    if threshold is None:
        return dict.fromkeys(names)
    at = threshold.value
    rates = metrics.apcer(test, at)
    worst = metrics.worst_species(rates)
    bpcer, pooled = metrics.bpcer(test, at), metrics.apcer_pooled(test, at)
    record: dict[str, Any] = {
        "apcer": {name: _rate(rate, drawn.get(f"apcer {name}")) for name, rate in rates.items()},
        "apcer_ap": _rate(rates[worst], drawn.get("apcer_ap")) | {"species": worst},
        "apcer_pooled": _rate(pooled, drawn.get("apcer_pooled")),
        "bpcer": _rate(bpcer, drawn.get("bpcer")),
        "acer": _value((rates[worst].rate + bpcer.rate) / 2, drawn.get("acer")),
        "hter": None,
    }
    record["acer"]["name"] = ACER_NAME
    if metrics.is_dev_threshold(test, threshold):
        record["hter"] = _value(metrics.hter(test, threshold), drawn.get("hter"))
    return record


def _ends(drawn: np.ndarray | None) -> tuple[float | None, float | None]:
    return (None if drawn is None else percentile_interval(drawn)) or (None, None)


def _value(value: float, drawn: np.ndarray | None) -> dict[str, Any]:
    low, high = _ends(drawn)
    return {"value": float(value), "low": low, "high": high}


def _rate(rate: metrics.Rate, drawn: np.ndarray | None) -> dict[str, Any]:
    low, high = _ends(drawn)
    return rate.to_json() | {"cluster_low": low, "cluster_high": high}


def interval_method(test: Scores, *, resampled: bool, refit: bool) -> str:
    """How the intervals came about, in words for the report."""
    text = "95 %; low, high of error rates: Clopper-Pearson"
    if not resampled:
        return f"{text}; no resampling of subjects (it needs two of them or more)"
    unit = "subjects" if test.num_subjects else "presentations (no subject is named)"
    text += f"; all others and cluster_low, cluster_high: percentile bootstrap over {unit}"
    return text + (", the threshold refitted on resampled dev" if refit else ", threshold held")


def _notes(test: Scores, area: float) -> list[str]:
    """What looks wrong with the scores themselves, one sentence each."""
    notes = []
    if area < 0.5:
        notes.append(
            f"AUC {area:.3f} is below chance: attacks score higher than bona fide presentations; "
            "check that higher means more bona fide"
        )
    if test.score.min() >= 0.5:
        notes.append(
            "no score is below 0.5: if these are probabilities of the winning class they say "
            "nothing about which class won; give the probability of bona fide"
        )
    if 0 < test.num_subjects < FEW_SUBJECTS:
        notes.append(
            f"only {test.num_subjects} subjects: resampling so few says little about others, so "
            "the intervals over subjects are rough and tend to be too narrow"
        )
    return notes


def overlap_notes(test: Scores, threshold: Threshold | None, dev: Scores | None) -> list[str]:
    """What the threshold has seen of the scores it judges, one sentence each.

    Args:
        test: Presentations that are judged.
        threshold: The one that judges them.
        dev: What it was fitted on, where that is at hand.
    """
    notes = []
    if threshold and threshold.dev_sha256 and not metrics.is_dev_threshold(test, threshold):
        notes.append(
            "the threshold was fitted on the scores that it judges, so the error rates at it are "
            "optimistic; fit it on those of other subjects"
        )
    both = set() if dev is None else set(dev.subject.tolist()) & set(test.subject.tolist()) - {""}
    if both:
        notes.append(f"{len(both)} subjects are in dev and in test, {sorted(both)[0]!r} among them")
    return notes


def det_curves(scores: Scores, *, max_points: int = 200) -> dict[str, dict[str, list[float]]]:
    """The `det` record: error trade-off per species, and under `all` that of the worst species."""
    scores = pool_presentations(scores)
    counts = ThresholdGrid(scores).curves()
    named: dict[str, str | None] = {name: name for name in scores.species_names} | {"all": None}
    return {
        name: metrics.det_points(counts, species=species, max_points=max_points).to_json()
        for name, species in named.items()
    }


def score_histogram(scores: Scores, *, bins: int = 40) -> dict[str, list[float] | list[int]]:
    """The `histogram` record: counts of presentations per score bin, bona fide and each species."""
    scores = pool_presentations(scores)
    edges = np.linspace(0, 1, bins + 1)
    record: dict[str, list[float] | list[int]] = {"edges": edges.tolist()}
    groups = {"bona_fide": scores.bona_fide}
    groups |= {name: scores.classes == code for code, name in enumerate(scores.species_names)}
    for name, rows in groups.items():
        record[name] = np.histogram(scores.score[rows], edges)[0].tolist()
    return record


def tier_agreement(tiers: Mapping[str, tuple[Scores, Threshold]]) -> list[dict[str, Any]]:
    """How often each pair of tiers decides differently about the same presentations.

    `mcnemar_p` is the exact McNemar test: small where one tier errs on more of the presentations
    about which the two differ.

    Raises:
        UserError: if the tiers did not score the same presentations.
    """
    decided = {tier: _decisions(*entry) for tier, entry in tiers.items()}
    record = []
    for a, b in combinations(decided, 2):
        (keys_a, accept_a, bona_fide), (keys_b, accept_b, _) = decided[a], decided[b]
        if keys_a != keys_b:
            raise UserError(
                f"tiers {a!r} and {b!r} scored different presentations ({len(keys_a)} and "
                f"{len(keys_b)}); score both on the same data"
            )
        differ = accept_a != accept_b
        only_a_errs = int((differ & (accept_a != bona_fide)).sum())
        num = int(differ.sum())
        rate = metrics.Rate.of(num, len(keys_a))
        record.append(
            {
                "a": a,
                "b": b,
                "n": rate.n,
                "different": num,
                "rate": rate.rate,
                "low": rate.low,
                "high": rate.high,
                "different_bona_fide": int((differ & bona_fide).sum()),
                "different_attack": int((differ & ~bona_fide).sum()),
                "only_a_errs": only_a_errs,
                "only_b_errs": num - only_a_errs,
                "mcnemar_p": float(binomtest(only_a_errs, num).pvalue) if num else 1.0,
            }
        )
    return record


def _decisions(
    scores: Scores, threshold: Threshold
) -> tuple[list[tuple[str, str, bool, str]], Bool[np.ndarray, " N"], Bool[np.ndarray, " N"]]:
    """Who was judged, who was accepted, and who is bona fide, in one order for every tier."""
    scores = pool_presentations(scores)
    scores = scores[np.lexsort((scores.bona_fide, scores.presentation, scores.subject))]
    columns = (scores.subject, scores.presentation, scores.bona_fide, scores.species)
    keys = list(zip(*(column.tolist() for column in columns), strict=True))
    return keys, threshold.accepts(scores.score), scores.bona_fide
