"""Choosing a face, the box rule, and the detectors on pictures with and without faces."""

import os
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pliant.errors import UserError
from pliant.runtime.faces import Face, FaceFinder, Undecided, box_from_haar, choose_face
from pliant.runtime.images import read_image
from pliant.runtime.yunet import STRIDES, YuNet, decode

needs_data = pytest.mark.skipif(
    not os.environ.get("PLIANT_DATA"), reason="needs real faces: set PLIANT_DATA"
)


def face(x: float, side: float) -> Face:
    return Face(box=(x, 0, 0.8 * side, side), landmarks=None, confidence=1.0)


def test_choosing():
    large, half, small = face(0, 100), face(200, 50), face(400, 49)
    assert choose_face([large]) == large
    assert choose_face([small, large]) == large
    assert choose_face([]) == Undecided("no_face")
    assert choose_face([half, large]) == Undecided("several_faces")
    assert choose_face([face(0, 47)]) == Undecided("face_too_small")
    assert choose_face([face(0, 47)], min_side=40) == face(0, 47)
    assert choose_face([half, large], second_face_share=0.6) == large


def test_haar_square_becomes_a_tall_box():
    x, y, width, height = box_from_haar(100, 200, 1000)
    assert (x, y, width, height) == pytest.approx((187.5, 181, 801, 1056))


@given(
    x=st.floats(-50, 500), y=st.floats(-50, 500), side=st.floats(24, 600), zoom=st.floats(0.2, 5)
)
def test_haar_conversion_moves_and_zooms_with_the_image(x, y, side, zoom):
    once = np.array(box_from_haar(x, y, side))
    assert np.allclose(once * zoom, box_from_haar(x * zoom, y * zoom, side * zoom))


def test_nothing_is_found_in_plain_pictures():
    finder = FaceFinder()
    for image in (np.full((200, 300, 3), 128, np.uint8), np.zeros((1, 1, 3), np.uint8)):
        assert finder.find(image) == []
    assert choose_face(finder.find(np.zeros((20, 9000, 3), np.uint8))) == Undecided("no_face")
    assert pickle.loads(pickle.dumps(finder)).find(np.zeros((30, 30, 3), np.uint8)) == []


def outputs_with(faces, size: int = 64) -> dict:
    """YuNet's outputs for (stride, row, column, score) each, boxes of one stride."""
    outputs = {}
    for stride in STRIDES:
        cells = (size // stride) ** 2
        for kind, width in (("cls", 1), ("obj", 1), ("bbox", 4), ("kps", 10)):
            outputs[f"{kind}_{stride}"] = np.zeros((cells, width), np.float32)
    for stride, row, column, score in faces:
        place = row * (size // stride) + column
        outputs[f"cls_{stride}"][place] = score
        outputs[f"obj_{stride}"][place] = score
        outputs[f"bbox_{stride}"][place] = (0.5, 0.25, np.log(2), np.log(3))
        outputs[f"kps_{stride}"][place] = np.arange(10) / 10
    return outputs


def test_yunet_decoding_by_hand():
    (found,) = decode(outputs_with([(16, 1, 2, 0.9), (8, 0, 0, 0.6)]), 64)
    # centre (2.5, 1.25) cells, size (2, 3) cells of 16 px
    assert found[:4] == pytest.approx([(2.5 - 1) * 16, (1.25 - 1.5) * 16, 32, 48])
    assert found[4:8] == pytest.approx([2 * 16, 1.1 * 16, 2.2 * 16, 1.3 * 16])
    assert found[14] == pytest.approx(0.9)
    assert decode(outputs_with([]), 64).shape == (0, 15)


def test_yunet_keeps_the_stronger_of_two_overlapping_boxes():
    found = decode(outputs_with([(8, 3, 3, 0.8), (8, 3, 4, 0.9), (8, 7, 7, 0.75)]), 64)
    assert found[:, 14] == pytest.approx([0.9, 0.75])


def test_wrong_detector_files(tmp_path):
    with pytest.raises(UserError, match="no such face detector"):
        FaceFinder(tmp_path / "none.onnx")
    path = tmp_path / "text.onnx"
    path.write_text("hello")
    with pytest.raises(UserError, match="not an ONNX model"):
        YuNet(path)


@needs_data
@pytest.mark.parametrize("detector", [None, "weights/yunet_n_dynamic.onnx"])
def test_real_faces(detector):
    root = Path(os.environ["PLIANT_DATA"])
    finder = FaceFinder(detector and root / detector)
    paths = sorted((root / "nuaa" / "raw").glob("*.jpg"))[::4]
    chosen = [choose_face(finder.find(read_image(path))) for path in paths]
    found = [c for c in chosen if isinstance(c, Face)]
    assert len(found) >= len(paths) - 1
    assert all(0.5 < f.box[2] / f.box[3] < 1 for f in found)
    image = read_image(paths[0])
    large = cv2.resize(image, None, fx=3, fy=3).astype(np.uint8)
    small_box, large_box = (np.array(finder.find(i)[0].box) for i in (image, large))
    assert np.abs(large_box / 3 - small_box).max() < 0.12 * small_box[3]
    both = np.concatenate([image, image], axis=1)
    assert choose_face(finder.find(both)) == Undecided("several_faces")
