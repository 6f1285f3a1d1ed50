"""Mask attacks: someone else behind a rigid cast of the subject's face.

Depth is truly three-dimensional, but nothing moves with an expression, the paint is uniform, the
plastic shines where skin scatters, the eyes look out of holes, the rim stands off, and ears and
neck are another person's.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from pliant.data.rig.head import HeadShape, Identity, smooth
from pliant.data.rig.paint import Surface
from pliant.data.rig.settings import Array


@dataclass(frozen=True, kw_only=True)
class Mask:
    """One mask on one wearer; strengths 0 for a perfect one."""

    wearer: Identity
    standoff: float
    """Height of the rim over the skin, mm."""
    blunt: float
    """How far the cast's features are blurred, 0 to 1."""
    uniform: float
    """How far the paint is one tone, 0 to 1."""
    tone: Array
    """Linear colour of the paint."""
    shine: float
    holes: float
    """Depth of the shadow in the eye holes, 0 to 1."""
    infrared: float
    """Reflectance in the infrared."""
    plastic: float
    """1: light does not enter at all; 0: it scatters as in skin."""


def draw_mask(rng: np.random.Generator, cue: float, subject: Identity, wearer: Identity) -> Mask:
    """A random mask of `subject` on `wearer`; cue as for `draw_paper`."""
    cue = float(min(cue, 1.3))
    tone = subject.skin * np.exp(rng.normal(0, 0.10 * cue, 3))
    material = float(rng.choice([0.30, 0.82]))
    return Mask(
        wearer=wearer,
        standoff=float(0.6 + 4.5 * cue),
        blunt=float(np.clip(0.75 * cue, 0, 0.9)),
        uniform=float(np.clip(1.0 * cue * rng.uniform(0.6, 1), 0, 0.92)),
        tone=tone.astype(np.float32),
        shine=float(2.2 * cue * rng.uniform(0.5, 1)),
        holes=float(np.clip(1.1 * cue * rng.uniform(0.6, 1), 0, 0.95)),
        infrared=float(subject.skin_ir + min(1.0, 1.1 * cue) * (material - subject.skin_ir)),
        plastic=float(np.clip(1.1 * cue, 0, 1)),
    )


def mask_area(shape: HeadShape, x: Array, y: Array, z: Array) -> Array:
    """Signed size of the mask's area: above 0 inside, about 1 in the middle of the face."""
    oval = np.sqrt((x / np.float32(shape.who.width * 0.95)) ** 2 + ((y - 20) / 99) ** 2)
    return np.minimum(1 - oval, -(z + 4) * np.float32(1 / 60))


def eye_hole(shape: HeadShape, x: Array, y: Array) -> Array:
    """Distance from the middle of the nearer eye hole, 1 on its border."""
    who = shape.who
    ex = (np.abs(x) - np.float32(who.eye_gap / 2)) * np.float32(1 / (16.5 * who.eye_size))
    ey = (y - np.float32(who.eye_y)) * np.float32(1 / (8.2 * who.eye_size))
    return np.sqrt(ex * ex + ey * ey)


def mould(mask: Mask, shape: HeadShape, table: Array) -> Array:
    """The head's map with the mask on it, (M, M, 4)."""
    s = 1 + shape.u**2 + shape.v**2
    x, y, z = (shape.base * c for c in (2 * shape.u / s, 2 * shape.v / s, 1 - 2 / s))
    area = mask_area(shape, x, y, z)
    on = smooth(area, -0.012, 0.012)
    hole = smooth(eye_hole(shape, x, y), 1.1, 0.9)
    r = table[..., 0]
    cast = r + np.float32(mask.blunt) * (cv2.GaussianBlur(r, (0, 0), 2.2) - r)
    cast = cast + np.float32(mask.standoff) * (1 - hole)
    moulded = HeadShape(
        shape.who, shape.u, shape.v, shape.base, r + on * (cast - r), {}, shape.layers, shape.extent
    )
    return moulded.sample(mouth_open=0, smile=0, brow=0)


def paint_mask(
    mask: Mask, surface: Surface, shape: HeadShape, x: Array, y: Array, z: Array, hair: Array
) -> float:
    """Paint the mask over a head's surface; returns how skin-like the light bleeds."""
    area = mask_area(shape, x, y, z)
    on = smooth(area, -0.008, 0.008)
    at = eye_hole(shape, x, y)
    hole = smooth(at, 1.04, 0.96)
    beside = np.float32(min(1.0, 0.25 + mask.uniform)) * (1 - on)
    skinny = beside * (1 - hair)  # ears and temples are the wearer's
    surface.colour += skinny[..., None] * (mask.wearer.skin - surface.colour)
    solid = on * (1 - hole)
    surface.colour += (solid * np.float32(mask.uniform))[..., None] * (
        (0.55 * mask.tone + 0.45 * surface.colour) - surface.colour
    )
    paint = np.float32(1 - 0.5 * mask.uniform)
    tinted = mask.tone + paint * (surface.colour - mask.tone)
    surface.colour += solid[..., None] * (tinted - surface.colour)
    surface.infrared += solid * (np.float32(mask.infrared) - surface.infrared)
    surface.gloss += solid * np.float32(mask.shine)
    surface.sharp *= 1 - np.float32(0.6 * mask.holes) * hole
    dark = (
        np.float32(mask.holes)
        * on
        * (0.55 * smooth(at, 1.22, 1.0) * smooth(at, 0.72, 0.95) + 0.35 * hole)
    )
    surface.colour *= (1 - dark)[..., None]
    rim = np.exp(-((area / 0.014) ** 2)) * np.float32(min(0.85, 0.2 * mask.standoff))
    surface.colour *= (1 - rim)[..., None]
    return 1.0 - mask.plastic
