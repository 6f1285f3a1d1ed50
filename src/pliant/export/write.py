"""A bundle on disk: the contract, the hashes, the files; a zip or a folder, whole or not at all."""

import hashlib
import json
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from pliant.errors import UserError
from pliant.runtime.archive import stored_zip
from pliant.runtime.bundle import Bundle
from pliant.runtime.checked import check_files
from pliant.runtime.contract import Contract
from pliant.runtime.files import write_atomic

CONTRACT, DIGEST = "bundle.json", "bundle.sha256"
ZIP_SUFFIXES = (".pliant", ".zip")


def bundle_files(contract: Contract, files: Mapping[str, bytes]) -> dict[str, bytes]:
    """All files of a bundle by path, the contract first; its `files` are filled in here.

    Args:
        contract: With any `files`.
        files: The model and the golden images by path.
    """
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    record = replace(contract, files=hashes).to_json()
    text = (json.dumps(record, indent=2, allow_nan=False) + "\n").encode()
    digest = (hashlib.sha256(text).hexdigest() + "\n").encode()
    return {CONTRACT: text, DIGEST: digest, **files}


def write_zip(files: Mapping[str, bytes], path: Path) -> None:
    """One file; every entry stored as it is, with one fixed date, so equal files give equal bytes.

    Raises:
        OSError: if it cannot be written; nothing is left then.
    """
    write_atomic(path, stored_zip(files))


def write_folder(files: Mapping[str, bytes], folder: Path) -> None:
    """The same files in a folder that exists."""
    for name, data in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        write_atomic(folder / name, data)


def reopen(files: Mapping[str, bytes], target: str) -> None:
    """Opens the bundle as a device would, its self-test included, before anything is written.

    Args:
        files: All of the bundle, by path.
        target: A model for another runtime than ONNX Runtime is checked, and not run.

    Raises:
        UserError: with what a device would say.
    """
    try:
        if target != "onnx":
            check_files(files)
            return
        with tempfile.TemporaryDirectory() as place:
            write_folder(files, Path(place))
            Bundle.open(place)
    except UserError as refusal:
        raise UserError(
            f"the bundle would not open on a device: {refusal}; nothing was written"
        ) from refusal
