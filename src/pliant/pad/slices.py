"""The error rates of parts of the data: by device, illumination, environment, ethnicity ...

Every further column of a score file is a slice: a text column by its values, a column of many
different numbers by its quartiles, empty cells as a part of their own. A rate is flagged where its
interval excludes the value over all data. With many slices some are flagged by chance: of twenty
that differ in nothing, one.

Shapes: D = draws, M = rates, S = clusters.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64

from pliant.pad.columns import factorise
from pliant.pad.intervals import can_resample, cluster_draws, percentile_interval
from pliant.pad.metrics import Rate
from pliant.pad.score_csv import MATCH
from pliant.pad.table import FRAME, ScoreTable, as_numbers

MOST_VALUES = 30
"""A text column with more different values is no slice but a name."""
FEW_NUMBERS = 8
"""A column of numbers with more different values is cut into quartiles."""
EMPTY = "(empty)"
NO_SLICE = (FRAME, MATCH)


def slice_record(
    table: ScoreTable, threshold: float, *, draws: int = 2000, seed: int = 0
) -> dict[str, Any]:
    """The `slices` record: per column and value APCER per species, BPCER and BPNRR.

    `flagged` names the rates whose Clopper-Pearson interval *and* interval over resampled subjects
    exclude the rate over all data; where subjects cannot be resampled, the first alone decides.

    Args:
        table: Presentations (pooled).
        threshold: Accept iff score >= threshold.
        draws: Resamples of the subjects; 0: none.
        seed: Of the resampling.
    """
    named, skipped = _groups(table)
    heard = table.responded
    with np.errstate(invalid="ignore"):
        wrong = (table.score >= threshold) != table.bona_fide
    kinds = {"bpcer": table.bona_fide}
    species = [str(name) for name in np.unique(table.species[~table.bona_fide])]
    kinds |= {f"apcer {name}": table.species == name for name in species}
    whole = np.ones(len(table), dtype=bool)
    cells = [
        (column, value, kind, rows & of_kind & heard)
        for column, value, rows in [("", "", whole), *named]
        for kind, of_kind in kinds.items()
    ]
    rates = [_rate(wrong, rows) for *_, rows in cells]
    ends = _cluster_ends(table, wrong, [rows for *_, rows in cells], draws=draws, seed=seed)
    overall = {kind: rate for (column, _, kind, _), rate in zip(cells, rates, strict=True)
               if not column}  # fmt: skip
    record: dict[str, Any] = {}
    for (column, value, kind, _), rate, (low, high) in zip(cells, rates, ends, strict=True):
        if not column:
            continue
        entry = record.setdefault(column, {}).setdefault(value, {"flagged": []})
        entry[kind] = None
        if rate is None:
            continue
        entry[kind] = rate.to_json() | {"cluster_low": low, "cluster_high": high}
        whole_rate = overall[kind]
        assert whole_rate is not None
        spans = [(rate.low, rate.high), *([] if low is None else [(low, high)])]
        if all(not a <= whole_rate.rate <= b for a, b in spans):
            entry["flagged"].append(kind)
    for column, value, rows in named:
        live = rows & table.bona_fide
        entry = record[column][value]
        entry["bpnrr"] = (rate := _rate(~heard, live)) and rate.to_json()
        entry["num_bona_fide"], entry["num_attack"] = int(live.sum()), int((rows & ~live).sum())
    tested = sum(rate is not None for rate in rates[len(kinds) :])
    return {"columns": record, "skipped": skipped, "num_rates": tested}


def _rate(events: np.ndarray, rows: np.ndarray) -> Rate | None:
    n = int(rows.sum())
    return Rate.of(int((events & rows).sum()), n) if n else None


def _groups(
    table: ScoreTable,
) -> tuple[list[tuple[str, str, Bool[np.ndarray, " N"]]], dict[str, str]]:
    """(column, value, rows) of every slice, and why a column is none."""
    found, skipped = [], {}
    for column, cells in table.extra.items():
        if column in NO_SLICE or column.endswith("_ms"):
            continue
        names, codes = factorise(cells)
        empty = np.char.strip(names.astype(str)) == ""
        numbers = as_numbers(names[~empty])
        if len(names) == 1:
            skipped[column] = f"every row says {str(names[0])!r}"
            continue
        if numbers is not None and len(numbers) > FEW_NUMBERS:
            value = np.full(len(names), np.nan)
            value[~empty] = numbers
            found += [(column, text, rows) for text, rows in _quartiles(value[codes])]
        elif len(names) > MOST_VALUES:
            skipped[column] = f"{len(names)} different values, a slice has at most {MOST_VALUES}"
            continue
        else:
            found += [(column, str(names[i]), codes == i) for i in np.flatnonzero(~empty)]
        if empty.any():
            found.append((column, EMPTY, empty[codes]))
    return found, skipped


def _quartiles(numbers: np.ndarray) -> Iterator[tuple[str, Bool[np.ndarray, " N"]]]:
    """Four parts of about equal size, NaN in none; where one number fills more, fewer."""
    known = ~np.isnan(numbers)
    edges = np.unique(np.quantile(numbers[known], [0.25, 0.5, 0.75]))
    place = np.searchsorted(edges, numbers, side="left")  # a number on an edge belongs below it
    place[~known] = -1
    for index in np.unique(place[known]):
        rows = place == index
        low, high = numbers[rows].min(), numbers[rows].max()
        yield f"{low:.4g} to {high:.4g}", rows


def _cluster_ends(
    table: ScoreTable, wrong: np.ndarray, groups: list[np.ndarray], *, draws: int, seed: int
) -> list[tuple[float, float] | tuple[None, None]]:
    """The interval of each group's rate over resampled subjects, in one pass over the draws."""
    heard = table.scores
    if not draws or not can_resample(heard):
        return [(None, None)] * len(groups)
    responded, clusters = table.responded, heard.clusters
    num = int(clusters.max()) + 1

    def per_cluster(rows: np.ndarray) -> Float64[np.ndarray, " S"]:
        return np.bincount(clusters, weights=rows[responded], minlength=num)

    n = np.stack([per_cluster(rows) for rows in groups], axis=1)  # S M
    errors = np.stack([per_cluster(rows & wrong) for rows in groups], axis=1)  # S M
    drawn = np.empty((draws, len(groups)))
    for rows, times in cluster_draws(heard, draws=draws, seed=seed):
        with np.errstate(invalid="ignore"):
            weights = times.astype(np.float64)  # whole numbers, so the products are exact
            drawn[rows] = (weights @ errors) / (weights @ n)
    return [percentile_interval(column) or (None, None) for column in drawn.T]
