"""What a head's surface looks like: skin, eyes, brows, lips, beard, hair, in colour and infrared.

Everything is drawn as a function of base coordinates (see head.py), at the resolution of the
rays, so that lids and lips stay crisp at any size. `soft` is the width of an edge in mm.
"""

from dataclasses import dataclass

import numpy as np

from pliant.data.rig.cast import around
from pliant.data.rig.head import HeadShape, Identity, bump, smooth
from pliant.data.rig.settings import Array


@dataclass(frozen=True, kw_only=True)
class Expression:
    """One moment of a face."""

    mouth_open: float = 0.0
    """Gap between the lips over 10 mm."""
    smile: float = 0.0
    brow: float = 0.0
    lids: float = 1.0
    """1 open, 0 shut."""
    gaze: tuple[float, float] = (0.0, 0.0)
    """Offset of the irises in mm."""
    glint: tuple[float, float] = (0.0, 0.0)
    """Offset of the lamp's reflection on the eyes in mm."""


@dataclass
class Surface:
    """Reflectance of every pixel of a region: colour (H, W, 3), infrared and gloss (H, W)."""

    colour: Array
    infrared: Array
    gloss: Array
    sharp: Array
    """Gloss of wet or polished parts (eyes), with a narrow highlight."""

    def window(self, where: tuple[slice, slice]) -> "Surface":
        """A part of the surface; painting it paints the whole."""
        return Surface(
            self.colour[where], self.infrared[where], self.gloss[where], self.sharp[where]
        )

    def lay(self, cover: Array, colour: Array | tuple[float, ...], infrared: Array | float) -> None:
        """Paint over, where `cover` (H, W) in [0, 1] says so."""
        paint = np.asarray(colour, np.float32)
        for k in range(3):
            self.colour[..., k] += cover * (paint[..., k] - self.colour[..., k])
        self.infrared += cover * (np.float32(infrared) - self.infrared)


def paint_head(
    shape: HeadShape, x: Array, y: Array, z: Array, layers: Array, act: Expression, soft: float
) -> Surface:
    """Paint a region whose pixels have base coordinates x, y, z (mm).

    Args:
        shape: Whose head.
        x: Base coordinate to the viewer's right, (H, W).
        y: Base coordinate down.
        z: Base coordinate away.
        layers: (H, W, 4): hair cover, coarse grain, fine grain, curl, sampled from the head's map.
        act: The expression.
        soft: Width of an edge, mm.
    """
    who = shape.who
    hair, grain, fine, curl = (layers[..., k] for k in range(4))
    front = smooth(z, 0, -25)
    surface = bare_skin(who, x, y, grain, fine, front)
    eye, reach = who.eye_y, who.eye_gap / 2
    ahead = z < 0
    w = around(ahead & (y > eye + who.nose_length - 16))
    paint_lower_face(surface.window(w), who, x[w], y[w], fine[w], front[w], act, soft)
    w = around(ahead & (np.abs(y - np.float32(eye - 20)) < 18))
    paint_brows(surface.window(w), who, x[w], y[w], fine[w], front[w], act, soft)
    for side in (-1, 1):
        near = np.abs(x - np.float32(side * reach)) < 20
        w = around(ahead & near & (np.abs(y - np.float32(eye)) < 13))
        paint_eye(surface.window(w), who, x[w], y[w], front[w], act, soft, side)
    edge = smooth(hair, 0.25, 0.75)
    strand = 1 + 0.30 * curl + 0.18 * fine
    surface.lay(edge, who.hair * strand[..., None], who.hair_ir)
    surface.gloss += edge * (0.14 - surface.gloss)
    np.clip(surface.colour, 0.004, 0.95, out=surface.colour)
    return surface


