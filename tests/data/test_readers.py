"""Every reader is named; a text names one; its videos become cut-outs."""

import ast
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from pliant.data import faces as faces_file
from pliant.data.crops import CropDataset
from pliant.data.readers import READERS, parse, read
from pliant.data.source import open_source
from pliant.errors import UserError
from pliant.runtime.faces import Face

DATA = Path(READERS["siw"].__code__.co_filename).parent


def test_every_reader_is_in_the_dict():
    defined = {
        node.name.removeprefix("read_")
        for path in DATA.glob("*.py")
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef)
        and isinstance(node.returns, ast.Name)
        and node.returns.id == "Reading"
        and node.name.startswith("read_")
    }
    assert {name.removeprefix("any_") for name in defined} == set(READERS)
    for name, reader in READERS.items():
        assert reader.__doc__, name


def test_parse():
    assert parse("siw:/data/SiW?protocol=2.1&frames=4") == (
        "siw", Path("/data/SiW"), {"protocol": "2.1", "frames": "4"},
    )  # fmt: skip
    assert parse("nuaa:x") == ("nuaa", Path("x"), {})
    assert parse("C:\\data") is None
    assert parse("/data/siw") is None
    with pytest.raises(UserError, match="names no path"):
        parse("nuaa:")
    with pytest.raises(UserError, match="no option=value"):
        parse("nuaa:x?protocol")


def test_refusals(tmp_path):
    with pytest.raises(UserError, match="unknown data set 'oulu'"):
        read("oulu", tmp_path)
    with pytest.raises(UserError, match="lcc_fasd has no option 'protocol'; allowed: none"):
        read("lcc_fasd", tmp_path, protocol="1")
    with pytest.raises(UserError, match="dev_share must lie between 0 and 1, got 2"):
        read("siw", tmp_path, dev_share="2")
    with pytest.raises(UserError, match="no such folder"):
        read("siw", tmp_path / "none", protocol=None)
    with pytest.raises(UserError, match="siw is a set of anti-spoofing; leave --task classify out"):
        open_source(f"siw:{tmp_path}", "classify")
    with pytest.raises(UserError, match="no such data"):
        open_source("siws:/nowhere", "pad")


