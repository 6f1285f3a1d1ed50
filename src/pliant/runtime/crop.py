"""From a photo and a face box to the network's input: the preprocessing contract.

Training, evaluation and every device cut faces with this one function.

Shapes: H, W = height and width in pixels, S = input side in pixels.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import cv2
import numpy as np

from pliant.errors import UserError

Border = Literal["reflect101", "replicate", "black"]
Box = tuple[float, float, float, float]
"""x, y of the upper left corner, width, height; pixels, not rounded."""

BORDERS = {
    "reflect101": cv2.BORDER_REFLECT_101,
    "replicate": cv2.BORDER_REPLICATE,
    "black": cv2.BORDER_CONSTANT,
}


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """What a network expects of its input; stored with its weights."""

    size: int = 96
    """Side of the square input, pixels, >= 16."""
    crop_scale: float = 1.5
    """Side of the square cut from the photo, in units of the larger side of the face box, > 0."""
    border: Border = "reflect101"
    """What stands where the square leaves the photo: reflect101, replicate or black."""
    colour: Literal["rgb"] = "rgb"
    """Order of the channels."""
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    """Subtracted from x / 255."""
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    """Then divided by; 0.5 and 0.5 equal x / 127.5 - 1."""

    def __post_init__(self) -> None:
        if self.size < 16:
            raise UserError(f"size must be >= 16 pixels, got {self.size}")
        if not self.crop_scale > 0:
            raise UserError(f"crop_scale must be > 0, got {self.crop_scale}")
        if self.border not in BORDERS:
            raise UserError(f'unknown border "{self.border}"; allowed: {", ".join(BORDERS)}')
        if min(self.std) <= 0:
            raise UserError(f"std must be > 0, got {self.std}")

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "Preprocessing":
        """The settings that `to_json` wrote.

        Raises:
            UserError: if the record lacks a field or has an unknown one.
        """
        try:
            mean, std = tuple(record["mean"]), tuple(record["std"])
            return cls(**{**record, "mean": mean, "std": std})
        except (KeyError, TypeError) as problem:
            raise UserError(f"this is no preprocessing record: {problem}") from problem


def crop_square(
    image: np.ndarray, box: Box | None, *, scale: float, size: int, border: Border = "reflect101"
) -> np.ndarray:
    """The square around a face box, resampled once; uint8 (size, size, 3).

    Its side is `scale` times the larger side of the box, its centre the box's. Shrinking averages
    (a Gaussian of the width that the ratio asks for), enlarging interpolates linearly.

    Args:
        image: uint8 (H, W, 3).
        box: None takes the centre square of the whole image, and `scale` is not used.
        scale: In units of the larger side of the box, > 0.
        size: Side of the result, pixels.
        border: See `Preprocessing.border`.

    Raises:
        ValueError: if the box has no area.
    """
    height, width = image.shape[:2]
    if box is None:
        side = float(min(height, width))
        centre_x, centre_y = width / 2, height / 2
    else:
        x, y, box_width, box_height = box
        if not (box_width > 0 and box_height > 0):
            raise ValueError(f"crop_square needs a box with an area, got {box}")
        side = scale * max(box_width, box_height)
        centre_x, centre_y = x + box_width / 2, y + box_height / 2
    ratio = size / side
    mode = BORDERS[border]
    if ratio < 1:
        # Pixels are squares of width 1: the blur makes up the difference to squares of 1 / ratio.
        sigma = 0.5 * np.sqrt(1 / ratio**2 - 1)
        margin = side / 2 + 3 * sigma + 2
        left, top = (max(0, int(c - margin)) for c in (centre_x, centre_y))
        right, bottom = (int(c + margin) + 1 for c in (centre_x, centre_y))
        image = image[top:bottom, left:right]
        if not image.size:
            return np.zeros((size, size, 3), np.uint8)
        centre_x, centre_y = centre_x - left, centre_y - top
        if sigma > 0.05:
            image = cv2.GaussianBlur(image, (0, 0), sigma, borderType=mode)
    # Pixel centres lie at half-integers: output u + 0.5 = ratio * (x + 0.5 - centre) + size / 2.
    offset = [ratio * (0.5 - c) + size / 2 - 0.5 for c in (centre_x, centre_y)]
    matrix = np.array([[ratio, 0, offset[0]], [0, ratio, offset[1]]])
    return cv2.warpAffine(image, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=mode)


def to_input(crop: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """uint8 (S, S, 3) to the network's float32 (3, S, S)."""
    mean = np.array(preprocessing.mean, np.float32)
    std = np.array(preprocessing.std, np.float32)
    return np.ascontiguousarray(((crop.astype(np.float32) / 255 - mean) / std).transpose(2, 0, 1))
