"""Frames of a video file or a camera, upright RGB, one at a time; by OpenCV, without a window.

A file is recognised by its bytes and not by its name, and read by FFmpeg alone, so that a name with
`%d` or `http:` in it is a name and nothing else. Video carries no checksum: where a file is cut off
or damaged inside, its frames end there, or a frame is partly grey.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from pliant.errors import UserError
from pliant.runtime.fields import path_of
from pliant.runtime.images import MAX_PIXELS, MAX_SIDE_PX

MAX_FRAMES = 100_000
"""Most frames of one video that are given out; an hour at 28 a second."""
STILL_BRANDS = frozenset(b"heic heix hevc hevx heim heis mif1 msf1 avif avis".split())
"""Photos in the container of MP4: HEIF and AVIF."""
GRABS = 5
"""Failed grabs in a row after which a camera is given up."""
RETRY_S = 0.1
"""Between them, in seconds."""
MAX_CAMERA = 63
"""Largest number of a camera."""


@dataclass(frozen=True)
class Frame:
    """One frame of many."""

    index: int
    """Its place in the video, from 0; skipped frames count."""
    time_s: float | None
    """Seconds from the start; None: the file does not say how fast it runs."""
    image: NDArray[np.uint8]
    """RGB, upright, (H, W, 3)."""


def is_video(path: Path | str) -> bool:
    """Whether a file begins as MP4, MOV, AVI, Matroska, WebM, MPEG or Ogg does.

    Raises:
        OSError: if it cannot be read.
    """
    with open(path, "rb") as file:
        head = file.read(189)
    if head[4:8] == b"ftyp" and head[8:12] in STILL_BRANDS:
        return False
    return (
        head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide")  # MP4, MOV
        or (head[:4] == b"RIFF" and head[8:12] == b"AVI ")
        or head[:4] in (b"\x1a\x45\xdf\xa3", b"\x00\x00\x01\xba", b"OggS")  # Matroska, MPEG, Ogg
        or (head[:1] == b"G" and head[188:] == b"G")  # MPEG transport stream: packets of 188 bytes
    )


class Footage:
    """An open video or camera; made by `video` or `camera`, and closed as a context."""

    def __init__(self, capture: Any, name: str, *, is_camera: bool) -> None:
        self._capture, self.name, self.is_camera = capture, name, is_camera
        width, height, count, rate = (
            float(capture.get(key))
            for key in (
                cv2.CAP_PROP_FRAME_WIDTH,
                cv2.CAP_PROP_FRAME_HEIGHT,
                cv2.CAP_PROP_FRAME_COUNT,
                cv2.CAP_PROP_FPS,
            )
        )
        self.num_frames = int(count) if 0 < count < 1e12 and not is_camera else None
        """As the file says, which may be wrong; None: unknown."""
        self.frames_per_s = rate if 0.01 <= rate <= 1000 and not is_camera else None
        """As the file says; None: unknown."""
        self.ended: str | None = None
        """Why the frames came to an end; None: they did not, or they were left early."""
        try:
            _check_size(name, width, height)
        except UserError:
            self.close()
            raise

    @classmethod
    def video(cls, path: Path | str) -> "Footage":
        """A video file.

        Raises:
            UserError: if it is named by no path, missing, no video, or its frames are too large.
        """
        path = path_of(path, "a video")
        try:
            if not path.is_file() or not is_video(path):
                raise UserError(
                    f"{path} is no video; MP4, MOV, AVI, Matroska, WebM, MPEG, Ogg are read"
                )
        except OSError as problem:
            raise UserError(f"{path} cannot be read: {problem.strerror}") from problem
        # FFmpeg prints its own complaints otherwise; what is wrong is said once, here
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
        with _quiet():
            capture = cv2.VideoCapture(str(path.resolve()), cv2.CAP_FFMPEG)
        if not capture.isOpened():
            raise UserError(f"{path} cannot be opened: damaged, or in a format that is not read")
        return cls(capture, str(path), is_camera=False)

    @classmethod
    def camera(cls, number: int = 0) -> "Footage":
        """A camera of this device.

        Raises:
            UserError: if it is no number, there is none of it, or another program uses it.
        """
        if isinstance(number, bool) or not isinstance(number, int):
            raise UserError(f"a camera is named by its number, got {number!r:.60}")
        if not 0 <= number <= MAX_CAMERA:
            raise UserError(f"a camera's number lies in [0, {MAX_CAMERA}], got {number}")
        with _quiet():
            capture = cv2.VideoCapture(number)
        if not capture.isOpened():
            raise UserError(
                f"camera {number} cannot be opened; is it plugged in, allowed, and used by no "
                "other program?"
            )
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # the newest frame, not one that waited
        return cls(capture, f"camera:{number}", is_camera=True)

    def frames(
        self,
        *,
        every: int = 1,
        seconds: float | None = None,
        most: int | None = MAX_FRAMES,
        now: Callable[[], float] = time.monotonic,
    ) -> Iterator[Frame]:
        """The frames in order.

        Args:
            every: 1: all; n: the first of each n.
            seconds: A camera ends after this time; None: it never ends.
            most: Most frames that are given out; a camera ends there; None: no limit.
            now: A clock in seconds, for cameras.

        Raises:
            UserError: if not one frame can be read, there are more than `most`, a frame is too
                large, or a camera stops giving frames.
        """
        if isinstance(every, bool) or not isinstance(every, int) or every < 1:
            raise UserError(f"every must be a whole number, at least 1, got {every!r:.60}")
        start, given, index, failed = now(), 0, 0, 0
        while True:
            grabbed = self._grab()
            passed = now() - start
            if self.is_camera and seconds is not None and passed > seconds:
                self.ended = f"after {seconds:g} seconds, as asked"
                break
            if not grabbed and (failed := failed + 1) < GRABS and self.is_camera:
                time.sleep(RETRY_S)
                continue
            if not grabbed:
                break
            failed = 0
            if index % every == 0:
                if given == most and self.is_camera:
                    self.ended = f"after {most:,} frames, the most of one presentation"
                    break
                if given == most:
                    raise UserError(
                        f"{self.name} has more than {most:,} frames to judge; take fewer: --every"
                    )
                image = self._image()
                if image is not None:
                    rate = self.frames_per_s
                    in_file = None if rate is None else index / rate
                    yield Frame(index, passed if self.is_camera else in_file, image)
                    given += 1
            index += 1
        if not given:
            raise UserError(f"{self.name} gave not one frame that can be read")
        if failed >= GRABS:
            raise UserError(
                f"{self.name} stopped giving frames after {passed:.1f} s; is it still plugged in, "
                "and used by no other program?"
            )
        self.ended = self.ended or "at its last frame"

    def close(self) -> None:
        """Let others use the camera."""
        self._capture.release()

    def _grab(self) -> bool:
        try:
            return bool(self._capture.grab())
        except cv2.error:
            return False

    def _image(self) -> NDArray[np.uint8] | None:
        try:
            right, pixels = self._capture.retrieve()
        except cv2.error:
            return None
        if not right or pixels is None or pixels.ndim != 3 or not pixels.size:
            return None
        _check_size(self.name, pixels.shape[1], pixels.shape[0])
        return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _check_size(name: str, width: float, height: float) -> None:
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE_PX:
        raise UserError(
            f"the frames of {name} are too large: {width:.0f}x{height:.0f} px (at most "
            f"{MAX_PIXELS / 1e6:g} megapixels and {MAX_SIDE_PX} px a side)"
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """OpenCV says nothing by itself meanwhile."""
    logging: Any = cv2.utils.logging
    before = logging.setLogLevel(logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        logging.setLogLevel(before)
