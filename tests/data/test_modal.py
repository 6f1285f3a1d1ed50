"""Depth and infrared frames: to 8 bits by the stated rule, checked, and zeros where unusable."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pliant.data.manifest import Sample
from pliant.data.modal import (
    ModalCrops,
    count_problems,
    problem_notes,
    refuse_absent,
    write_problems,
)
from pliant.data.modal_read import depth_to_bytes, infrared_to_bytes, read_plane
from pliant.errors import UserError
from pliant.runtime.crop import crop_square
from pliant.runtime.images import BadImage

SIDE = 32


def save(path: Path, image: np.ndarray) -> Path:
    assert cv2.imwrite(str(path), image)
    return path


def relief(side: int = SIDE, nearest: int = 500) -> np.ndarray:
    """A ramp of 64 mm from left to right, 16 bits."""
    ramp = nearest + np.linspace(0, 64, side)
    return np.broadcast_to(np.rint(ramp), (side, side)).astype(np.uint16)


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    random = np.random.default_rng(0)
    noise = random.integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    return Sample(
        path=save(tmp_path / "colour.png", noise),
        name="colour.png",
        bona_fide=True,
        depth_path=save(tmp_path / "depth.png", relief()),
        ir_path=save(tmp_path / "ir.png", random.integers(0, 200, (SIDE, SIDE), np.uint8)),
        box=(8.0, 8.0, 16.0, 16.0),
    )


def crops(*samples: Sample, modalities=("colour", "depth", "infrared"), size=16) -> ModalCrops:
    return ModalCrops(samples, modalities=modalities, size=size, crop_scale=1.0)


def why(sample: Sample) -> dict[str, str]:
    return crops(sample).problems()[0]


def test_depth_becomes_bytes_by_hand() -> None:
    plane = np.array([[0, 400, 550, 600, 700, 900]], np.uint16)[..., None].repeat(3, 2)
    face = np.array([[550, 550, 0]], np.uint16)[..., None].repeat(3, 2)
    # 550 -> 128; 50 mm further -> 128 - 42.3; 150 mm either way and beyond -> 255 and 1; none -> 0
    assert depth_to_bytes(plane, face)[0, :, 0].tolist() == [0, 255, 128, 86, 1, 1]


@given(st.integers(-400, 3000))
def test_depth_forgets_the_distance(away: int) -> None:
    near = relief()[..., None].repeat(3, 2)
    far = (near.astype(np.int64) + away).astype(np.uint16)
    np.testing.assert_array_equal(depth_to_bytes(near, near), depth_to_bytes(far, far))


def test_infrared_of_16_bits_is_scaled_by_the_face() -> None:
    plane = np.array([[0, 1000, 2000, 4000]], np.uint16)[..., None].repeat(3, 2)
    face = np.full((4, 4, 3), 2000, np.uint16)
    assert infrared_to_bytes(plane, face)[0, :, 0].tolist() == [0, 128, 255, 255]


def test_a_crop_is_the_modalities_one_after_another(sample: Sample) -> None:
    item = crops(sample)[0]
    assert item["image"].shape == (9, 16, 16)
    assert item["image"].dtype == torch.uint8
    assert int(item["target"]) == 1
    image = cv2.cvtColor(cv2.imread(str(sample.path)), cv2.COLOR_BGR2RGB)
    expected = crop_square(image, sample.box, scale=1.0, size=16)
    np.testing.assert_array_equal(item["image"][:3].permute(1, 2, 0), expected)
    depth = item["image"][3:6].float()
    assert (depth[0] == depth[1]).all()
    assert depth[0, 8].diff().max() < 0, "what is further is darker"
    only = crops(sample, modalities=("depth",))[0]["image"]
    assert torch.equal(only, item["image"][3:6])


def test_the_box_is_scaled_to_the_other_sensor(sample: Sample, tmp_path: Path) -> None:
    big = cv2.resize(cv2.imread(str(sample.ir_path)), None, fx=2, fy=2, interpolation=0)
    twice = replace(sample, ir_path=save(tmp_path / "big.png", big))
    first, second = (crops(s)[0]["image"][6:].float() for s in (sample, twice))
    assert (first - second).abs().mean() < 1


def test_images_of_8_bits_are_taken_as_they_are(sample: Sample, tmp_path: Path) -> None:
    plain = np.random.default_rng(1).integers(1, 255, (SIDE, SIDE), np.uint8)
    path = save(tmp_path / "depth8.png", plain)
    found = crops(replace(sample, depth_path=path))[0]["image"][3]
    np.testing.assert_array_equal(found, plain[8:24, 8:24])


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (None, "no file named"),
        (np.zeros((SIDE, SIDE), np.uint16), "empty"),
        (np.full((SIDE, SIDE), 700, np.uint16), "constant"),
        (np.where(relief() > 520, 65535, 520).astype(np.uint16), "saturated"),
        (np.pad(relief(8), ((0, 24), (0, 24))), "no depth at the face"),
        (relief()[:20], "not registered: 32x20 px beside a colour image of 32x32 px"),
        (relief(3), "not registered: 3x3 px beside a colour image of 32x32 px"),
        (b"", "zero bytes"),
        (b"not an image", "not a JPEG, PNG, BMP or WebP image"),
        ("gone", "no such file"),
    ],
)
def test_a_depth_image_that_cannot_be_used(
    image: object, reason: str, sample: Sample, tmp_path: Path
) -> None:
    path = tmp_path / "other.png"
    if isinstance(image, np.ndarray):
        save(path, image)
    elif isinstance(image, bytes):
        path.write_bytes(image)
    broken = replace(sample, depth_path=None if image is None else path)
    assert why(broken) == {"depth": reason}
    found = crops(broken)[0]["image"]
    assert not found[3:6].any()
    assert torch.equal(found[6:], crops(sample)[0]["image"][6:]), "the others stay"


def test_a_truncated_png_and_a_folder_are_refused(sample: Sample, tmp_path: Path) -> None:
    assert sample.ir_path is not None
    half = tmp_path / "half.png"
    half.write_bytes(sample.ir_path.read_bytes()[:-20])
    for path in (half, tmp_path):
        with pytest.raises(BadImage):
            read_plane(path)


def test_a_blinded_infrared_camera(sample: Sample, tmp_path: Path) -> None:
    white = np.full((SIDE, SIDE), 255, np.uint8)
    white[0, 0] = 0
    assert why(replace(sample, ir_path=save(tmp_path / "w.png", white))) == {
        "infrared": "saturated"
    }


def test_nothing_is_dropped_in_silence(sample: Sample, tmp_path: Path) -> None:
    without = replace(sample, depth_path=None, name="b")
    neither = replace(sample, depth_path=None, ir_path=tmp_path / "gone.png", name="c")
    data = crops(sample, without, neither)
    problems = data.problems()
    assert count_problems(problems) == {
        "depth": {"no file named": 2},
        "infrared": {"no such file": 1},
    }
    assert problem_notes(problems)[0].startswith("depth cannot be used in 2 of 3 frames (2 x no")
    write_problems(data.samples, problems, tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text().splitlines() == [
        "path,modality,reason",
        "b,depth,no file named",
        "c,depth,no file named",
        "c,infrared,no such file",
    ]
    refuse_absent(("depth",), problems, "train")
    with pytest.raises(UserError, match=r"no frame of train has depth .*no file named.*depth_path"):
        refuse_absent(("depth",), problems[1:], "train")


def test_unknown_modalities_are_refused(sample: Sample) -> None:
    for wrong in ((), ("thermal",)):
        with pytest.raises(ValueError, match="unknown modalities"):
            crops(sample, modalities=wrong)
