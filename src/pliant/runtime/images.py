"""Read an image file that nobody vouches for.

Size and completeness are checked from the file's own bytes before anything is decoded, so that a
small file cannot claim the machine's memory and half a photo is not taken for a whole one
(OpenCV fills the missing part of a JPEG with grey and says nothing). A JPEG whose end marker is
there but whose picture data is damaged inside still decodes: the format carries no checksum.

For some damaged files libpng and libjpeg write a line of their own to standard error, beside the
reason that is given here. OpenCV has no switch for it; to unpack every PNG first would take as long
as to decode it; and what else could silence it, turning the process's standard error away, is not a
library's to do.

JPEG: ITU-T T.81 annex B. PNG: W3C PNG 3, section 5. WebP: RFC 9649. BMP: BITMAPINFOHEADER.
"""

import re
import stat
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

MAX_PIXELS = 50_000_000
"""A 50-megapixel photo; 150 MB when decoded."""
MAX_BYTES = 200_000_000
"""Largest file that is opened."""
MAX_SIDE_PX = 32_000
"""OpenCV's warps address pixels with 16 bits."""

# What ends a scan's data. No `\xff+`: a search would then run through a run of fill bytes once from
# each of them, and 60 KB of them would take seconds.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_NO_FILL = re.compile(rb"[^\xff]")
_FRAME_STARTS = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOF0..15 without DHT, JPG, DAC


class BadImage(ValueError):
    """An image that cannot be used; the text is the reason alone, without the path."""


def read_image(path: Path | str, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """RGB pixels, uint8 (H, W, 3), turned upright as the file's EXIF orientation says.

    Args:
        path: A JPEG, PNG, BMP or WebP file, recognised by its bytes and not by its name.
        max_pixels: Largest width times height that is decoded.

    Raises:
        BadImage: if the file is missing, empty, too large, truncated, or not such an image.
    """
    return decode_image(_bytes_of(Path(path)), max_pixels=max_pixels)


def decode_image(data: bytes, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """The same from the file's bytes.

    Raises:
        BadImage: if they are too large, truncated, or no such image.
    """
    width, height = image_size(data)
    if width * height > max_pixels or max(width, height) > MAX_SIDE_PX:
        raise BadImage(
            f"too large: {width}x{height} px (at most {max_pixels / 1e6:g} megapixels "
            f"and {MAX_SIDE_PX} px a side)"
        )
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise BadImage("damaged: it cannot be decoded") from error
    if pixels is None:
        raise BadImage("damaged: it cannot be decoded")
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)


def image_size(data: bytes) -> tuple[int, int]:
    """(width, height) in pixels as stored, before EXIF orientation; nothing is decoded.

    Raises:
        BadImage: if the bytes are no JPEG, PNG, BMP or WebP file, or not all of one.
    """
    for magic, name, parse in (
        (b"\xff\xd8\xff", "JPEG", _jpeg_size),
        (b"\x89PNG\r\n\x1a\n", "PNG", _png_size),
        (b"RIFF", "WebP", _webp_size),
        (b"BM", "BMP", _bmp_size),
    ):
        if data.startswith(magic):
            try:
                width, height = parse(data)
            except (struct.error, IndexError):
                raise BadImage(f"truncated {name}") from None
            if width < 1 or height < 1:
                raise BadImage(f"damaged {name}: {width}x{height} px")
            return width, height
    raise BadImage("not a JPEG, PNG, BMP or WebP image")


def _bytes_of(path: Path) -> bytes:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise BadImage("not a file")
        if status.st_size == 0:
            raise BadImage("zero bytes")
        if status.st_size > MAX_BYTES:
            size = f"{status.st_size / 1e6:.0f} MB"
            raise BadImage(f"too large: {size} (at most {MAX_BYTES // 10**6} MB)")
        return path.read_bytes()
    except BadImage:
        raise
    except (FileNotFoundError, ValueError):  # ValueError: a name that no file can have
        raise BadImage("no such file") from None
    except OSError as error:
        raise BadImage(f"cannot be read: {error.strerror}") from error


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """Walks the segments (B.1.1.4) to the end-of-image marker; a thumbnail inside one is not it."""
    size = None
    place = 2
    while True:
        found = _NO_FILL.search(data, place)  # of any number of fill bytes only the last counts
        start = len(data) if found is None else found.start() - 1
        if start < place or _MARKER.match(data, start) is None:
            raise BadImage("damaged JPEG" if start < len(data) else "truncated JPEG")
        place, marker = start + 2, data[start + 1]
        if marker == 0xD9:  # EOI
            break
        if marker in (0x01, 0xD8):  # no segment follows
            continue
        (length,) = struct.unpack_from(">H", data, place)
        if marker in _FRAME_STARTS and size is None:
            height, width = struct.unpack_from(">HH", data, place + 3)
            size = width, height
        place += length
        if marker == 0xDA:  # SOS: entropy-coded data up to the next marker
            found = _MARKER.search(data, place)
            if found is None:
                raise BadImage("truncated JPEG")
            place = found.start()
    if size is None:
        raise BadImage("damaged JPEG")
    return size


def _png_size(data: bytes) -> tuple[int, int]:
    """Walks the chunks to IEND and checks each one's CRC; pixels (IDAT) must be among them."""
    width, height = struct.unpack_from(">II", data, 16)
    place, has_pixels = 8, False
    while True:
        length, kind = struct.unpack_from(">I4s", data, place)
        (crc,) = struct.unpack_from(">I", data, place + 8 + length)
        if zlib.crc32(memoryview(data)[place + 4 : place + 8 + length]) != crc:
            raise BadImage("damaged PNG: a checksum is wrong")
        has_pixels = has_pixels or kind == b"IDAT"
        if kind == b"IEND":
            if not has_pixels:
                raise BadImage("damaged PNG: it holds no pixels")
            return width, height
        place += 12 + length


def _webp_size(data: bytes) -> tuple[int, int]:
    """VP8 (lossy), VP8L (lossless) or VP8X (extended) header."""
    length, form, kind = struct.unpack_from("<I4s4s", data, 4)
    if form != b"WEBP":
        raise BadImage("not a JPEG, PNG, BMP or WebP image")
    if len(data) < length + 8:
        raise BadImage("truncated WebP")
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8X":
        sides = data[24:30].ljust(6, b"\0")
        return int.from_bytes(sides[:3], "little") + 1, int.from_bytes(sides[3:], "little") + 1
    raise BadImage("damaged WebP")


def _bmp_size(data: bytes) -> tuple[int, int]:
    """BITMAPINFOHEADER and its successors; an uncompressed bitmap must be there to its last row."""
    (offset, header, width, height, _, bits, packing) = struct.unpack_from("<IIiiHHI", data, 10)
    if header < 40:
        raise BadImage("not a JPEG, PNG, BMP or WebP image")
    if packing in (0, 3) and width > 0:
        row = (width * bits + 31) // 32 * 4
        if len(data) < offset + row * abs(height):
            raise BadImage("truncated BMP")
    return width, abs(height)
