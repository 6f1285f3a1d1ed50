"""CASIA-SURF: the challenge and the academic lists have opposite labels."""

import pytest

from pliant.data.casia_surf import read_casia_surf
from pliant.errors import UserError

KINDS = ("color", "depth", "ir")


def modalities(put, path: str) -> str:
    """The three images; `{}` stands for the kind. Returns a line of the challenge without label."""
    for kind in KINDS:
        put(path.format(kind))
    return " ".join(path.format(kind) for kind in KINDS)


@pytest.fixture
def challenge(put):
    live = modalities(put, "Training/real_part/CLKJ_AS0005/real.rssdk/{}/1.jpg")
    attack = modalities(put, "Training/fake_part/CLKJ_AS0006/04_en_b.rssdk/{}/7.jpg")
    put("train_list.txt", f"{live} 1", f"{attack} 0")
    val = modalities(put, "Val/0000/000000-{}.jpg")
    put("val_private_list.txt", f"{val} 0")
    put("val_public_list.txt", val)
    test = modalities(put, "Testing/0000/000001-{}.jpg")
    put("test_public_list.txt", test)
    return put("test_private_list.txt", f"{test} 1")


def test_challenge(challenge, brief):
    reading = read_casia_surf(challenge)
    assert brief(reading) == {
        "Training/real_part/CLKJ_AS0005/real.rssdk/color/1.jpg": (
            True, None, "CLKJ_AS0005", None, None, "train",
        ),
        "Training/fake_part/CLKJ_AS0006/04_en_b.rssdk/color/7.jpg": (
            False, "eyes and nose cut, bent", "CLKJ_AS0006", None, None, "train",
        ),
        "Val/0000/000000-color.jpg": (False, None, None, None, None, "dev"),
        "Testing/0000/000001-color.jpg": (True, None, None, None, None, "test"),
    }  # fmt: skip
    first = reading.samples[0]
    assert first.clip == "Training/real_part/CLKJ_AS0005/real.rssdk"
    assert first.depth_path == challenge / "Training/real_part/CLKJ_AS0005/real.rssdk/depth/1.jpg"
    assert first.ir_path == challenge / "Training/real_part/CLKJ_AS0005/real.rssdk/ir/1.jpg"
    assert first.box_rule == "content"
    assert reading.skipped == []


def test_missing_modality_and_unlabelled_list(challenge):
    (challenge / "Training/fake_part/CLKJ_AS0006/04_en_b.rssdk/ir/7.jpg").unlink()
    (challenge / "test_private_list.txt").unlink()
    reading = read_casia_surf(challenge)
    assert [(s.path.name, s.reason) for s in reading.skipped] == [
        (
            "000001-color.jpg",
            "test_public_list.txt has no labels (test_private_list.txt is missing)",
        ),
        ("7.jpg", "its infrared image is missing"),
    ]
    assert {s.split for s in reading.samples} == {"train", "dev"}


@pytest.fixture
def academic(put):
    for split, part in (("train", "Training"), ("dev", "Val"), ("test", "Testing")):
        lines, clips = [], []
        for side, species, label in (("real", "real", 0), ("fake", "01_e_s", 1)):
            clip = f"{part}/{side}_part/CLKJ_{part}/{species}.rssdk"
            for k in range(1, 12):
                modalities(put, f"Data/{clip}/{{}}/{k}.jpg")
            lines.append(f"{clip}/color/2.jpg {label}")
            clips.append(f"{clip} {label}")
        put(f"protocol/CASIA_SURF@p1_image_{split}.txt", *lines)
        root = put(f"protocol/CASIA_SURF@p1_video_{split}.txt", *clips)
    return root


def test_academic(academic, brief):
    found = brief(read_casia_surf(academic, protocol="academic.image"))
    assert found["Data/Val/real_part/CLKJ_Val/real.rssdk/color/2.jpg"][0] is True
    attack = found["Data/Val/fake_part/CLKJ_Val/01_e_s.rssdk/color/2.jpg"]
    assert attack[:2] == (False, "eyes cut, flat")
    assert len(found) == 6


def test_academic_video_takes_frames_in_order(academic):
    reading = read_casia_surf(academic, protocol="academic.video", frames="2")
    names = [s.path.name for s in reading.samples if s.split == "dev" and s.bona_fide]
    assert names == ["3.jpg", "9.jpg"]  # of 1.jpg ... 11.jpg: places 2 and 8
    clip = {s.presentation for s in reading.samples if s.split == "dev" and s.bona_fide}
    assert clip == {"Data/Val/real_part/CLKJ_Val/real.rssdk"}


def test_academic_lines_that_begin_with_the_folder(academic, put):
    before = {u: read_casia_surf(academic, protocol=f"academic.{u}") for u in ("image", "video")}
    for split in ("train", "dev", "test"):
        for unit, end in (("image", " "), ("video", "/color ")):
            name = f"protocol/CASIA_SURF@p1_{unit}_{split}.txt"
            lines = (academic / name).read_text().splitlines()
            put(name, *(f"CASIA_SURF/Data/{line.replace(' ', end)}" for line in lines))
    for unit, reading in before.items():
        assert reading.skipped == []
        assert read_casia_surf(academic, protocol=f"academic.{unit}") == reading


def test_opposite_labels_are_refused(academic, put):
    put("protocol/CASIA_SURF@p1_image_dev.txt", "Val/real_part/CLKJ_Val/real.rssdk/color/2.jpg 1")
    with pytest.raises(UserError, match=r"dev.txt, line 1: the label says attack, the folder real"):
        read_casia_surf(academic, protocol="academic.image")


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("a b c", r"train_list.txt, line 2: 'a b c' is not 'color depth ir label'"),
        ("a b c 2", r"line 2: label '2'; allowed: 1 \(live\), 0 \(attack\)"),
        ("/a b c 1", r"line 2: '/a' is no path inside the data set"),
    ],
)
def test_malformed(challenge, put, line, sentence):
    put("train_list.txt", "", line)
    with pytest.raises(UserError, match=sentence):
        read_casia_surf(challenge)


def test_attacks_of_test_are_unknown(challenge, put):
    clip = modalities(put, "Val/fake_part/CLKJ_AS0009/01_e_s.rssdk/{}/1.jpg")
    put("val_private_list.txt", f"{clip} 0")
    notes = read_casia_surf(challenge).notes
    assert "dev has attacks that training does not: eyes cut, flat" in notes
