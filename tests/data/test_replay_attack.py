"""Replay-Attack: labels by folder, species by device and content."""

import pytest

from pliant.data.replay_attack import read_replay_attack


@pytest.fixture
def tree(put):
    for k, word in enumerate(("train", "devel", "test"), start=1):
        who = f"client00{k}_session01"
        put(f"{word}/real/{who}_webcam_authenticate_adverse_1.mov")
        put(f"{word}/attack/fixed/attack_print_{who}_highdef_photo_adverse.mov")
        put(f"{word}/attack/hand/attack_mobile_{who}_mobile_video_controlled.mov")
        root = put(f"{word}/attack/hand/attack_highdef_{who}_highdef_photo_controlled.mov")
    return root


def test_fields(tree, brief):
    reading = read_replay_attack(tree, frames="1")
    found = {name.removesuffix("#0of1"): row for name, row in brief(reading).items()}
    assert len(found) == 12
    assert found["devel/real/client002_session01_webcam_authenticate_adverse_1.mov"] == (
        True, None, "client002", "adverse", "webcam", "dev",
    )  # fmt: skip
    hand = "test/attack/hand/attack_mobile_client003_session01_mobile_video_controlled.mov"
    assert found[hand] == (False, "mobile video", "client003", "controlled", "webcam", "test")
    fixed = "train/attack/fixed/attack_print_client001_session01_highdef_photo_adverse.mov"
    assert found[fixed][:2] == (False, "print photo")
    assert (reading.notes, reading.skipped) == ([], [])


def test_one_medium(tree):
    samples = read_replay_attack(tree, protocol="highdef").samples
    assert {s.pai_species for s in samples} == {None, "highdef photo"}


def test_strange_names_are_listed(tree, put):
    put("train/real/attack_print_client001_session01_highdef_photo_adverse.mov")
    put("train/attack/hand/notes.txt")
    assert [s.reason for s in read_replay_attack(tree).skipped] == [
        "its name is not that of a video in real/",
        "its name is not that of a video in attack/hand/",
    ]
