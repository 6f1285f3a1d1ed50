"""SiW: types, and which attacks each protocol shows to training and to test."""

import pytest

from pliant.data.siw import read_siw
from pliant.errors import UserError


@pytest.fixture
def tree(put):
    for word, people in (("Train", ("001", "002", "003")), ("Test", ("004",))):
        for who in people:
            put(f"{word}/live/{who}/{who}-1-1-2-1.mov")
            put(f"{word}/live/{who}/{who}-1-1-2-1.face")
            put(f"{word}/spoof/{who}/{who}-1-2-1-1.mp4")
            for medium in range(1, 5):
                root = put(f"{word}/spoof/{who}/{who}-2-3-{medium}-2.mov")
    return root


def species(reading, *splits):
    return {s.pai_species for s in reading.samples if s.split in splits and s.pai_species}


def test_fields(tree, brief):
    reading = read_siw(tree, frames="1")
    found = brief(reading)
    assert found["Test/live/004/004-1-1-2-1.mov#0of1"] == (
        True, None, "004", "1", "sensor 1", "test",
    )  # fmt: skip
    assert found["Test/spoof/004/004-2-3-4-2.mov#0of1"] == (
        False, "replay 4", "004", "2", "sensor 2", "test",
    )  # fmt: skip
    assert found["Test/spoof/004/004-1-2-1-1.mp4#0of1"][:2] == (False, "print 1")
    assert {s.split for s in reading.samples} == {"train", "dev", "test"}
    assert reading.skipped == []


def test_protocols(tree):
    second = read_siw(tree, protocol="2.3")
    assert species(second, "train", "dev") == {"replay 1", "replay 2", "replay 4"}
    assert species(second, "test") == {"replay 3"}
    assert "test has attacks that training does not: replay 3" in second.notes
    third = read_siw(tree, protocol="3.1")
    assert species(third, "train", "dev") == {"print 1"}
    assert species(third, "test") == {f"replay {k}" for k in range(1, 5)}
    other = read_siw(tree, protocol="3.2")
    assert species(other, "test") == {"print 1"}
    assert len({s.frame for s in read_siw(tree, frames="first60").samples}) == 60


def test_skips(tree, put):
    put("Train/live/001/001-1-2-1-1.mov")
    put("Train/live/001/clip.mp4")
    put("Train/spoof/001/002-1-3-1-1.mp4")
    assert [(s.path.name, s.reason) for s in read_siw(tree).skipped] == [
        ("001-1-2-1-1.mov", "its name contradicts its folder"),
        ("clip.mp4", "its name is not subject-sensor-type-medium-session"),
        ("002-1-3-1-1.mp4", "its name contradicts its folder"),
    ]


def test_empty(put):
    root = put("Train/live/001/notes.txt")
    with pytest.raises(UserError, match=r"not one sample of siw \(nothing is listed\)"):
        read_siw(root)
