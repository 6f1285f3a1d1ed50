"""Near-duplicates: copies are found, other images are not, and only across the split."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from pliant.data.duplicates import BITS, MAX_BITS, across_splits, dhash, distances, hash_all
from pliant.data.manifest import Sample


def scene(seed: int) -> np.ndarray:
    small = np.random.default_rng(seed).integers(0, 256, (12, 12, 3), np.uint8)
    return cv2.resize(small, (160, 120), interpolation=cv2.INTER_CUBIC)


def test_hash_by_hand():
    ramp = np.repeat(np.tile(np.arange(0, 170, 10, np.uint8), (16, 1))[..., None], 3, axis=2)
    assert dhash(ramp).all()
    assert not dhash(ramp[:, ::-1].copy()).any()
    assert dhash(ramp).shape == (BITS,)


def test_distances_against_a_loop():
    first, second = np.random.default_rng(0).random((2, 7, BITS)) > 0.5
    slow = [[sum(x != y for x, y in zip(a, b, strict=True)) for b in second] for a in first]
    assert distances(first, second).tolist() == slow


def test_copies_across_splits(tmp_path):
    samples = []
    for k in range(12):
        image = scene(k % 10)
        if k >= 10:  # 0 and 1 once more, smaller and recompressed
            image = cv2.resize(image, None, fx=0.7, fy=0.7, interpolation=cv2.INTER_AREA)
        path = tmp_path / f"{k}.jpg"
        cv2.imwrite(str(path), image, [cv2.IMWRITE_JPEG_QUALITY, 95 if k < 10 else 60])
        split = "train" if k < 5 else "test"
        samples.append(Sample(path=path, name=str(k), split=split, bona_fide=True))
    samples[11] = replace(samples[11], split="train")  # a copy on its own side is none
    samples.append(Sample(path=tmp_path / "none.jpg", name="none", split="test"))
    kept, hashes, skipped = hash_all(samples)
    assert [(s.path.name, s.reason) for s in skipped] == [("none.jpg", "no such file")]
    pairs = across_splits(kept, hashes)
    assert [(b.name, a.name) for a, b, _ in pairs] == [("0", "10")]
    assert pairs[0][2] == pytest.approx(0, abs=MAX_BITS)
    assert across_splits([], hashes[:0]) == []
