"""What share of real and of spoilt captures the quality gate refuses; writes quality.csv.

    PLIANT_DATA=/data OMP_NUM_THREADS=1 python benchmarks/quality.py      # about 2 minutes

NUAA (2,808 face crops) and the synthetic rig (40 people, 192 px), cut at 1.5 times the data's own
face boxes to 128 px; NUAA also at other sizes and scales. Each row is one way to spoil a copy:

    small     the face's longer side shrunk to so many px
    light     so many times the light, in steps of two (EV), in a gamma of 2.2
    blur      Gaussian, sigma in parts of the box's longer side
    streak    the mean along a horizontal line, in parts of the box's longer side
    cut       an image without so large a part of the face's width (side), or height (below)

`ms` is the time of the four measures alone, the least of ten means of 200 calls.
"""

import csv
import io
import os
import tempfile
import timeit
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from pliant.data.manifest import Sample, read_manifest
from pliant.data.rig import RigSettings, write_rig
from pliant.runtime.crop import crop_square
from pliant.runtime.files import write_atomic
from pliant.runtime.images import read_image
from pliant.runtime.quality import (
    BLURRED,
    CUT_OFF,
    DEFAULT_LIMITS,
    TOO_BRIGHT,
    TOO_DARK,
    poor_quality,
)

RESULTS = Path(__file__).parent / "results" / "quality.csv"
WAYS = [("as it is", 0.0), ("small", 48)]
WAYS += [("light", ev) for ev in (-8, -6, -4, 4, 6)]
WAYS += [("blur", sigma) for sigma in (0.02, 0.03, 0.04, 0.05)]
WAYS += [("streak", length) for length in (0.15, 0.25)]
WAYS += [("cut side", part) for part in (0.15, 0.3)] + [("cut below", 0.3)]
FEW = [("as it is", 0.0), ("light", -8), ("light", 6), ("blur", 0.05)]
REASONS = (TOO_DARK, TOO_BRIGHT, BLURRED, CUT_OFF)
HEADER = ("data", "size", "crop_scale", "way", "amount", "truth", "images", "refused")
HEADER += ("too_dark", "overexposed", "blurred", "cut_off", "ms")


def spoil(image: np.ndarray, box: Sequence[float], way: str, amount: float) -> tuple:
    """(image, box)."""
    x, y, width, height = box
    side = max(width, height)
    if way == "small":
        k = amount / side
        small = cv2.resize(image, None, fx=k, fy=k, interpolation=cv2.INTER_AREA)
        return small, tuple(k * value for value in box)
    if way == "light":
        levels = 255 * np.minimum(1, (np.arange(256) / 255) * 2 ** (amount / 2.2))
        return np.round(levels).astype(np.uint8)[image], box
    if way == "blur":
        return cv2.GaussianBlur(image, (0, 0), amount * side), box
    if way == "streak":
        return cv2.blur(image, (int(amount * side + 0.5) | 1, 1)), box
    if way == "cut side":
        first = round(x + amount * width)
        return np.ascontiguousarray(image[:, first:]), (x - first, y, width, height)
    if way == "cut below":
        return np.ascontiguousarray(image[: round(y + (1 - amount) * height)]), box
    return image, box


def rows_of(
    data: str, samples: Sequence[Sample], size: int, scale: float, ways: Sequence[tuple[str, float]]
) -> list[list]:
    images = [read_image(sample.path) for sample in samples]
    rows = []
    for way, amount in ways:
        found: Counter[tuple[bool, str | None]] = Counter()
        for sample, image in zip(samples, images, strict=True):
            assert sample.box is not None
            spoilt, box = spoil(image, sample.box, way, amount)
            crop = crop_square(spoilt, box, scale=scale, size=size)
            reason = poor_quality(crop, box, spoilt.shape, crop_scale=scale, limits=DEFAULT_LIMITS)
            found[bool(sample.bona_fide), reason] += 1
        for truth in (True, False):
            total = sum(count for key, count in found.items() if key[0] == truth)
            each = [found[truth, reason] for reason in REASONS]
            name = "bona_fide" if truth else "attack"
            rows.append([data, size, scale, way, amount, name, total, sum(each), *each])
    ms = milliseconds(size, scale)
    return [[*row, ms] for row in rows]


def milliseconds(size: int, scale: float) -> str:
    crop = np.random.default_rng(0).integers(0, 255, (size, size, 3)).astype(np.uint8)

    def call() -> None:  # a crop that passes, so that everything is measured
        poor_quality(crop, (9, 9, 50, 60), (480, 640), crop_scale=scale, limits=DEFAULT_LIMITS)

    return f"{min(timeit.repeat(call, number=200, repeat=10)) / 200 * 1000:.3f}"


def main() -> None:
    cv2.setNumThreads(1)
    nuaa = read_manifest(Path(os.environ["PLIANT_DATA"]) / "nuaa" / "manifest.csv")
    rows = rows_of("nuaa", nuaa, 128, 1.5, WAYS)
    for size, scale in ((96, 1.5), (224, 1.5), (128, 1.0), (80, 2.7)):
        rows += rows_of("nuaa, every third", nuaa[::3], size, scale, FEW)
    settings = RigSettings(clips_per_subject=4, attack_clips=1, frames=1, size=192)
    with tempfile.TemporaryDirectory() as folder:
        rig = read_manifest(write_rig(settings, Path(folder) / "rig", progress=False))
        rows += rows_of("rig", rig, 128, 1.5, WAYS)
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([HEADER, *rows])
    write_atomic(RESULTS, out.getvalue())


if __name__ == "__main__":
    main()
