import csv
import io
import json
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from pliant.data.rig import ATTACKS, RigSet, RigSettings, contact_sheet, render, workers, write_rig
from pliant.data.rig import dataset as module
from pliant.errors import UserError

TINY = RigSettings(subjects=3, clips_per_subject=1, attack_clips=1, frames=2, size=48, seed=1)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rig(TINY, tmp_path_factory.mktemp("rig") / "faces", progress=False, workers=2)


def test_the_number_of_workers_changes_nothing(manifest: Path) -> None:
    rig = render(TINY, progress=False, workers=1)
    with manifest.open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(rig) == 3 * 5 * 2
    for row, frame in zip(rows, rig.frames, strict=True):
        assert (manifest.parent / row["path"]).read_bytes() == frame.jpeg
        assert row["clip"] == frame.clip


def test_the_manifest_is_right(manifest: Path) -> None:
    with manifest.open() as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == module.COLUMNS
    split: dict[str, set[str]] = {}
    for row in rows:
        split.setdefault(row["subject"], set()).add(row["split"])
        assert row["device"] == "synthetic-rig"
        assert row["path"].startswith("synthetic/")
        assert (row["bona_fide"] == "1") == (row["pai_species"] == "")
        colour = cv2.imread(str(manifest.parent / row["path"]))
        depth = cv2.imread(str(manifest.parent / row["depth_path"]), cv2.IMREAD_UNCHANGED)
        infrared = cv2.imread(str(manifest.parent / row["ir_path"]), cv2.IMREAD_UNCHANGED)
        assert colour is not None
        assert depth is not None
        assert infrared is not None
        assert colour.shape == (48, 48, 3)
        assert depth.shape == infrared.shape == (48, 48)
        assert (depth.dtype, infrared.dtype) == (np.uint16, np.uint8)
        assert 200 < np.median(depth[12:36, 12:36]) < 1000
        assert 10 < float(row["box_h"]) < 48
        assert float(row["right_eye_x"]) < float(row["left_eye_x"])
    assert {row["pai_species"] for row in rows} == {"", *ATTACKS}
    assert sorted(s for found in split.values() for s in found) == ["dev", "test", "train"]
    note = json.loads((manifest.parent / "rig.json").read_text())
    assert note["synthetic"] is True
    assert note["subjects"] == 3


def test_an_existing_folder_is_refused(manifest: Path) -> None:
    with pytest.raises(UserError, match="exists already; give the rig a new folder"):
        write_rig(TINY, manifest.parent, progress=False)


def test_a_broken_run_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> list[str]:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "save", full)
    with pytest.raises(OSError, match="No space left"):
        write_rig(TINY, tmp_path / "faces", progress=False, workers=1)
    assert list(tmp_path.iterdir()) == []


def test_a_dead_worker_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers.sys, "executable", "/bin/false")
    with pytest.raises(RuntimeError, match="a rendering process ended with 1"):
        list(workers.each_clip(TINY, 2))


def test_frames_survive_the_pipe(small_rig: RigSet) -> None:
    pipe = io.BytesIO()
    workers.send(small_rig.frames[:2], pipe)
    pipe.seek(0)
    for sent, got in zip(small_rig.frames[:2], workers.receive(pipe), strict=True):
        for name in ("colour", "depth", "infrared", "landmarks"):
            assert np.array_equal(getattr(sent, name), getattr(got, name))
        assert (sent.jpeg, sent.box, sent.clip) == (got.jpeg, got.box, got.clip)
    assert workers.receive(pipe) == []


def test_contact_sheet_shows_one_row_a_kind(small_rig: RigSet) -> None:
    sheet = contact_sheet(small_rig, 4, gap=2)
    assert sheet.shape == (5 * 66 + 2, 4 * 66 + 2, 3)
    assert np.array_equal(sheet[2:66, 2:66], small_rig.frames[0].colour)
    with pytest.raises(ValueError, match="at least one column"):
        contact_sheet(small_rig, 0)


def test_rendering_is_fast_enough_to_be_a_default() -> None:
    """A smoke test with much slack: benchmarks/rig.py measures."""
    settings = RigSettings(subjects=3, clips_per_subject=1, attack_clips=1, frames=2, size=96)
    begin = time.process_time()
    rig = render(settings, progress=False, workers=1)
    assert (time.process_time() - begin) / len(rig) < 0.25
