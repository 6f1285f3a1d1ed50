"""Face boxes that a data set ships beside its images, read when the image is.

A sample's `box_rule` names one of RULES, so that no box file is opened while a set is listed.

- `celeba_spoof`: `<stem>_BB.txt`, first line `x y w h score` in a frame of 224x224: x and w times
  W / 224, y and h times H / 224, each cut down to an integer, then clipped to the image.
- `eyes`: the video's `.txt`, lines `frame,xl,yl,xr,yr`, as OULU-NPU ships. The box is YuNet's as
  it lies around the eyes, by constants measured on NUAA. That frames count from 0 is from memory.
- `content`: what is not black (any channel above 7). For sets whose images are faces already, cut
  out on black; such an image is used as it lies, so depth and infrared stay over it.
"""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pliant.data.manifest import Sample

Box = tuple[float, float, float, float]

BB_SIDE = 224
"""The frame that CelebA-Spoof's boxes are given in, in pixels."""
MIN_SIDE_PX = 3
"""Smaller boxes are mistakes of the annotation."""
BLACK = 7
"""Highest value of a pixel's channels that counts as background."""
EYES_SIZE = (2.13, 2.81)
"""Width and height of YuNet's box in distances between the eyes; median of 2,808 NUAA faces
(standard deviations 0.08 and 0.16)."""
EYES_ABOVE = 1.08
"""How far the box's upper edge lies above the eyes, in the same measure (0.11)."""
UNCUT = frozenset({"content"})
"""Rules whose images are used whole."""


class NoBox(ValueError):
    """A face box that cannot be used; the text is the reason alone, without the path."""


def box_of(sample: Sample, image: NDArray[np.uint8], index: int) -> Box:
    """The face in an image, x, y, width, height in pixels.

    Args:
        sample: With a `box_rule`.
        image: RGB, (H, W, 3).
        index: The frame's place in its video; 0 for an image.

    Raises:
        NoBox: if the set ships none for this image, or one that is no box.
    """
    assert sample.box_rule is not None
    return RULES[sample.box_rule](sample.path, image, index)


def celeba_spoof(path: Path, image: NDArray[np.uint8], index: int) -> Box:
    """See the top of the file."""
    values = _numbers(_lines(path.with_name(f"{path.stem}_BB.txt"))[0].split(), 5)
    height, width = image.shape[:2]
    x, w = (int(v * width / BB_SIDE) for v in (values[0], values[2]))
    y, h = (int(v * height / BB_SIDE) for v in (values[1], values[3]))
    left, top, right, bottom = max(x, 0), max(y, 0), min(x + w, width), min(y + h, height)
    if min(right - left, bottom - top) < MIN_SIDE_PX:
        raise NoBox(f"its face box is under {MIN_SIDE_PX} px")
    return float(left), float(top), float(right - left), float(bottom - top)


def eyes(path: Path, image: NDArray[np.uint8], index: int) -> Box:
    """See the top of the file."""
    for line in _lines(path.with_suffix(".txt")):
        values = _numbers(line.split(","), 5)
        if values[0] == index:
            break
    else:
        raise NoBox("its eyes are not annotated")
    x, y = (values[1] + values[3]) / 2, (values[2] + values[4]) / 2
    apart = math.hypot(values[1] - values[3], values[2] - values[4])
    if apart < MIN_SIDE_PX:
        raise NoBox("its eyes are annotated at one place")
    width, height = (side * apart for side in EYES_SIZE)
    return x - width / 2, y - EYES_ABOVE * apart, width, height


def content(path: Path, image: NDArray[np.uint8], index: int) -> Box:
    """See the top of the file."""
    seen = image.max(axis=2) > BLACK
    columns, lines = np.flatnonzero(seen.max(axis=0)), np.flatnonzero(seen.max(axis=1))
    if not len(columns):
        raise NoBox("the image is black")
    left, top, right, bottom = columns[0], lines[0], columns[-1] + 1, lines[-1] + 1
    return float(left), float(top), float(right - left), float(bottom - top)


RULES: dict[str, Callable[[Path, NDArray[np.uint8], int], Box]] = {
    "celeba_spoof": celeba_spoof,
    "eyes": eyes,
    "content": content,
}


def _lines(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    except OSError:
        raise NoBox(f"its face file {path.name} is missing") from None
    if not lines or not lines[0].strip():
        raise NoBox("its face file is empty")
    return lines


def _numbers(fields: list[str], count: int) -> list[float]:
    try:
        values = [float(field) for field in fields]
    except ValueError:
        values = []
    if len(values) != count or not all(abs(v) < 1e6 for v in values):
        raise NoBox("its face file is malformed")
    return values
