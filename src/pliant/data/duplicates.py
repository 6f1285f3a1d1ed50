"""Near-duplicates on two sides of a split: the same frame in training and test proves nothing.

The hash is a difference hash of 256 bits: the grey image is shrunk to 17 x 16 by area, and each
bit says whether a pixel is brighter than its left neighbour. Two images are near-duplicates where
at most 20 bits differ. Measured on NUAA (2,808 crops of 9 people): copies at 0.7 of the size and
JPEG quality 60 differ in at most 19 bits (median 7), images of two people in at least 28.

Shapes: N = images of one side, M = of the other.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from pliant.data.frames import read_sample
from pliant.data.manifest import Sample, Skipped
from pliant.data.progress import map_threads, watched
from pliant.runtime.images import BadImage

SIDE = 16
"""Rows of the hash, and bits in a row."""
BITS = SIDE * SIDE
MAX_BITS = 20
"""Most bits in which near-duplicates differ."""
CHUNK = 2048
"""Images of one side that are compared at a time."""


def dhash(image: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """256 bits of an RGB image (H, W, 3)."""
    small = cv2.resize(
        cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (SIDE + 1, SIDE), interpolation=cv2.INTER_AREA
    )
    return (small[:, 1:] > small[:, :-1]).ravel()


def distances(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Bits in which each of N hashes differs from each of M, (N, M)."""
    a, b = (hashes.astype(np.float32) * 2 - 1 for hashes in (first, second))
    return np.rint((BITS - a @ b.T) / 2).astype(np.int64)


def hash_all(
    samples: Sequence[Sample], *, progress: bool = True
) -> tuple[list[Sample], NDArray[np.bool_], list[Skipped]]:
    """Samples that could be read, their hashes in order, and the others with the reason."""

    def work(sample: Sample) -> NDArray[np.bool_] | str:
        try:
            return dhash(read_sample(sample))
        except BadImage as error:
            return str(error)

    steps = map_threads(work, samples)
    kept, hashes, skipped = [], [], []
    for sample, found in zip(
        samples, watched(steps, len(samples), "hashing", progress=progress), strict=True
    ):
        if isinstance(found, str):
            skipped.append(Skipped(sample.path, found))
        else:
            kept.append(sample)
            hashes.append(found)
    return kept, np.array(hashes, bool).reshape(-1, BITS), skipped


def across_splits(
    samples: Sequence[Sample], hashes: NDArray[np.bool_]
) -> list[tuple[Sample, Sample, int]]:
    """Pairs of near-duplicates on two sides of the split, and the bits in which they differ.

    Every image is compared with every one of the other sides: 20,000 in seconds, not more.

    Args:
        samples: With their splits.
        hashes: Of each.
    """
    sides = [sample.split for sample in samples]
    names = sorted({side for side in sides if side})
    pairs = []
    for k, one in enumerate(names):
        for other in names[k + 1 :]:
            rows = np.flatnonzero([side == one for side in sides])
            columns = np.flatnonzero([side == other for side in sides])
            for start in range(0, len(rows), CHUNK):
                part = rows[start : start + CHUNK]
                bits = distances(hashes[part], hashes[columns])
                pairs += [
                    (samples[int(part[i])], samples[int(columns[j])], int(bits[i, j]))
                    for i, j in np.argwhere(bits <= MAX_BITS)
                ]
    return pairs
