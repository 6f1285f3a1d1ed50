"""A bundle on disk: the contract, the hashes, the files; a zip or a folder, whole or not at all."""

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

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
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", zipfile.ZIP_STORED) as archive:
        for name, data in files.items():
            entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, data)
    write_atomic(path, memory.getvalue())


def write_folder(files: Mapping[str, bytes], folder: Path) -> None:
    """The same files in a folder that exists."""
    for name, data in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        write_atomic(folder / name, data)
