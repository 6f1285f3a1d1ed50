import cv2
import numpy as np
import pytest

from pliant.errors import UserError
from pliant.pad.baseline import ColourHistogram, colour_histograms, fit_baseline


def images_of(num, tint, seed):
    """Noise whose red is brighter by `tint` grey levels."""
    images = np.random.default_rng(seed).integers(60, 160, (num, 12, 12, 3))
    images[..., 0] += tint
    return images.astype(np.uint8)


def test_histogram_by_hand():
    """Half the pixels pure red, half black, two bins per channel."""
    image = np.zeros((1, 2, 2, 3), dtype=np.uint8)
    image[0, 0, :, 0] = 255
    half = np.sqrt(0.5)
    red, green, blue = [half, half], [1, 0], [1, 0]
    hue, saturation, value = [1, 0], [half, half], [half, half]
    expected = np.concatenate([red, green, blue, hue, saturation, value])
    np.testing.assert_allclose(colour_histograms(image, bins=2)[0], expected)


def test_histogram_equals_the_slow_reference():
    images = images_of(70, 20, 0)  # more than one chunk
    features = colour_histograms(images, bins=8)
    for row in (0, 63, 64, 69):
        both = np.concatenate([images[row], cv2.cvtColor(images[row], cv2.COLOR_RGB2HSV_FULL)], 2)
        slow = [np.histogram(both[..., c], bins=8, range=(0, 256))[0] / 144 for c in range(6)]
        np.testing.assert_allclose(features[row] ** 2, np.concatenate(slow))


def test_learns_colour_and_generalises():
    images = np.concatenate([images_of(30, 12, 1), images_of(90, 0, 2)])
    bona_fide = np.arange(120) < 30
    baseline = fit_baseline(images, bona_fide)
    score = baseline.score(np.concatenate([images_of(20, 12, 3), images_of(20, 0, 4)]))
    assert score[:20].min() > 0.5 > score[20:].max()
    assert ((score >= 0) & (score <= 1)).all()
    flipped = fit_baseline(images, ~bona_fide)
    np.testing.assert_allclose(flipped.score(images), 1 - baseline.score(images), atol=1e-3)


def test_sees_no_shape():
    """Shuffled pixels score the same."""
    images = np.concatenate([images_of(10, 12, 1), images_of(10, 0, 2)])
    baseline = fit_baseline(images, np.arange(20) < 10)
    mixed = np.random.default_rng(0).permutation(images.reshape(20, 144, 3), axis=1)
    np.testing.assert_allclose(
        baseline.score(mixed.reshape(images.shape)), baseline.score(images), atol=1e-12
    )


def test_optimum_has_no_slope():
    """The gradient at the solution, by differences of the loss written out plainly."""
    images = np.concatenate([images_of(8, 12, 1), images_of(24, 0, 2)])
    bona_fide = np.arange(32) < 8
    settings = ColourHistogram(bins=2, l2=0.1)
    fitted = fit_baseline(images, bona_fide, settings)
    x = (colour_histograms(images, bins=2) - fitted.mean) / fitted.scale

    def loss(weights, bias):
        p = 1 / (1 + np.exp(-(x @ weights + bias)))
        live, attack = -np.log(p[bona_fide]).mean(), -np.log(1 - p[~bona_fide]).mean()
        return (live + attack) / 2 + 0.1 * (weights**2).sum()

    for step in [*np.eye(13), *-np.eye(13)]:
        moved = loss(fitted.weights + 0.05 * step[:12], fitted.bias + 0.05 * step[12])
        assert moved >= loss(fitted.weights, fitted.bias) - 1e-9


def test_refusals():
    images = images_of(4, 0, 0)
    with pytest.raises(UserError, match="needs both classes, got 4 bona fide images and 0 attacks"):
        fit_baseline(images, np.ones(4, dtype=bool))
    with pytest.raises(ValueError, match="4 images and 3 labels"):
        fit_baseline(images, np.ones(3, dtype=bool))
    with pytest.raises(ValueError, match=r"needs uint8 RGB images.*got float64 \(4, 12, 12, 3\)"):
        fit_baseline(images / 255, np.arange(4) < 2)
    with pytest.raises(ValueError, match="bins must be 2, 4, 8"):
        ColourHistogram(bins=12)
    with pytest.raises(ValueError, match="l2 must be > 0"):
        ColourHistogram(l2=0)
