"""What `pliant pad adapt` leaves: each tier before and after, and the new run's folder."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pliant.jobs.adapting import Adapted
from pliant.jobs.judging import threshold_of
from pliant.pad.before_after import difference, rates
from pliant.pad.metrics import auc
from pliant.pad.scores import Scores, write_scores
from pliant.pad.thresholds import Threshold
from pliant.train.run_folder import DEV_SCORES, Run, RunFolder

RECORD = "adaptation.json"
KEPT = ("environment.json", "metrics.csv")
"""Files that tell of the training, which the new run shares."""


def notes_on(adapted: Adapted, labels: Scores, overlap: str) -> list[str]:
    """What a reader of the numbers has to know."""
    said = []
    if adapted.unit not in ("subject", "test split"):
        why = "one person alone is" if labels.num_subjects == 1 else "too few persons are"
        said.append(
            f"warning: {why} named, so judging is by {adapted.unit}: the same people and places "
            "fit and judge, and the errors after are optimistic"
        )
    if labels.bona_fide.all():
        said.append("the captures hold no attacks: how many would be accepted is not known")
    if overlap.startswith("warning"):
        said.append(f"overlap with the training: {overlap}")
    return said


def judged(run: Run, tier: str, adapted: Adapted, *, draws: int, seed: int) -> dict[str, Any]:
    """One tier before and after: thresholds, AUC, error rates, difference, the old dev scores."""
    stored, new = run.tiers[tier].threshold, adapted.thresholds[tier]
    before, after = adapted.before[tier], adapted.after[tier]
    both = not before.bona_fide.all()
    entry: dict[str, Any] = {
        "tier": tier,
        "num_bona_fide": int(after.bona_fide.sum()),
        "num_attack": int((~after.bona_fide).sum()),
        "num_subjects": after.num_subjects,
        "threshold_before": stored and stored.record,
        "threshold": new.to_json(),
        "auc_before": auc(before) if both else None,
        "auc": auc(after) if both else None,
        "before": None,
        "after": rates(after, adapted.accepted[tier], draws=draws, seed=seed),
        "difference": None,
        "old_dev": old_dev(run, tier, None if adapted.head else new),
    }
    if stored is not None:
        accepted = before.score >= stored.value
        entry["before"] = rates(before, accepted, draws=draws, seed=seed)
        entry["difference"] = difference(
            after, accepted, adapted.accepted[tier], draws=draws, seed=seed
        )
    return entry


def old_dev(run: Run, tier: str, new: Threshold | None) -> dict[str, Any] | None:
    """Errors on the dev scores that the old threshold was fitted on; None where they are not kept.

    `after` is None where the head has changed: these scores are the old one's.
    """
    stored, kept = threshold_of(run, tier, None, "min_acer", draws=0, seed=0)
    if stored is None or kept is None:
        return None
    at = {"before": stored, "after": new}
    return {
        name: threshold and rates(kept, threshold.accepts(kept.score), draws=0, seed=0)
        for name, threshold in at.items()
    }


def write_run(
    run: Run,
    path: Path,
    made: Mapping[str, Any],
    adapted: Adapted,
    result: Mapping[str, Any],
    skipped: Sequence[Any],
) -> None:
    """The new run in the empty folder `path`: as `pliant train` leaves one, without its report."""
    folder = RunFolder.create(path, {**run.settings, "adapted": made})
    for name in KEPT:
        if (run.path / name).is_file():
            shutil.copyfile(run.path / name, path / name)
    rows = [{"path": str(skip.path), "reason": skip.reason} for skip in skipped]
    folder.write_csv("skipped.csv", rows, ["path", "reason"])
    if adapted.head is None:
        shutil.copyfile(run.path / "model.safetensors", path / "model.safetensors")
    else:
        folder.write_model(run.model)
    entries = RunFolder.stored_tiers(run.path)
    for entry in entries:
        tier = entry["tier"]
        entry["calibrated"] = run.model.tiers[tier].to_json()
        scores = path / DEV_SCORES.format(tier=tier)
        if tier not in adapted.thresholds:
            if (run.path / scores.name).is_file():
                shutil.copyfile(run.path / scores.name, scores)
            continue
        tuned = adapted.tuned[tier]
        entry["before_adapting"] = {"dev": entry.get("dev"), "threshold": entry["threshold"]}
        entry["threshold"] = adapted.thresholds[tier].to_json()
        if not tuned.bona_fide.all():  # an evaluation resamples both classes of these scores
            entry["dev"] = {"auc": auc(tuned)}
            write_scores(tuned, scores)
    folder.write_tiers(entries)
    folder.write_json(RECORD, json.loads(json.dumps(result)))
    folder.finish()
