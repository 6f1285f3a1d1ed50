"""Boxes that sets ship: by hand, with every quirk that is known of them."""

import numpy as np
import pytest

from pliant.data.boxes import RULES, NoBox, box_of
from pliant.data.manifest import Sample

IMAGE = np.full((448, 112, 3), 100, np.uint8)  # H 448, W 112


def find(rule, path, image=IMAGE, index=0):
    return box_of(Sample(path=path, box_rule=rule), image, index)


def test_celeba_spoof_by_hand(tmp_path):
    photo = tmp_path / "000003.png"
    file = tmp_path / "000003_BB.txt"
    file.write_text("56 56 113 112 0.99\n")  # x 28, y 112, w int(56.5) = 56, h 224
    assert find("celeba_spoof", photo) == (28, 112, 56, 224)
    file.write_text("-10 -20 60 60 0.9")  # x int(-5.0), y -40, w 30, h 120: clipped
    assert find("celeba_spoof", photo) == (0, 0, 25, 80)
    file.write_text("200 100 100 10 0.9")  # right of it all: x 100, w 50 -> 12
    assert find("celeba_spoof", photo) == (100, 200, 12, 20)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "face file is empty"),
        ("\n", "face file is empty"),
        ("10 10 4 100 0.9", "under 3 px"),
        ("10 10 -40 100 0.9", "under 3 px"),
        ("a b c d e", "malformed"),
        ("1 2 3", "malformed"),
        ("nan 1 1 1 1", "malformed"),
        (None, "000003_BB.txt is missing"),
    ],
)
def test_celeba_spoof_quirks(tmp_path, text, reason):
    if text is not None:
        (tmp_path / "000003_BB.txt").write_text(text)
    with pytest.raises(NoBox, match=reason):
        find("celeba_spoof", tmp_path / "000003.png")


def test_eyes(tmp_path):
    film = tmp_path / "1_1_01_1.avi"
    (tmp_path / "1_1_01_1.txt").write_text("0,100,200,200,200\n3,10,50,10,50\n")
    x, y, width, height = find("eyes", film)  # 100 px apart, between them (150, 200)
    assert (width, height) == pytest.approx((213, 281))
    assert (x + width / 2, y) == pytest.approx((150, 92))
    for index, reason in {2: "not annotated", 3: "at one place"}.items():
        with pytest.raises(NoBox, match=reason):
            find("eyes", film, index=index)


def test_content(tmp_path):
    image = np.full((60, 80, 3), 5, np.uint8)
    image[10:30, 20:70, 1] = 90
    assert find("content", tmp_path / "x", image) == (20, 10, 50, 20)
    with pytest.raises(NoBox, match="black"):
        find("content", tmp_path / "x", np.zeros_like(image))


def test_rules_are_named():
    assert set(RULES) == {"celeba_spoof", "eyes", "content"}
