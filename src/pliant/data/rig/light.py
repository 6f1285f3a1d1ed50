"""Light and shading: a coloured key light, a fill from above and below, and highlights."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pliant.data.rig.cast import Planes
from pliant.data.rig.settings import Array


@dataclass(frozen=True, kw_only=True)
class Light:
    """Illumination of one place; directions point to the light, in camera space."""

    direction: NDArray[np.float64]
    key: Array
    """Linear RGB irradiance of the key light."""
    sky: Array
    """Fill from above."""
    ground: Array
    """Fill from below."""


def daylight(kelvin: float) -> Array:
    """Linear RGB of a black body, green-normalised; a fit good to a few per cent in 2500-9000 K."""
    t = kelvin / 1000.0
    red = 1.0 if t < 6.6 else 1.29 * (t - 6.0) ** -0.1332
    red = red if t >= 6.6 else 1.0 + 0.11 * (6.6 - t)
    green = 1.0
    blue = float(np.clip(0.24 * t - 0.42, 0.12, 1.45))
    return np.asarray([red, green, blue], np.float32)


def draw_light(rng: np.random.Generator) -> Light:
    """A random place's light: one lamp or window anywhere in front or above, and a fill."""
    azimuth = rng.uniform(-1.25, 1.25)
    height = rng.uniform(-0.15, 1.0)
    direction = np.array(
        [np.sin(azimuth) * np.cos(height), -np.sin(height), -np.cos(azimuth) * np.cos(height)]
    )
    kelvin = rng.uniform(2700, 7800)
    key = daylight(kelvin) * rng.uniform(0.35, 1.25)
    fill = daylight(float(np.clip(kelvin + rng.normal(0, 1200), 2500, 9000)))
    ratio = rng.uniform(0.22, 0.75)
    bounce = rng.uniform(0.35, 0.9) * (1 + rng.normal(0, 0.08, 3))
    return Light(
        direction=direction,
        key=key.astype(np.float32),
        sky=(fill * ratio).astype(np.float32),
        ground=(fill * ratio * bounce).astype(np.float32),
    )


def shade(
    colour: Array,
    gloss: Array,
    sharp: Array,
    n: Planes,
    view: Planes,
    light: Light,
    lit: Array,
    open_sky: Array,
    *,
    skin: float = 1.0,
) -> Array:
    """Radiance (H, W, 3) of a lit surface.

    Args:
        colour: Linear reflectance, (H, W, 3).
        gloss: Strength of the broad highlight, (H, W).
        sharp: The lamp's mirror image in wet parts, (H, W) in [0, 1].
        n: Unit normals in camera space.
        view: Unit ray directions in camera space (from the camera).
        light: The light.
        lit: Share of the key light that arrives, (H, W).
        open_sky: Share of the fill that arrives, (H, W).
        skin: 1 lets red light bleed around the terminator as skin does, 0 is a hard surface.
    """
    lx, ly, lz = (np.float32(c) for c in light.direction)
    cos = n[0] * lx + n[1] * ly + n[2] * lz
    wraps = np.asarray([0.26, 0.17, 0.13], np.float32) * np.float32(skin)
    up = np.float32(0.5) - np.float32(0.5) * n[1]
    hx, hy, hz = lx - view[0], ly - view[1], lz - view[2]
    norm = 1 / np.sqrt(np.maximum(hx * hx + hy * hy + hz * hz, np.float32(1e-6)))
    half = np.clip((n[0] * hx + n[1] * hy + n[2] * hz) * norm, 0, 1)
    facing = np.clip(-(n[0] * view[0] + n[1] * view[1] + n[2] * view[2]), 0, 1)
    h4 = half**4
    h16 = h4**4
    broad = (np.float32(0.16) * h16 + np.float32(0.20) * h16 * h16 * h16) * gloss * lit
    narrow = sharp * (np.float32(0.2) + np.float32(0.8) * lit)
    fresnel = (1 - facing) ** 4 * np.float32(0.22) * gloss
    out = np.empty_like(colour)
    for k in range(3):
        w = wraps[k]
        diffuse = np.clip((cos + w) / (1 + w), 0, 1) * lit
        fill = (light.ground[k] + (light.sky[k] - light.ground[k]) * up) * open_sky
        out[..., k] = (
            colour[..., k] * (light.key[k] * diffuse + fill)
            + light.key[k] * (broad + narrow)
            + fresnel * fill
        )
    return out
