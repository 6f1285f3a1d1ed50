"""Crops: the same pixels as the run time's, bounded memory, unreadable files left out."""

import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from pliant.data.crops import CropDataset, load_or_skip, targets_of
from pliant.data.manifest import Sample
from pliant.errors import UserError
from pliant.runtime.crop import crop_square
from pliant.runtime.images import read_image


def write_images(folder: Path, number: int) -> list[Sample]:
    random = np.random.default_rng(0)
    listed = []
    for k in range(number):
        path = folder / f"{k:03d}.png"
        cv2.imwrite(str(path), random.integers(0, 256, (40, 48, 3), np.uint8))
        box = (10.0, 8.0, 16.0, 20.0) if k % 3 else None
        listed.append(Sample(path=path, name=path.name, bona_fide=k % 2 == 0, box=box))
    return listed


def test_items(tmp_path):
    listed = write_images(tmp_path, 5)
    data = CropDataset(listed, size=24, crop_scale=1.2, border="black")
    assert len(data) == 5
    for k, sample in enumerate(listed):
        item = data[k]
        image = read_image(sample.path)
        crop = crop_square(image, sample.box, scale=1.2, size=24, border="black")
        assert item["image"].dtype == torch.uint8
        assert np.array_equal(item["image"].permute(1, 2, 0).numpy(), crop)
        assert (int(item["target"]), int(item["index"])) == (1 - k % 2, k)
        assert item["target"].dtype == item["index"].dtype == torch.int64


def test_what_is_cached_is_not_read_again_and_the_rest_is(tmp_path):
    listed = write_images(tmp_path, 4)
    data = CropDataset(listed, size=16, crop_scale=1.0, cache_bytes=2 * 3 * 16 * 16)
    first = [data[k]["image"] for k in range(4)]
    for sample in listed[:2]:
        sample.path.unlink()
    assert all(torch.equal(data[k]["image"], first[k]) for k in range(4))
    listed[3].path.unlink()
    with pytest.raises(UserError, match=r"003.png cannot be used: no such file"):
        data[3]


def test_pickles_without_its_cache_and_serves_workers(tmp_path):
    data = CropDataset(write_images(tmp_path, 6), size=16, crop_scale=1.0)
    small = len(pickle.dumps(data))
    expected = torch.stack([data[k]["image"] for k in range(6)])
    assert len(pickle.dumps(data)) == small
    again = pickle.loads(pickle.dumps(data))
    assert torch.equal(torch.stack([again[k]["image"] for k in range(6)]), expected)
    batch = next(iter(DataLoader(again, batch_size=6)))
    assert torch.equal(batch["image"], expected)
    assert batch["target"].tolist() == [1, 0, 1, 0, 1, 0]


def test_targets_of_labels():
    listed = [Sample(path=Path("a"), label=label) for label in ("owl", "cat", "owl")]
    assert targets_of(listed) == [1, 0, 1]
    assert targets_of(listed, ["ant", "cat", "owl"]) == [2, 1, 2]
    with pytest.raises(ValueError, match=r"\['owl'\] are not among the classes \['cat'\]"):
        targets_of(listed, ["cat"])


def test_bad_files_are_skipped_with_the_reason(tmp_path):
    listed = write_images(tmp_path, 60)
    listed[7].path.write_bytes(b"")
    data = listed[9].path.read_bytes()
    listed[9].path.write_bytes(data[: len(data) // 2])
    listed[50].path.unlink()
    kept, skipped = load_or_skip(listed)
    assert kept == [s for k, s in enumerate(listed) if k not in (7, 9, 50)]
    assert [(s.path.name, s.reason) for s in skipped] == [
        ("007.png", "zero bytes"),
        ("009.png", "truncated PNG"),
        ("050.png", "no such file"),
    ]
    assert load_or_skip(listed, workers=1) == (kept, skipped)


def test_more_than_5_percent_stops(tmp_path):
    listed = write_images(tmp_path, 60)
    for sample in listed[:4]:
        sample.path.write_bytes(b"")
    message = r"4 of 60 images cannot be used, more than 5 %.*000.png: zero bytes.*and 1 more"
    with pytest.raises(UserError, match=message):
        load_or_skip(listed)
    with pytest.raises(UserError, match="no images"):
        load_or_skip([])
