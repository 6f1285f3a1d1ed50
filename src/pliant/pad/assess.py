"""A score file judged as a whole: everything that the other files measure, as one record.

The record has the form of evaluation.json with one tier, so the report's sections serve both.
"""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from pliant import __version__
from pliant.errors import UserError
from pliant.pad.celeba import celeba_record
from pliant.pad.declared import declared_species, undeclared_row, untested
from pliant.pad.evaluation import det_curves, evaluate_scores, score_histogram
from pliant.pad.full_system import check_full_system, full_system_record
from pliant.pad.nonresponse import nonresponse_record
from pliant.pad.reliability import reliability_record
from pliant.pad.score_csv import MATCH
from pliant.pad.scores import Scores
from pliant.pad.slices import slice_record
from pliant.pad.table import Frames, ScoreTable, as_numbers, read_table
from pliant.pad.thresholds import (
    DEFAULT_POLICY,
    Threshold,
    check_draws,
    check_threshold,
    fit_threshold,
    silent_note,
)
from pliant.runtime.files import write_atomic

STATEMENT = "self-assessment, not a certification"
LIMITS = (
    "attack species that these scores do not hold were not tested",
    "where the scores come from, and whether their labels are right, was not checked",
)
NO_THRESHOLD = "no threshold, so no decisions: give the scores of a dev set, or a threshold file"
NOTHING_FITTED = "the threshold was set by hand: nothing says that it would have been chosen on dev"
NO_MATCH_THRESHOLD = (
    f"{MATCH} is there and no match threshold is given: the full system was not judged"
)
FULL_SYSTEM_FIXED = "intervals of the full system hold both of its thresholds for fixed"
Given = Path | str | Scores | ScoreTable


def evaluate(
    scores: Given,
    *,
    dev: Given | None = None,
    threshold: Threshold | None = None,
    policy: str | None = None,
    frames: Frames = "refuse",
    species: Sequence[str] | str | None = None,
    match_threshold: float | None = None,
    celeba: bool = False,
    name: str = "This system",
    draws: int = 2000,
    seed: int = 0,
    out: Path | str | None = None,
) -> dict[str, Any]:
    """Every measure of one set of scores; with `out` also evaluation.json and report.html there.

    Args:
        scores: The scores to judge: a CSV, or what was read from one.
        dev: Scores of other subjects, on which the threshold is fitted.
        threshold: One fitted earlier; with it `dev` is needed only to hold its uncertainty.
        policy: How the threshold is fitted on `dev` (min_acer if None), or `fixed=t` without dev.
        frames: Whether two rows of one presentation are a mistake (`refuse`) or frames (`mean`).
        species: The attack species that scores and dev may name, if they are declared.
        match_threshold: Of the comparator whose scores stand in the column `match_score`, any
            finite number; it adds the measures of the full system.
        celeba: Whether to add the measure of the CelebA-Spoof benchmark.
        name: Of the system, for the report.
        draws: Resamples of the subjects; 0: no intervals over subjects.
        seed: Of the resampling.
        out: An existing folder, or None.

    Raises:
        UserError: if a file cannot be used, a class is missing, dev cannot support the policy, an
            attack is of no declared species, a match threshold is given without match scores
            or without a threshold, or an argument makes no sense.
    """
    _check(threshold, draws, seed, out)
    declared = None if species is None else declared_species(species)
    table = as_table(scores, frames, declared)
    tuned = None if dev is None else as_table(dev, frames, declared)
    heard = None if tuned is None else tuned.scores
    if threshold is not None and policy is not None:
        raise UserError("both a threshold and a policy are given; leave one of them out")
    if threshold is None and (tuned is not None or policy is not None):
        source = "" if tuned is None else tuned.source
        silent = () if tuned is None else tuned.silent_species
        threshold = fit_threshold(
            heard, policy or DEFAULT_POLICY, source=source, silent=silent, draws=draws, seed=seed
        )
    if threshold and tuned is not None and threshold.dev_sha256 not in (None, tuned.scores.sha256):
        raise UserError(
            f"the threshold was not fitted on {tuned.source} (another hash); give the dev scores "
            "that it was fitted on, or leave them out"
        )
    if match_threshold is not None:
        check_full_system(table, threshold and threshold.value, match_threshold)
    test = table.scores
    metrics = evaluate_scores(test, threshold, dev=heard, draws=draws, seed=seed)
    metrics["notes"] += _notes(table, tuned)
    value = threshold.value if threshold else None
    tier = {
        "tier": name,
        "threshold": threshold and threshold.to_json(),
        "metrics": metrics,
        "det": det_curves(test),
        "histogram": score_histogram(test),
        "nonresponse": nonresponse_record(table, value),
        "reliability": reliability_record(test),
        "slices": None if value is None else slice_record(table, value, draws=draws, seed=seed),
        "full_system": None
        if value is None or match_threshold is None
        else full_system_record(table, value, match_threshold, draws=draws, seed=seed),
        "durations": durations(table),
        "celeba_official": celeba_record(test) if celeba else None,
    }
    record: dict[str, Any] = {
        "pliant": __version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "statement": STATEMENT,
        "task": "pad",
        "kind": "scores",
        "model": {"name": name},
        "data": _data(table, tuned) | {"declared_species": declared and list(declared)},
        "tiers": [tier],
        "settings": {
            "policy": policy,
            "frames": frames,
            "match_threshold": match_threshold,
            "draws": draws,
            "seed": seed,
        },
        "limits": [
            *LIMITS,
            *untested(table.species, declared or ()),
            *_limits(threshold, heard),
            *_limits_of_match(table, match_threshold),
        ],
    }
    if out is not None:
        from pliant.pad.report import write_report

        text = json.dumps(record, indent=1, allow_nan=False)
        write_atomic(Path(out) / "evaluation.json", text)
        write_report(record, Path(out))
    return record


