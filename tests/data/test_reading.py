"""What all readers share: rows with line numbers, folders listed once, notes."""

from pathlib import Path

import pytest

from pliant.data import reading
from pliant.data.manifest import Sample, Skipped
from pliant.data.reading import Folders, finish, natural, relative, rows, subject_overlap
from pliant.errors import UserError

ROOT = Path("/set")


def sample(name, live, split, subject=None, species=None, device=None):
    return Sample(
        path=ROOT / name, name=name, bona_fide=live, split=split, subject=subject,
        pai_species=species, device=device,
    )  # fmt: skip


def test_rows(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("\ufeffa b\n\n  c   d \n", encoding="utf-8")
    assert list(rows(path, "path label")) == [
        (f"{path}, line 1", ["a", "b"]),
        (f"{path}, line 3", ["c", "d"]),
    ]
    path.write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(UserError, match=r"not text in UTF-8 \(byte 0\)"):
        list(rows(path, "path label"))


@pytest.mark.parametrize("text", ["/etc/passwd", "a/../../b", "..", "", "a\0b"])
def test_paths_stay_inside(text):
    with pytest.raises(UserError, match="no path inside the data set"):
        relative(text, "line 1")


def test_paths_from_windows():
    assert relative("0001\\x.jpg", "") == "0001/x.jpg"
    assert relative("./a//b.jpg", "") == "a/b.jpg"


def test_a_folder_is_listed_once(tmp_path, monkeypatch):
    for k in (10, 2):
        (tmp_path / f"{k}.jpg").touch()
    (tmp_path / "notes.txt").touch()
    calls = []
    seen = reading.os.listdir
    monkeypatch.setattr(reading.os, "listdir", lambda f: calls.append(f) or seen(f))
    folders = Folders()
    assert folders.images(str(tmp_path)) == ["2.jpg", "10.jpg"]
    assert folders.has(str(tmp_path / "2.jpg"))
    assert not folders.has(str(tmp_path / "3.jpg"))
    assert not folders.has(str(tmp_path / "none" / "3.jpg"))
    assert calls == [str(tmp_path), str(tmp_path / "none")]


def test_natural_order():
    assert sorted(["10", "9", "HR_1", "1"], key=natural) == ["1", "9", "10", "HR_1"]


def test_confounds_and_unseen_attacks():
    samples = [
        sample("a", True, "train", "1", device="phone"),
        sample("b", False, "train", "1", "print", "tablet"),
        sample("c", True, "test", "2", device="phone"),
        sample("d", False, "test", "2", "mask", "phone"),
    ]
    notes = finish("x", ROOT, samples, []).notes
    assert notes == [
        "confound in train: bona fide and attack samples were taken with different devices "
        "(phone; tablet), so a model can learn the device instead",
        "test has attacks that training does not: mask",
    ]


def test_no_dev_where_people_overlap_or_are_too_few():
    both = [sample("a", True, "train", "1"), sample("b", False, "test", "1")]
    assert subject_overlap(both) == {"1": ["test", "train"]}
    assert "training refuses that" in finish("x", ROOT, both, [], dev_share=0.2).notes[0]
    few = [sample("a", True, "train", "1"), sample("b", False, "train", "1")]
    found = finish("x", ROOT, few, [], dev_share=0.2)
    assert found.samples == few
    assert "none could be made: no dev subjects possible" in found.notes[0]


def test_dev_is_the_same_each_time():
    samples = [
        sample(f"{live}{who}", live, "train", str(who))
        for who in range(20)
        for live in (True, False)
    ]
    first, second = (finish("x", ROOT, samples, [], dev_share=0.2).samples for _ in range(2))
    assert first == second
    assert sum(s.split == "dev" for s in first) == 8


def test_nothing_left():
    skipped = [Skipped(ROOT / "a", "no such file")] * 3
    with pytest.raises(UserError, match=r"not one sample of x \(3 x no such file\)"):
        finish("x", ROOT, [], skipped)
