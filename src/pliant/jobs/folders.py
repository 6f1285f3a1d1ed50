"""Output folders that appear whole or not at all."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pliant.errors import UserError


def refuse_existing(path: Path, flag: str = "--out") -> None:
    """Nothing is ever overwritten; an empty folder counts as free.

    Raises:
        UserError: if `path` is a file, or a folder with something in it.
    """
    if path.is_dir() and not any(path.iterdir()):
        return
    if path.exists():
        raise UserError(f"{path} exists already; give {flag} another name, or remove it")


@contextmanager
def appearing(out: Path) -> Iterator[Path]:
    """A folder to write into beside `out`; it gets that name at the end, or is gone on any error.

    Raises:
        UserError: if `out` is taken.
    """
    refuse_existing(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".partial", dir=out.parent))
    try:
        yield partial
        partial.chmod(0o755)  # mkdtemp's own is 0700
        if out.is_dir():
            out.rmdir()
        partial.replace(out)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
