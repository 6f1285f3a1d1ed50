"""The trivial baseline: colour histograms of the whole crop and a logistic regression.

It sees no face, only how much of each colour there is. Whatever it can separate is told by camera,
print gamut and light; a network's numbers mean something only beside it. On NUAA (96 px, fitted on
subjects 1-6, judged on 7-9) it reaches an AUC of 0.95; such a baseline does not survive a change
of camera.

Shapes: N = images, S = side in pixels, F = features.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float64, UInt8
from scipy.optimize import minimize
from scipy.special import expit

from pliant.errors import UserError

IMAGES_PER_CHUNK = 64


@dataclass(frozen=True, kw_only=True)
class ColourHistogram:
    """Settings of the baseline."""

    bins: int = 16
    """Bins per channel, a power of two from 2 to 256; channels are R, G, B, H, S, V."""
    l2: float = 1e-3
    """Weight of the squared coefficients against the mean log-loss, > 0."""

    def __post_init__(self) -> None:
        if self.bins not in (2, 4, 8, 16, 32, 64, 128, 256):
            raise ValueError(f"ColourHistogram.bins must be 2, 4, 8 ... 256, got {self.bins}")
        if not self.l2 > 0:
            raise ValueError(f"ColourHistogram.l2 must be > 0, got {self.l2}")


@dataclass(frozen=True, kw_only=True, eq=False)
class Baseline:
    """A fitted baseline; `score` takes crops."""

    settings: ColourHistogram
    mean: Float64[np.ndarray, " F"]
    scale: Float64[np.ndarray, " F"]
    weights: Float64[np.ndarray, " F"]
    bias: float

    def score(self, images: UInt8[np.ndarray, "N S S 3"]) -> Float64[np.ndarray, " N"]:
        """Probability of bona fide, in [0, 1]."""
        features = (colour_histograms(images, bins=self.settings.bins) - self.mean) / self.scale
        return expit(features @ self.weights + self.bias)


def colour_histograms(
    images: UInt8[np.ndarray, "N S S 3"], *, bins: int
) -> Float64[np.ndarray, "N F"]:
    """Square roots of the share of pixels per bin, for R, G, B, H, S, V in turn (F = 6 bins).

    Args:
        images: RGB.
        bins: A power of two; hue is spread over all 256 values first.

    Raises:
        ValueError: on anything but uint8 RGB images.
    """
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
        raise ValueError(
            f"the baseline needs uint8 RGB images (N, S, S, 3), got {images.dtype} {images.shape}"
        )
    num_pixels = images.shape[1] * images.shape[2]
    shift = 8 - (bins.bit_length() - 1)
    features = np.empty((len(images), 6 * bins))
    for first in range(0, len(images), IMAGES_PER_CHUNK):
        chunk = images[first : first + IMAGES_PER_CHUNK]
        num = len(chunk)
        strip = np.ascontiguousarray(chunk).reshape(num * images.shape[1], images.shape[2], 3)
        hsv = cv2.cvtColor(strip, cv2.COLOR_RGB2HSV_FULL).reshape(num, num_pixels, 3)
        values = np.concatenate([chunk.reshape(num, num_pixels, 3), hsv], axis=2)
        cell = (
            np.right_shift(values, shift)
            + bins * np.arange(6)
            + 6 * bins * np.arange(num)[:, None, None]
        )
        count = np.bincount(cell.ravel(), minlength=num * 6 * bins)
        features[first : first + num] = np.sqrt(count.reshape(num, -1) / num_pixels)
    return features


def fit_baseline(
    images: UInt8[np.ndarray, "N S S 3"],
    bona_fide: Bool[np.ndarray, " N"],
    settings: ColourHistogram | None = None,
) -> Baseline:
    """Logistic regression on the colour histograms of training crops, both classes weighing alike.

    Raises:
        UserError: if a class is missing.
        ValueError: if images and labels differ in number.
    """
    settings = settings or ColourHistogram()
    bona_fide = np.asarray(bona_fide, dtype=bool)
    if len(images) != len(bona_fide):
        raise ValueError(f"got {len(images)} images and {len(bona_fide)} labels")
    if bona_fide.all() or not bona_fide.any():
        raise UserError(
            f"the colour baseline needs both classes, got {int(bona_fide.sum())} bona fide images "
            f"and {int((~bona_fide).sum())} attacks"
        )
    features = colour_histograms(images, bins=settings.bins)
    mean, scale = features.mean(axis=0), features.std(axis=0) + 1e-3  # empty bins stay harmless
    features = (features - mean) / scale
    sign = np.where(bona_fide, 1.0, -1.0)
    share = np.where(bona_fide, 0.5 / bona_fide.sum(), 0.5 / (~bona_fide).sum())

    def loss_and_gradient(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        weights, bias = parameters[:-1], parameters[-1]
        margin = sign * (features @ weights + bias)
        loss = share @ np.logaddexp(0, -margin) + settings.l2 * weights @ weights
        slope = -share * sign * expit(-margin)
        return float(loss), np.r_[features.T @ slope + 2 * settings.l2 * weights, slope.sum()]

    start = np.zeros(features.shape[1] + 1)
    found = minimize(loss_and_gradient, start, jac=True, method="L-BFGS-B").x
    return Baseline(
        settings=settings, mean=mean, scale=scale, weights=found[:-1], bias=float(found[-1])
    )
