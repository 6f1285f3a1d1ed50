"""`pliant pad ...`: judge a score file, compare two, fit a threshold, plan a test.

Only `adapt` needs a model: it makes a run fit for a new camera (adapt.py).

A score file is a CSV with a header: bona_fide (true or false) and score (in [0, 1], higher is more
bona fide) are needed; subject, presentation, species, reason and columns to slice by are welcome.
"""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg

from pliant.errors import UserError
from pliant.jobs.adapt import adapt
from pliant.jobs.folders import appearing, refuse_existing
from pliant.jobs.pad_summary import (
    adapt_summary,
    compare_summary,
    convert_summary,
    evaluate_summary,
    plan_summary,
    threshold_summary,
)

__all__ = [
    "adapt",
    "adapt_summary",
    "compare",
    "compare_summary",
    "convert",
    "convert_summary",
    "evaluate",
    "evaluate_summary",
    "plan",
    "plan_summary",
    "threshold",
    "threshold_summary",
]
VERBS = {
    "evaluate": "judge a score file: error rates with intervals, curves, slices; JSON and HTML",
    "compare": "judge two systems on the same presentations: differences with intervals",
    "threshold": "fit a threshold on dev scores and keep it with its evidence",
    "adapt": "make a run fit for a new camera from a few minutes of captures",
    "plan": "how many presentations prove a claim, as a capture checklist",
    "convert": "write a score file in pliant's or bob's spelling",
}
Csv = Annotated[Path, Positional, arg(metavar="SCORES")]
Frames = Literal["refuse", "mean"]


