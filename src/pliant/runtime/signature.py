"""Who made a bundle: an Ed25519 signature over bundle.json, which holds the hash of every file.

Hashes alone say that a bundle is whole; only a signature says whose it is. Ed25519: RFC 8032, by
the package `cryptography` (pip install "pliant[sign]"). Other files are signed by the same two
functions, `signature_record` and `check_signature` (pliant.pad.threshold_file).
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

    path = path_of(bundle, "a bundle")
    key = read_private_key(private_key_file)
    archive = open_archive(path)
    files = {name: archive.read(name) for name in archive.sizes if name != "signature.json"}
    check_files(files)
    record = signature_record(files["bundle.json"], key)
    text = json.dumps(record, indent=2) + "\n"
    try:
        if path.is_dir():
            write_atomic(path / "signature.json", text)
        else:
            write_atomic(path, stored_zip(files | {"signature.json": text.encode()}))
    except OSError as problem:
        raise UserError(f"{bundle} cannot be written: {problem.strerror}") from problem
    return record["public_key"]


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
    wanted = None if public_key is None else read_public_key(public_key)
    fields = None
    if record is not None:
        fields = Fields(load_json(record, "signature.json"), "signature.json")
    return check_signature(contract, fields, wanted, thing="bundle", signed="bundle.json")


def signature_record(message: bytes, key: Any) -> dict[str, str]:
    """The signature over the message, with the public key by which it is checked.

    Args:
        message: What is signed.
        key: As `read_private_key` returns it.
    """
    return {
        "algorithm": ALGORITHM,
        "public_key": key.public_key().public_bytes_raw().hex(),
        "signature": key.sign(message).hex(),
    }


def check_signature(
    message: bytes, fields: Fields | None, wanted: str | None, *, thing: str, signed: str
) -> str | None:
    """Whose signature the message carries.

    Args:
        message: What was signed.
        fields: A record of `signature_record`; None: there is none.
        wanted: The public key whose signature is demanded, as `read_public_key` returns it.
        thing: What carries the signature, for the refusal.
        signed: The part of it that `message` is, for the refusal.

    Returns:
        The public key; None: not signed.

    Raises:
        UserError: as `verify`.
    """
    if fields is None:
        if wanted is None:
            return None
        raise UserError(f"the {thing} is not signed; a signature of key {wanted} is demanded")
    fields.text("algorithm", among=(ALGORITHM,))
    key, signature = fields.text("public_key"), fields.text("signature")
    if not re.fullmatch("[0-9a-f]{64}", key) or not re.fullmatch("[0-9a-f]{128}", signature):
        raise UserError(f"{fields.where} must hold 64 and 128 hexadecimal digits; it is damaged")
    if wanted not in (None, key):
        raise UserError(f"the {thing} is signed by key {key}, a signature of {wanted} is demanded")
    try:
        ed25519, _ = _cryptography()
    except UserError:
        raise UserError(
            f"the {thing} is signed, and checking that needs the package cryptography; {INSTALL}"
        ) from None
    try:
        ed25519.Ed25519PublicKey.from_public_bytes(bytes.fromhex(key)).verify(
            bytes.fromhex(signature), message
        )
    except Exception as problem:  # InvalidSignature has no parent of its own
        raise UserError(
            f"the signature of key {key} does not fit {signed}: the {thing} was changed after it "
            "was signed; get it again from its maker"
        ) from problem
    return key


def read_private_key(private_key_file: Path | str) -> Any:
    """The Ed25519 key that `new_key` wrote.

    Raises:
        UserError: if the file cannot be read or holds no such key, or `cryptography` is not
            installed.
    """
    key_file = path_of(private_key_file, "a private key")
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
    return key


def read_public_key(given: Path | str) -> str:
    """64 hexadecimal digits in lower case, given as such or as a file that holds them.

    Raises:
        UserError: if they are neither.
    """
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
