"""Which frames are meant, by hand; read exactly, from files that lie about their length too."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pliant.data.crops import CropDataset, load_or_skip
from pliant.data.frames import clip_samples, pick_some, picks, place, read_frames, read_sample
from pliant.data.manifest import Sample, read_manifest, write_manifest
from pliant.errors import UserError
from pliant.runtime.images import BadImage


def film(path: Path, count: int, size=(64, 48)) -> Path:
    """A video whose frame k is grey of 10 + 8 k."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 20, size)
    for k in range(count):
        writer.write(np.full((size[1], size[0], 3), 10 + 8 * k, np.uint8))
    writer.release()
    return path


def shades(frames) -> list[int]:
    return [round((float(frame.image.mean()) - 10) / 8) for frame in frames]


def test_places_by_hand():
    assert picks("3") == ["0of3", "1of3", "2of3"]
    assert [place(pick, 30) for pick in picks("3")] == [5, 15, 25]
    assert picks("first2") == ["0", "1"]
    assert [place(pick, 150) for pick in picks("mico")] == [6, 81]
    assert [place(pick, 5) for pick in picks("mico")] == [4, 4]
    assert pick_some(["a", "b", "c", "d"], "2") == ["b", "d"]
    assert pick_some(["a", "b"], "8") == ["a", "b"]
    assert pick_some([], "8") == []


@given(st.integers(1, 60), st.integers(1, 500))
def test_places_lie_inside_and_rise(number, count):
    places = [place(pick, count) for pick in picks(str(number))]
    assert places == sorted(places)
    assert 0 <= places[0] <= places[-1] < count


@pytest.mark.parametrize("rule", ["0", "x", "-1", "1001", "first0", "3of8", ""])
def test_unknown_rules(rule):
    with pytest.raises(UserError, match="allowed: a number N"):
        picks(rule)
    with pytest.raises(ValueError, match="names no frame"):
        place("3 of 8", 10)


def test_frames_are_exact(tmp_path):
    path = film(tmp_path / "a.avi", 20)
    frames = read_frames(path, ["3of4", "0of4", "7", "6+1of2"])
    assert [frame.index for frame in frames if frame] == [17, 2, 7, 16]
    assert shades(frames) == [17, 2, 7, 16]
    assert read_frames(path, ["25"]) == [None]
    with pytest.raises(BadImage, match="frame 25 cannot be decoded"):
        read_sample(Sample(path=path, frame="25"))


def test_a_file_that_states_more_frames_than_it_has(tmp_path):
    path = film(tmp_path / "a.avi", 20, (320, 240))
    data = path.read_bytes()
    (tmp_path / "cut.avi").write_bytes(data[: len(data) * 6 // 10])
    first, last = read_frames(tmp_path / "cut.avi", ["0of2", "1of2"])
    assert first is not None
    assert last is not None
    assert 0 < first.index < last.index < 19


def test_broken_videos(tmp_path):
    (tmp_path / "a.avi").write_bytes(b"RIFF\0\0\0\0AVI " + bytes(500))
    (tmp_path / "b.avi").write_bytes(b"nothing")
    reasons = {"a.avi": "cannot be opened|not one", "b.avi": "no video", "c": "no video"}
    for name, reason in reasons.items():
        with pytest.raises(BadImage, match=reason) as caught:
            read_frames(tmp_path / name, ["0of2"])
        assert str(tmp_path) not in str(caught.value)


def test_the_reason_of_a_huge_video_names_no_path(tmp_path, monkeypatch):
    path = film(tmp_path / "a.avi", 2)
    monkeypatch.setattr("pliant.runtime.video.MAX_SIDE_PX", 50)
    with pytest.raises(BadImage, match=r"^the frames of the video are too large: 64x48 px"):
        read_frames(path, ["0of2"])


def test_a_clip_becomes_samples():
    clip = Sample(path=Path("/x/a.mov"), name="a.mov", bona_fide=True, split="dev")
    first, second = clip_samples(clip, "mico")
    assert (first.name, first.frame, first.clip) == ("a.mov#6+0of2", "6+0of2", "a.mov")
    assert second.presentation == first.presentation == "a.mov"
    assert second.split == "dev"


def test_frames_in_a_manifest(tmp_path):
    film(tmp_path / "a.avi", 12)
    (tmp_path / "manifest.csv").write_text(
        "path,bona_fide,frame,box_x,box_y,box_w,box_h\n"
        "a.avi,1,2,8,8,32,32\na.avi,1,1of2,8,8,32,32\n"
    )
    samples = read_manifest(tmp_path / "manifest.csv")
    assert [(s.name, s.frame) for s in samples] == [("a.avi#2", "2"), ("a.avi#1of2", "1of2")]
    write_manifest(samples, tmp_path / "again.csv")
    assert read_manifest(tmp_path / "again.csv") == samples
    kept, skipped = load_or_skip(samples)
    assert (kept, skipped) == (samples, [])
    crop = CropDataset(samples, size=16, crop_scale=1.0).crop(1)
    assert crop.mean() == pytest.approx(10 + 8 * 9, abs=2)
    (tmp_path / "manifest.csv").write_text("path,bona_fide,frame\na.avi,1,2\na.avi,1,2\n")
    with pytest.raises(UserError, match="is listed on line 2 already"):
        read_manifest(tmp_path / "manifest.csv")
    (tmp_path / "manifest.csv").write_text("path,bona_fide,frame\na.avi,1,half\n")
    with pytest.raises(UserError, match="line 2: frame is 'half'; allowed: 12, 3of8"):
        read_manifest(tmp_path / "manifest.csv")
