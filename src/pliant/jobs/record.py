"""What an evaluation says beside its measures: model, data, overlap with training, its curve."""

import csv
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pliant.data.manifest import Sample
from pliant.data.source import Source
from pliant.jobs.samples import is_synthetic
from pliant.runtime.files import sha256_file
from pliant.train.run_folder import Run


def of_model(run: Run) -> dict[str, Any]:
    """The `model` block of evaluation.json."""
    start = run.settings["start"]
    return {
        "name": run.settings["model"],
        "sha256": sha256_file(run.path / "model.safetensors"),
        "input_px": run.preprocessing.size,
        "crop_scale": run.preprocessing.crop_scale,
        "padding": run.settings["network"].get("padding", "symmetric"),  # PipeNet knows no other
        "start": start["file"] if start["kind"] == "weights" else "random weights",
    }


def of_data(
    source: Source, run: Run, judged: Sequence[Sample], role: str, note: str, skipped: Sequence[Any]
) -> dict[str, Any]:
    """The `data` block of evaluation.json."""
    attacks = [s for s in judged if s.bona_fide is False]
    left_out = [*source.skipped, *skipped]
    return {
        "name": source.name,
        "sha256": source.sha256,
        "synthetic": is_synthetic(source.samples),
        "role": role,
        "counts": {
            "images": len(judged),
            "bona_fide": sum(s.bona_fide is True for s in judged),
            "attack": len(attacks),
            "subjects": len({s.subject for s in judged if s.subject}),
        },
        "species": dict(Counter(s.pai_species or "attack" for s in attacks)),
        "subject_overlap": overlap(source, run, judged),
        "split_note": " ".join(_sentence(part) for part in (note, *source.notes) if part),
        "skipped": [
            {"path": name, "reason": skip.reason}
            for name, skip in zip(_beneath([skip.path for skip in left_out]), left_out, strict=True)
        ],
    }


def overlap(source: Source, run: Run, judged: Sequence[Sample]) -> str:
    """A sentence on whether the model has seen these people; subject names are per data set."""
    trained, here = run.settings["data"], {s.subject for s in judged if s.subject}
    hashes, known = [trained["sha256"]], [
        ("training", trained["train_subjects"]),
        ("dev, on which thresholds are fitted", trained["dev_subjects"]),
    ]  # fmt: skip
    if (adapted := run.settings.get("adapted")) is not None:
        hashes.append(adapted["data"]["sha256"])
        known.append(("the captures that the run was adapted to", adapted["data"]["subjects"]))
    if not here or not trained["train_subjects"]:
        return "warning: unknown, because subjects are not named"
    seen = [(side, sorted(here & set(names))) for side, names in known if here & set(names)]
    if not seen:
        return f"none: no name of the {len(here)} subjects occurs in training"
    said = [
        f"{len(names)} of {len(here)} subjects ({', '.join(names[:5])}{' ...' * (len(names) > 5)}) "
        f"are subjects of {side}"
        for side, names in seen
    ]
    doubt = ", or only share their names: the data sets differ"
    return f"warning: {' and '.join(said)}{'' if source.sha256 in hashes else doubt}"


def of_training(run: Run) -> dict[str, Any] | None:
    """The `training` block: one row per epoch from metrics.csv, and the seconds in all."""
    path = run.path / "metrics.csv"
    if not path.is_file():
        return None
    with path.open(newline="", encoding="utf-8") as file:
        rows = [{key: _number(text) for key, text in row.items()} for row in csv.DictReader(file)]
    seconds = sum((row.get("seconds") or 0) + (row.get("dev_seconds") or 0) for row in rows)
    return {"curve": rows, "seconds": seconds}


def _beneath(paths: Sequence[Path]) -> list[str]:
    """The paths beneath their common folder: no report tells where on which disk images lie."""
    root = os.path.commonpath([Path(path).parent for path in paths]) if paths else ""
    return [Path(os.path.relpath(path, root)).as_posix() for path in paths]


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:].rstrip(".") + "."


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if value == value else None
