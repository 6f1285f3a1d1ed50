"""Golden images: synthetic, always the same, and what a device decodes is what was scored."""

import cv2
import numpy as np

from pliant.data.rig import ATTACKS
from pliant.export.golden import golden_images
from pliant.runtime.crop import Preprocessing


def test_four_heads_each_live_and_in_an_attack_of_its_own() -> None:
    images = golden_images()
    assert [image.species for image in images[::2]] == [None] * 4
    assert [image.species for image in images[1::2]] == list(ATTACKS)


def test_the_same_bits_every_time() -> None:
    first, second = golden_images(), golden_images()
    assert [image.png for image in first] == [image.png for image in second]
    assert [image.box for image in first] == [image.box for image in second]


def test_the_file_decodes_to_the_pixels_that_were_scored() -> None:
    for image in golden_images():
        decoded = cv2.imdecode(np.frombuffer(image.png, np.uint8), cv2.IMREAD_COLOR)
        assert decoded is not None
        np.testing.assert_array_equal(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), image.pixels)


def test_a_face_is_cut_around_its_box_and_a_whole_image_is_not() -> None:
    how = Preprocessing(size=32, crop_scale=1.0)
    face, whole = golden_images()[0], golden_images(faces=False)[0]
    assert face.box is not None
    assert whole.box is None
    assert face.input(how).shape == (3, 32, 32)
    assert np.abs(face.input(how) - whole.input(how)).max() > 0.1
