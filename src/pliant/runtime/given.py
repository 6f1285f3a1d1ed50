"""What a caller hands to `Bundle.predict`, checked before anything is computed from it."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pliant.errors import UserError
from pliant.runtime.crop import Box, Preprocessing, crop_square, to_input
from pliant.runtime.images import MAX_PIXELS, MAX_SIDE_PX

Image = NDArray[np.uint8] | Path | str
"""uint8 (H, W, 3), RGB, upright; or the path of an image file."""

MAX_SQUARE_PX = 12_000
"""Largest side of the square that is cut, in pixels of the image; 432 MB while it is sampled."""
MAX_REACH = 16
"""Largest side of the square in multiples of the image's shorter side; a border of more than that
is no picture, and reflecting it takes time that grows with it."""


def frames_of(image: Any, box: Any) -> tuple[list[tuple[Any, Any]], bool]:
    """(image, box) of each frame, and whether it was a single image; not checked themselves.

    Args:
        image: An image, or the frames of one presentation.
        box: Of the image; or a list with a box or None for each frame; None: there is none.

    Raises:
        UserError: if there are no frames, another number of boxes, or something else was given.
    """
    if isinstance(image, str | Path) or (isinstance(image, np.ndarray) and image.ndim != 4):
        return [(image, box)], True
    is_list = isinstance(image, Sequence) and not isinstance(image, bytes | bytearray | memoryview)
    if not is_list and not isinstance(image, np.ndarray):
        raise UserError(
            f"predict needs an image (uint8 (H, W, 3) or a path) or a list of frames, got "
            f"{type(image).__name__}"
        )
    frames = list(image)
    if not frames:
        raise UserError("predict got no frames; give at least one")
    if box is None:
        return [(frame, None) for frame in frames], False
    if not isinstance(box, Sequence | np.ndarray) or len(box) != len(frames):
        raise UserError(f"predict needs one box, or None, for each of {len(frames)} frames")
    return list(zip(frames, box, strict=True)), False


def check_image(image: Any) -> NDArray[np.uint8]:
    """The array, if it is an image.

    Raises:
        UserError: if it is not uint8 (H, W, 3), is empty or too large.
    """
    if not isinstance(image, np.ndarray):
        raise UserError(f"an image must be uint8 (H, W, 3) or a path, got {type(image).__name__}")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise UserError(
            f"an image must be uint8 (H, W, 3), RGB and upright, got {image.dtype} {image.shape}"
        )
    height, width = image.shape[:2]
    if height * width > MAX_PIXELS or max(height, width) > MAX_SIDE_PX:
        raise UserError(
            f"an image may have {MAX_PIXELS // 10**6} megapixels and {MAX_SIDE_PX} px a side, got "
            f"{width}x{height} px; shrink it"
        )
    return np.ascontiguousarray(image)


def check_box(box: Any) -> Box:
    """The box, if it is one.

    Raises:
        UserError: if it is not four finite numbers with a width and a height > 0.
    """
    try:
        if isinstance(box, bytes | bytearray | memoryview):
            raise TypeError
        values = list(box)
        if any(isinstance(value, str | bytes) for value in values):  # "1289" is no four numbers
            raise TypeError
        x, y, width, height = map(float, values)
    except (TypeError, ValueError, OverflowError):
        raise UserError(f"a box must be x, y, width, height, got {str(box)[:60]}") from None
    if not all(map(math.isfinite, (x, y, width, height))) or min(width, height) <= 0:
        raise UserError(f"a box needs finite numbers, width and height > 0, got {str(box)[:60]}")
    return x, y, width, height


def largest_side(
    image: NDArray[np.uint8], pre: Preprocessing, *, most: float = MAX_SQUARE_PX
) -> float:
    """Of a box in this image, in pixels."""
    return min(most, MAX_REACH * min(image.shape[:2])) / pre.crop_scale


def network_input(
    image: NDArray[np.uint8], box: Box | None, pre: Preprocessing, *, most: float = MAX_SQUARE_PX
) -> NDArray[np.float32]:
    """The square around the box as the network takes it, float32 (1, 3, size, size).

    Arguments and errors are those of `network_crop`.
    """
    return to_input(network_crop(image, box, pre, most=most), pre)[None]


def network_crop(
    image: NDArray[np.uint8], box: Box | None, pre: Preprocessing, *, most: float = MAX_SQUARE_PX
) -> NDArray[np.uint8]:
    """The square around the box as the network sees it, uint8 (size, size, 3).

    Args:
        image: As `check_image` returns it.
        box: As `check_box` returns it; None: the largest centred square.
        pre: Of the model.
        most: Largest side of the square in pixels of the image.

    Raises:
        UserError: if the box does not touch the image, or its square is too large.
    """
    if box is not None:
        height, width = image.shape[:2]
        x, y, box_width, box_height = box
        if not (-box_width < x < width and -box_height < y < height):
            raise UserError(f"the box {box} does not touch the image, {width}x{height} px")
        limit = largest_side(image, pre, most=most)
        if max(box_width, box_height) > limit:
            raise UserError(
                f"the box {box} is too large for this model and an image of {width}x{height} px: "
                f"its longer side may be {limit:.0f} px"
            )
    return crop_square(image, box, scale=pre.crop_scale, size=pre.size, border=pre.border)
