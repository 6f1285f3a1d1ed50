"""Reading photos that nobody vouches for: bounded, whole, upright, RGB."""

import struct
from pathlib import Path

import cv2
import numpy as np

MAX_PIXELS = 50_000_000
MAX_BYTES = 200_000_000
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
"""What counts as a photo in a folder."""


class BadImage(ValueError):
    """A file that is no whole image of an allowed size; the text says why."""


def read_image(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """The photo, uint8 (H, W, 3) RGB, turned as its EXIF orientation says.

    Args:
        path: JPEG, PNG, BMP or WebP.
        max_pixels: Larger images are refused from their header, before anything is decoded.

    Raises:
        BadImage: if the file is missing, empty, too large, cut short, or no image.
    """
    path = Path(path)
    try:
        num_bytes = path.stat().st_size
        if num_bytes == 0:
            raise BadImage("the file is empty")
        if num_bytes > MAX_BYTES:
            raise BadImage(f"{num_bytes} bytes, more than {MAX_BYTES}")
        content = path.read_bytes()
    except OSError as problem:
        raise BadImage(f"cannot be read: {problem.strerror}") from problem
    return decode_image(content, max_pixels=max_pixels)


def decode_image(content: bytes, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """As `read_image`, from the bytes of a file."""
    size = image_size(content)
    if size is None:
        raise BadImage("not a JPEG, PNG, BMP or WebP image")
    width, height = size
    if width < 1 or height < 1:
        raise BadImage(f"{width} x {height} pixels")
    if width * height > max_pixels:
        raise BadImage(f"{width} x {height} pixels, more than {max_pixels}")
    if _cut_short(content):
        raise BadImage("the file is cut short")
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as problem:
        raise BadImage(f"cannot be decoded: {problem.err}") from problem
    if image is None:
        raise BadImage("cannot be decoded")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def image_size(content: bytes) -> tuple[int, int] | None:
    """(width, height) as the header says; None if it is none of the allowed formats."""
    try:
        if content[:8] == b"\x89PNG\r\n\x1a\n":
            width, height = struct.unpack(">II", content[16:24])
            return width, height
        if content[:2] == b"BM":
            width, height = struct.unpack("<ii", content[18:26])
            return width, abs(height)
        if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
            return _webp_size(content)
        if content[:2] == b"\xff\xd8":
            return _jpeg_size(content)
    except (struct.error, IndexError):
        return None
    return None


def _webp_size(content: bytes) -> tuple[int, int] | None:
    kind = content[12:16]
    if kind == b"VP8 ":
        width, height = struct.unpack("<HH", content[26:30])
        return width & 0x3FFF, height & 0x3FFF
    if kind == b"VP8L":
        bits = int.from_bytes(content[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8X":
        return (
            int.from_bytes(content[24:27], "little") + 1,
            int.from_bytes(content[27:30], "little") + 1,
        )
    return None


def _jpeg_size(content: bytes) -> tuple[int, int] | None:
    at = 2
    while at + 9 < len(content):
        if content[at] != 0xFF:
            return None
        marker = content[at + 1]
        if marker == 0xFF:  # padding
            at += 1
            continue
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">HH", content[at + 5 : at + 9])
            return width, height
        at += 2 + struct.unpack(">H", content[at + 2 : at + 4])[0]
    return None


def _cut_short(content: bytes) -> bool:
    """Whether the end marker is missing; OpenCV fills the rest with grey and says nothing."""
    if content[:2] == b"\xff\xd8":
        return b"\xff\xd9" not in content[-4096:]  # some cameras write a trailer
    if content[:4] == b"\x89PNG":
        return b"IEND" not in content[-4096:]
    if content[:4] == b"RIFF":
        return len(content) < struct.unpack("<I", content[4:8])[0] + 8
    return False
