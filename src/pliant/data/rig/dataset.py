"""A rig as frames in memory, or as a folder of files with a manifest."""

import csv
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2

from pliant.data.rig.clips import Frame, list_clips
from pliant.data.rig.settings import RigSettings
from pliant.data.rig.workers import each_clip
from pliant.errors import UserError

DEVICE = "synthetic-rig"
"""The `device` of every row, so that no table can hide where the faces come from."""

COLUMNS = (
    "path",
    "subject",
    "bona_fide",
    "pai_species",
    "session",
    "split",
    "clip",
    "device",
    "depth_path",
    "ir_path",
    "box_x",
    "box_y",
    "box_w",
    "box_h",
    "right_eye_x",
    "right_eye_y",
    "left_eye_x",
    "left_eye_y",
    "nose_x",
    "nose_y",
    "mouth_right_x",
    "mouth_right_y",
    "mouth_left_x",
    "mouth_left_y",
)


@dataclass(frozen=True)
class RigSet:
    """All frames of a rig, clip by clip."""

    settings: RigSettings
    frames: list[Frame]

    def __len__(self) -> int:
        return len(self.frames)


def render(settings: RigSettings, *, progress: bool = True, workers: int | None = None) -> RigSet:
    """Render a whole rig into memory; the same settings give the same bits.

    Args:
        settings: What to render.
        progress: Show a bar on stderr where that is a terminal.
        workers: Processes; None for the number of cores. The result does not depend on it.
    """
    frames: list[Frame] = []
    with bar(settings, progress) as step:
        for clip in each_clip(settings, workers):
            frames += clip
            step()
    return RigSet(settings, frames)


def write_rig(
    settings: RigSettings, folder: Path, *, progress: bool = True, workers: int | None = None
) -> Path:
    """Render a rig into a new folder: colour, depth and infrared files, manifest.csv, rig.json.

    Everything is written beside the folder first, then renamed: a killed run leaves no half folder.

    Args:
        settings: What to render.
        folder: Must not exist yet.
        progress: Show a bar on stderr where that is a terminal.
        workers: Processes; None for the number of cores.

    Returns:
        The path of the manifest.

    Raises:
        UserError: if the folder exists.
    """
    folder = Path(folder)
    if folder.exists():
        raise UserError(f"{folder} exists already; give the rig a new folder or delete that one")
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = folder.parent / f".{folder.name}.{os.getpid()}.partial"
    try:
        draft.mkdir()
        with bar(settings, progress) as step, open(draft / "manifest.csv", "w", newline="") as file:
            table = csv.writer(file)
            table.writerow(COLUMNS)
            for clip in each_clip(settings, workers):
                for frame in clip:
                    table.writerow(save(frame, draft))
                step()
        note = "procedurally rendered faces; no person was photographed"
        text = json.dumps({"synthetic": True, "note": note, **settings.to_json()}, indent=1)
        (draft / "rig.json").write_text(text + "\n")
        draft.rename(folder)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return folder / "manifest.csv"


def save(frame: Frame, root: Path) -> list[str]:
    """Write one frame's three files under root; returns its row of the manifest."""
    where = Path("synthetic", frame.species or "live", frame.subject)
    (root / where).mkdir(parents=True, exist_ok=True)
    stem = f"{frame.clip}-{frame.index:04d}"
    paths = [(where / f"{stem}{end}").as_posix() for end in (".jpg", "-depth.png", "-ir.png")]
    (root / paths[0]).write_bytes(frame.jpeg)
    for path, plane in ((paths[1], frame.depth), (paths[2], frame.infrared)):
        done, data = cv2.imencode(".png", plane, [cv2.IMWRITE_PNG_COMPRESSION, 2])
        if not done:
            raise OSError(f"OpenCV could not encode {path}")
        (root / path).write_bytes(data.tobytes())
    numbers = [f"{v:.1f}" for v in (*frame.box, *frame.landmarks.ravel())]
    labels = [frame.subject, "0" if frame.species else "1", frame.species or ""]
    return [
        paths[0],
        *labels,
        frame.session,
        frame.split,
        frame.clip,
        DEVICE,
        paths[1],
        paths[2],
        *numbers,
    ]


@contextmanager
def bar(settings: RigSettings, wanted: bool) -> Iterator[Callable[[], None]]:
    """A progress bar over clips; yields the function that advances it by one clip."""
    if not (wanted and sys.stderr.isatty()):
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("rendering synthetic clips", total=len(list_clips(settings)))
        yield lambda: progress.advance(task)