def _check(threshold: Threshold | None, draws: int, seed: int, out: Path | str | None) -> None:
    """Refuses arguments that make no sense, before the work."""
    check_threshold(threshold)
    check_draws(draws, seed, least=0)
    if out is not None and not Path(out).is_dir():
        raise UserError(f"there is no folder {out} for the report; make it first")


def as_table(
    given: Given, frames: Frames = "refuse", species: Sequence[str] | None = None
) -> ScoreTable:
    """The presentations of a CSV, of scores in memory, or of a table.

    Args:
        given: Where the scores are.
        frames: As in `ScoreTable.pool`.
        species: The attack species declared, if any.

    Raises:
        UserError: if the file cannot be used, presentations occur twice, or an attack is of no
            declared species.
    """
    if isinstance(given, Path | str):
        return read_table(given, frames=frames, species=species)
    table = ScoreTable.of(given) if isinstance(given, Scores) else given
    if not len(table):
        raise UserError("there are no scores: not one row is given")
    table = table.pool(frames)
    found = species and undeclared_row(table.bona_fide, table.species, species)
    if found:
        row, said = found
        raise UserError(f"{table.source}: presentation {str(table.presentation[row])!r}: {said}")
    return table


def durations(table: ScoreTable) -> dict[str, dict[str, int | float]]:
    """PS-PD, the processing duration: median, p95 and the longest, of every column `..._ms`.

    Raises:
        UserError: if such a column holds something else than numbers.
    """
    found = {}
    for name, column in table.extra.items():
        if not name.endswith("_ms"):
            continue
        numbers = as_numbers(column[np.char.strip(column.astype(str)) != ""])
        if numbers is None or not len(numbers):
            raise UserError(
                f"{table.source}: column {name!r} must hold milliseconds, as its name says; "
                "correct it, or give it another name"
            )
        p50, p95, longest = np.quantile(numbers, [0.5, 0.95, 1.0])
        found[name] = {
            "n": len(numbers), "p50": float(p50), "p95": float(p95), "max": float(longest)
        }  # fmt: skip
    return found


def _data(table: ScoreTable, dev: ScoreTable | None) -> dict[str, Any]:
    test = table.scores
    return {
        "name": table.source,
        "sha256": table.sha256 or test.sha256,
        "synthetic": False,
        "counts": {
            "presentations": len(table),
            "bona_fide": int(table.bona_fide.sum()),
            "attack": int((~table.bona_fide).sum()),
            "subjects": test.num_subjects,
            "without_response": int((~table.responded).sum()),
        },
        "frames_pooled": table.num_frames or None,
        "dev": None
        if dev is None
        else {"name": dev.source, "sha256": dev.sha256, "presentations": len(dev)},
    }


def _limits(threshold: Threshold | None, dev: Scores | None) -> list[str]:
    if threshold is None:
        return [NO_THRESHOLD]
    if threshold.dev_sha256 is None:
        return [NOTHING_FITTED]
    if dev is None:
        return ["intervals hold the threshold for fixed: the dev scores were not given"]
    return []


def _limits_of_match(table: ScoreTable, match_threshold: float | None) -> list[str]:
    if match_threshold is not None:
        return [FULL_SYSTEM_FIXED]
    return [NO_MATCH_THRESHOLD] if MATCH in table.extra else []


def _notes(table: ScoreTable, dev: ScoreTable | None) -> list[str]:
    """What was pooled, is unnamed, or is new in test, one sentence each."""
    notes = []
    if table.num_frames:
        notes.append(f"{table.num_frames} rows were pooled into {len(table)} presentations")
    unnamed = int((table.species == "unnamed").sum())
    if unnamed:
        notes.append(f"{unnamed} attacks name no species and count as one, called unnamed")
    notes += [
        f"no attack of species {name!r} got a response: no APCER speaks of it, the worst species' "
        "neither; see its APNRR"
        for name in table.silent_species
    ]
    if dev is not None:
        notes += [silent_note(name) for name in dev.silent_species]
        new = sorted(set(table.scores.species_names) - set(dev.scores.species_names))
        if new:
            notes.append(f"the threshold has seen no attack of species {', '.join(new)}")
        silent = int((~dev.responded).sum())
        if silent:
            notes.append(f"{silent} presentations of dev got no response and fitted nothing")
    return notes
