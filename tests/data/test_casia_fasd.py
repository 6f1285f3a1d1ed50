"""CASIA-FASD: twelve videos a person, by their numbers."""

import pytest

from pliant.data.casia_fasd import FILES, read_casia_fasd


@pytest.fixture
def tree(put):
    for split, people in (("train", "1 2 10"), ("test", "1")):
        for who in people.split():
            for stem in FILES:
                root = put(f"{split}_release/{who}/{stem}.avi")
    return root


def test_fields(tree):
    reading = read_casia_fasd(tree, frames="1")
    test = {s.path.stem: s for s in reading.samples if s.split == "test"}
    live = {stem for stem, sample in test.items() if sample.bona_fide}
    assert live == {"1", "2", "HR_1"}
    species = {stem: test[stem].pai_species for stem in ("4", "HR_2", "5", "HR_3", "7", "HR_4")}
    assert species == {
        "4": "warped photo", "HR_2": "warped photo", "5": "cut photo", "HR_3": "cut photo",
        "7": "replay", "HR_4": "replay",
    }  # fmt: skip
    assert [test[s].device for s in ("1", "2", "HR_1")] == [
        "low quality", "normal quality", "high quality",
    ]  # fmt: skip
    assert {s.subject for s in test.values()} == {"test 1"}
    assert "more than one side" not in " ".join(reading.notes)
    assert sum(s.split == "dev" for s in reading.samples) == 12


def test_protocols(tree):
    cut = read_casia_fasd(tree, protocol="cut", frames="1").samples
    assert {s.pai_species for s in cut} == {None, "cut photo"}
    high = read_casia_fasd(tree, protocol="high", frames="1").samples
    assert {s.path.stem for s in high} == {"HR_1", "HR_2", "HR_3", "HR_4"}


def test_strange_names_are_listed(tree, put):
    put("train_release/1/9.avi")
    (skip,) = read_casia_fasd(tree).skipped
    assert (skip.path.name, skip.reason) == ("9.avi", "its name is no video's")
