"""Plain folders of images and videos as samples.

Anti-spoofing: `live/[<subject>/]` and `spoof/<species>/[<subject>/]`. Other tasks: `<class>/`, what
lies deeper belongs to the class. In both, `train`, `dev` (or `val`) and `test` may stand above.
A video becomes some of its frames, named before it is opened (frames.py), and is their clip. Files
whose names end neither as an image's nor as a video's are ignored, hidden ones too.
"""

import difflib
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from pliant.data.frames import FRAMES, clip_samples, picks
from pliant.data.manifest import SPLITS, Sample
from pliant.errors import UserError

_ENDINGS = "jpg jpeg png bmp webp heic heif avif tif tiff gif dng"
ENDINGS = frozenset(f".{ending}" for ending in _ENDINGS.split())
"""Names that claim to be a picture; those in a format that cannot be read are skipped with the
reason later, not overlooked."""
_VIDEO_ENDINGS = "mp4 m4v mov 3gp avi mkv webm mpg mpeg mts m2ts ogv wmv flv"
VIDEO_ENDINGS = frozenset(f".{ending}" for ending in _VIDEO_ENDINGS.split())
"""Names that claim to be a video, likewise."""
MAX_IMAGES = 5_000_000
LAYOUTS = {
    "pad": "live/[<subject>/] and spoof/<species>/[<subject>/]",
    "classify": "one folder per class",
}


def read_folder(root: Path | str, task: str, *, frames: str = FRAMES) -> list[Sample]:
    """The samples in order of their names; whether the files can be read is not checked here.

    Args:
        root: The folder.
        task: `pad` or `classify`.
        frames: Of each video; see frames.picks.

    Raises:
        UserError: if there are neither images nor videos, one lies where the layout has no place
            for it, a link leads out of the folder, or the rule of frames is none.
    """
    picks(frames)
    if task not in LAYOUTS:
        raise ValueError(f"unknown task {task!r}; allowed: {', '.join(LAYOUTS)}")
    root = Path(root).resolve()
    if not root.is_dir():
        raise UserError(f"no such folder: {root}")
    names = sorted(_files(root))
    if not names:
        raise UserError(
            f"{root} holds no images or videos; needed: {LAYOUTS[task]}, or a manifest.csv"
        )
    with_splits = {name.parts[0] for name in names} <= set(SPLITS)
    read = _pad if task == "pad" else _classify
    samples = []
    for name in names:
        split, parts = None, name.parts
        if with_splits:
            split, parts = SPLITS[parts[0]], parts[1:]
        fields = read(parts, f"{root / name}")
        sample = Sample(path=root / name, name=name.as_posix(), split=split, **fields)
        is_video = name.suffix.lower() in VIDEO_ENDINGS
        samples += clip_samples(sample, frames) if is_video else [sample]
    return samples


def _files(root: Path) -> Iterator[PurePosixPath]:
    """Paths of images and videos under the root; links may not lead out of it."""
    count, endings = 0, ENDINGS | VIDEO_ENDINGS
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in [*files, *folders]:
            path = os.path.join(folder, name)
            if os.path.islink(path) and not os.path.realpath(path).startswith(f"{root}{os.sep}"):
                raise UserError(
                    f"{path} is a link that leads out of {root}; copy what it points to, or name "
                    "the real folder"
                )
        for name in files:
            if name.startswith(".") or os.path.splitext(name)[1].lower() not in endings:
                continue
            count += 1
            if count > MAX_IMAGES:
                raise UserError(f"{root} holds more than {MAX_IMAGES:,} images; split it up")
            yield PurePosixPath(Path(folder, name).relative_to(root).as_posix())


def _pad(parts: tuple[str, ...], path: str) -> dict[str, Any]:
    """Labels from the folders' names."""
    kind, *between = parts[:-1] or ("",)
    if kind == "live" and len(between) <= 1:
        return {"bona_fide": True, "subject": between[0] if between else None}
    if kind == "spoof" and 1 <= len(between) <= 2:
        return {
            "bona_fide": False,
            "pai_species": between[0],
            "subject": between[1] if len(between) == 2 else None,
        }
    if kind == "live" or (kind == "spoof" and between):
        problem = "lies too deep (name clips and sessions in a manifest.csv)"
    elif kind == "spoof":
        problem = "has no species folder, such as spoof/print/ or spoof/replay/"
    elif not kind:
        problem = "lies outside live/ and spoof/"
    else:
        near = difflib.get_close_matches(kind.lower(), ["live", "spoof"], n=1)
        problem = f"lies in {kind!r}" + (f" (did you mean {near[0]!r}?)" if near else "")
    raise UserError(
        f"{path} {problem}; allowed: {LAYOUTS['pad']}, with train/, dev/, test/ above all of them "
        "or none"
    )


def _classify(parts: tuple[str, ...], path: str) -> dict[str, Any]:
    if len(parts) < 2:
        raise UserError(f"{path} lies in no class folder; needed: {LAYOUTS['classify']}")
    return {"label": parts[0]}