def test_folder_and_manifest(tmp_path):
    for name in ("live/1/a.png", "spoof/print/1/b.png"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    assert len(read("folder", tmp_path).samples) == 2
    (tmp_path / "manifest.csv").write_text("path,bona_fide\nlive/1/a.png,1\n")
    assert read("manifest", tmp_path).samples == read("manifest", tmp_path / "manifest.csv").samples


class Bright:
    """Stands in for a face detector: the bright square is the face."""

    name = "bright"
    calls = 0

    def __init__(self, detector=None) -> None:
        pass

    def find(self, image: np.ndarray) -> list[Face]:
        Bright.calls += 1
        rows, columns = np.nonzero(image[..., 0] > 180)
        x, y = int(columns.min()), int(rows.min())
        box = (float(x), float(y), float(np.ptp(columns) + 1), float(np.ptp(rows) + 1))
        return [Face(box=box, landmarks=None, confidence=1.0)]


@pytest.fixture
def bright(monkeypatch):
    monkeypatch.setattr(faces_file, "FaceFinder", Bright)
    Bright.calls = 0
    return Bright


def film(path: Path, count: int = 12) -> None:
    """A square of 64 px that moves 4 px a frame."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 20, (192, 160))
    for k in range(count):
        image = np.full((160, 192, 3), 60, np.uint8)
        image[40:104, 20 + 4 * k : 84 + 4 * k] = 250
        writer.write(image)
    writer.release()


@pytest.fixture
def replay(tmp_path) -> Path:
    root = tmp_path / "replay"
    for word in ("train", "devel", "test"):
        film(root / f"{word}/real/client001_session01_webcam_authenticate_adverse_1.mov")
        name = "attack_print_client001_session01_highdef_photo_adverse.mov"
        film(root / f"{word}/attack/fixed/{name}")
    return root


def test_videos_become_cut_outs_and_are_decoded_once(replay, tmp_path, bright):
    where = f"replay_attack:{replay}?frames=3"
    source = open_source(where, "pad", cache_dir=tmp_path / "cache")
    assert source.name == "replay_attack"
    assert len(source.samples) == 18
    first = source.samples[0]
    assert (first.frame, first.path.suffix, first.clip is not None) == (None, ".png", True)
    assert first.box is not None
    assert first.box[2:] == pytest.approx((64, 64), abs=4)
    assert {s.presentation for s in source.samples if s.split == "dev"} == {
        "devel/real/client001_session01_webcam_authenticate_adverse_1.mov",
        "devel/attack/fixed/attack_print_client001_session01_highdef_photo_adverse.mov",
    }
    crop = CropDataset(source.samples, size=32, crop_scale=1.0).crop(0)
    assert crop.mean() > 220
    calls = bright.calls
    again = open_source(where, "pad", cache_dir=tmp_path / "cache")
    assert again == source
    assert bright.calls == calls == 18
    other = open_source(f"replay_attack:{replay}?frames=4", "pad", cache_dir=tmp_path / "cache")
    assert len(other.samples) == 24
    assert other.sha256 != source.sha256


def test_a_broken_video_is_counted_with_its_reason(replay, tmp_path, bright):
    for k in range(2, 22):
        film(replay / f"train/real/client{k:03d}_session01_webcam_authenticate_adverse_1.mov", 2)
    broken = replay / "train/real/client001_session01_webcam_authenticate_adverse_1.mov"
    broken.write_bytes(b"no video")
    source = open_source(f"replay_attack:{replay}?frames=1", "pad", cache_dir=tmp_path / "cache")
    (skip,) = source.skipped
    assert skip.path == broken
    assert "is no video" in skip.reason


def test_content_boxes_keep_depth_and_infrared(tmp_path, bright):
    root = tmp_path / "surf"
    lines = {}
    for k, (part, species) in enumerate((("real", "real"), ("fake", "01_e_s"))):
        names = []
        for kind in ("color", "depth", "ir"):
            name = f"Training/{part}_part/CLKJ_{k}/{species}.rssdk/{kind}/1.jpg"
            (root / name).parent.mkdir(parents=True)
            image = np.zeros((120, 100, 3), np.uint8)
            image[8:112, 16:80] = 200
            cv2.imwrite(str(root / name), image)
            names.append(name)
        lines[part] = f"{' '.join(names)} {1 - k}"
    for word in ("train", "val_private", "test_private"):
        (root / f"{word}_list.txt").write_text("\n".join(lines.values()))
    (root / "val_private_list.txt").write_text("")
    (root / "test_private_list.txt").write_text("")
    for _ in range(2):
        source = open_source(f"casia_surf:{root}", "pad", cache_dir=tmp_path / "cache")
        live, _attack = source.samples
        assert live.path == root / "Training/real_part/CLKJ_0/real.rssdk/color/1.jpg"
        assert live.depth_path is not None
        assert live.box == pytest.approx((16, 8, 64, 104), abs=2)
        assert live.box_rule is None
    assert bright.calls == 0
    assert not any("depth and infrared" in note for note in source.notes)


def test_shipped_boxes_are_cut_and_bad_ones_counted(tmp_path, bright):
    root, labels = tmp_path / "celeba", {"train": {}, "test": {}}
    boxes = {"1": "56 56 112 112 0.9", "2": "28 28 168 168 0.9", "3": "", "9": "-9 -9 180 180 0.9"}
    for who, box in boxes.items():
        part = "test" if who == "9" else "train"
        for kind, values in (("live", [0] * 4), ("spoof", [1, 1, 1, 1])):
            name = f"Data/{part}/{who}/{kind}/000001.png"
            (root / name).parent.mkdir(parents=True)
            cv2.imwrite(str(root / name), np.full((224, 224, 3), 90, np.uint8))
            (root / name).with_name("000001_BB.txt").write_text(box)
            labels[part][name] = [0] * 40 + values
    (root / "metas/intra_test").mkdir(parents=True)
    for part, held in labels.items():
        (root / f"metas/intra_test/{part}_label.json").write_text(json.dumps(held))
    source = open_source(f"celeba_spoof:{root}?dev_share=0.4", "pad", cache_dir=tmp_path / "cache")
    assert {s.reason for s in source.skipped} == {"its face file is empty"}
    assert len(source.skipped) == 2
    sides = {s.subject: (s.path.suffix, s.box and s.box[2:]) for s in source.samples}
    assert sides == {
        "1": (".png", (112, 112)),
        "2": (".png", (168, 168)),
        "9": (".png", (171, 171)),
    }
    assert bright.calls == 0
    assert any("of 8 photos by celeba_spoof" in note for note in source.notes)
