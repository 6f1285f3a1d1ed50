"""What stands behind: walls, shelves, windows, lamps, curtains, leaves; always out of focus.

Bona fide clips and attacks draw from the same places.
"""

import cv2
import numpy as np

from pliant.data.rig.head import linear
from pliant.data.rig.light import Light
from pliant.data.rig.settings import Array

GRID = 96  # px of the backdrop's own picture; it is blurred, so this is enough


def hue(rng: np.random.Generator, low: float, high: float, chroma: float) -> Array:
    """A random linear colour with brightness in [low, high] and at most this much chroma."""
    base = rng.uniform(low, high)
    return linear(np.clip(255 * (base + chroma * rng.uniform(-1, 1, 3)), 4, 252).astype(np.float32))


def draw_backdrop(rng: np.random.Generator, light: Light) -> Array:
    """Radiance of a random place, (GRID, GRID, 3) linear."""
    kind = int(rng.integers(6))
    wall = hue(rng, 0.25, 0.9, 0.07)
    y, x = np.mgrid[0:GRID, 0:GRID].astype(np.float32) / np.float32(GRID)
    slope = 1 + rng.uniform(-0.5, 0.5) * (x - 0.5) + rng.uniform(-0.5, 0.5) * (y - 0.5)
    picture = wall * slope[..., None]
    lamp = np.zeros_like(picture)
    if kind == 1:  # shelves with books
        rows = int(rng.integers(2, 6))
        for row in range(rows):
            top, bottom = row * GRID // rows, (row + 1) * GRID // rows
            at = 0
            while at < GRID:
                wide = int(rng.integers(3, 12))
                tall = int((bottom - top) * rng.uniform(0.55, 0.92))
                picture[bottom - tall : bottom, at : at + wide] = hue(rng, 0.1, 0.8, 0.18)
                at += wide + int(rng.integers(0, 2))
            picture[bottom - 2 : bottom] = wall * 0.5
    elif kind == 2:  # a window
        cx, cy = rng.integers(0, GRID, 2)
        w, h = int(rng.integers(18, 48)), int(rng.integers(26, 70))
        glow = hue(rng, 0.7, 1.0, 0.1) * rng.uniform(1.2, 2.6)
        cv2.rectangle(lamp, (cx, cy), (cx + w, cy + h), glow.tolist(), -1)
        cv2.line(lamp, (cx + w // 2, cy), (cx + w // 2, cy + h), (wall * 0.6).tolist(), 2)
        cv2.line(lamp, (cx, cy + h // 3), (cx + w, cy + h // 3), (wall * 0.6).tolist(), 2)
    elif kind == 3:  # a street at dusk: lamps
        picture = picture * np.float32(0.25)
        for _ in range(int(rng.integers(8, 26))):
            spot = (int(rng.integers(GRID)), int(rng.integers(GRID)))
            cv2.circle(lamp, spot, int(rng.integers(2, 7)), hue(rng, 0.5, 1, 0.22).tolist(), -1)
    elif kind == 4:  # a curtain or panels
        folds = np.sin(x * rng.uniform(18, 70) + rng.uniform(0, 6) + 0.8 * np.sin(9 * y))
        picture = picture * (0.8 + 0.25 * folds)[..., None]
    elif kind == 5:  # leaves and sky
        coarse = rng.standard_normal((14, 14), np.float32)
        leaves = cv2.resize(coarse, (GRID, GRID), interpolation=cv2.INTER_CUBIC)
        leaf, sky = (
            hue(rng, 0.2, 0.5, 0.1) * np.asarray([0.7, 1.1, 0.5], np.float32),
            hue(rng, 0.7, 1, 0.1),
        )
        mix = np.clip(0.5 + leaves * 0.6 + rng.uniform(-1, 1) * (y - 0.4), 0, 1)[..., None]
        picture = leaf * mix + sky * (1 - mix)
    for _ in range(int(rng.integers(0, 4))):  # furniture, pictures, doors
        corner = rng.integers(-10, GRID, 2)
        w, h = (int(v) for v in rng.integers(8, 50, 2))
        box = tuple(int(c) for c in corner)
        cv2.rectangle(picture, box, (box[0] + w, box[1] + h), hue(rng, 0.1, 0.8, 0.12).tolist(), -1)
    picture = picture * (light.sky * 0.8 + light.key * np.float32(rng.uniform(0.15, 0.6)))
    picture = picture * np.float32(rng.uniform(0.5, 1.2))
    picture = np.where(lamp.sum(-1, keepdims=True) > 0, lamp, picture)
    sigma = float(rng.uniform(0.7, 4.5))
    picture = cv2.GaussianBlur(picture.astype(np.float32), (0, 0), sigma)
    return np.maximum(picture, np.float32(0.002))
