"""Attack detection and face comparison as one system: IAPAR per species, FRR, RIAPAR.

A presentation is accepted end to end iff score >= threshold (attack detection) and match_score >=
match threshold (comparison); equality is accepted, a non-response is not. The score file then
tells of comparisons: an attack imitates the person it is compared with, and a bona fide
presentation is compared with its own person, so that turning it away is an error.

IAPAR, impostor attack presentation accept rate: the share of the attacks of one species that are
accepted end to end. FRR, false reject rate: the share of bona fide presentations that are not.
Shares are of all presentations made, those without a response among them.

From memory, and not checked against the text of ISO/IEC 30107-3:2023 ([M] in specs/pad.md 4.2):
the name RIAPAR, relative impostor attack presentation accept rate, and its formula,
RIAPAR = IAPAR + FRR = 1 + IAPAR - TAR (TAR = 1 - FRR). It is no share, and may exceed 1.

Shapes: D = draws, N = presentations, S = clusters.
"""

from typing import Any

import numpy as np
from jaxtyping import Bool, Float64

from pliant.errors import UserError
from pliant.pad import metrics
from pliant.pad.intervals import can_resample, cluster_draws, percentile_interval
from pliant.pad.score_csv import MATCH, finite
from pliant.pad.scores import Scores
from pliant.pad.table import ScoreTable, as_numbers

ACCEPTED = 0.5
"""Between the two scores that decisions are written as: 0 rejected, 1 accepted."""


def full_system_record(
    table: ScoreTable,
    threshold: float,
    match_threshold: float,
    *,
    draws: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """The `full_system` record: `iapar` per species, `iapar_worst`, `frr` and `riapar`.

    A rate has its Clopper-Pearson interval (`low`, `high`) and the one over resampled subjects
    (`cluster_low`, `cluster_high`). RIAPAR, of the worst species, has the latter alone. Both
    thresholds stay as they are in all draws.

    Args:
        table: Presentations (pooled) of both classes, with a column `match_score`.
        threshold: Of attack detection.
        match_threshold: Of the comparison, on the scale of `match_score`.
        draws: Resamples of the subjects; 0: none.
        seed: Of the resampling.

    Raises:
        UserError: as `check_full_system`.
    """
    check_full_system(table, threshold, match_threshold)
    accepted = accepted_end_to_end(table, threshold, match_threshold)
    decided = Scores(  # decisions in place of scores: IAPAR is their APCER and FRR their BPCER
        subject=table.subject,
        presentation=table.presentation,
        bona_fide=table.bona_fide,
        species=table.species,
        score=accepted.astype(np.float64),
    )
    iapar, frr = metrics.apcer(decided, ACCEPTED), metrics.bpcer(decided, ACCEPTED)
    worst = metrics.worst_species(iapar)
    drawn = _draws(decided, draws=draws, seed=seed)
    ends = {name: percentile_interval(column) for name, column in drawn.items()}

    def with_ends(rate: metrics.Rate, name: str) -> dict[str, Any]:
        low, high = ends.get(name) or (None, None)
        return rate.to_json() | {"cluster_low": low, "cluster_high": high}

    low, high = ends.get("riapar") or (None, None)
    return {
        "threshold": threshold,
        "match_threshold": match_threshold,
        "num_without_response": int((~table.responded).sum()),
        "iapar": {name: with_ends(rate, f"iapar {name}") for name, rate in iapar.items()},
        "iapar_worst": with_ends(iapar[worst], "iapar_worst") | {"species": worst},
        "frr": with_ends(frr, "frr"),
        "riapar": {
            "value": iapar[worst].rate + frr.rate, "low": low, "high": high, "species": worst
        },
    }  # fmt: skip


def check_full_system(table: ScoreTable, threshold: float | None, match_threshold: float) -> None:
    """Refuses what cannot be judged as a full system, before any work.

    Raises:
        UserError: if the match threshold is not finite, there is no threshold of attack detection,
            or `match_score` is missing, or no finite number where there is a response.
    """
    if not np.isfinite(match_threshold):
        raise UserError(f"the match threshold must be a finite number, got {match_threshold}")
    if threshold is None:
        raise UserError(
            "a match threshold is given and no threshold of attack detection; give dev scores, a "
            "threshold or a policy fixed=t, for the full system needs both"
        )
    match_scores(table)


def accepted_end_to_end(
    table: ScoreTable, threshold: float, match_threshold: float
) -> Bool[np.ndarray, " N"]:
    """Whether each presentation passes attack detection and comparison both.

    Raises:
        UserError: as `match_scores`.
    """
    match = match_scores(table)
    with np.errstate(invalid="ignore"):  # NaN, a non-response, is never accepted
        return (table.score >= threshold) & (match >= match_threshold)


def match_scores(table: ScoreTable) -> Float64[np.ndarray, " N"]:
    """The comparator's scores; NaN where there was no response, whatever the cell says.

    Raises:
        UserError: if `match_score` is missing, or no finite number where there is a response.
    """
    if MATCH not in table.extra:
        raise UserError(
            f"{table.source} has no column {MATCH!r}, and a match threshold needs the "
            "comparator's scores (higher: more alike); add them, or leave the threshold out"
        )
    heard = np.flatnonzero(table.responded)
    cells = table.extra[MATCH][heard]
    numbers = as_numbers(cells)
    if numbers is None:
        at = next(i for i, cell in enumerate(cells.tolist()) if finite(cell) is None)
        raise UserError(
            f"{table.source}: {MATCH} of presentation {str(table.presentation[heard[at]])!r} is "
            f"{str(cells[at])!r}; it must be a finite number (higher: more alike)"
        )
    match = np.full(len(table), np.nan)
    match[heard] = numbers
    return match


def _draws(decided: Scores, *, draws: int, seed: int) -> dict[str, Float64[np.ndarray, " D"]]:
    """Every measure on each resample of the subjects; nothing where none can be drawn."""
    if not draws or not can_resample(decided):
        return {}
    names = decided.species_names
    groups = [decided.species == name for name in names] + [decided.bona_fide]
    clusters = decided.clusters
    num = int(clusters.max()) + 1
    n, accepted = (
        np.stack([np.bincount(clusters, weights=rows & of, minlength=num) for rows in groups], 1)
        for of in (np.ones(len(decided), dtype=bool), decided.score > ACCEPTED)
    )  # S, species and bona fide
    shares = np.empty((draws, len(groups)))
    for rows, times in cluster_draws(decided, draws=draws, seed=seed):
        weights = times.astype(np.float64)  # whole numbers, so the products are exact
        with np.errstate(invalid="ignore"):
            shares[rows] = (weights @ accepted) / (weights @ n)
    worst = np.fmax.reduce(shares[:, :-1], axis=1)  # of the species that the draw has
    frr = 1 - shares[:, -1]
    found = {f"iapar {name}": shares[:, i] for i, name in enumerate(names)}
    return found | {"iapar_worst": worst, "frr": frr, "riapar": worst + frr}
