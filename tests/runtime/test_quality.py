"""Dark, overexposed, blurred, cut off: by hand, against slow loops, monotone, in a bundle."""

import csv
import math
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pliant.errors import UserError
from pliant.runtime.audit import AuditLog
from pliant.runtime.bundle import Bundle
from pliant.runtime.crop import crop_square
from pliant.runtime.images import read_image
from pliant.runtime.quality import (
    BLURRED,
    CUT_OFF,
    DEFAULT_LIMITS,
    TOO_BRIGHT,
    TOO_DARK,
    QualityLimits,
    bright_share,
    dark_share,
    face_luma,
    outside_share,
    poor_quality,
    sharpness,
)

lumas = arrays(np.uint8, st.integers(8, 80).map(lambda n: (n, n)))


def grey(*levels: int) -> np.ndarray:
    """(n, n) of columns of these levels, n = 8 columns."""
    return np.tile(np.array(levels, np.uint8), (8, 1))


def slow_sharpness(luma: np.ndarray) -> float:
    """As the module's first lines say it, pixel by pixel."""
    n = len(luma)
    m = min(n, 32)
    if n == m:
        y = luma.astype(float)
    else:
        weight = np.zeros((m, n))
        for i in range(m):
            for k in range(n):
                covered = min(k + 1, (i + 1) * n / m) - max(k, i * n / m)
                weight[i, k] = max(0.0, covered) * m / n
        y = weight @ luma.astype(float) @ weight.T
    total = 0.0
    for i in range(1, m - 1):
        for j in range(1, m - 1):
            around = y[i - 1, j] + y[i + 1, j] + y[i, j - 1] + y[i, j + 1]
            total += (4 * y[i, j] - around) ** 2
    return total / (m - 2) ** 2 / (y.var() + 40)


def test_luma_by_hand():
    crop = np.zeros((16, 16, 3), np.uint8)
    crop[4:12, 4:12] = 10, 20, 30
    crop[4, 4] = 255, 255, 255
    luma = face_luma(crop, 1.5)
    assert luma.shape == (8, 8)  # floor(0.75 * 16 / 1.5 + 0.5), from pixel 4 on
    assert luma[0, 0] == 255
    assert set(luma.ravel()[1:].tolist()) == {18}  # (770 + 3000 + 870) // 256


@pytest.mark.parametrize(
    ("size", "scale", "n"),
    [(128, 1.5, 64), (96, 1.5, 48), (224, 1.0, 168), (80, 2.7, 22), (16, 8, 8), (32, 0.5, 32)],
)
def test_the_middle_follows_the_crop_scale(size: int, scale: float, n: int):
    assert face_luma(np.zeros((size, size, 3), np.uint8), scale).shape == (n, n)


def test_shares_by_hand():
    luma = grey(0, 23, 24, 100, 249, 250, 255, 90)
    assert dark_share(luma) == 2 / 8
    assert bright_share(luma) == 2 / 8
    assert outside_share((10, 10, 20, 40), (100, 100)) == 0
    assert outside_share((-5, 10, 20, 40), (100, 100)) == pytest.approx(0.25)
    assert outside_share((90, 80, 20, 40), (100, 100)) == pytest.approx(0.75)
    assert outside_share((200, 10, 20, 40), (100, 100)) == 1


def test_sharpness_by_hand():
    assert sharpness(np.full((8, 8), 77, np.uint8)) == 0
    assert sharpness(grey(0, 10, 20, 30, 40, 50, 60, 70)) == 0  # a slope has no detail
    stripes = grey(0, 2, 0, 2, 0, 2, 0, 2)  # every L is 4 or -4, the variance is 1
    assert sharpness(stripes) == pytest.approx(16 / 41)


@given(lumas)
def test_sharpness_against_the_slow_loop(luma: np.ndarray):
    assert sharpness(luma) == pytest.approx(slow_sharpness(luma), rel=1e-3, abs=1e-4)


