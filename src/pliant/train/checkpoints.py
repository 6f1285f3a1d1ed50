"""Lightning's checkpoints as files that appear whole or not at all, read without unpickling code.

Lightning itself writes to the system's temporary folder and moves the file from there, so that a
full disk cuts off the older checkpoint too.
"""

import io
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import CheckpointIO

from pliant.errors import UserError
from pliant.runtime.files import write_atomic


class WholeCheckpoints(CheckpointIO):
    """Writes beside the older checkpoint and then takes its place; loads tensors and plain data."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        assert storage_options is None
        content = io.BytesIO()
        torch.save(checkpoint, content)
        try:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            write_atomic(path, content.getvalue())
        except OSError as error:  # a failed write does not know the file's name
            raise OSError(error.errno, error.strerror, str(path)) from error

    def load_checkpoint(
        self,
        path: str | Path,
        map_location: Any | None = None,
        weights_only: bool | None = True,
    ) -> dict[str, Any]:
        return read_checkpoint(path)

    def remove_checkpoint(self, path: str | Path) -> None:
        Path(path).unlink(missing_ok=True)


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """A checkpoint on the CPU; nothing in it is run.

    Raises:
        OSError: if the file cannot be read.
        UserError: if it is damaged or no checkpoint.
    """
    content = io.BytesIO(Path(path).read_bytes())
    try:
        found = torch.load(content, map_location="cpu", weights_only=True)
    except Exception as problem:  # torch raises half a dozen kinds
        raise UserError(_refusal(path)) from problem
    if not isinstance(found, dict) or "state_dict" not in found:
        raise UserError(_refusal(path))
    return found


def _refusal(path: str | Path) -> str:
    return (
        f"{path} is damaged or no checkpoint, so this run cannot go on; "
        "train again under another --out, or remove the run folder"
    )
