"""Who made a bundle: an Ed25519 signature over bundle.json, which holds the hash of every file.

Hashes alone say that a bundle is whole; only a signature says whose it is. Ed25519: RFC 8032, by
the package `cryptography` (pip install "pliant[sign]").
"""

import json
import os
import re
from pathlib import Path
from typing import Any

from pliant.errors import UserError
from pliant.runtime.archive import open_archive, stored_zip
from pliant.runtime.fields import Fields, load_json, path_of
from pliant.runtime.files import write_atomic

ALGORITHM = "ed25519"
INSTALL = 'install it: pip install "pliant[sign]"'


def new_key(private_key_file: Path | str) -> str:
    """Makes a key pair: the private key goes into the file, readable by its owner alone (PEM,
    PKCS 8, not encrypted), the public one beside it (`.pub`, 64 hexadecimal digits).

    Returns:
        The public key.

    Raises:
        UserError: if a file of that name exists (a key is never overwritten), the folder is
            missing, or `cryptography` is not installed.
    """
    ed25519, serialization = _cryptography()
    path = path_of(private_key_file, "a private key")
    public_file = path.with_name(path.name + ".pub")
    key = ed25519.Ed25519PrivateKey.generate()
    text = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    public = key.public_key().public_bytes_raw().hex()
    if public_file.exists():
        raise UserError(f"{public_file} exists; give another name, keys are never overwritten")
    try:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(text)
        write_atomic(public_file, public + "\n")
    except FileExistsError:
        raise UserError(f"{path} exists; give another name, keys are never overwritten") from None
    except OSError as problem:
        raise UserError(f"{path} cannot be written: {problem.strerror}") from problem
    return public


def sign(bundle: Path | str, private_key_file: Path | str) -> str:
    """Writes signature.json into a bundle, in place of any older one, whole or not at all.

    What is signed was checked before: hashes, fields, and the structure of an ONNX model.

    Args:
        bundle: A folder or a zip, for any target.
        private_key_file: As `new_key` writes it.

    Returns:
        The public key, 64 hexadecimal digits.

    Raises:
        UserError: if the bundle or the key cannot be read, the bundle is damaged or none, or it
            cannot be written.
    """
    from pliant.runtime.checked import check_files  # which verifies signatures by this module

    path, key_file = path_of(bundle, "a bundle"), path_of(private_key_file, "a private key")
    ed25519, serialization = _cryptography()
    try:
        data = key_file.read_bytes()
        key = serialization.load_pem_private_key(data, password=None)
    except OSError as problem:
        raise UserError(f"{private_key_file} cannot be read: {problem.strerror}") from problem
    except (ValueError, TypeError) as problem:
        raise UserError(f"{private_key_file} holds no private key (plain PEM)") from problem
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise UserError(f"{private_key_file} holds a key of another kind; Ed25519 is needed")
    archive = open_archive(path)
    files = {name: archive.read(name) for name in archive.sizes if name != "signature.json"}
    check_files(files)
    public = key.public_key().public_bytes_raw().hex()
    record = {
        "algorithm": ALGORITHM,
        "public_key": public,
        "signature": key.sign(files["bundle.json"]).hex(),
    }
    text = json.dumps(record, indent=2) + "\n"
    try:
        if path.is_dir():
            write_atomic(path / "signature.json", text)
        else:
            write_atomic(path, stored_zip(files | {"signature.json": text.encode()}))
    except OSError as problem:
        raise UserError(f"{bundle} cannot be written: {problem.strerror}") from problem
    return public


def verify(contract: bytes, record: bytes | None, public_key: Path | str | None) -> str | None:
    """Whose signature a bundle carries.

    Args:
        contract: The bytes of bundle.json.
        record: The bytes of signature.json; None: there is none.
        public_key: Whose signature is demanded, 64 hexadecimal digits or a file that holds them.

    Returns:
        The public key; None: not signed.

    Raises:
        UserError: if the signature is wrong, cannot be checked as `cryptography` is not installed,
            or is demanded and missing or of another key.
    """
    wanted = None if public_key is None else _public_key(public_key)
    if record is None:
        if wanted is None:
            return None
        raise UserError(f"the bundle is not signed; a signature of key {wanted} is demanded")
    fields = Fields(load_json(record, "signature.json"), "signature.json")
    fields.text("algorithm", among=(ALGORITHM,))
    key, signature = fields.text("public_key"), fields.text("signature")
    if not re.fullmatch("[0-9a-f]{64}", key) or not re.fullmatch("[0-9a-f]{128}", signature):
        raise UserError("signature.json must hold 64 and 128 hexadecimal digits; it is damaged")
    if wanted not in (None, key):
        raise UserError(f"the bundle is signed by key {key}, a signature of {wanted} is demanded")
    try:
        ed25519, _ = _cryptography()
    except UserError:
        raise UserError(
            f"the bundle is signed, and checking that needs the package cryptography; {INSTALL}"
        ) from None
    try:
        ed25519.Ed25519PublicKey.from_public_bytes(bytes.fromhex(key)).verify(
            bytes.fromhex(signature), contract
        )
    except Exception as problem:  # InvalidSignature has no parent of its own
        raise UserError(
            f"the signature of key {key} does not fit bundle.json: the bundle was changed after it "
            "was signed; get it again from its maker"
        ) from problem
    return key


def _public_key(given: Path | str) -> str:
    text = str(given)
    if not re.fullmatch("[0-9a-fA-F]{64}", text):
        try:
            with open(text, encoding="ascii") as file:
                text = file.read(200).strip()
        except (OSError, ValueError):
            raise UserError(
                f"public key {text[:80]!r} must be 64 hexadecimal digits, or a file that holds them"
            ) from None
    if not re.fullmatch("[0-9a-fA-F]{64}", text):
        raise UserError(f"{str(given)[:200]} holds no public key (64 hexadecimal digits)")
    return text.lower()


def _cryptography() -> tuple[Any, Any]:
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError as problem:
        raise UserError(f"signatures need the package cryptography; {INSTALL}") from problem
    return ed25519, serialization
