"""Two systems (or tiers) on the same presentations: is one better, or is it chance?

Both are judged on the same resamples of the subjects, so what makes some subjects hard for both
cancels out of the difference (paired cluster bootstrap, percentile interval). McNemar's exact test
counts the presentations about which they decide differently; it takes presentations for
independent, which those of one subject are not.

Each system's own rates (`a`, `b`) are those of the presentations to which it itself responded, as
`evaluate` has them. A difference needs the same presentations on both sides: it, its interval and
McNemar's test are over all of them, a non-response counted as not accepted (`a_of_all`,
`b_of_all`), so a system gains nothing from the other's silence. Who is silent how often stands
beside it (`apnrr NAME`, `bpnrr`).

McNemar. "Note on the sampling error of the difference between correlated proportions", 1947.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import binomtest

from pliant.errors import UserError
from pliant.pad.curves import ThresholdGrid
from pliant.pad.evaluation import measures, overlap_notes, resample, thresholds_of
from pliant.pad.intervals import can_resample, cluster_draws, percentile_interval
from pliant.pad.metrics import is_dev_threshold
from pliant.pad.score_csv import COLUMNS
from pliant.pad.scores import Scores, pool_presentations
from pliant.pad.table import ScoreTable
from pliant.pad.thresholds import Threshold, check_draws, check_threshold

LEAST = float(np.nextafter(0.0, 1.0))
"""Stands for the score 0 where 0 itself stands for a non-response: no threshold accepts that."""
SILENCE_DIFFERS = (
    "the systems fall silent at different presentations: a and b are shares of those that the "
    "system responded to, the differences and McNemar's test are over all of them, a non-response "
    "counted as not accepted; read apnrr and bpnrr beside them"
)


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
        UserError: if the presentations are not the same ones, a class is missing, or an argument
            makes no sense.
    """
    check_draws(draws, seed, least=1)
    for threshold in (threshold_a, threshold_b):
        check_threshold(threshold)
    tables = [
        x if isinstance(x, ScoreTable) else ScoreTable.of(pool_presentations(x)) for x in (a, b)
    ]
    first, second = (_ordered(table) for table in tables)
    _check_same(first, second)
    own = [table.scores for table in (first, second)]
    whole = [_with_silence(table) for table in (first, second)]
    chosen = [threshold_a, threshold_b]
    decided = threshold_a is not None and threshold_b is not None
    alone, values, drawn, refit = [], [], [], []
    for heard, test, threshold, dev in zip(own, whole, chosen, (dev_a, dev_b), strict=True):
        threshold = threshold if decided else None
        alone.append(
            _measured(ThresholdGrid(heard), None if threshold is None else threshold.value)
        )
        grid = ThresholdGrid(test)
        values.append(_measured(grid, None if threshold is None else max(threshold.value, LEAST)))
        if can_resample(test):
            dev = None if dev is None else _by_name(pool_presentations(dev))
            thresholds, was_refit = thresholds_of(threshold, dev, draws=draws, seed=seed)
            thresholds = None if thresholds is None else np.maximum(thresholds, LEAST)
            drawn.append(resample(test, grid, thresholds, draws=draws, seed=seed))
            refit.append(was_refit)
    silent = [
        _silence(t, x, draws=draws, seed=seed) for t, x in zip((first, second), whole, strict=True)
    ]
    names = list(values[0])
    if not all(t and is_dev_threshold(x, t) for x, t in zip(own, chosen, strict=True)):
        names = [name for name in names if name != "hter"]  # it needs a threshold of other scores
    record: dict[str, Any] = {
        "a": first.source,
        "b": second.source,
        "n": len(first),
        "n_a": int(first.responded.sum()),
        "n_b": int(second.responded.sum()),
        "only_a_no_response": int((~first.responded & second.responded).sum()),
        "only_b_no_response": int((first.responded & ~second.responded).sum()),
        "both_no_response": int((~first.responded & ~second.responded).sum()),
        "num_subjects": whole[0].num_subjects,
        "bootstrap_draws": draws if drawn else 0,
        "bootstrap_seed": seed,
        "thresholds_refitted": bool(refit) and all(refit),
        "thresholds": [threshold and threshold.to_json() for threshold in chosen],
        "differences": {
            name: _difference(
                [each.get(name) for each in alone],
                [each[name] for each in values],
                drawn and drawn[1][name] - drawn[0][name],
            )
            for name in names
        }
        | {
            name: _difference(
                [silent[0][name][0], silent[1][name][0]],
                [silent[0][name][0], silent[1][name][0]],
                silent[1][name][1] - silent[0][name][1],
            )
            for name in silent[0]
        },
        "mcnemar": None,
        "notes": [],
    }
    for side, test, threshold, dev in zip("AB", own, chosen, (dev_a, dev_b), strict=True):
        record["notes"] += [f"{side}: {note}" for note in overlap_notes(test, threshold, dev)]
    if (first.responded != second.responded).any():
        record["notes"].append(SILENCE_DIFFERS)
    if threshold_a is not None and threshold_b is not None:
        right = [
            (table.responded & threshold.accepts(table.score)) == table.bona_fide
            for table, threshold in zip((first, second), (threshold_a, threshold_b), strict=True)
        ]
        live = first.bona_fide
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


def _difference(
    alone: Sequence[float | None], of_all: Sequence[float], drawn: Any
) -> dict[str, Any]:
    low, high = (percentile_interval(drawn) if len(drawn) else None) or (None, None)
    return {
        "a": alone[0],
        "b": alone[1],
        "a_of_all": of_all[0],
        "b_of_all": of_all[1],
        "difference": of_all[1] - of_all[0],
        "low": low,
        "high": high,
        "differs": low is not None and high is not None and not low <= 0 <= high,
    }


def _measured(grid: ThresholdGrid, threshold: float | None) -> dict[str, float]:
    at = None if threshold is None else grid.at(np.array([threshold]))
    return {name: float(value[0]) for name, value in measures(grid.curves(), at).items()}


def _with_silence(table: ScoreTable) -> Scores:
    """Every presentation; a non-response scores lower than any response, at whatever threshold."""
    score = np.where(table.responded, np.maximum(table.score, LEAST), 0.0)
    return Scores(
        **{name: getattr(table, name) for name in COLUMNS if name != "score"}, score=score
    )


def _silence(
    table: ScoreTable, whole: Scores, *, draws: int, seed: int
) -> dict[str, tuple[float, np.ndarray]]:
    """APNRR of each species and BPNRR, each with its values on the resamples of the subjects."""
    groups = {f"apnrr {name}": table.species == name for name in whole.species_names}
    groups["bpnrr"] = table.bona_fide
    rows = np.stack(list(groups.values()), axis=1)  # N M
    silent = rows & ~table.responded[:, None]
    drawn = np.empty((0, rows.shape[1]))
    if can_resample(whole):
        drawn = np.empty((draws, rows.shape[1]))
        shape = (int(whole.clusters.max()) + 1, rows.shape[1])
        counts = [np.zeros(shape), np.zeros(shape)]  # S M each
        for count, events in zip(counts, (silent, rows), strict=True):
            np.add.at(count, whole.clusters, events)
        for some, times in cluster_draws(whole, draws=draws, seed=seed):
            with np.errstate(invalid="ignore"):
                drawn[some] = (times @ counts[0]) / (times @ counts[1])
    rates = silent.sum(axis=0) / rows.sum(axis=0)
    return {name: (float(rates[i]), drawn[:, i]) for i, name in enumerate(groups)}


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
