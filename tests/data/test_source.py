"""Any of the three places gives samples with boxes; photos are cut once, resumed, skipped."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from pliant.data import faces as faces_file
from pliant.data.crops import CropDataset
from pliant.data.faces import cache_folder, cut_out
from pliant.data.manifest import read_manifest
from pliant.data.nuaa import nuaa
from pliant.data.source import open_source
from pliant.errors import UserError
from pliant.runtime.crop import crop_square
from pliant.runtime.faces import Face
from pliant.runtime.images import read_image

needs_data = pytest.mark.skipif(
    not os.environ.get("PLIANT_DATA"), reason="needs real faces: set PLIANT_DATA"
)


class Blobs:
    """Stands in for a face detector: every bright square is a face; counts its calls."""

    name = "blobs"
    calls = 0

    def __init__(self, detector=None) -> None:
        pass

    def find(self, image: np.ndarray) -> list[Face]:
        Blobs.calls += 1
        count, _, stats, _ = cv2.connectedComponentsWithStats(
            (image[..., 0] > 200).astype(np.uint8)
        )
        boxes = [tuple(map(float, stats[k, :4])) for k in range(1, count)]
        return [Face(box=box, landmarks=((box[0], box[1]),) * 5, confidence=1.0) for box in boxes]


@pytest.fixture
def blobs(monkeypatch):
    monkeypatch.setattr(faces_file, "FaceFinder", Blobs)
    Blobs.calls = 0
    return Blobs


def photo(path: Path, *squares: tuple[int, int, int]) -> None:
    image = np.full((240, 320, 3), 60, np.uint8)
    for x, y, side in squares:
        image[y : y + side, x : x + side] = 250
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), image)


@pytest.fixture
def photos(tmp_path) -> Path:
    root = tmp_path / "photos"
    for k in range(20):
        photo(root / f"live/s{k % 4}/{k}.png", (100 + k, 80, 60))
        photo(root / f"spoof/print/s{k % 4}/{k}.png", (10, 20 + k, 130))
    photo(root / "live/s0/nobody.png")
    photo(root / "live/s0/two.png", (10, 10, 60), (200, 100, 60))
    photo(root / "spoof/print/s1/far.png", (10, 10, 20))
    (root / "spoof/print/s1/empty.jpg").touch()
    return root


def test_videos_of_a_folder_are_cut_too(photos, tmp_path, blobs):
    for name in ("live/s0/film.avi", "spoof/print/s1/film.avi"):
        writer = cv2.VideoWriter(
            str(photos / name), cv2.VideoWriter.fourcc(*"MJPG"), 20, (320, 240)
        )
        frame = np.full((240, 320, 3), 60, np.uint8)
        frame[80:140, 100:160] = 250
        for _ in range(9):
            writer.write(frame)
        writer.release()
    (photos / "spoof/print/s2/broken.mp4").write_bytes(b"no video")
    for k in range(200):  # so that one broken video is under 5 %
        photo(photos / f"live/s3/more{k}.png", (100, 80, 60))
    source = open_source(photos, "pad", cache_dir=tmp_path / "cache")
    films = [s for s in source.samples if s.clip]
    assert {(s.clip, s.bona_fide, s.subject) for s in films} == {
        ("live/s0/film.avi", True, "s0"), ("spoof/print/s1/film.avi", False, "s1"),
    }  # fmt: skip
    assert len(films) == 16
    assert {s.box is not None and s.frame is None for s in films} == {True}
    broken = [s.reason for s in source.skipped if s.path.name == "broken.mp4"]
    assert len(broken) == 8
    assert set(broken) == {"is no video; MP4, MOV, AVI, Matroska, WebM, MPEG, Ogg are read"}


def test_photos_are_cut_and_skipped_with_reasons(photos, tmp_path, blobs):
    source = open_source(photos, "pad", cache_dir=tmp_path / "cache")
    assert len(source.samples) == 40
    assert [(s.path.name, s.reason) for s in source.skipped] == [
        ("nobody.png", "no face found"),
        ("two.png", "several faces found"),
        ("empty.jpg", "zero bytes"),
        ("far.png", "the face is too small"),
    ]
    assert source.name == "photos"
    assert source.notes[0] == "faces were found in 40 of 44 photos by blobs"
    assert "1 bona fide: no face found" in source.notes[1]
    sample = source.samples[0]
    assert (sample.name, sample.subject, sample.bona_fide) == ("live/s0/0.png", "s0", True)
    assert sample.path.is_relative_to((tmp_path / "cache").resolve())
    assert sample.presentation == "live/s0/0.png"
    folder = cache_folder(photos, None, tmp_path / "cache")
    assert len(read_manifest(folder / "manifest.csv")) == 40
    assert folder.stat().st_mode & 0o077 == 0


def test_a_crop_of_the_cut_out_is_the_crop_of_the_photo(photos, tmp_path, blobs):
    source = open_source(photos, "pad", cache_dir=tmp_path / "cache")
    small, large = (CropDataset(source.samples, size=48, crop_scale=s) for s in (1.5, 1.9))
    for data in (small, large):
        for k in (0, 7, 25):
            image = read_image(photos / source.samples[k].name)
            (face,) = Blobs().find(image)
            crop = crop_square(image, face.box, scale=data.crop_scale, size=48)
            difference = np.abs(data.crop(k).astype(int) - crop)
            if face.side < 128:  # not shrunk: the very same pixels
                assert difference.max() == 0
            assert difference.mean() < 4


def test_a_wide_crop_is_cut_wide(photos, tmp_path, blobs):
    source = open_source(photos, "pad", cache_dir=tmp_path / "cache", crop_scale=4)
    data = CropDataset(source.samples, size=48, crop_scale=4)
    image = read_image(photos / source.samples[0].name)
    (face,) = Blobs().find(image)
    crop = crop_square(image, face.box, scale=4, size=48)
    assert np.abs(data.crop(0).astype(int) - crop).mean() < 4


def test_one_in_thirty_unreadable_is_not_counted_twice(photos, tmp_path, blobs):
    (photos / "spoof/print/s1/empty2.jpg").touch()  # 2 of 45: 4.4 %
    source = open_source(photos, "pad", cache_dir=tmp_path / "cache")
    assert sum(skip.reason == "zero bytes" for skip in source.skipped) == 2


def test_a_second_run_looks_at_nothing_again(photos, tmp_path, blobs):
    first = open_source(photos, "pad", cache_dir=tmp_path / "cache")
    calls = blobs.calls
    again = open_source(photos, "pad", cache_dir=tmp_path / "cache")
    assert blobs.calls == calls == 43  # the empty file was not decoded
    assert again == first
    photo(photos / "live/s0/nobody.png", (50, 50, 80))
    journal = cache_folder(photos, None, tmp_path / "cache") / "journal.jsonl"
    journal.write_text(journal.read_text() + '{"name": "live/s0/0.p')  # killed in mid-line
    third = open_source(photos, "pad", cache_dir=tmp_path / "cache")
    assert blobs.calls == calls + 1
    assert len(third.samples) == 41


def test_a_killed_run_goes_on(photos, tmp_path, blobs, monkeypatch):
    def find(self, image):
        if blobs.calls >= 12:
            raise KeyboardInterrupt
        return seen(self, image)

    seen = blobs.find
    monkeypatch.setattr(blobs, "find", find)
    with pytest.raises(KeyboardInterrupt):
        open_source(photos, "pad", cache_dir=tmp_path / "cache")
    monkeypatch.setattr(blobs, "find", seen)
    blobs.calls = 0
    assert len(open_source(photos, "pad", cache_dir=tmp_path / "cache").samples) == 40
    assert blobs.calls < 43


def test_cut_out_by_hand():
    image = np.random.default_rng(0).integers(0, 255, (100, 120, 3), np.uint8)
    face = Face(box=(40.0, 30.0, 16.0, 20.0), landmarks=((42.0, 33.0),) * 5, confidence=1.0)
    part, box, points = cut_out(image, face)  # centre (48, 40), side 40: columns 28..68
    assert np.array_equal(part, image[20:60, 28:68])
    assert box == [12, 10, 16, 20]
    assert points == [[14, 13]] * 5
    edge = Face(box=(-5.0, 80.0, 16.0, 20.0), landmarks=None, confidence=1.0)
    part, box, points = cut_out(image, edge)  # x -17..23, y 70..110: only what exists
    assert np.array_equal(part, image[70:100, 0:23])
    assert box == [-5, 10, 16, 20]
    large = np.repeat(np.repeat(image, 10, axis=0), 10, axis=1)
    part, box, _ = cut_out(large, Face(box=(400.0, 300.0, 160, 200), landmarks=None, confidence=1))
    assert part.shape == (256, 256, 3)
    assert box == pytest.approx([76.8, 64, 102.4, 128])


def test_manifest_and_folder_give_the_same_hash_everywhere(tmp_path):
    hashes = set()
    for name in ("a", "b"):
        root = tmp_path / name
        photo(root / "live/1/x.png", (0, 0, 60))
        photo(root / "spoof/print/2/y.png", (0, 0, 60))
        (root / "manifest.csv").write_text(
            "path,subject,bona_fide,pai_species,box_x,box_y,box_w,box_h\n"
            "spoof/print/2/y.png,2,0,print,0,0,60,60\nlive/1/x.png,1,1,,0,0,60,60\n"
        )
        for path in (root, root / "manifest.csv"):
            source = open_source(path, "pad")
            assert source.name == name
            assert source.skipped == source.notes == []
            assert [s.subject for s in source.samples] == ["2", "1"]
            hashes.add(source.sha256)
        (root / "manifest.csv").rename(root / "other.csv")
        assert open_source(root / "other.csv", "pad").name == "other"
    assert len(hashes) == 1


def test_class_folders(tmp_path):
    photo(tmp_path / "set/owl/x.png")
    photo(tmp_path / "set/cat/y.png")
    source = open_source(tmp_path / "set", "classify")
    assert [s.label for s in source.samples] == ["cat", "owl"]
    assert source.samples[0].path == tmp_path.resolve() / "set/cat/y.png"


def test_refusals(tmp_path, blobs):
    with pytest.raises(UserError, match="no such data"):
        open_source(tmp_path / "none", "pad")
    (tmp_path / "a.zip").touch()
    with pytest.raises(UserError, match=r"neither a folder nor a .csv manifest"):
        open_source(tmp_path / "a.zip", "pad")
    photo(tmp_path / "set/owl/x.png")
    (tmp_path / "set/manifest.csv").write_text("path,label\nowl/x.png,owl\n")
    with pytest.raises(UserError, match=r"1 of 1 samples, owl/x.png first, have no bona_fide"):
        open_source(tmp_path / "set", "pad")
    photo(tmp_path / "empty/live/x.png")
    with pytest.raises(UserError, match=r"no photo of 1 can be used \(1 x no face found\)"):
        open_source(tmp_path / "empty", "pad", cache_dir=tmp_path / "cache")
    (tmp_path / "empty/live/y.png").touch()
    with pytest.raises(UserError, match="1 of 2 images cannot be used, more than 5 %"):
        open_source(tmp_path / "empty", "pad", cache_dir=tmp_path / "cache")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot make the cache folder"):
        open_source(tmp_path / "empty", "pad", cache_dir=tmp_path / "file")


@needs_data
def test_nuaa():
    root = Path(os.environ["PLIANT_DATA"]) / "nuaa"
    samples = nuaa(root)
    assert len(samples) == 2808
    assert sum(s.bona_fide is True for s in samples) == 1041
    assert {s.subject for s in samples if s.split == "dev"} == {"0007", "0008", "0009"}
    source = open_source(root, "pad")
    assert [s.name for s in source.samples] == [s.name for s in samples]
    assert (source.name, source.skipped) == ("nuaa", [])


def test_another_set_is_not_nuaa(tmp_path):
    (tmp_path / "manifest.csv").write_text("path,bona_fide\na.jpg,1\n")
    with pytest.raises(UserError, match="is not NUAA"):
        nuaa(tmp_path)
