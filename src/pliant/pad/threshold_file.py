"""A threshold as a file: the number with its evidence, whole or refused.

JSON of `format`, `convention`, `pliant`, `created`, the `threshold` record (policy, value, hash and
size of the dev set, interval), and `sha256` over that record, so that a number edited by hand is
noticed. A hash says that the record is whole, not whose it is.
"""

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pliant import __version__
from pliant.errors import UserError
from pliant.pad.thresholds import Threshold
from pliant.runtime.files import write_atomic

FORMAT = "pliant threshold 1"
CONVENTION = "score in [0, 1], higher is more bona fide; accept iff score >= value"


def save_threshold(threshold: Threshold, path: Path | str) -> Path:
    """Writes the threshold with its evidence; returns the path."""
    record = threshold.to_json()
    content = {
        "format": FORMAT,
        "convention": CONVENTION,
        "pliant": __version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "threshold": record,
        "sha256": _hash(record),
    }
    write_atomic(path, json.dumps(content, indent=1, allow_nan=False) + "\n")
    return Path(path)


def load_threshold(path: Path | str) -> Threshold:
    """The threshold that `save_threshold` wrote.

    Raises:
        UserError: if the file cannot be read, is no threshold file or was changed.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise UserError(f"cannot read the threshold file {path}: {problem}") from problem
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UserError(f"{path} is no threshold file; make one with `pliant pad threshold`")
    record = content.get("threshold")
    if not isinstance(record, dict) or content.get("sha256") != _hash(record):
        raise UserError(
            f"{path} was changed after it was written: its hash does not fit; fit the threshold "
            "again with `pliant pad threshold`"
        )
    return Threshold.from_json(record)


def _hash(record: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