def bare_skin(
    who: Identity, x: Array, y: Array, grain: Array, fine: Array, front: Array
) -> Surface:
    """Skin with its large blotches, redness of cheeks, nose and ears, and freckles."""
    red = (
        np.float32(who.blush)
        * front
        * (
            bump(x, y, (-40, 32), (16, 13))
            + bump(x, y, (40, 32), (16, 13))
            + 0.7 * bump(x, y, (0, who.eye_y + who.nose_length), (9, 8))
        )
        + np.float32(0.06) * grain
        + np.float32(0.35 * who.blush) * (1 - front)
    )
    dark = np.float32(0.05) * grain + np.float32(who.freckles * 0.35) * np.maximum(fine - 0.9, 0)
    dark = dark + np.float32(0.16) * front * (
        bump(x, y, (-who.eye_gap / 2, who.eye_y + 8), (11, 4.5))
        + bump(x, y, (who.eye_gap / 2, who.eye_y + 8), (11, 4.5))
    )
    tint = np.stack([1 - dark, 1 - dark - 0.55 * red, 1 - dark - 0.5 * red], axis=-1)
    colour = (who.skin * tint).astype(np.float32)
    infrared = np.float32(who.skin_ir) * (1 + np.float32(0.03) * grain)
    oily = bump(x, y, (0, -45), (30, 22)) + bump(x, y, (0, who.eye_y + 25), (7, 20))
    gloss = np.float32(who.shine) * (0.55 + 0.6 * front * oily)
    return Surface(colour, infrared.astype(np.float32), gloss, np.zeros_like(gloss))


def paint_lower_face(
    surface: Surface,
    who: Identity,
    x: Array,
    y: Array,
    fine: Array,
    front: Array,
    act: Expression,
    soft: float,
) -> None:
    """Nostrils, folds, lips, teeth and beard."""
    tip, my = who.eye_y + who.nose_length, who.mouth_y
    width = who.mouth_width * (1 + 0.16 * act.smile)
    gap = 10.0 * act.mouth_open + 2.5 * act.smile
    q = np.clip(np.abs(x) / np.float32(width), 0, 1.6)
    lift = np.float32(-5.0 * act.smile) * q * q  # corners go up with a smile
    beardy = (
        smooth(y - 0.0035 * x * x, my - 26, my - 12)
        * smooth(y, 150, 118)
        * (1 - 0.65 * bump(x, y, (0, my + 14), (9, 3.5)))
    ) + 0.9 * smooth(np.abs(x), 50, 60) * smooth(y, 0, 24) * smooth(y, 150, 118)
    beardy = front * np.clip(beardy, 0, 1) * np.float32(who.beard)
    hairs = np.clip(0.75 + 0.35 * fine, 0, 1)
    surface.lay(beardy * hairs * np.float32(0.85), 0.8 * who.hair, who.hair_ir)
    surface.gloss *= 1 - 0.7 * beardy

    mid = lift + np.float32(my)
    body = np.clip(1 - q * q, 0, 1)
    bow = 1 - 0.28 * np.exp(-((x / 4.5) ** 2))
    up = np.float32(6.6 * who.lip) * np.sqrt(body) * (0.55 + 0.45 * body) * bow
    down = np.float32(8.2 * who.lip) * np.sqrt(body) * (0.5 + 0.5 * body) + gap * body
    inside = smooth(y - (mid - up), -soft, soft) * smooth((mid + down) - y, -soft, soft)
    lips = inside * front * (q < 1.02)
    shade = 1 - 0.16 * smooth(mid - y, -1, 4)
    surface.lay(0.85 * lips, who.lips * shade[..., None], 0.92 * who.skin_ir)
    surface.gloss += lips * np.float32(0.25)
    opening = smooth(y - mid, -soft, soft) * smooth(mid + gap * body - y, -soft, soft)
    opening = opening * front * (q < 0.97) * np.float32(min(1.0, gap / 3))
    surface.lay(opening, (0.045, 0.014, 0.014), 0.1)
    teeth = opening * smooth(mid + 0.55 * gap * body - y, -soft, soft) * (q < 0.72)
    surface.lay(teeth * np.float32(min(1.0, 0.3 + act.smile)), (0.62, 0.57, 0.49), 0.5)
    line = bump(np.maximum(q - 0.7, 0) * width, y - mid, (0, 0), (5, 0.8 + 0.5 * soft))
    surface.lay(line * front * np.float32(0.75 / (0.7 + soft)), who.lips * 0.25, 0.3)
    for side in (-1, 1):
        hole = bump(x, y, (side * 6.8 * who.nose_width, tip + 6.0), (3.2, 1.9))
        surface.lay(np.clip(1.3 * hole, 0, 0.92) * front, who.skin * 0.12, 0.15)
        wing = bump(x, y, (side * 15.5 * who.nose_width, tip + 1), (1.8, 5))
        fold = bump(x - side * (18 + 0.30 * (y - tip)), y, (0, tip + 16), (1.9, 11))
        crease = 0.25 * wing + np.float32(0.14 + 0.3 * act.smile) * fold
        surface.colour *= (1 - front * crease)[..., None]


