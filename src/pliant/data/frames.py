"""Which frames of a video are used, named before the video is opened, and read when needed.

A sample's `frame` is a text, so that a set of thousands of videos is listed without opening one:

- `12`: the frame of that index, from 0;
- `3of8`: the frame in the middle of the fourth of eight equal parts, floor((2 * 3 + 1) * n / 16);
- `6+1of2`: frame 6 + floor(1 * n / 2), at most the last; 6+0of2 and 6+1of2 are the two frames of
  the common cross-data-set protocol (MSU-MFSD, CASIA-FASD, Replay-Attack, OULU-NPU).

n is the number of frames that the file states; where the video ends earlier, the number that can
be decoded. Frames are counted by decoding from the start, never by seeking, which is not exact.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from pliant.data.manifest import FRAME, Sample
from pliant.errors import UserError
from pliant.runtime.images import BadImage, read_image
from pliant.runtime.video import Footage, Frame

T = TypeVar("T")
FRAMES = "8"
"""The rule of video readers where none is given."""
MOST_FRAMES = 1000
"""Frames of one clip."""


def picks(rule: str) -> list[str]:
    """The frames of each clip.

    Args:
        rule: A number N: N frames spread evenly; `firstN`: the first N; `mico`: the two frames of
            the common cross-data-set protocol.

    Raises:
        UserError: if it is none of these.
    """
    if rule == "mico":
        return ["6+0of2", "6+1of2"]
    found = re.fullmatch(r"(first)?(\d{1,4})", rule)
    count = int(found[2]) if found else 0
    if not found or not 1 <= count <= MOST_FRAMES:
        raise UserError(
            f"unknown rule of frames {rule!r}; allowed: a number N (spread evenly), firstN, mico; "
            f"N from 1 to {MOST_FRAMES}"
        )
    return [str(k) if found[1] else f"{k}of{count}" for k in range(count)]


def place(pick: str, count: int) -> int:
    """The index of a frame in a video, from 0.

    Args:
        pick: As a sample's `frame`.
        count: Frames of the video, n.
    """
    found = FRAME.fullmatch(pick)
    if not found:
        raise ValueError(f"{pick!r} names no frame; such as 12, 3of8, 6+1of2")
    if found["index"]:
        return int(found["index"])
    k, parts = int(found["k"]), max(1, int(found["parts"]))
    if found["start"]:
        return max(0, min(int(found["start"]) + k * count // parts, count - 1))
    return min((2 * k + 1) * count // (2 * parts), max(0, count - 1))


def pick_some(names: Sequence[T], rule: str) -> list[T]:
    """The same rule for a clip that lies there as images, in their order."""
    places = {min(place(pick, len(names)), len(names) - 1) for pick in picks(rule)}
    return [names[k] for k in sorted(places)] if names else []


def clip_samples(sample: Sample, rule: str) -> list[Sample]:
    """One sample for each frame of a clip.

    Args:
        sample: Of the whole video; its name becomes the clip.
        rule: See `picks`.
    """
    fields = {k: v for k, v in vars(sample).items() if k not in ("name", "frame", "clip")}
    return [
        Sample(name=f"{sample.name}#{pick}", frame=pick, clip=sample.name, **fields)
        for pick in picks(rule)
    ]


def read_frames(path: Path, wanted: Sequence[str]) -> list[Frame | None]:
    """The frames of one video in the order of `wanted`; None where one cannot be decoded.

    Raises:
        BadImage: if the video is missing, damaged, empty or too large.
    """
    try:
        with Footage.video(path) as footage:
            count = footage.num_frames or _count(path)
        found, seen = _read(path, {place(pick, count) for pick in wanted})
        if seen < count and any(place(pick, count) >= seen for pick in wanted):
            count = seen  # the file stated more frames than it has
            found, _ = _read(path, {place(pick, count) for pick in wanted})
    except UserError as error:
        # the same reason for each video, so that reasons can be counted; the sample names the file
        reason = str(error).removeprefix(f"{path} ").replace(str(path), "the video")
        raise BadImage(reason) from error
    except OSError as error:
        raise BadImage(f"cannot be read: {error.strerror}") from error
    return [found.get(place(pick, count)) for pick in wanted]


def read_sample(sample: Sample) -> NDArray[np.uint8]:
    """The image of a sample, RGB, uint8 (H, W, 3); of a video its frame.

    Raises:
        BadImage: if it cannot be read.
    """
    if sample.frame is None:
        return read_image(sample.path)
    (frame,) = read_frames(sample.path, [sample.frame])
    if frame is None:
        raise BadImage(f"frame {sample.frame} cannot be decoded")
    return frame.image


def _read(path: Path, places: set[int]) -> tuple[dict[int, Frame], int]:
    """The frames at these places, and how many frames were passed."""
    last, found, seen = max(places), {}, 0
    with Footage.video(path) as footage:
        for frame in footage.frames(most=None):
            seen = frame.index + 1
            if frame.index in places:
                found[frame.index] = frame
            if frame.index >= last:
                break
    return found, seen


def _count(path: Path) -> int:
    with Footage.video(path) as footage:
        return sum(1 for _ in footage.frames(most=None))