@given(lumas, st.integers(1, 255))
def test_darker_is_never_less_dark(luma: np.ndarray, step: int):
    darker = np.maximum(luma.astype(int) - step, 0).astype(np.uint8)
    brighter = np.minimum(luma.astype(int) + step, 255).astype(np.uint8)
    assert dark_share(darker) >= dark_share(luma) >= dark_share(brighter)
    assert bright_share(darker) <= bright_share(luma) <= bright_share(brighter)


@given(st.integers(0, 2**32 - 1), st.floats(1.0, 3.0))
def test_blurring_more_is_never_sharper(seed: int, sigma: float):
    luma = np.random.default_rng(seed).integers(0, 256, (64, 64)).astype(np.uint8)
    once, twice = (
        sharpness(cv2.GaussianBlur(luma, (0, 0), s).astype(np.uint8)) for s in (sigma, 2 * sigma)
    )
    assert sharpness(luma) > once > twice


@given(st.floats(0, 1), st.floats(0, 1), st.integers(48, 100))
def test_a_slope_rounded_to_whole_levels_is_blurred(across: float, down: float, n: int):
    y = np.round(50 + np.arange(n) * across + np.arange(n)[:, None] * down)
    assert sharpness(y.astype(np.uint8)) < DEFAULT_LIMITS.sharpness


@given(st.floats(-50, 150), st.floats(0, 80))
def test_further_out_is_never_less_outside(x: float, step: float):
    first, then = (outside_share((p, 10, 30, 40), (100, 100)) for p in (x + 100, x + 100 + step))
    assert 0 <= first <= then + 1e-9 <= 1 + 1e-9


@given(arrays(np.uint8, (32, 32, 3)))
def test_limits_at_their_ends_let_everything_pass(crop: np.ndarray):
    limits = QualityLimits(dark=1, bright=1, sharpness=0, outside=1)
    box = (500.0, 0.0, 20.0, 20.0)
    assert poor_quality(crop, box, (100, 100), crop_scale=1.5, limits=limits) is None


@pytest.mark.parametrize("name", ["dark", "bright", "sharpness", "outside"])
@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan, "0.5", None, True])
def test_limits_out_of_range(name: str, value: object):
    with pytest.raises(UserError, match=rf"QualityLimits.{name} must lie in \[0, 1\], got "):
        QualityLimits(**{name: value})  # pyright: ignore[reportArgumentType]


def spoilt(image: np.ndarray) -> dict[str, np.ndarray]:
    """The image once with each fault, by its words."""
    return {
        TOO_DARK: image // 12,
        TOO_BRIGHT: np.minimum(image.astype(int) * 4 + 160, 255).astype(np.uint8),
        BLURRED: cv2.GaussianBlur(image, (0, 0), 6).astype(np.uint8),
    }


def test_a_bundle_says_why_and_shows_the_score(tiny, bundle_file, tmp_path):
    bundle = Bundle.open(bundle_file)
    free = Bundle.open(bundle_file, quality=None)
    assert (bundle.quality, free.quality) == (DEFAULT_LIMITS, None)
    with AuditLog(tmp_path / "log", model=bundle.sha256) as log:
        for reason, image in spoilt(tiny.images[0]).items():
            found = bundle.predict(image, box=tiny.boxes[0])
            assert (found.verdict, found.reason) == (f"undecided({reason})", reason)
            assert (found.box, found.num_frames, found.responded) == (tiny.boxes[0], 1, False)
            judged = free.predict(image, box=tiny.boxes[0])
            assert judged.score == found.score
            assert judged.responded
            assert judged.verdict in ("bona_fide", "attack")
            log.append(found)
    assert (tmp_path / "log").read_text().count('"reason":"the face is ') == 3
    found = bundle.predict(tiny.images[0], box=(-9.0, 9.0, 18.0, 24.5))
    assert found.verdict == f"undecided({CUT_OFF})"
    assert bundle.predict(tiny.images[0], box=tiny.boxes[0]).responded


