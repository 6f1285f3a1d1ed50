"""A bundle's files, each checked before it is parsed.

The order: bundle.json against bundle.sha256 and the signature, then its fields, then the hash of
every file that it lists, then the structure of the model. ONNX Runtime sees nothing else.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pliant.errors import UserError
from pliant.runtime.archive import AGAIN, Archive, archive_of, open_archive
from pliant.runtime.contract import META_FILES, Contract
from pliant.runtime.fields import load_json
from pliant.runtime.graph import check_model
from pliant.runtime.signature import verify

MAX_CONTRACT_BYTES = 4 * 2**20
"""Of bundle.json."""

_RUNS_IN = {
    "executorch": "ExecuTorch's runtime (pip install executorch)",
    "litert": "LiteRT (pip install ai-edge-litert)",
}


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What a bundle holds."""

    contract: Contract
    sha256: str
    """Of bundle.json."""
    signed_by: str | None
    """The public key whose signature was checked, 64 hexadecimal digits."""
    files: Mapping[str, bytes]
    """Every file that bundle.json lists, by path."""


def read_checked(
    path: Path | str, public_key: Path | str | None = None, *, any_target: bool = False
) -> Checked:
    """The contents of a bundle.

    Args:
        path: A file or a folder.
        public_key: Whose signature is demanded, 64 hexadecimal digits or a file that holds them.
        any_target: Whether bundles for other runtimes are read too; the structure of their models
            is not checked, their hashes are.

    Raises:
        UserError: if the bundle is missing, damaged, holds more than it lists, is not signed as
            demanded, of another format or, unless any is allowed, for another runtime.
    """
    checked = _checked(open_archive(path), public_key)
    target = checked.contract.target
    if target in _RUNS_IN and not any_target:
        raise UserError(
            f"this bundle is for {target}; run it in {_RUNS_IN[target]}, or export the run again "
            "with --target onnx"
        )
    return checked


def check_files(files: Mapping[str, bytes]) -> Contract:
    """The contract of a bundle in memory, for any target, after every check of `read_checked`.

    Args:
        files: Of the whole bundle, by path inside it; a signature is no must.

    Raises:
        UserError: with what a device would say on opening it, the self-test apart.
    """
    return _checked(archive_of(files), None).contract


def _checked(archive: Archive, public_key: Path | str | None) -> Checked:
    text = archive.read("bundle.json", most=MAX_CONTRACT_BYTES)
    digest = hashlib.sha256(text).hexdigest()
    if archive.read("bundle.sha256", most=65) != f"{digest}\n".encode():
        raise UserError(f"bundle.json does not match bundle.sha256: the bundle is damaged; {AGAIN}")
    record = None
    if "signature.json" in archive.sizes:
        record = archive.read("signature.json", most=4096)
    signer = verify(text, record, public_key)
    contract = Contract.from_json(load_json(text, "bundle.json"))
    unknown = sorted(set(archive.sizes) - set(contract.files) - set(META_FILES))
    if unknown:
        raise UserError(f"the bundle holds {unknown[0]}, which bundle.json does not list")
    files = {name: archive.read(name) for name in contract.files}
    for name, data in files.items():
        if hashlib.sha256(data).hexdigest() != contract.files[name]:
            raise UserError(f"{name} does not match its hash: the bundle is damaged; {AGAIN}")
    if contract.selection is not None:
        check_model(files[contract.model_file], contract.selection)
    return Checked(contract=contract, sha256=digest, signed_by=signer, files=files)
