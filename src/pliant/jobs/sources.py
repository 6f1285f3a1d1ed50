"""What is to be judged: images, folders of them, one video, or a camera."""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pliant.data.folder import ENDINGS
from pliant.errors import UserError
from pliant.runtime.video import is_video

MAX_IMAGES = 100_000
"""Most images of one call."""


@dataclass(frozen=True, kw_only=True)
class Sources:
    """One of the three."""

    images: tuple[Path, ...] = ()
    video: Path | None = None
    camera: int | None = None
    """Its number."""


def find_sources(given: Sequence[Path]) -> Sources:
    """What the words stand for.

    Args:
        given: Image files, folders (all images beneath, sorted by name, hidden ones left out), one
            video file, `camera` or `camera:2`; a video and a camera stand alone.

    Raises:
        UserError: if one does not exist, a folder holds no image, or a video or camera has company.
    """
    if not given:
        raise UserError("no images were given; name an image, a folder, a video or camera")
    missing = [str(path) for path in given if not path.exists() and _camera(path) is None]
    if missing:
        raise UserError(
            f"no such image, folder or video: {', '.join(missing)} (a camera is called camera or "
            "camera:1)"
        )
    for path in given:
        camera = None if path.exists() else _camera(path)
        film = path.is_file() and is_video(path)
        if (camera is not None or film) and len(given) > 1:
            raise UserError(f"{path} is a {'video' if film else 'camera'}; give it alone")
        if camera is not None:
            return Sources(camera=camera)
        if film:
            return Sources(video=path)
    images: list[Path] = []
    for path in given:
        images += sorted(_beneath(path)) if path.is_dir() else [path]
        if len(images) > MAX_IMAGES:
            raise UserError(f"more than {MAX_IMAGES:,} images were given; judge them in parts")
    return Sources(images=tuple(images))


def _camera(path: Path) -> int | None:
    named = re.fullmatch(r"camera(?::([0-9]{1,3}))?", str(path))
    return named and int(named[1] or 0)


def _beneath(folder: Path) -> Iterator[Path]:
    count = 0
    for where, folders, files in os.walk(folder):  # links to folders are not followed: no circles
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in ENDINGS:
                count += 1
                if count > MAX_IMAGES:
                    raise UserError(
                        f"{folder} holds more than {MAX_IMAGES:,} images; judge them in parts"
                    )
                yield Path(where, name)
    if not count:
        raise UserError(f"{folder} holds no images, such as .jpg or .png")
