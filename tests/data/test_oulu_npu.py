"""OULU-NPU: the sign is the label, the folds are the files'."""

import pytest

from pliant.data.oulu_npu import PROTOCOLS, read_oulu_npu
from pliant.data.readable import why_unusable
from pliant.errors import UserError


@pytest.fixture
def tree(put):
    files = {"Train": "01", "Dev": "21", "Test": "36"}
    for word, user in files.items():
        lines = [f"{'+' if k == 1 else '-'}{min(k, 2)},1_2_{user}_{k}" for k in range(1, 6)]
        for k in range(1, 6):
            put(f"{word}_files/1_2_{user}_{k}.avi")
        put(f"Protocols/Protocol_1/{word}.txt", *lines)
        for k in range(1, 7):
            root = put(f"Protocols/Protocol_3/{word}_{k}.txt", *lines[: k if k > 1 else 2])
    return root


def test_protocol_1(tree, brief):
    reading = read_oulu_npu(tree, frames="2")
    found = brief(reading)
    assert len(found) == 3 * 5 * 2
    assert found["Train_files/1_2_01_1.avi#0of2"] == (True, None, "01", "2", "phone 1", "train")
    species = [found[f"Test_files/1_2_36_{k}.avi#1of2"][1] for k in range(1, 6)]
    assert species == [None, "print 1", "print 2", "replay 1", "replay 2"]
    assert found["Dev_files/1_2_21_4.avi#0of2"][0] is False
    first = reading.samples[0]
    assert (first.frame, first.clip, first.box_rule) == (
        "0of2", "Train_files/1_2_01_1.avi", "eyes",
    )  # fmt: skip
    assert (reading.skipped, reading.notes) == ([], [])


def test_folds(tree):
    assert len(PROTOCOLS) == 2 + 6 + 6
    counts = [len(read_oulu_npu(tree, protocol=f"3.{k}", frames="1").samples) for k in range(1, 7)]
    assert counts == [6, 6, 9, 12, 15, 15]
    with pytest.raises(UserError, match=r"no protocol '3'; allowed: 1, 2, 3.1"):
        read_oulu_npu(tree, protocol="3")
    with pytest.raises(UserError, match=r"no such list: .*Protocol_4/Train_2.txt"):
        read_oulu_npu(tree, protocol="4.2")


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("-1,1_2_01_1", "the sign says attack, file number 1 says live"),
        ("+1,1_2_01_3", "the sign says live, file number 3 says print 2"),
        ("1,1_2_01_1", "needed: [+]1 or -1"),
        ("+1,7_2_01_1", "phone_session_user_file"),
        ("+1 1_2_01_1", "is not '[+]1,name'"),
    ],
)
def test_malformed(tree, put, line, sentence):
    put("Protocols/Protocol_1/Dev.txt", "+1,1_2_21_1", line)
    with pytest.raises(UserError, match=rf"Dev.txt, line 2: .*{sentence}"):
        read_oulu_npu(tree)


def test_a_missing_video_is_skipped(tree):
    (tree / "Dev_files/1_2_21_5.avi").unlink()
    reading = read_oulu_npu(tree)
    assert [(s.path.name, s.reason) for s in reading.skipped] == [("1_2_21_5.avi", "no such file")]
    assert len(reading.samples) == 14 * 8


def test_broken_videos_have_one_reason(tree):
    reasons = {why_unusable(sample) for sample in read_oulu_npu(tree, frames="1").samples}
    assert reasons == {"is no video; MP4, MOV, AVI, Matroska, WebM, MPEG, Ogg are read"}
