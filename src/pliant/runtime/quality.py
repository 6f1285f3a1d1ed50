"""Is the face in this picture good enough to be judged? Four numbers, each against a limit.

All are taken from the square that the network sees, on the *middle of the face*: the square of
3/4 of the box's longer side around its centre, n = floor(0.75 S / crop_scale + 0.5) px of the S px
(at least 8, at most S), from px (S - n) // 2 on. So neither the crop's size nor its scale, nor the
background, changes what a limit means. They are, with the luma Y = (77 R + 150 G + 29 B) >> 8:

- dark: the share of pixels with Y < 24;
- bright: the share of pixels with Y >= 250;
- sharpness: Y as the mean over the cells of an even grid of 32 x 32 (as it is, where n <= 32);
  L = 4 Y - the four neighbours, without the outermost ring; mean(L^2) / (variance(Y) + 40);
- outside: the share of the face's box that lies outside the image.

The limits are this project's choice, far from what real captures gave (docs/runtime.md has the
shares that were measured): they say that nobody could judge this face, not that a better picture
could be taken. The grid's 32 cells are 3/4 of the face's side, which in the image has 36 px or
more (the smallest face that is judged has 48), so a small face is not taken for a blurred one.
Where n is below 32 (a size below 43 px times the crop scale) only heavier blur shows.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from numbers import Real

import cv2
import numpy as np
from numpy.typing import NDArray

from pliant.errors import UserError
from pliant.runtime.crop import Box

MIDDLE = 0.75
"""Side of what is measured, in multiples of the box's longer side: mostly skin, eyes and mouth."""
DARK_LEVEL = 24
"""Luma below it is dark. Well below the deepest skin in fair light: in sRGB the darkest tone
of the Monk scale, #292420, has 37."""
BRIGHT_LEVEL = 250
"""Luma from it on is blown out."""
GRID = 32
"""Cells along a side on which sharpness is measured."""
ROUNDING = 40.0
"""Added to the variance, in levels^2: rounding to whole levels alone has a mean L^2 of 20 / 12,
which so stays below the limit; without it a nearly flat image would look sharp."""

CUT_OFF = "the face is cut off at the edge of the image"
TOO_DARK = "the face is too dark"
TOO_BRIGHT = "the face is overexposed"
BLURRED = "the face is blurred"


@dataclass(frozen=True, kw_only=True)
class QualityLimits:
    """From where on an image is undecided; each is checked by itself."""

    dark: float = 0.8
    """Largest share of dark pixels, 0 to 1; 1: never too dark."""
    bright: float = 0.6
    """Largest share of blown-out pixels, 0 to 1; 1: never overexposed."""
    sharpness: float = 0.05
    """Smallest sharpness, 0 to 1; 0: never blurred. A face in focus has some 0.5, noise 20."""
    outside: float = 0.2
    """Largest share of the face's box outside the image, 0 to 1; 1: never cut off."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            is_number = isinstance(value, Real) and not isinstance(value, bool)
            if not is_number or not 0 <= float(value) <= 1:
                raise UserError(f"QualityLimits.{field.name} must lie in [0, 1], got {value!r:.60}")


DEFAULT_LIMITS = QualityLimits()


def poor_quality(
    crop: NDArray[np.uint8],
    box: Box,
    shape: Sequence[int],
    *,
    crop_scale: float,
    limits: QualityLimits,
) -> str | None:
    """Why this face cannot be judged, the worst reason first; None: nothing speaks against it.

    Args:
        crop: What the network sees, uint8 (S, S, 3), RGB, as `crop_square` cuts it.
        box: The face: x, y, width, height in pixels of the image.
        shape: Of the image: height, width.
        crop_scale: Side of the crop in multiples of the box's longer side.
        limits: What is allowed.
    """
    if outside_share(box, shape) > limits.outside:
        return CUT_OFF
    luma = face_luma(crop, crop_scale)
    if dark_share(luma) > limits.dark:
        return TOO_DARK
    if bright_share(luma) > limits.bright:
        return TOO_BRIGHT
    return BLURRED if sharpness(luma) < limits.sharpness else None


def face_luma(crop: NDArray[np.uint8], crop_scale: float) -> NDArray[np.uint8]:
    """Luma of the middle of the face, uint8 (n, n); see the module's first lines."""
    size = len(crop)
    n = min(size, max(8, math.floor(MIDDLE * size / crop_scale + 0.5)))
    first = (size - n) // 2
    middle = crop[first : first + n, first : first + n].astype(np.uint16)
    red, green, blue = middle[..., 0], middle[..., 1], middle[..., 2]
    return ((77 * red + 150 * green + 29 * blue) >> 8).astype(np.uint8)  # at most 65,280 before


def dark_share(luma: NDArray[np.uint8]) -> float:
    """Share of pixels below `DARK_LEVEL`, 0 to 1; grows only as an image darkens."""
    return np.count_nonzero(luma < DARK_LEVEL) / luma.size


def bright_share(luma: NDArray[np.uint8]) -> float:
    """Share of pixels of at least `BRIGHT_LEVEL`, 0 to 1; grows only as an image brightens."""
    return np.count_nonzero(luma >= BRIGHT_LEVEL) / luma.size


def sharpness(luma: NDArray[np.uint8]) -> float:
    """Fine detail against contrast, >= 0; a flat image has 0, whatever its brightness.

    Normalised by the variance, so that neither light nor contrast counts for detail.
    """
    y = luma.astype(np.float32)
    if len(y) > GRID:
        y = cv2.resize(y, (GRID, GRID), interpolation=cv2.INTER_AREA)
    detail = 4 * y[1:-1, 1:-1] - y[:-2, 1:-1] - y[2:, 1:-1] - y[1:-1, :-2] - y[1:-1, 2:]
    return float(np.mean(detail * detail) / (y.var() + ROUNDING))


def outside_share(box: Box, shape: Sequence[int]) -> float:
    """Share of the box's area outside an image of this height and width, 0 to 1."""
    x, y, width, height = box
    across = max(0.0, min(x + width, float(shape[1])) - max(x, 0.0))
    down = max(0.0, min(y + height, float(shape[0])) - max(y, 0.0))
    return max(0.0, 1 - (across / width) * (down / height))