def paint_brows(
    surface: Surface,
    who: Identity,
    x: Array,
    y: Array,
    fine: Array,
    front: Array,
    act: Expression,
    soft: float,
) -> None:
    """Two arched brows, thinner outwards."""
    reach = who.eye_gap / 2
    out = np.abs(x) - np.float32(reach)
    arch = who.eye_y - 17.5 - who.brow_arch * np.exp(-(((out - 5) / 13) ** 2)) + 0.008 * out * out
    arch = arch - np.float32(5.5 * act.brow)
    thick = who.brow_thick * smooth(out, 26, -2) * smooth(out, -24, -17)
    cover = smooth(np.abs(y - arch) - thick, soft, -soft)
    cover = cover * smooth(out, 25, 19) * smooth(out, -24, -19) * front
    cover = cover * np.float32(who.brow_dark) * np.clip(0.85 + 0.25 * fine, 0, 1)
    surface.lay(cover, 0.75 * who.hair, 0.8 * who.hair_ir)
    surface.gloss *= 1 - 0.6 * cover


def paint_eye(
    surface: Surface,
    who: Identity,
    x: Array,
    y: Array,
    front: Array,
    act: Expression,
    soft: float,
    side: int,
) -> None:
    """Sclera, iris, pupil, lashes and lid crease of one eye (side -1: viewer's left)."""
    half = 14.2 * who.eye_size
    ex = (x - np.float32(side * who.eye_gap / 2)) * np.float32(side)  # outwards
    ey = y - np.float32(who.eye_y) + 0.045 * ex  # outer corner a little higher
    q = np.clip(1 - (ex / np.float32(half)) ** 2, 0, 1)
    lids = act.lids * (1 - 0.22 * act.smile)
    upper = -np.float32(5.6 * who.eye_size * lids) * q**0.65 + np.float32(2.5 * (1 - lids)) * q
    lower = np.float32(4.3 * who.eye_size * min(1.0, 0.65 + 0.35 * lids)) * q**0.8
    near = front * (np.abs(ex) < half + 3)
    slit = smooth(ey - upper, -soft, soft) * smooth(lower - ey, -soft, soft) * near * (q > 0)
    under_lid = 1 - 0.45 * smooth(ey - upper, 4.5, 0)
    surface.lay(slit, np.asarray([0.50, 0.47, 0.455], np.float32) * under_lid[..., None], 0.42)
    gx, gy = act.gaze[0] * side, act.gaze[1]
    d = np.sqrt((ex - np.float32(gx)) ** 2 + (ey - np.float32(gy + 0.3)) ** 2)
    iris = smooth(d, 6.3 + soft * 0.5, 6.3 - soft * 0.5) * slit
    ring = 1 - 0.6 * smooth(d, 4.6, 6.2)
    surface.lay(iris, who.iris * (ring * under_lid)[..., None], 0.26)
    surface.lay(smooth(d, 2.7 + soft * 0.5, 2.7 - soft * 0.5) * slit, (0.006, 0.006, 0.007), 0.05)
    cx, cy = act.glint[0] * side, act.glint[1]
    glint = np.hypot(ex - np.float32(0.7 * gx + cx), ey - np.float32(0.7 * gy + cy))
    surface.sharp += slit * smooth(glint, 1.35 + 0.5 * soft, 0.9 - 0.3 * soft)
    surface.gloss *= 1 - 0.8 * slit
    lash = smooth(np.abs(ey - upper), 1.1 + 0.5 * soft, 0) * near * smooth(q, 0.0, 0.12)
    surface.lay(0.85 * lash, 0.35 * who.hair * 0.5 + 0.005, 0.15)
    rim = smooth(np.abs(ey - lower), 0.8 + 0.5 * soft, 0) * near * smooth(q, 0.0, 0.2)
    surface.lay(0.30 * rim, who.skin * 0.4, 0.35)
    crease = bump(ex * 0, ey - upper, (0, -3.6), (1, 1.0 + 0.3 * soft)) * near * smooth(q, 0, 0.4)
    surface.colour *= (1 - np.float32(0.30 * lids) * crease)[..., None]
