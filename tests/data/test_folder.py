"""Folders: labels from names, exactly as laid out, or refused."""

from pathlib import Path

import pytest

from pliant.data.folder import read_folder
from pliant.data.readable import why_unusable
from pliant.data.readers import read
from pliant.errors import UserError


def files(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def rows(samples) -> list[tuple]:
    return [(s.name, s.bona_fide, s.pai_species, s.subject, s.split) for s in samples]


def test_pad_with_and_without_subjects(tmp_path):
    files(tmp_path, "live/7/a.JPG", "live/b.png", "spoof/print/7/c.webp", "spoof/replay/d.jpeg")
    files(tmp_path, "live/.hidden.jpg", "live/._a.jpg", "a.txt", ".git/x.jpg", "live/Thumbs.db")
    samples = read_folder(tmp_path, "pad")
    assert rows(samples) == [
        ("live/7/a.JPG", True, None, "7", None),
        ("live/b.png", True, None, None, None),
        ("spoof/print/7/c.webp", False, "print", "7", None),
        ("spoof/replay/d.jpeg", False, "replay", None, None),
    ]
    assert samples[0].path == tmp_path.resolve() / "live/7/a.JPG"


def test_splits_above(tmp_path):
    files(
        tmp_path, "train/live/a.jpg", "val/spoof/mask/b.jpg", "dev/live/c.jpg", "test/live/9/d.jpg"
    )
    assert rows(read_folder(tmp_path, "pad")) == [
        ("dev/live/c.jpg", True, None, None, "dev"),
        ("test/live/9/d.jpg", True, None, "9", "test"),
        ("train/live/a.jpg", True, None, None, "train"),
        ("val/spoof/mask/b.jpg", False, "mask", None, "dev"),
    ]


def test_classes(tmp_path):
    files(tmp_path, "owl/a.jpg", "cat/images/b.jpg")
    samples = read_folder(tmp_path, "classify")
    assert [(s.name, s.label, s.bona_fide) for s in samples] == [
        ("cat/images/b.jpg", "cat", None),
        ("owl/a.jpg", "owl", None),
    ]
    samples = read_folder(files(tmp_path / "x", "train/owl/a.jpg", "val/cat/b.jpg"), "classify")
    assert [(s.label, s.split) for s in samples] == [("owl", "train"), ("cat", "dev")]


def test_formats_that_cannot_be_read_are_not_overlooked(tmp_path):
    assert len(read_folder(files(tmp_path, "live/a.heic", "spoof/print/b.tiff"), "pad")) == 2


def test_videos_become_frames(tmp_path):
    files(tmp_path, "live/7/a.MP4", "live/7/b.jpg", "spoof/replay/c.webm", "spoof/.d.mov")
    samples = read_folder(tmp_path, "pad", frames="2")
    assert [(s.name, s.frame, s.clip, s.pai_species, s.subject) for s in samples] == [
        ("live/7/a.MP4#0of2", "0of2", "live/7/a.MP4", None, "7"),
        ("live/7/a.MP4#1of2", "1of2", "live/7/a.MP4", None, "7"),
        ("live/7/b.jpg", None, None, None, "7"),
        ("spoof/replay/c.webm#0of2", "0of2", "spoof/replay/c.webm", "replay", None),
        ("spoof/replay/c.webm#1of2", "1of2", "spoof/replay/c.webm", "replay", None),
    ]
    assert {s.path for s in samples[:2]} == {tmp_path.resolve() / "live/7/a.MP4"}
    reading = read("folder", tmp_path)
    assert len(reading.samples) == 2 * 8 + 1
    assert len(read("folder", tmp_path, frames="first3").samples) == 2 * 3 + 1
    no_video = "is no video; MP4, MOV, AVI, Matroska, WebM, MPEG, Ogg are read"
    assert {(s.path.name, why_unusable(s)) for s in reading.samples} == {
        ("a.MP4", no_video), ("b.jpg", "zero bytes"), ("c.webm", no_video),
    }  # fmt: skip


def test_videos_of_classes_and_refusals(tmp_path):
    samples = read_folder(files(tmp_path, "owl/a.mov", "cat/b.jpg"), "classify", frames="mico")
    assert [(s.name, s.label) for s in samples] == [
        ("cat/b.jpg", "cat"), ("owl/a.mov#6+0of2", "owl"), ("owl/a.mov#6+1of2", "owl"),
    ]  # fmt: skip
    with pytest.raises(UserError, match="unknown rule of frames 'x'"):
        read_folder(tmp_path, "classify", frames="x")
    with pytest.raises(UserError, match=r"a\.mov lies outside live/ and spoof/"):
        read_folder(files(tmp_path / "x", "a.mov"), "pad")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a.jpg", "lies outside live/ and spoof/; allowed: live/"),
        ("spoof/a.jpg", "has no species folder"),
        ("live/1/2/a.jpg", "lies too deep"),
        ("spoof/print/1/2/a.jpg", "lies too deep"),
        ("real/a.jpg", "lies in 'real'"),
        ("spoofs/print/a.jpg", r"lies in 'spoofs' \(did you mean 'spoof'\?\)"),
        ("train/live/a.jpg", "lies in 'train'"),  # beside live/ without a split
    ],
)
def test_pad_refusals(tmp_path, name, message):
    with pytest.raises(UserError, match=message):
        read_folder(files(tmp_path, "live/ok.jpg", name), "pad")


def test_other_refusals(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        read_folder(tmp_path / "none", "pad")
    with pytest.raises(UserError, match="holds no images or videos; needed: one folder per class"):
        read_folder(files(tmp_path, "owl/a.txt"), "classify")
    with pytest.raises(UserError, match="lies in no class folder"):
        read_folder(files(tmp_path, "a.jpg"), "classify")
    with pytest.raises(ValueError, match="unknown task 'pdf'"):
        read_folder(tmp_path, "pdf")


def test_links_may_not_lead_out(tmp_path):
    root = files(tmp_path / "set", "live/a.jpg", "spoof/print/b.jpg")
    outside = files(tmp_path / "outside", "c.jpg")
    link = root / "live" / "c.jpg"
    link.symlink_to(root / "live" / "a.jpg")
    assert len(read_folder(root, "pad")) == 3
    link.unlink()
    for target in (outside / "c.jpg", outside):
        link.symlink_to(target)
        with pytest.raises(UserError, match="is a link that leads out of"):
            read_folder(root, "pad")
        link.unlink()
