"""Find the face that is to be judged: the cascade inside OpenCV 4.x, or YuNet from a file.

Both give boxes of one rule, YuNet's: taller than wide, from the forehead to the chin, so that a
crop scale means the same for both. The cascade's square is converted by constants measured on NUAA
(cascade `frontalface_alt2`, which missed 2 faces of 2,808 and found a second one in 10 images):
against YuNet's boxes of the same N = 2,805 faces the converted box has a median error of 4.4 % in
its longer side (90 % of faces within 10.9 %) and of 2.2 % of that side in its centre; median
intersection over union 0.89. On 23 whole 640x480 frames the constants came out within 0.02.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from pliant.errors import UserError
from pliant.runtime.yunet import YuNet

DETECTION_SIDE_PX = 640
"""Larger images are shrunk to this longer side for detection, never for the crop."""
MIN_SIDE_PX = 48
"""Smallest face, by its box's longer side, that is judged: half of the default input, 96 px."""
SECOND_FACE_SHARE = 0.5
"""A further face counts as another person when at least this share of the largest one's side."""
MIN_NEIGHBOURS = 6
"""Overlapping hits that the cascade needs; true NUAA faces had 8 to 118, false ones 5 to 25."""
CASCADE = "haarcascade_frontalface_alt2.xml"

HAAR_CENTRE = (-0.012, 0.009)
"""Shift of the box's centre, in sides of the cascade's square; median of N = 2,805 faces."""
HAAR_SIZE = (0.801, 1.056)
"""Width and height of YuNet's box, in sides of the cascade's square; median of the same faces."""

Reason = Literal["no_face", "several_faces", "face_too_small"]


@dataclass(frozen=True, kw_only=True)
class Face:
    """One detection, in pixels of the image that was given."""

    box: tuple[float, float, float, float]
    """x, y, width, height; may reach over the image's edge."""
    landmarks: tuple[tuple[float, float], ...] | None
    """Right eye, left eye, nose, right and left corner of the mouth (the person's own right);
    the cascade has none."""
    confidence: float
    """In [0, 1]: YuNet's score; n / (n + 6) for n overlapping hits of the cascade."""

    @property
    def side(self) -> float:
        """The box's longer side in pixels."""
        return max(self.box[2:])


@dataclass(frozen=True)
class Undecided:
    """No face was chosen, and why."""

    reason: Reason


class FaceFinder:
    """Finds faces; may be called from several threads.

    Args:
        detector: A YuNet ONNX file; None: the cascade that comes with OpenCV 4.x.

    Raises:
        UserError: if the file is no YuNet, or OpenCV has no cascade.
    """

    def __init__(self, detector: Path | str | None = None) -> None:
        self.detector = None if detector is None else Path(detector)
        self.name = (
            "OpenCV frontalface_alt2" if detector is None else f"YuNet {Path(detector).name}"
        )
        self._local = threading.local()  # a cascade object serves one thread at a time
        self._yunet = None if detector is None else YuNet(detector)
        if detector is None:
            self._cascade()

    def find(self, image: NDArray[np.uint8]) -> list[Face]:
        """The faces of an upright RGB image, uint8 (H, W, 3), largest first."""
        height, width = image.shape[:2]
        scale = min(1.0, DETECTION_SIDE_PX / max(height, width))
        if scale < 1:
            size = (max(1, round(width * scale)), max(1, round(height * scale)))
            image = cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.uint8)
        found = self._by_yunet(image) if self._yunet else self._by_cascade(image)
        scale_x, scale_y = width / image.shape[1], height / image.shape[0]
        faces = [_scaled(face, scale_x, scale_y) for face in found]
        return _without_parts(sorted(faces, key=lambda face: face.side, reverse=True))

    def _by_yunet(self, image: NDArray[np.uint8]) -> list[Face]:
        assert self._yunet is not None
        rows = self._yunet(cv2.cvtColor(image, cv2.COLOR_RGB2BGR).astype(np.uint8, copy=False))
        return [
            Face(
                box=(row[0], row[1], row[2], row[3]),
                landmarks=tuple(zip(row[4:14:2], row[5:14:2], strict=True)),
                confidence=row[14],
            )
            for row in rows.tolist()
        ]

    def _by_cascade(self, image: NDArray[np.uint8]) -> list[Face]:
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        squares, hits = self._cascade().detectMultiScale2(
            grey, scaleFactor=1.1, minNeighbors=MIN_NEIGHBOURS, minSize=(32, 32)
        )
        return [
            Face(
                box=box_from_haar(*(float(v) for v in square[:3])),
                landmarks=None,
                confidence=float(n / (n + MIN_NEIGHBOURS)),
            )
            for square, n in zip(squares, np.ravel(hits), strict=True)
        ]

    def _cascade(self) -> Any:
        if not hasattr(self._local, "cascade"):
            folder = getattr(getattr(cv2, "data", None), "haarcascades", None)
            if folder is None or not (Path(folder) / CASCADE).is_file():
                raise UserError(
                    f"OpenCV {cv2.__version__} has no face cascade; install "
                    "'opencv-python-headless<5', or give --detector a YuNet .onnx file"
                )
            self._local.cascade = cv2.CascadeClassifier(str(Path(folder) / CASCADE))
        return self._local.cascade

    def __getstate__(self) -> dict[str, Any]:
        return {"detector": self.detector}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["detector"])


def choose_face(
    faces: Sequence[Face],
    *,
    min_side: float = MIN_SIDE_PX,
    second_face_share: float = SECOND_FACE_SHARE,
) -> Face | Undecided:
    """The one face to judge, or the reason why there is none.

    Args:
        faces: As `FaceFinder.find` returns them, in any order.
        min_side: Smallest usable longer side in pixels.
        second_face_share: Faces with a smaller share of the largest one's side are background.
    """
    if not faces:
        return Undecided("no_face")
    largest, *others = sorted(faces, key=lambda face: face.side, reverse=True)
    if others and others[0].side >= second_face_share * largest.side:
        return Undecided("several_faces")
    if largest.side < min_side:
        return Undecided("face_too_small")
    return largest


def box_from_haar(x: float, y: float, side: float) -> tuple[float, float, float, float]:
    """YuNet's box for a square of the cascade."""
    width, height = (side * share for share in HAAR_SIZE)
    centre_x = x + side / 2 + HAAR_CENTRE[0] * side
    centre_y = y + side / 2 + HAAR_CENTRE[1] * side
    return centre_x - width / 2, centre_y - height / 2, width, height


def _scaled(face: Face, x: float, y: float) -> Face:
    left, top, width, height = face.box
    points = face.landmarks and tuple((px * x, py * y) for px, py in face.landmarks)
    return Face(
        box=(left * x, top * y, width * x, height * y),
        landmarks=points,
        confidence=face.confidence,
    )


def _without_parts(faces: Sequence[Face]) -> list[Face]:
    """Drops hits whose centre lies inside a larger face: eyes, noses, doubles."""
    kept: list[Face] = []
    for face in faces:
        x, y = face.box[0] + face.box[2] / 2, face.box[1] + face.box[3] / 2
        inside = any(
            k.box[0] <= x <= k.box[0] + k.box[2] and k.box[1] <= y <= k.box[1] + k.box[3]
            for k in kept
        )
        if not inside:
            kept.append(face)
    return kept
