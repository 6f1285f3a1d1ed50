"""CeFA: the name grammar, both polarities, and the device that gives the label away."""

import pytest

from pliant.data.cefa import PROTOCOLS, read_cefa
from pliant.errors import UserError


def clip(put, path: str, word: str, count: int = 4) -> str:
    for k in range(1, count + 1):
        for kind in (word, "depth", "ir"):
            put(f"{path}/{kind}/{k:04d}.jpg")
    return path


@pytest.fixture
def challenge(put):
    lines = []
    for name, label in (("1_186_1_1_1", 1), ("1_186_3_1_4", 0)):
        clip(put, f"phase1/train/{name}", "profile", 2)
        lines += [f"train/{name}/profile/000{k}.jpg {label}" for k in (1, 2)]
    put("4@1_train.txt", *lines)
    clip(put, "phase1/dev/003000", "profile")
    put("4@1_dev_res.txt", "dev/003000")
    put("4@1_dev_ref.txt", "dev/003000 1")
    clip(put, "phase2/test/000001", "profile")
    return put("4@1_test_res.txt", "test/000001")


def test_challenge(challenge, brief):
    reading = read_cefa(challenge, frames="2")
    found = brief(reading)
    assert found["phase1/train/1_186_1_1_1/profile/0001.jpg"] == (
        True, None, "AF-186", "indoor", "1 (rssdk)", "train",
    )  # fmt: skip
    assert found["phase1/train/1_186_3_1_4/profile/0002.jpg"] == (
        False, "screen replay", "AF-186", "indoor", "3 (bag)", "train",
    )  # fmt: skip
    dev = [s for s in reading.samples if s.split == "dev"]
    assert [s.path.name for s in dev] == ["0002.jpg", "0004.jpg"]
    assert {(s.bona_fide, s.clip) for s in dev} == {(True, "phase1/dev/003000")}
    assert [(s.path.name, s.reason) for s in reading.skipped] == [
        ("000001", "4@1_test_res.txt has no labels (4@1_test_ref.txt is missing)")
    ]
    (confound,) = [note for note in reading.notes if "confound" in note]
    assert "train" in confound
    assert "different devices (1 (rssdk); 3 (bag))" in confound


@pytest.fixture
def academic(put):
    names = {
        "Ethnicity/EA/EA-012/3_012_2_3_1": 0,
        "Ethnicity/EA/EA-012/3_012_2_3_2": 1,
        "Ethnicity/CA/CA-499/2_499_4_2_3": 1,
        "Mask/3D-Mask/002/1_002_3_1_2_1_4": 1,
        "Mask/Silicone-Mask/008/2_008_1_0_1_2_2": 1,
    }
    for name in names:
        clip(put, name, "color")
    for split in ("train", "dev", "test"):
        put(f"protocol/CASIA_CeFA@p1.1_video_{split}.txt", *(f"{n} {v}" for n, v in names.items()))
        lines = [f"{n}/color/0003.jpg {v}" for n, v in names.items()]
        root = put(f"protocol/CASIA_CeFA@p3_image_{split}.txt", *lines)
    return root


def test_academic(academic, brief):
    reading = read_cefa(academic, protocol="3.image")
    found = {name.split("/")[-3]: row for name, row in brief(reading).items()}
    assert found["3_012_2_3_1"][:5] == (True, None, "EA-012", "random", "2 (mp4)")
    assert found["3_012_2_3_2"][:2] == (False, "cloth print")
    assert found["2_499_4_2_3"][:5] == (False, "photo print", "CA-499", "outdoor", "4 (MOV)")
    assert found["1_002_3_1_2_1_4"][:5] == (
        False, "3D mask", "3D mask 002", "indoor, side light", "D435i",
    )  # fmt: skip
    assert found["2_008_1_0_1_2_2"][1:5] == (
        "silicone mask", "silicone mask 008", "outdoor, back light", "Camera",
    )  # fmt: skip
    assert any("trains on one modality" in note for note in reading.notes)
    assert any("subjects are on more than one side" in note for note in reading.notes)


def test_academic_clips(academic):
    reading = read_cefa(academic, protocol="1.1.video", frames="mico")
    names = {s.path.name for s in reading.samples}
    assert names == {"0004.jpg"}  # frames 6 and 8 of 4: the last
    with pytest.raises(UserError, match="no such list"):
        read_cefa(academic, protocol="2.1.image")


def test_lines_that_begin_with_the_folder(academic, put):
    lines = (academic / "protocol/CASIA_CeFA@p1.1_video_test.txt").read_text().splitlines()
    images = (academic / "protocol/CASIA_CeFA@p3_image_test.txt").read_text().splitlines()
    assert len(lines) == len(images) == 5
    kinds = {"1.1.video": lines, "3.image": images}
    before = {kind: read_cefa(academic, protocol=kind) for kind in kinds}
    for split in ("train", "dev", "test"):
        clips = [f"CASIA_CeFA/{line.replace(' ', '/color ')}" for line in lines]
        put(f"protocol/CASIA_CeFA@p1.1_video_{split}.txt", *clips)
        named = [f"CASIA_CeFA/{line}" for line in images]
        put(f"protocol/CASIA_CeFA@p3_image_{split}.txt", *named)
    for kind, reading in before.items():
        assert reading.skipped == []
        assert read_cefa(academic, protocol=kind) == reading


def test_all_protocols_are_named():
    assert {"challenge.3", "1.5.image", "2.2.video", "3.image", "4.5.video"} <= set(PROTOCOLS)
    assert len(PROTOCOLS) == 3 + 2 * 9


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("train/1_186_1_1_1/profile/0001.jpg 0", "the label says attack, the clip's name live"),
        ("train/1_186_3_1_4/profile/0001.jpg 1", "the label says live, the clip's name screen"),
        ("train/1_186_9_1_4/profile/0001.jpg 0", "'1_186_9_1_4' is no clip's name"),
        ("train/1_186/profile/0001.jpg 0", "is no clip's name"),
        ("train/1_002_3_1_3_1_4/profile/0001.jpg 0", "'1_002_3_1_3_1_4' is no clip's name"),
        ("train/1_186_3_1_4", "is not 'path label'"),
    ],
)
def test_malformed(challenge, put, line, sentence):
    put("4@1_train.txt", line)
    with pytest.raises(UserError, match=rf"4@1_train.txt, line 1: .*{sentence}"):
        read_cefa(challenge)


def test_missing_modality(challenge):
    (challenge / "phase1/train/1_186_1_1_1/depth/0002.jpg").unlink()
    reasons = [s.reason for s in read_cefa(challenge).skipped]
    assert "its depth image is missing" in reasons


def test_a_clip_without_frames(challenge, put):
    put("4@1_dev_ref.txt", "dev/003000 1", "dev/003001 0")
    reasons = {s.path.parent.parent.name: s.reason for s in read_cefa(challenge).skipped}
    assert reasons["003001"] == "no such file"
