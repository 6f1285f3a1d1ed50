"""Untrusted image files: read upright and whole, or refused with the reason."""

import os
import struct
import time
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pliant.runtime.images import BadImage, image_size, read_image

ENDINGS = (".jpg", ".png", ".bmp", ".webp")


def picture(width: int, height: int) -> np.ndarray:
    """A smooth RGB picture that JPEG keeps almost unchanged."""
    x, y = np.meshgrid(np.linspace(0, 200, width), np.linspace(0, 200, height))
    return np.stack([x, y, 255 - x], axis=2).astype(np.uint8)


def encode(rgb: np.ndarray, ending: str) -> bytes:
    return cv2.imencode(ending, cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))[1].tobytes()


def with_orientation(jpeg: bytes, value: int) -> bytes:
    """The JPEG with an EXIF segment that holds the orientation tag alone."""
    tiff = b"II*\0" + struct.pack("<IHHHIHH", 8, 1, 0x112, 3, 1, value, 0) + b"\0" * 4
    body = b"Exif\0\0" + tiff
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + jpeg[2:]


@pytest.mark.parametrize("ending", ENDINGS)
def test_reads_rgb(tmp_path, ending):
    path = tmp_path / f"a{ending}"
    path.write_bytes(encode(picture(40, 24), ending))
    image = read_image(path)
    assert image.shape == (24, 40, 3)
    assert image.dtype == np.uint8
    assert np.abs(image.astype(int) - picture(40, 24)).mean() < 4


def test_grey_and_alpha_become_rgb(tmp_path):
    for channels in (1, 4):
        pixels = np.full((8, 8, channels), 90, np.uint8)
        path = tmp_path / f"{channels}.png"
        path.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
        assert np.array_equal(read_image(path), np.full((8, 8, 3), 90))


def test_exif_orientation_turns_the_image(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(with_orientation(encode(picture(64, 32), ".jpg"), 6))  # 90 degrees clockwise
    expected = np.rot90(picture(64, 32), k=-1).astype(int)
    image = read_image(path)
    assert image.shape == expected.shape
    assert np.abs(image - expected).mean() < 4


@given(width=st.integers(1, 70), height=st.integers(1, 70), ending=st.sampled_from(ENDINGS))
def test_size_is_read_without_decoding(width, height, ending):
    assert image_size(encode(picture(width, height), ending)) == (width, height)


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_truncation_is_noticed(ending):
    data = encode(picture(24, 16), ending)
    for length in range(len(data)):
        with pytest.raises(BadImage):
            image_size(data[:length])


def test_progressive_and_restart_markers_are_walked():
    rgb = np.random.default_rng(0).integers(0, 255, (40, 56, 3), np.uint8)
    flags = [cv2.IMWRITE_JPEG_PROGRESSIVE, 1, cv2.IMWRITE_JPEG_RST_INTERVAL, 2]
    data = cv2.imencode(".jpg", rgb, flags)[1].tobytes()
    assert image_size(data) == (56, 40)
    with pytest.raises(BadImage, match="truncated JPEG"):
        image_size(data[:-2])


def test_fill_bytes_take_no_time():
    data = encode(picture(24, 16), ".jpg")
    scan = data.index(b"\xff\xda")
    (length,) = struct.unpack_from(">H", data, scan + 2)
    body = scan + 2 + length
    fill = b"\xff" * 10**6
    begun = time.perf_counter()
    assert image_size(data[:scan] + fill + data[scan:]) == (24, 16)
    assert image_size(data[:-2] + fill + data[-2:]) == (24, 16)
    for scanned in (fill + b"\x00", fill + b"\xd0", fill + b"\x00\xff\xd3" + fill + b"\x00"):
        assert image_size(data[:body] + scanned + b"\xff\xd9") == (24, 16)
    for cut in (data[:body] + fill, data[:body] + fill + b"\x00", data[:scan] + fill):
        with pytest.raises(BadImage, match="truncated JPEG"):
            image_size(cut)
    with pytest.raises(BadImage, match="damaged JPEG"):
        image_size(data[:scan] + fill + b"\x00" + data[scan:])
    assert time.perf_counter() - begun < 1


def test_a_whole_thumbnail_does_not_hide_a_cut_photo():
    data = with_orientation(encode(picture(64, 32), ".jpg"), 1)
    thumbnail = encode(picture(8, 8), ".jpg")
    segment = b"\xff\xe2" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    whole = data[:2] + segment + data[2:]
    assert image_size(whole) == (64, 32)
    assert image_size(whole + b"what cameras append") == (64, 32)
    with pytest.raises(BadImage, match="truncated"):
        image_size(whole[:-20])


def test_png_checksum(tmp_path):
    data = bytearray(encode(picture(24, 16), ".png"))
    data[60] ^= 1
    with pytest.raises(BadImage, match="checksum"):
        image_size(bytes(data))


def test_a_small_file_cannot_claim_a_huge_picture(tmp_path):
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 9)), (b"IEND", b"")]
    data = b"\x89PNG\r\n\x1a\n"
    for kind, body in chunks:
        data += struct.pack(">I", len(body)) + kind + body
        data += struct.pack(">I", zlib.crc32(kind + body))
    path = tmp_path / "bomb.png"
    path.write_bytes(data)
    with pytest.raises(BadImage, match="too large: 60000x60000 px"):
        read_image(path)
    path.write_bytes(encode(picture(40, 24), ".png"))
    with pytest.raises(BadImage, match="too large"):
        read_image(path, max_pixels=900)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "zero bytes"),
        (b"hello", "not a JPEG, PNG, BMP or WebP"),
        (b"GIF89a" + b"\0" * 50, "not a JPEG, PNG, BMP or WebP"),
        (b"\xff\xd8\xff\xd9", "damaged JPEG"),
        (b"\xff\xd8\xff\xe0", "truncated JPEG"),
    ],
)
def test_refusals(tmp_path, content, reason):
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    with pytest.raises(BadImage, match=reason):
        read_image(path)


def test_things_that_are_no_files(tmp_path):
    with pytest.raises(BadImage, match="no such file"):
        read_image(tmp_path / "none.jpg")
    for name in ("a\0b", "\ud800"):
        with pytest.raises(BadImage, match="no such file"):
            read_image(name)
    with pytest.raises(BadImage, match="not a file"):
        read_image(tmp_path)
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(BadImage, match="not a file"):
        read_image(tmp_path / "pipe.jpg")


def test_a_png_without_pixels(tmp_path, capfd):
    data = encode(picture(8, 8), ".png")
    first = data.index(b"IDAT") - 4
    path = tmp_path / "a.png"
    path.write_bytes(data[:first] + data[data.index(b"IEND") - 4 :])
    with pytest.raises(BadImage, match="damaged PNG: it holds no pixels"):
        read_image(path)
    assert capfd.readouterr().err == ""


@given(data=st.binary(max_size=200), start=st.sampled_from([b"", b"\xff\xd8\xff", b"BM", b"RIFF"]))
def test_any_bytes_give_a_size_or_a_reason(data, start):
    try:
        width, height = image_size(start + data)
    except BadImage:
        return
    assert width > 0
    assert height > 0
