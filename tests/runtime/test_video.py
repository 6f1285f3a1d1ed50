"""Frames of a file that nobody vouches for, and of a camera that is not there."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from pliant.errors import UserError
from pliant.runtime import video
from pliant.runtime.video import Footage, is_video

RED = (200, 60, 40)  # RGB


def film(path: Path, count: int = 10, size: tuple[int, int] = (64, 48)) -> Path:
    """Red frames, each a little darker, 20 a second."""
    code = "MJPG" if path.suffix == ".avi" else "mp4v"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*code), 20, size)
    for i in range(count):
        frame = np.zeros((size[1], size[0], 3), np.uint8)
        frame[:] = np.array(RED[::-1]) - 3 * i
        writer.write(frame)
    writer.release()
    return path


GONE = object()
"""A grab that fails."""


class Camera:
    """Stands in for cv2.VideoCapture."""

    def __init__(self, images: list, opened: bool = True, size: tuple[int, int] = (4, 4)) -> None:
        self.images, self.opened, self.size, self.at, self.closed = images, opened, size, -1, False

    def isOpened(self) -> bool:
        return self.opened

    def get(self, key: int) -> float:
        known = {cv2.CAP_PROP_FRAME_WIDTH: self.size[0], cv2.CAP_PROP_FRAME_HEIGHT: self.size[1]}
        return float(known.get(key, -1))

    def set(self, key: int, value: float) -> None:
        assert (key, value) == (cv2.CAP_PROP_BUFFERSIZE, 1)

    def grab(self) -> bool:
        self.at += 1
        return self.at < len(self.images) and self.images[self.at] is not GONE

    def retrieve(self):
        image = self.images[self.at]
        if isinstance(image, Exception):
            raise image
        return image is not None, image

    def release(self) -> None:
        self.closed = True


@pytest.fixture
def camera(monkeypatch):
    monkeypatch.setattr(video, "RETRY_S", 0)

    def put(images: list, **how) -> Camera:
        made = Camera(images, **how)
        monkeypatch.setattr(cv2, "VideoCapture", lambda number: made)
        return made

    return put


@pytest.mark.parametrize("name", ["film.avi", "film.mp4", "film.txt"])
def test_all_frames_in_order(tmp_path: Path, name: str):
    path = film(tmp_path / (name if name != "film.txt" else "film.avi"))
    path = path.rename(tmp_path / name)
    assert is_video(path)
    with Footage.video(path) as footage:
        assert (footage.num_frames, footage.frames_per_s) == (10, 20)
        frames = list(footage.frames())
        assert footage.ended == "at its last frame"
    assert [f.index for f in frames] == list(range(10))
    assert [f.time_s for f in frames] == pytest.approx([i / 20 for i in range(10)])
    assert frames[0].image.shape == (48, 64, 3)
    assert frames[0].image.dtype == np.uint8
    assert np.abs(frames[0].image[20, 20].astype(int) - RED).max() < 12  # lossy
    assert frames[9].image.mean() < frames[0].image.mean()


def test_every_third_frame(tmp_path: Path):
    with Footage.video(film(tmp_path / "film.avi")) as footage:
        assert [f.index for f in footage.frames(every=3)] == [0, 3, 6, 9]
    with Footage.video(film(tmp_path / "film.avi")) as footage, pytest.raises(UserError):
        next(footage.frames(every=0))


def test_a_pattern_is_a_name(tmp_path: Path):
    """OpenCV would read `%d` as a series of images, and `http:` as an address."""
    path = film(tmp_path / "film.avi").rename(tmp_path / "film%02d.avi")
    with Footage.video(path) as footage:
        assert footage.num_frames == 10
    with pytest.raises(UserError, match="is no video"):
        Footage.video("http://localhost/film.mp4")


def test_too_many_frames(tmp_path: Path):
    with Footage.video(film(tmp_path / "film.avi")) as footage:
        frames = footage.frames(most=4)
        assert [next(frames).index for _ in range(4)] == [0, 1, 2, 3]
        with pytest.raises(UserError, match="more than 4 frames to judge; take fewer: --every"):
            next(frames)


def test_frames_that_are_too_large(tmp_path: Path, monkeypatch):
    path = film(tmp_path / "film.avi")
    monkeypatch.setattr(video, "MAX_PIXELS", 3000)
    with pytest.raises(UserError, match="too large: 64x48 px"):
        Footage.video(path)


def test_a_frame_that_is_larger_than_promised(camera):
    camera([np.zeros((1, 40_000, 3), np.uint8)])
    with Footage.camera() as footage, pytest.raises(UserError, match="too large: 40000x1 px"):
        next(footage.frames())


def test_files_that_are_no_video(tmp_path: Path):
    whole = film(tmp_path / "film.avi").read_bytes()
    text = tmp_path / "text.avi"
    text.write_text("hello")
    for path in (text, tmp_path, tmp_path / "missing.avi"):
        with pytest.raises(UserError, match="is no video"):
            Footage.video(path)
    broken = tmp_path / "broken.avi"
    for content in (whole[:12] + b"x" * 500, whole[:200], whole[: len(whole) // 2]):
        broken.write_bytes(content)
        # in a process of its own: FFmpeg must be silent from its first word on
        code = (
            "from pliant.runtime.video import Footage\n"
            f"try:\n    list(Footage.video({str(broken)!r}).frames())\n"
            "except ValueError as error:\n    print(error)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert "cannot be opened" in done.stdout or "not one frame" in done.stdout
        assert done.stderr == ""


@pytest.mark.parametrize(
    ("head", "answer"),
    [
        (b"\x00\x00\x00\x18ftypmp42", True),
        (b"\x1a\x45\xdf\xa3", True),
        (b"G" + b"\0" * 187 + b"G", True),
        (b"RIFF\x00\x00\x00\x00WEBPVP8 ", False),
        (b"\xff\xd8\xff", False),
        (b"\x00\x00\x00\x18ftypheic", False),  # a photo
        (b"#EXTM3U\nhttp://localhost/x", False),  # a list of addresses
        (b"", False),
    ],
)
def test_a_video_by_its_bytes(tmp_path: Path, head: bytes, answer: bool):
    (tmp_path / "file").write_bytes(head)
    assert is_video(tmp_path / "file") is answer


def test_a_camera_ends_after_its_time(camera):
    fake = camera([np.full((4, 4, 3), i, np.uint8) for i in range(50)])
    clock = iter(range(100))
    with Footage.camera(2) as footage:
        assert footage.name == "camera:2"
        frames = list(footage.frames(seconds=5, now=lambda: float(next(clock))))
    assert [(f.index, f.time_s) for f in frames] == [(i, i + 1.0) for i in range(5)]
    assert footage.ended == "after 5 seconds, as asked"
    assert fake.closed


def test_a_camera_ends_at_its_most_frames(camera):
    camera([np.zeros((4, 4, 3), np.uint8)] * 50)
    with Footage.camera() as footage:
        assert len(list(footage.frames(most=7))) == 7
        assert footage.ended == "after 7 frames, the most of one presentation"


def test_a_camera_that_is_unplugged_is_no_normal_end(camera):
    camera([np.zeros((4, 4, 3), np.uint8)] * 3)
    with Footage.camera() as footage:
        frames = footage.frames()
        assert [next(frames).index for _ in range(3)] == [0, 1, 2]
        with pytest.raises(UserError, match=r"camera:0 stopped giving frames after \d+\.\d s"):
            next(frames)
        assert footage.ended is None


def test_a_few_failed_grabs_are_no_end(camera):
    image = np.zeros((4, 4, 3), np.uint8)
    camera([image, *[GONE] * (video.GRABS - 1), image, *[GONE] * (video.GRABS - 1), image, image])
    with Footage.camera() as footage:
        assert [frame.index for frame in footage.frames(most=3)] == [0, 1, 2]
    camera([GONE] * 20)
    clock = iter(range(100))
    with Footage.camera() as footage, pytest.raises(UserError, match="gave not one frame"):
        list(footage.frames(seconds=2, now=lambda: float(next(clock))))
    camera([image, GONE, GONE, GONE])
    clock = iter(range(100))
    with Footage.camera() as footage:
        assert len(list(footage.frames(seconds=2, now=lambda: float(next(clock))))) == 1
        assert footage.ended == "after 2 seconds, as asked"


def test_frames_that_cannot_be_read_are_left_out(camera):
    image = np.zeros((4, 4, 3), np.uint8)
    camera([image, None, cv2.error("broken"), image[:, :, 0], image, image])
    with Footage.camera() as footage:
        assert [f.index for f in footage.frames(most=2)] == [0, 4]
    camera([None, None])
    with (
        Footage.camera() as footage,
        pytest.raises(UserError, match="camera:0 gave not one frame"),
    ):
        list(footage.frames())


def test_a_camera_that_is_not_there(camera):
    with pytest.raises(UserError, match=r"lies in \[0, 63\], got 64"):
        Footage.camera(64)
    camera([], opened=False)
    with pytest.raises(UserError, match="camera 9 cannot be opened"):
        Footage.camera(9)


@pytest.mark.skipif(Path("/dev/video63").exists(), reason="it is there")
def test_the_real_thing_is_quiet_about_it():
    code = (
        "from pliant.runtime.video import Footage\n"
        "try:\n    Footage.camera(63)\nexcept ValueError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "camera 63 cannot be opened" in done.stdout
    assert done.stderr == ""


def test_arguments_of_other_types(tmp_path: Path, camera):
    for path in (3, None, b"film.avi"):
        with pytest.raises(UserError, match="a video is named by a path, got"):
            Footage.video(path)
    with pytest.raises(UserError, match="is no video"):
        Footage.video("a\0b")
    for number in ("0", None, 0.0, True):
        with pytest.raises(UserError, match="a camera is named by its number, got"):
            Footage.camera(number)
    camera([np.zeros((4, 4, 3), np.uint8)])
    for every in ("2", 0, 1.5, True):
        with (
            Footage.camera() as footage,
            pytest.raises(UserError, match="every must be a whole number, at least 1, got"),
        ):
            list(footage.frames(every=every))
