"""NUAA as released: client is live; a test subject that training knows is skipped, or refused."""

import pytest

from pliant.data.nuaa import read_nuaa
from pliant.data.split import check_subjects
from pliant.errors import UserError


@pytest.fixture(params=["", "raw/"])
def tree(put, request):
    place = request.param
    sides = {"train": ("0001", "0002", "0003"), "test": ("0001", "0014")}
    for split, people in sides.items():
        for word, folder in (("client", "ClientRaw"), ("imposter", "ImposterRaw")):
            lines = []
            for who in people:
                name = f"{who}_00_00_0{1 + (split == 'test')}_7.jpg"
                put(f"{place}{folder}/{who}/{name}")
                lines.append(f"{who}\\{name}")
            root = put(f"{place}{word}_{split}_raw.txt", *lines)
    return root, place


def test_disjoint(tree, brief):
    root, place = tree
    reading = read_nuaa(root)
    found = brief(reading)
    assert found[f"{place}ClientRaw/0014/0014_00_00_02_7.jpg"] == (
        True, None, "0014", "02", "nuaa-webcam", "test",
    )  # fmt: skip
    assert found[f"{place}ImposterRaw/0014/0014_00_00_02_7.jpg"][:2] == (False, "print")
    assert {s.subject for s in reading.samples if s.split == "test"} == {"0014"}
    assert [s.reason for s in reading.skipped] == ["its subject is in the training list too"] * 2
    assert sum(s.split == "dev" for s in reading.samples) == 2
    check_subjects(reading.samples)


def test_official(tree):
    root, _ = tree
    reading = read_nuaa(root, protocol="official")
    assert "1 subjects are on more than one side of the split (0001)" in reading.notes[0]
    with pytest.raises(UserError, match="0001 in test and train"):
        check_subjects(reading.samples)


def test_manifest(put):
    header = "path,bona_fide,pai_species,subject,split,box_x,box_y,box_w,box_h"
    root = put("manifest.csv", header, "a.jpg,1,,1,train,0,0,9,9", "b.jpg,0,print,2,dev,0,0,9,9")
    reading = read_nuaa(root)
    assert [s.split for s in reading.samples] == ["train", "dev"]


def test_malformed(tree, put):
    root, place = tree
    put(f"{place}client_test_raw.txt", "0001\\portrait.jpg")
    with pytest.raises(UserError, match=r"client_test_raw.txt, line 1: needed: such as 0001/0001"):
        read_nuaa(root)