def evaluate(
    scores: Csv,
    *,
    out: Path,
    dev: Path | None = None,
    threshold: Path | None = None,
    public_key: str | None = None,
    policy: str | None = None,
    frames: Frames = "refuse",
    species: str | None = None,
    match_threshold: float | None = None,
    celeba_official: bool = False,
    name: str = "This system",
    draws: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """Judge a score file; writes evaluation.json and report.html.

    Args:
        scores: A CSV of scores, pliant's columns or bob's.
        out: A new folder.
        dev: Scores of other subjects, on which the threshold is fitted.
        threshold: A file of `pliant pad threshold`, in place of fitting.
        public_key: Whose signature that file must carry: 64 hexadecimal digits, or their file.
        policy: min_acer (if None), eer, apcer<=x, bpcer<=x on dev, or fixed=t without dev.
        frames: Rows of the same presentation: a mistake (refuse), or frames to pool (mean).
        species: The attack species there may be, e.g. print,replay,mask; any other is refused.
        match_threshold: Of the comparator in the column match_score: judge the full system too.
        celeba_official: Add the measure of the CelebA-Spoof benchmark.
        name: Of the system, for the report.
        draws: Draws of the subject bootstrap; 0: none.
        seed: Of the bootstrap, >= 0.

    Raises:
        UserError: if `out` exists, a file cannot be used, or a class is missing.
    """
    refuse_existing(out)
    _check(draws, seed, least=0)
    if public_key is not None and threshold is None:
        raise UserError("a public key is given and no threshold file that it could have signed")
    from pliant.pad.assess import evaluate as assess
    from pliant.pad.threshold_file import load_threshold

    chosen = None if threshold is None else load_threshold(threshold, public_key=public_key)
    with appearing(out) as folder:
        record = assess(
            scores, dev=dev, threshold=chosen, policy=policy, frames=frames, species=species,
            match_threshold=match_threshold, celeba=celeba_official, name=name, draws=draws,
            seed=seed, out=folder,
        )  # fmt: skip
    return record | {"report": out / "report.html"}


def compare(
    a: Annotated[Path, Positional, arg(metavar="A")],
    b: Annotated[Path, Positional, arg(metavar="B")],
    *,
    dev_a: Path | None = None,
    dev_b: Path | None = None,
    policy: str | None = None,
    frames: Frames = "refuse",
    out: Path | None = None,
    draws: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """Judge two systems on the same presentations: differences with intervals, McNemar's test.

    Args:
        a: Scores of the first system.
        b: Scores of the second, of the same presentations in any order.
        dev_a: Dev scores of the first, on which its threshold is fitted.
        dev_b: Dev scores of the second.
        policy: How both thresholds are fitted (min_acer if None), or fixed=t for both.
        frames: Rows of the same presentation: a mistake (refuse), or frames to pool (mean).
        out: A new JSON file for the record; None: none.
        draws: Draws of the paired subject bootstrap, >= 1.
        seed: Of the bootstrap, >= 0.

    Raises:
        UserError: if the presentations differ, or a file cannot be used.
    """
    _check(draws, seed, least=1)
    if (dev_a is None) != (dev_b is None):
        raise UserError("one dev file is given; give --dev-a and --dev-b, or neither")
    if out is not None:
        refuse_existing(out)
    from pliant.pad.assess import as_table
    from pliant.pad.paired import compare as compare_tables
    from pliant.pad.table import ScoreTable
    from pliant.pad.thresholds import DEFAULT_POLICY, Threshold, fit_threshold, silent_note
    from pliant.runtime.files import write_atomic

    first, second = as_table(a, frames), as_table(b, frames)
    tuned_a = None if dev_a is None else as_table(dev_a, frames)
    tuned_b = None if dev_b is None else as_table(dev_b, frames)

    def fit(dev: ScoreTable | None) -> Threshold | None:
        if dev is None and policy is None:
            return None
        return fit_threshold(
            None if dev is None else dev.scores,
            policy or DEFAULT_POLICY,
            source="" if dev is None else dev.source,
            silent=() if dev is None else dev.silent_species,
            draws=draws,
            seed=seed,
        )

    record = compare_tables(
        first,
        second,
        fit(tuned_a),
        fit(tuned_b),
        dev_a=None if tuned_a is None else tuned_a.scores,
        dev_b=None if tuned_b is None else tuned_b.scores,
        draws=draws,
        seed=seed,
    )
    for side, dev in (("A", tuned_a), ("B", tuned_b)):
        silent = () if dev is None else dev.silent_species
        record["notes"] += [f"{side}: {silent_note(name)}" for name in silent]
    if out is not None:
        write_atomic(out, json.dumps(record, indent=1, allow_nan=False) + "\n")
    return record


def threshold(
    dev: Csv,
    *,
    out: Path,
    policy: str = "min_acer",
    frames: Frames = "refuse",
    key: Path | None = None,
    draws: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """Fit a threshold on dev scores; refuses a rate that they cannot support.

    Args:
        dev: Dev scores: subjects that neither training nor test has seen.
        out: A new JSON file.
        policy: min_acer, eer, apcer<=x, bpcer<=x, or fixed=t.
        frames: Rows of the same presentation: a mistake (refuse), or frames to pool (mean).
        key: A private key file (`pliant bundle new-key`) that signs the threshold; None: none.
        draws: Draws of the subject bootstrap for the interval; 0: none.
        seed: Of the bootstrap, >= 0.

    Raises:
        UserError: if the file cannot be used, or is too small for the policy.
    """
    refuse_existing(out)
    _check(draws, seed, least=0)
    from pliant.pad.assess import as_table
    from pliant.pad.threshold_file import save_threshold
    from pliant.pad.thresholds import fit_threshold, silent_note
    from pliant.runtime.signature import read_private_key

    if key is not None:
        read_private_key(key)  # refuses before the work
    table = as_table(dev, frames)
    fitted = fit_threshold(
        table.scores, policy, source=table.source, silent=table.silent_species, draws=draws,
        seed=seed,
    )  # fmt: skip
    save_threshold(fitted, out, key=key)
    notes = [silent_note(name) for name in table.silent_species if fitted.dev_sha256]
    return fitted.to_json() | {"file": out, "signed": key is not None, "notes": notes}


def plan(
    *,
    species: int = 1,
    target_apcer: float | None = None,
    target_bpcer: float | None = None,
    confidence: float = 0.95,
    per_subject: int = 1,
    correlation: float = 0.0,
    errors: int = 0,
    out: Path | None = None,
) -> dict[str, Any]:
    """How many presentations prove a claim (one-sided Clopper-Pearson), before capturing any.

    Args:
        species: Attack species, each of which must show the target by itself.
        target_apcer: The highest APCER to be shown, between 0 and 1.
        target_bpcer: The highest BPCER to be shown.
        confidence: Of the one-sided interval.
        per_subject: Presentations of one kind from each subject.
        correlation: Between the errors of two presentations of one subject, 0 to 1.
        errors: Errors that the test shall forgive, 0 to 3: what the checklist is made for.
        out: A new CSV file for the checklist; None: none.

    Raises:
        UserError: if no target is given, or a number lies outside its range.
    """
    from pliant.pad.plan import MOST_ERRORS, Claim, plan_record, write_checklist

    targets = {"attack": target_apcer, "bona fide": target_bpcer}
    given = {kind: target for kind, target in targets.items() if target is not None}
    if not given:
        raise UserError("no target is given; say --target-apcer 0.01, --target-bpcer 0.05 or both")
    if species < 1 or not 0 <= errors <= MOST_ERRORS:
        raise UserError(
            f"species must be >= 1 and errors 0 to {MOST_ERRORS}, got {species} and {errors}"
        )
    if out is not None:
        refuse_existing(out)
    try:
        claims = {
            kind: Claim(
                target=target, confidence=confidence, per_subject=per_subject,
                correlation=correlation,
            )
            for kind, target in given.items()
        }  # fmt: skip
    except ValueError as problem:
        raise UserError(str(problem)) from problem
    rows = {kind: plan_record(claim) for kind, claim in claims.items()}
    kinds = [
        (name, rows[kind][errors]["subjects"], per_subject)
        for kind in rows
        for name in (
            [f"species {i + 1}" for i in range(species)] if kind == "attack" else ["bona fide"]
        )
    ]
    if out is not None:
        write_checklist(kinds, out)
    return {
        "targets": given,
        "confidence": confidence,
        "species": species,
        "per_subject": per_subject,
        "design_effect": next(iter(claims.values())).design_effect,
        "errors_allowed": errors,
        "plan": rows,
        "presentations_in_all": sum(subjects * each for _, subjects, each in kinds),
        "checklist": out,
    }


def convert(scores: Csv, *, out: Path, to: Literal["pliant", "bob"]) -> dict[str, Any]:
    """Write a score file in pliant's or bob's spelling; rows, order and digits stay.

    Args:
        scores: A CSV of scores, either spelling.
        out: A new CSV file.
        to: `bob` gives claimed_id, test_label, is_bonafide, attack_type, score.

    Raises:
        UserError: if the file cannot be used, or has a further column of a name the new one needs.
    """
    refuse_existing(out)
    from pliant.pad.table import read_rows, write_table

    table = read_rows(scores)
    write_table(table, out, bob=to == "bob")
    return {"file": out, "spelling": to, "rows": len(table)}


def _check(draws: int, seed: int, *, least: int) -> None:
    if draws < least:
        raise UserError(f"draws must be >= {least}, got {draws}")
    if seed < 0:
        raise UserError(f"seed must be >= 0, got {seed}")
