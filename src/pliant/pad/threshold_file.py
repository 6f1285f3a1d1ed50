"""A threshold as a file: the number with its evidence, whole or refused.

JSON of `format`, `convention`, `pliant`, `created`, the `threshold` record (policy, value, hash and
size of the dev set, interval), and `sha256` over that record, so that a number edited by hand is
noticed. A hash says that the record is whole, not whose it is: that a `signature` says, over
everything else in the file as compact JSON with sorted keys (so spaces and order are free). It
follows the rules of bundles (pliant.runtime.signature): one that is there is always checked.
"""

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pliant import __version__
from pliant.errors import UserError
from pliant.pad.thresholds import Threshold
from pliant.runtime.fields import Fields, load_json
from pliant.runtime.files import write_atomic
from pliant.runtime.signature import (
    check_signature,
    read_private_key,
    read_public_key,
    signature_record,
)

FORMAT = "pliant threshold 1"
CONVENTION = "score in [0, 1], higher is more bona fide; accept iff score >= value"
SIGNATURE = "signature"


def save_threshold(
    threshold: Threshold, path: Path | str, *, key: Path | str | None = None
) -> Path:
    """Writes the threshold with its evidence; returns the path.

    Args:
        threshold: What to write.
        path: The file.
        key: A private key file (`pliant bundle new-key`) that signs it; None: not signed.

    Raises:
        UserError: if the key cannot be used, or `cryptography` is not installed.
    """
    record = threshold.to_json()
    content: dict[str, Any] = {
        "format": FORMAT,
        "convention": CONVENTION,
        "pliant": __version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "threshold": record,
        "sha256": _hash(record),
    }
    if key is not None:
        content[SIGNATURE] = signature_record(_canonical(content), read_private_key(key))
    write_atomic(path, json.dumps(content, indent=1, allow_nan=False) + "\n")
    return Path(path)


def load_threshold(path: Path | str, *, public_key: Path | str | None = None) -> Threshold:
    """The threshold that `save_threshold` wrote.

    Args:
        path: The file.
        public_key: Whose signature is demanded, 64 hexadecimal digits or a file that holds them;
            None: none is, yet one that is there must fit.

    Raises:
        UserError: if the file cannot be read, is no threshold file or was changed, or its
            signature is wrong, of another key, or cannot be checked without `cryptography`.
    """
    wanted = None if public_key is None else read_public_key(public_key)
    try:
        data = Path(path).read_bytes()
    except (OSError, ValueError) as problem:
        raise UserError(f"cannot read the threshold file {path}: {problem}") from problem
    content = load_json(data, f"the threshold file {path}")
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UserError(f"{path} is no threshold file; make one with `pliant pad threshold`")
    record = content.get("threshold")
    if not isinstance(record, dict) or content.get("sha256") != _hash(record):
        raise UserError(
            f"{path} was changed after it was written: its hash does not fit; fit the threshold "
            "again with `pliant pad threshold`"
        )
    fields = None
    if SIGNATURE in content:
        fields = Fields(content[SIGNATURE], f"{path}: {SIGNATURE}")
    check_signature(
        _canonical(content), fields, wanted, thing=f"threshold file {path}", signed="its content"
    )
    return Threshold.from_json(record)


def _canonical(content: Mapping[str, Any]) -> bytes:
    """What is signed: all but the signature, the same for any layout of the file."""
    signed = {name: value for name, value in content.items() if name != SIGNATURE}
    return json.dumps(signed, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _hash(record: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
