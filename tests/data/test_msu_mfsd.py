"""MSU-MFSD: both layouts, sides by list."""

import pytest

from pliant.data.msu_mfsd import read_msu_mfsd
from pliant.errors import UserError


@pytest.fixture(params=["", "scene01/"])
def tree(put, request):
    place = request.param
    for who in ("001", "002", "003", "055"):
        put(f"{place}real/real_client{who}_laptop_SD_scene01.mov")
        put(f"{place}real/real_client{who}_laptop_SD_scene01.mov.face")
        put(f"{place}attack/attack_client{who}_android_SD_ipad_video_scene01.mp4")
        put(f"{place}attack/attack_client{who}_laptop_SD_printed_photo_scene01.mov")
    put("train_sub_list.txt", "01", "02", "03")
    return put("test_sub_list.txt", "55", ""), place


def test_fields(tree, brief):
    root, place = tree
    reading = read_msu_mfsd(root, frames="mico")
    found = brief(reading)
    assert len(found) == 4 * 3 * 2
    assert found[f"{place}real/real_client055_laptop_SD_scene01.mov#6+0of2"] == (
        True, None, "055", "scene01", "laptop", "test",
    )  # fmt: skip
    replay = f"{place}attack/attack_client055_android_SD_ipad_video_scene01.mp4#6+1of2"
    assert found[replay] == (False, "iPad replay", "055", "scene01", "android", "test")
    assert {s.split for s in reading.samples} == {"train", "dev", "test"}


def test_skips(tree, put):
    root, place = tree
    put(f"{place}real/real_client009_laptop_SD_scene01.mov")
    put(f"{place}real/real_client001_laptop_SD_ipad_video_scene01.mov")
    put(f"{place}attack/attack.mov")
    assert [s.reason for s in read_msu_mfsd(root).skipped] == [
        "its name contradicts itself or its folder",
        "client 009 is on neither list",
        "its name is not that of a video",
    ]


def test_malformed(tree, put):
    root, _ = tree
    put("test_sub_list.txt", "55", "01")
    with pytest.raises(UserError, match=r"test_sub_list.txt, line 2: client 01 is on the training"):
        read_msu_mfsd(root)
    put("test_sub_list.txt", "x")
    with pytest.raises(UserError, match="line 1: 'x' is no client's number"):
        read_msu_mfsd(root)
