"""The cut: geometry by hand, sampling against the slow definition, refusals."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pliant.runtime.crop import Preprocessing, crop_square, to_input


def ramp(width: int, height: int) -> np.ndarray:
    """Red holds the column's index, green the row's."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = np.arange(width)
    image[..., 1] = np.arange(height)[:, None]
    return image


def slow_crop(image, left, top, side, size):
    """The definition: the mean of k x k bilinear samples per pixel; reflected outside."""

    def at(row: int, column: int) -> np.ndarray:
        height, width = image.shape[:2]
        row = abs(row) if row < height else 2 * (height - 1) - row
        column = abs(column) if column < width else 2 * (width - 1) - column
        return image[row, column].astype(float)

    k = max(1, math.ceil(side / size - 1e-6))
    step = side / (size * k)
    result = np.zeros((size, size, 3))
    for row in range(size * k):
        for column in range(size * k):
            y, x = top + (row + 0.5) * step - 0.5, left + (column + 0.5) * step - 0.5
            r, c = math.floor(y), math.floor(x)
            a, b = y - r, x - c
            upper = (1 - b) * at(r, c) + b * at(r, c + 1)
            lower = (1 - b) * at(r + 1, c) + b * at(r + 1, c + 1)
            result[row // k, column // k] += ((1 - a) * upper + a * lower) / k**2
    return result


def test_whole_pixels_are_copied():
    """A box of 96 px at scale 2 and 192 px: nothing is resampled."""
    image = ramp(250, 240)
    crop = crop_square(image, (70, 60, 80, 96), scale=2.0, size=192)
    assert np.array_equal(crop, image[12:204, 14:206])  # centre (110, 108), side 192


def test_halving_takes_means_of_four_pixels():
    crop = crop_square(2 * ramp(100, 100), (20, 10, 40, 30), scale=1.0, size=20)
    assert crop[0, :3, 0].tolist() == [41, 45, 49]  # mean of 40, 42; of 44, 46; of 48, 50
    assert crop[:3, 0, 1].tolist() == [11, 15, 19]  # the square begins at y = 5


def test_shrinking_is_antialiased():
    stripes = np.zeros((96, 96, 3), np.uint8)
    stripes[:, ::2] = 200
    for size in (12, 24):  # means over 8 and 4 columns, half of them dark
        assert np.abs(crop_square(stripes, None, scale=1, size=size).astype(int) - 100).max() <= 1


def test_enlarging_lies_on_pixel_centres():
    crop = crop_square(10 * ramp(20, 20), (4, 4, 4, 4), scale=1.0, size=8)
    assert crop[0, :4, 0].tolist() == [38, 43, 48, 53]  # 10 x at 3.75, 4.25, ..., halves up


def test_without_a_box_the_largest_centred_square_is_taken():
    image = ramp(60, 40)
    assert np.array_equal(crop_square(image, None, scale=9, size=40), image[:, 10:50])
    assert np.array_equal(crop_square(ramp(32, 32), None, scale=1, size=32), ramp(32, 32))


def test_borders():
    image = ramp(10, 10) + 1
    box = (-2, 0, 4, 4)
    rows = {b: crop_square(image, box, scale=1, size=4, border=b)[0, :, 0].tolist()
            for b in ("reflect101", "replicate", "black")}  # fmt: skip
    assert rows == {"reflect101": [3, 2, 1, 2], "replicate": [1, 1, 1, 2], "black": [0, 0, 1, 2]}


@settings(max_examples=25)
@given(
    x=st.floats(-4, 30),
    y=st.floats(-4, 20),
    width=st.floats(4, 30),
    height=st.floats(4, 20),
    scale=st.floats(0.6, 1.2),
    size=st.integers(3, 12),
)
def test_equals_the_definition(x, y, width, height, scale, size):
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    side = scale * max(width, height)
    crop = crop_square(image, (x, y, width, height), scale=scale, size=size)
    slow = slow_crop(image, x + width / 2 - side / 2, y + height / 2 - side / 2, side, size)
    # OpenCV places samples on 1/32 of a pixel, and this image is noise: 255 levels from one
    # pixel to the next
    assert np.abs(crop - slow).mean() < 3
    assert np.abs(crop - slow).max() < 20


@given(shift=st.integers(-6, 6), size=st.sampled_from([16, 24, 40]))
def test_moving_image_and_box_together_changes_nothing(shift, size):
    image = np.random.default_rng(1).integers(0, 256, (80, 80, 3), np.uint8)
    moved = np.roll(image, shift, axis=1)
    crop = crop_square(image, (30, 30, 20, 20), scale=1.5, size=size)
    assert np.array_equal(crop, crop_square(moved, (30 + shift, 30, 20, 20), scale=1.5, size=size))


def test_to_input_by_hand():
    crop = np.zeros((2, 2, 3), np.uint8)
    crop[0, 1] = (255, 51, 0)
    values = to_input(crop, Preprocessing())
    assert values.dtype == np.float32
    assert values.shape == (3, 2, 2)
    assert values[:, 0, 1] == pytest.approx([1.0, -0.6, -1.0])
    other = Preprocessing(mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 1.0))
    assert to_input(crop, other)[:, 0, 1] == pytest.approx([1.8, 0.0, -0.3])


def test_preprocessing_survives_json():
    import json

    settings = Preprocessing(size=112, crop_scale=2.0, border="black", mean=(0.4, 0.5, 0.6))
    again = Preprocessing.from_json(json.loads(json.dumps(settings.to_json())))
    assert again == settings
    assert hash(again) == hash(settings)
    with pytest.raises(ValueError, match="does not know sise"):
        Preprocessing.from_json({"sise": 96})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"size": 8}, r"size must lie in \[16, 1024\] px, got 8"),
        ({"crop_scale": 0.0}, "crop_scale must lie in"),
        ({"border": "wrap"}, "border must be reflect101, replicate, black, got 'wrap'"),
        ({"colour": "bgr"}, "colour must be rgb"),
        ({"mean": (0.5, 0.5)}, "mean needs three numbers"),
        ({"std": (0.5, 0.0, 0.5)}, "std must be > 0"),
    ],
)
def test_preprocessing_refuses(values, message):
    with pytest.raises(ValueError, match=message):
        Preprocessing(**values)


def test_crop_refuses():
    image = ramp(10, 10)
    with pytest.raises(ValueError, match="box"):
        crop_square(image, (0, 0, 0, 5), scale=1, size=4)
    with pytest.raises(ValueError, match="box"):
        crop_square(image, (float("nan"), 0, 5, 5), scale=1, size=4)
    with pytest.raises(ValueError, match="scale"):
        crop_square(image, (0, 0, 5, 5), scale=0, size=4)
    with pytest.raises(ValueError, match="unknown border 'wrap'"):
        crop_square(image, None, scale=1, size=4, border="wrap")
    with pytest.raises(ValueError, match="uint8"):
        crop_square(image.astype(float), None, scale=1, size=4)