def test_limits_of_ones_own(tiny, bundle_file):
    strict = Bundle.open(bundle_file, quality=QualityLimits(sharpness=1))
    assert strict.predict(tiny.images[0], box=tiny.boxes[0]).reason == BLURRED
    for wrong in (True, 0.5, "strict"):
        with pytest.raises(UserError, match="quality must be QualityLimits or None"):
            Bundle.open(bundle_file, quality=wrong)  # pyright: ignore[reportArgumentType]


def test_the_reason_stands_before_a_missing_threshold(tiny, bundle_file):
    bundle = Bundle.open(bundle_file, tier="HL")
    assert bundle.predict(tiny.images[0], box=tiny.boxes[0]).responded
    assert bundle.predict(tiny.images[0] // 12, box=tiny.boxes[0]).reason == TOO_DARK


def test_poor_frames_are_left_out(tiny, bundle_file):
    bundle = Bundle.open(bundle_file)
    poor = spoilt(tiny.images[1])
    dark, blurred, box = poor[TOO_DARK], poor[BLURRED], tiny.boxes[0]
    found = bundle.predict([tiny.images[0], dark, tiny.images[2]], box=[box] * 3)
    scores = tiny.score("high", 0), tiny.score("high", 2)
    assert found.score == pytest.approx(sum(scores) / 2, abs=1e-5)
    assert (found.num_frames, found.reason) == (2, None)
    none = bundle.predict([dark, blurred, blurred], box=[box] * 3)
    assert (none.reason, none.score, none.num_frames) == (BLURRED, None, 0)
    blank = np.zeros((100, 100, 3), np.uint8)
    mixed = bundle.predict([blank, dark, blank], box=[None, box, None])
    assert mixed.reason == "no face found"


def test_other_tasks_judge_any_image(tiny_classes, tmp_path):
    bundle = Bundle.open(tiny_classes.zip(tmp_path / "a.pliant"))
    black = np.zeros((60, 60, 3), np.uint8)
    assert bundle.predict(black, box=(10, 10, 30, 30)).reason is None


def test_the_self_test_passes_no_gate(tiny, tmp_path):
    """A golden image that the gate would refuse still is compared."""
    from pliant.runtime.selftest import run_self_test

    bundle = Bundle.open(tiny.zip(tmp_path / "a.pliant"), quality=QualityLimits(sharpness=1))
    assert bundle.predict(tiny.images[0], box=tiny.boxes[0]).reason == BLURRED
    assert bundle.self_test().passed
    assert run_self_test(bundle.contract, tiny.files.__getitem__, bundle.load).passed


def test_real_captures_pass_and_spoilt_ones_do_not():
    """NUAA, every 20th image; all of them are in docs/runtime.md."""
    if "PLIANT_DATA" not in os.environ:
        pytest.skip("PLIANT_DATA is not set; it names the folder that holds nuaa/manifest.csv")
    folder = Path(os.environ["PLIANT_DATA"]) / "nuaa"
    if not (folder / "manifest.csv").is_file():
        pytest.skip(f"{folder} holds no manifest.csv")
    with open(folder / "manifest.csv", newline="") as file:
        rows = list(csv.DictReader(file))[::20]
    darker = np.round(255 * (np.arange(256) / 255) * 2 ** (-8 / 2.2)).astype(np.uint8)

    def reason(image: np.ndarray, box: tuple[float, float, float, float]) -> str | None:
        crop = crop_square(image, box, scale=1.5, size=128)
        return poor_quality(crop, box, image.shape, crop_scale=1.5, limits=DEFAULT_LIMITS)

    for row in rows:
        image = read_image(folder / row["path"])
        x, y, width, height = (float(row[f"box_{name}"]) for name in "xywh")
        box = x, y, width, height
        assert reason(image, box) is None, row["path"]
        assert reason(darker[image], box) == TOO_DARK
        assert reason(cv2.GaussianBlur(image, (0, 0), 0.05 * height), box) == BLURRED
        first = round(x + 0.3 * width)
        assert (
            reason(np.ascontiguousarray(image[:, first:]), (x - first, y, width, height)) == CUT_OFF
        )
