"""Depth and infrared images that nobody vouches for: read, checked, brought to 8 bits.

A file is sized and checked for completeness before it is decoded (pliant.runtime.images). An image
that cannot be used has a reason, one of: no file named, no such file, what `BadImage` says, empty,
constant, saturated, no depth at the face, not registered.

To 8 bits, our choice. 16-bit depth, taken for millimetres with 0 for no answer: the median of the
face's answers becomes 128, what is nearer is brighter, 150 mm nearer and beyond is 255, 150 mm
further and beyond is 1, no answer stays 0. A head is about 120 mm deep, so its relief uses most of
the range and the distance to the camera none of it. 16-bit infrared: linear, the 99.5th percentile
of the face's square becomes 255. Images of 8 bits, such as CeFA's, are taken as they are.

Shapes: H, W = height and width in pixels.
"""

import stat
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pliant.runtime.crop import Box
from pliant.runtime.images import MAX_BYTES, MAX_PIXELS, BadImage, image_size

Plane = NDArray[np.uint8] | NDArray[np.uint16]
"""(H, W, 3), of 8 or 16 bits."""
RELIEF_MM = 150
"""Depth beyond the face's median, either way, that is told apart."""
MOST_SATURATED = 0.5
"""Share of pixels at the largest value; at more the sensor was blinded."""
LEAST_DEPTH = 0.1
"""Share of the face's pixels with a depth; at less nothing is known of the face."""
ASPECT_TOLERANCE = 0.02
"""Relative difference of two images' aspects that rounding to pixels explains, and a pixel."""
MOST_RATIO = 8.0
"""Colour pixels for one of the other sensor's, or the reverse; beyond it they show other scenes."""
INFRARED_WHITE = 99.5
"""Percentile of a 16-bit infrared face that becomes white."""


def read_plane(path: Path | None) -> Plane:
    """(H, W, 3) RGB of 8 or 16 bits, grey repeated, turned upright as EXIF says.

    Raises:
        BadImage: if it is missing, empty, too large, truncated, or no image.
    """
    if path is None:
        raise BadImage("no file named")
    data = _bytes_of(path)
    width, height = image_size(data)
    if width * height > MAX_PIXELS:
        raise BadImage(f"too large: {width}x{height} px")
    try:
        flags = cv2.IMREAD_ANYDEPTH | cv2.IMREAD_COLOR
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise BadImage("damaged: it cannot be decoded") from error
    if pixels is None or pixels.dtype not in (np.uint8, np.uint16):
        raise BadImage("damaged: it cannot be decoded")
    upright = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
    if upright.dtype == np.uint16:
        return upright.astype(np.uint16, copy=False)
    return upright.astype(np.uint8, copy=False)


def _bytes_of(path: Path) -> bytes:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise BadImage("not a file")
        if not 0 < status.st_size <= MAX_BYTES:
            raise BadImage("zero bytes" if status.st_size == 0 else "too large")
        return path.read_bytes()
    except FileNotFoundError:
        raise BadImage("no such file") from None
    except OSError as error:
        raise BadImage("cannot be read") from error


def modal_image(
    name: str, path: Path | None, box: Box | None, colour_size: tuple[int, int]
) -> tuple[NDArray[np.uint8], Box | None]:
    """A depth or infrared image in 8 bits, (H, W, 3), and the face's box in its pixels.

    Args:
        name: `depth` or `infrared`.
        path: Its file; None: none is named.
        box: x, y, width, height in pixels of the colour image; None: no box is known.
        colour_size: (width, height) of the colour image.

    Raises:
        BadImage: with the reason, if it cannot be used; see the top of the file.
    """
    plane = read_plane(path)
    height, width = plane.shape[:2]
    check_registered((width, height), colour_size)
    across, down = width / colour_size[0], height / colour_size[1]
    own = None if box is None else (box[0] * across, box[1] * down, box[2] * across, box[3] * down)
    check_signal(plane)
    face = _face_of(plane, own)
    if name == "depth" and (face > 0).mean() < LEAST_DEPTH:
        raise BadImage("no depth at the face")
    if plane.dtype == np.uint8:
        return plane.astype(np.uint8, copy=False), own
    return (depth_to_bytes if name == "depth" else infrared_to_bytes)(plane, face), own


def check_registered(size: tuple[int, int], colour_size: tuple[int, int]) -> None:
    """Refuses an image whose aspect or extent cannot be that of the colour image's scene.

    Args:
        size: (width, height) in pixels.
        colour_size: Of the colour image.

    Raises:
        BadImage: naming both sizes.
    """
    (width, height), (colour_width, colour_height) = size, colour_size
    expected = width * colour_height / colour_width  # the height that fits this width
    slack = max(1.0, ASPECT_TOLERANCE * expected)
    ratio = max(colour_width / width, width / colour_width)
    if abs(height - expected) > slack or ratio > MOST_RATIO:
        raise BadImage(
            f"not registered: {width}x{height} px beside a colour image of "
            f"{colour_width}x{colour_height} px"
        )


def check_signal(plane: Plane) -> None:
    """Refuses an image that shows nothing.

    Raises:
        BadImage: if it is empty, constant or saturated.
    """
    low, high = int(plane.min()), int(plane.max())
    if low == high:
        raise BadImage("empty" if high == 0 else "constant")
    if (plane == np.iinfo(plane.dtype).max).mean() > MOST_SATURATED:
        raise BadImage("saturated")


def depth_to_bytes(plane: Plane, face: Plane) -> NDArray[np.uint8]:
    """Depth in mm around the median of the face's answers; see the top of the file.

    Args:
        plane: (H, W, 3), mm; 0: no answer.
        face: Its part that shows the face, with one answer at least.
    """
    nearer = float(np.median(face[face > 0])) - plane.astype(np.float32)
    shown = np.clip(np.rint(128 + nearer * (127 / RELIEF_MM)), 1, 255)
    return np.where(plane == 0, 0, shown).astype(np.uint8)


def infrared_to_bytes(plane: Plane, face: Plane) -> NDArray[np.uint8]:
    """Infrared, linear, with the face's bright end at white; see the top of the file."""
    white = max(1.0, float(np.percentile(face, INFRARED_WHITE)))
    return np.clip(np.rint(plane.astype(np.float32) * (255 / white)), 0, 255).astype(np.uint8)


def _face_of(plane: Plane, box: Box | None) -> Plane:
    """The pixels in the box, or all of them where there is none or it lies outside."""
    if box is None:
        return plane
    left, top = max(0, int(box[0])), max(0, int(box[1]))
    face = plane[top : max(top, round(box[1] + box[3])), left : max(left, round(box[0] + box[2]))]
    return face if face.size else plane
