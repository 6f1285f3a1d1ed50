import cv2
import numpy as np

from pliant.data.rig.camera import draw_camera, measure_depth, photograph, to_jpeg
from pliant.data.rig.camera import through_filter_array as bayer
from pliant.data.rig.settings import stream


def test_a_flat_colour_passes_the_filter_array_unchanged() -> None:
    flat = np.broadcast_to(np.float32([0.2, 0.5, 0.7]), (16, 16, 3)).copy()
    np.testing.assert_allclose(bayer(flat)[2:-2, 2:-2], flat[2:-2, 2:-2], atol=1e-6)


def test_exposure_takes_away_the_strength_of_the_light() -> None:
    rng = stream(0, 1)
    scene = rng.random((128, 128, 3)).astype(np.float32) * 0.5 + 0.2
    camera = draw_camera(rng, 0.2)
    dim = photograph(scene * np.float32(0.5), camera, stream(0, 2)).astype(float)
    bright = photograph(scene * np.float32(2), camera, stream(0, 2)).astype(float)
    assert abs(dim.mean() - bright.mean()) < 6


def test_depth_is_true_up_to_its_noise_and_torn_at_edges() -> None:
    depth = np.full((96, 96), 500, np.float32)
    depth[:, 49:] = 1500  # within one stored pixel
    camera = draw_camera(stream(0, 3), 0.0)
    seen = measure_depth(depth, camera, stream(0, 4))
    assert seen.dtype == np.uint16
    assert abs(float(np.median(seen[:, :20])) - 500) <= 2
    assert (seen[:, 24] == 0).any()
    assert (seen[:, :20] > 0).all()


def test_jpeg_is_a_jpeg_in_rgb_order() -> None:
    red = np.zeros((32, 32, 3), np.uint8)
    red[..., 0] = 200
    back = cv2.imdecode(np.frombuffer(to_jpeg(red, 95), np.uint8), cv2.IMREAD_COLOR)
    assert back is not None
    assert back[..., 2].mean() > 190
    assert back[..., 0].mean() < 10
