"""Cut the network's square input out of an image: one function for training, evaluation, devices.

Coordinates: pixel edges, so an image of width W covers [0, W] and the centre of its first pixel
lies at 0.5. Box: (x, y, width, height) in pixels; it may reach over the image's edge.

Sampling: every output pixel is the mean of k x k bilinear samples on an even grid, k = the smallest
whole number that puts them at most one source pixel apart (k = 1 when enlarging). That is
antialiased at any reduction and simple enough to repeat in another language. Samples and means are
rounded to whole grey levels, so a result lies within one level of the exact value.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from pliant.errors import UserError

Border = Literal["reflect101", "replicate", "black"]
Box = tuple[float, float, float, float]

_BORDERS = {
    "reflect101": cv2.BORDER_REFLECT_101,
    "replicate": cv2.BORDER_REPLICATE,
    "black": cv2.BORDER_CONSTANT,
}


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """How an image becomes the network's input; stored with every model."""

    size: int = 96
    """Side of the square input in pixels, 16 to 1024."""
    crop_scale: float = 1.5
    """Side of the cut-out, in multiples of the face box's longer side, 0.5 to 8; without a box the
    largest centred square is cut."""
    border: Border = "reflect101"
    """What stands for pixels outside the image: its reflection, its edge, or black."""
    colour: Literal["rgb"] = "rgb"
    """Order of the channels."""
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    """Subtracted from each channel, which runs from 0 to 1."""
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    """Divides each channel afterwards, > 0; 0.5 and 0.5 give x / 127.5 - 1."""

    def __post_init__(self) -> None:
        if not 16 <= self.size <= 1024:
            raise UserError(f"Preprocessing.size must lie in [16, 1024] px, got {self.size}")
        if not 0.5 <= self.crop_scale <= 8:
            raise UserError(f"Preprocessing.crop_scale must lie in [0.5, 8], got {self.crop_scale}")
        if self.border not in get_args(Border):
            raise UserError(
                f"Preprocessing.border must be {', '.join(get_args(Border))}, got {self.border!r}"
            )
        if self.colour != "rgb":
            raise UserError(f"Preprocessing.colour must be rgb, got {self.colour!r}")
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != 3 or not all(math.isfinite(v) for v in values):
                raise UserError(f"Preprocessing.{name} needs three numbers, got {values}")
        if min(self.std) <= 0:
            raise UserError(f"Preprocessing.std must be > 0, got {self.std}")

    def to_json(self) -> dict[str, Any]:
        """Plain numbers, texts and lists."""
        record = asdict(self)
        return record | {"mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "Preprocessing":
        """The reverse of `to_json`; what is left out takes its default.

        Raises:
            ValueError: on unknown names or values out of range.
        """
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(record) - known):
            raise ValueError(f"Preprocessing does not know {', '.join(unknown)}")
        values = dict(record)
        for name in ("mean", "std"):
            if name in values:
                values[name] = tuple(values[name])
        return cls(**values)


def crop_square(
    image: NDArray[np.uint8],
    box: Sequence[float] | None,
    *,
    scale: float,
    size: int,
    border: str = "reflect101",
) -> NDArray[np.uint8]:
    """A square around the box, uint8 (size, size, 3).

    Args:
        image: uint8 (H, W, 3).
        box: (x, y, width, height) in pixels; None: the largest centred square of the whole image.
        scale: Side of the square in multiples of the box's longer side; without a box ignored.
        size: Side of the result in pixels.
        border: `reflect101`, `replicate` or `black`, for what lies outside the image.

    Raises:
        ValueError: on a box without area, or another border.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise ValueError(f"crop_square needs uint8 (H, W, 3), got {image.dtype} {image.shape}")
    if border not in _BORDERS:
        raise ValueError(f"unknown border {border!r}; allowed: {', '.join(_BORDERS)}")
    left, top, side = _square(image.shape[:2], box, scale)
    num_samples = max(1, math.ceil(side / size - 1e-6))  # k, along each axis
    grid = size * num_samples
    step = side / grid  # source pixels from one sample to the next, <= 1 when shrinking
    first = 0.5 * step - 0.5  # the first sample's place, in indices of source pixels
    matrix = np.array([[step, 0.0, left + first], [0.0, step, top + first]])
    samples = cv2.warpAffine(
        image,
        matrix,
        (grid, grid),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=_BORDERS[border],
    )
    if num_samples > 1:
        samples = cv2.resize(samples, (size, size), interpolation=cv2.INTER_AREA)
    return samples.astype(np.uint8, copy=False)


def to_input(crop: NDArray[np.uint8], preprocessing: Preprocessing) -> NDArray[np.float32]:
    """(x / 255 - mean) / std of a crop, float32 (3, size, size)."""
    mean = np.asarray(preprocessing.mean, np.float32)
    std = np.asarray(preprocessing.std, np.float32)
    values = (crop.astype(np.float32) / np.float32(255) - mean) / std
    return np.ascontiguousarray(values.transpose(2, 0, 1))


def _square(
    shape: Sequence[int], box: Sequence[float] | None, scale: float
) -> tuple[float, float, float]:
    """(left, top, side) of the cut-out in pixels."""
    height, width = shape
    if box is None:
        side = float(min(height, width))
        return (width - side) / 2, (height - side) / 2, side
    x, y, box_width, box_height = (float(value) for value in box)
    if not (math.isfinite(x) and math.isfinite(y) and 0 < box_width < 1e6 and 0 < box_height < 1e6):
        raise ValueError(f"crop_square needs a box (x, y, width > 0, height > 0), got {tuple(box)}")
    side = scale * max(box_width, box_height)
    if not 0 < side < 1e6:
        raise ValueError(f"crop_square needs a scale > 0, got {scale}")
    return x + box_width / 2 - side / 2, y + box_height / 2 - side / 2, side
