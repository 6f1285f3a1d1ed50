"""Two systems (or tiers) on the same presentations: is one better, or is it chance?

Both are judged on the same resamples of the subjects, so what makes some subjects hard for both
cancels out of the difference (paired cluster bootstrap, percentile interval). McNemar's exact test
counts the presentations about which they decide differently; it takes presentations for
independent, which those of one subject are not.

McNemar. "Note on the sampling error of the difference between correlated proportions", 1947.
"""

from typing import Any

import numpy as np
from scipy.stats import binomtest

from pliant.errors import UserError
from pliant.pad.curves import ThresholdGrid
from pliant.pad.evaluation import measures, resample, thresholds_of
from pliant.pad.intervals import can_resample, percentile_interval
from pliant.pad.scores import Scores, pool_presentations
from pliant.pad.table import ScoreTable
from pliant.pad.thresholds import Threshold


def compare(
    a: ScoreTable | Scores,
    b: ScoreTable | Scores,
    threshold_a: Threshold | None = None,
    threshold_b: Threshold | None = None,
    *,
    dev_a: Scores | None = None,
    dev_b: Scores | None = None,
    draws: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """Every measure of both, the difference b - a with its interval, and McNemar's test.

    Args:
        a: Presentations as the first system scored them.
        b: The same presentations, in any order, as the second did.
        threshold_a: Of the first system; without both thresholds nothing is decided, so measures
            that need one and McNemar's test are left out.
        threshold_b: Of the second.
        dev_a: What `threshold_a` was fitted on, so that resamples refit it.
        dev_b: What `threshold_b` was fitted on: the same subjects, resampled alike.
        draws: Resamples of the subjects, >= 1.
        seed: Of the resampling.

    Raises:
        UserError: if the presentations are not the same ones, or a class is missing.
    """
    tables = [
        x if isinstance(x, ScoreTable) else ScoreTable.of(pool_presentations(x)) for x in (a, b)
    ]
    first, second = (_ordered(table) for table in tables)
    _check_same(first, second)
    both = first.responded & second.responded
    scores = [table[both].scores for table in (first, second)]
    grids = [ThresholdGrid(x) for x in scores]
    chosen = [threshold_a, threshold_b]
    decided = threshold_a is not None and threshold_b is not None
    values, drawn, refit = [], [], []
    for test, grid, threshold, dev in zip(scores, grids, chosen, (dev_a, dev_b), strict=True):
        threshold = threshold if decided else None
        at = None if threshold is None else grid.at(np.array([threshold.value]))
        values.append(measures(grid.curves(), at))
        if can_resample(test):
            dev = None if dev is None else _by_name(pool_presentations(dev))
            thresholds, was_refit = thresholds_of(threshold, dev, draws=draws, seed=seed)
            drawn.append(resample(test, grid, thresholds, draws=draws, seed=seed))
            refit.append(was_refit)
    record: dict[str, Any] = {
        "a": first.source,
        "b": second.source,
        "n": int(both.sum()),
        "only_a_no_response": int((~first.responded & second.responded).sum()),
        "only_b_no_response": int((first.responded & ~second.responded).sum()),
        "both_no_response": int((~first.responded & ~second.responded).sum()),
        "num_subjects": scores[0].num_subjects,
        "bootstrap_draws": draws if drawn else 0,
        "bootstrap_seed": seed,
        "thresholds_refitted": bool(refit) and all(refit),
        "thresholds": [threshold and threshold.to_json() for threshold in chosen],
        "differences": {
            name: _difference(
                values[0][name][0], values[1][name][0], drawn and drawn[1][name] - drawn[0][name]
            )
            for name in values[0]
        },
        "mcnemar": None,
    }
    if threshold_a is not None and threshold_b is not None:
        right = [
            threshold.accepts(test.score) == test.bona_fide
            for test, threshold in zip(scores, (threshold_a, threshold_b), strict=True)
        ]
        live = scores[0].bona_fide
        record["mcnemar"] = {
            "bona_fide": mcnemar(right[0][live], right[1][live]),
            "attack": mcnemar(right[0][~live], right[1][~live]),
            "all": mcnemar(right[0], right[1]),
        }
    return record


def mcnemar(right_a: np.ndarray, right_b: np.ndarray) -> dict[str, int | float]:
    """The exact test: the flips fall either way with probability 1/2 if neither is better."""
    only_a_errs = int((~right_a & right_b).sum())
    only_b_errs = int((right_a & ~right_b).sum())
    num = only_a_errs + only_b_errs
    p = float(binomtest(only_a_errs, num).pvalue) if num else 1.0
    return {"n": len(right_a), "only_a_errs": only_a_errs, "only_b_errs": only_b_errs, "p": p}


def _difference(a: float, b: float, drawn: Any) -> dict[str, Any]:
    low, high = (percentile_interval(drawn) if len(drawn) else None) or (None, None)
    return {
        "a": float(a),
        "b": float(b),
        "difference": float(b - a),
        "low": low,
        "high": high,
        "differs": low is not None and high is not None and not low <= 0 <= high,
    }


def _ordered(given: ScoreTable | Scores) -> ScoreTable:
    table = given if isinstance(given, ScoreTable) else ScoreTable.of(pool_presentations(given))
    return table[np.lexsort((table.presentation, table.subject))]


def _by_name(scores: Scores) -> Scores:
    return scores[np.lexsort((scores.presentation, scores.subject))]


def _check_same(a: ScoreTable, b: ScoreTable) -> None:
    """Refuses two tables that do not hold the same presentations under the same labels."""
    keys = [
        list(zip(table.subject.tolist(), table.presentation.tolist(), strict=True))
        for table in (a, b)
    ]
    if keys[0] != keys[1]:
        only_a, only_b = set(keys[0]) - set(keys[1]), set(keys[1]) - set(keys[0])
        subject, presentation = min(only_a or only_b)
        raise UserError(
            f"{a.source} and {b.source} hold different presentations: {len(only_a)} are in the "
            f"first alone, {len(only_b)} in the second alone, {presentation!r} of subject "
            f"{subject!r} among them; a paired comparison needs the same ones in both"
        )
    wrong = np.flatnonzero((a.bona_fide != b.bona_fide) | (a.species != b.species))
    if len(wrong):
        raise UserError(
            f"{a.source} and {b.source} label presentation {str(a.presentation[wrong[0]])!r} "
            f"differently ({len(wrong)} such presentations); correct one of them"
        )
