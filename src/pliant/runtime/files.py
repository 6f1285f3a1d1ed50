"""Files that appear whole or not at all, and their hashes."""

import hashlib
import os
import secrets
from pathlib import Path


def write_atomic(path: Path | str, data: bytes | str) -> None:
    """Write under a temporary name in the same folder, then rename; text is stored as UTF-8.

    A reader sees the old file or the new one, never a part of it. On any error, Ctrl-C included,
    the temporary file is gone and an older file is untouched.

    Raises:
        OSError: if the folder is missing or not writable, or the disk is full.
    """
    path = Path(path)
    content = data.encode("utf-8") if isinstance(data, str) else data
    draft = path.with_name(f".{path.name[:100]}.{os.getpid()}-{secrets.token_hex(4)}.partial")
    try:
        with open(draft, "xb") as file:
            file.write(content)
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def sha256_file(path: Path | str) -> str:
    """64 hexadecimal digits; the file is read in pieces, so its size does not matter.

    Raises:
        OSError: if the file cannot be read.
    """
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
