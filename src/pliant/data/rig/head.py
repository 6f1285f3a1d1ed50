"""A head's identity and its 3-D shape: a star-shaped surface around the point between the ears.

Head space is in millimetres, x to the viewer's right, y down, z away from the viewer; the face
looks along -z. The surface is a radius r over directions, stored on a stereographic map: a
direction d goes to (u, v) = (d_x, d_y) / (1 - d_z), so that the face lies in the middle,
undistorted, and no trigonometry is needed to look a direction up.

Features stand in *base coordinates*: (x, y) of the point where a direction meets the smooth
skull, so that shape and paint agree whatever the expression does.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from pliant.data.rig.settings import Array, stream

MAP_SIDE = 224
MAP_REACH = 2.4  # the map covers |u|, |v| <= reach: up to 135 degrees from the nose

SKIN_SRGB = (
    (246, 213, 188),
    (234, 190, 158),
    (216, 164, 124),
    (184, 128, 90),
    (136, 90, 63),
    (84, 56, 43),
)
HAIR_SRGB = (
    (28, 24, 24),
    (48, 34, 28),
    (84, 56, 38),
    (124, 84, 52),
    (182, 142, 92),
    (150, 146, 142),
)
IRIS_SRGB = ((58, 38, 26), (84, 58, 34), (92, 98, 62), (88, 118, 142), (108, 116, 122))


def linear(srgb: tuple[float, ...] | Array) -> Array:
    """Linear light in [0, 1] of sRGB values in [0, 255] (IEC 61966-2-1)."""
    x = np.asarray(srgb, np.float32) / np.float32(255)
    return np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4).astype(np.float32)


def along(table: tuple[tuple[int, ...], ...], where: float) -> Array:
    """Linear colour at `where` in [0, 1] along a table of sRGB colours."""
    colours = linear(np.asarray(table, np.float32))
    at = where * (len(colours) - 1)
    low = min(int(at), len(colours) - 2)
    return colours[low] + (colours[low + 1] - colours[low]) * np.float32(at - low)


def smooth(x: Array, low: float, high: float) -> Array:
    """Smoothstep: 0 below low, 1 above high (either order)."""
    t = np.clip((x - np.float32(low)) * np.float32(1.0 / (high - low)), 0, 1)
    return t * t * (3 - 2 * t)


def grey(colour: Array) -> Array:
    """Mean of the three channels, (H, W); faster than a reduction over a short axis."""
    return (colour[..., 0] + colour[..., 1] + colour[..., 2]) * np.float32(1 / 3)


def bump(x: Array, y: Array, at: tuple[float, float], sigma: tuple[float, float]) -> Array:
    """Gaussian of height 1 at `at`, with the two sigmas in mm."""
    dx = (x - np.float32(at[0])) * np.float32(1 / sigma[0])
    dy = (y - np.float32(at[1])) * np.float32(1 / sigma[1])
    return np.exp(np.float32(-0.5) * (dx * dx + dy * dy))


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What stays the same over all clips of one person; lengths in mm, colours linear."""

    width: float
    jaw: float
    height: float
    eye_gap: float
    eye_y: float
    eye_size: float
    nose_length: float
    nose_width: float
    nose_out: float
    mouth_y: float
    mouth_width: float
    lip: float
    chin: float
    cheek: float
    brow_thick: float
    brow_arch: float
    brow_dark: float
    skin: Array
    skin_ir: float
    lips: Array
    blush: float
    freckles: float
    shine: float
    hair: Array
    hair_ir: float
    hair_style: str
    hair_volume: float
    hair_curl: float
    hairline: float
    fringe: float
    hair_length: float
    """Where long hair ends, y in mm."""
    parting: float
    beard: float
    iris: Array
    wears_glasses: float
    glasses: tuple[float, float, float, float]
    seed: tuple[int, int]


def identity(seed: int, subject: int) -> Identity:
    """The person behind a subject number: the same for the same (seed, subject)."""
    rng = stream(seed, subject, 1)
    tone = float(rng.random())
    skin = along(SKIN_SRGB, tone) * rng.normal(1, 0.05, 3).astype(np.float32)
    grey = rng.random() < 0.2
    hair_at = 0.9 + 0.1 * rng.random() if grey else 0.75 * rng.random() ** (1 + 2 * tone)
    style = ("short", "short", "short", "short", "long", "long", "long", "buzz", "bald")[
        int(rng.integers(9))
    ]
    lips = skin * np.asarray([0.86, 0.55, 0.56], np.float32) + np.asarray(
        [0.05, 0.0, 0.01], np.float32
    )
    return Identity(
        width=float(rng.normal(76, 3.2)),
        jaw=float(np.clip(rng.normal(0.17, 0.06), 0.04, 0.3)),
        height=float(rng.normal(117, 3.5)),
        eye_gap=float(rng.normal(64, 2.6)),
        eye_y=float(rng.normal(-3, 2)),
        eye_size=float(rng.normal(1.0, 0.09)),
        nose_length=float(rng.normal(38, 3.5)),
        nose_width=float(rng.normal(1.0, 0.15)),
        nose_out=float(rng.normal(19.5, 2.5)),
        mouth_y=float(rng.normal(69, 2.5)),
        mouth_width=float(rng.normal(25, 2.2)),
        lip=float(np.clip(rng.normal(1.0, 0.25), 0.5, 1.7)),
        chin=float(rng.normal(7, 2.5)),
        cheek=float(rng.normal(3.5, 2)),
        brow_thick=float(np.clip(rng.normal(3.2, 0.8), 1.6, 5)),
        brow_arch=float(rng.normal(4.5, 1.6)),
        brow_dark=float(rng.uniform(0.55, 0.95)),
        skin=np.clip(skin, 0.02, 0.9),
        skin_ir=float(rng.normal(0.55, 0.035)),
        lips=np.clip(lips * rng.uniform(0.8, 1.05), 0.01, 0.9).astype(np.float32),
        blush=float(rng.uniform(0.0, 0.35)),
        freckles=float(rng.uniform(0.02, 0.16)),
        shine=float(rng.uniform(0.15, 0.6)),
        hair=along(HAIR_SRGB, float(hair_at)),
        hair_ir=float(rng.uniform(0.18, 0.5)),
        hair_style=style,
        hair_volume=float(rng.uniform(8, 20) if style != "buzz" else rng.uniform(2, 4)),
        hair_curl=float(rng.uniform(0, 1)),
        hairline=float(rng.normal(-70, 5)),
        fringe=float(rng.uniform(0, 26) if rng.random() < 0.4 else rng.uniform(-4, 6)),
        hair_length=float(rng.uniform(70, 165)),
        parting=float(rng.uniform(-35, 35)),
        beard=float(rng.uniform(0.35, 1.0) if rng.random() < 0.25 else 0.25 * rng.random() ** 2),
        iris=along(IRIS_SRGB, float(rng.random() ** (1 + tone))),
        wears_glasses=float(rng.random() < 0.35),
        glasses=(
            float(rng.uniform(21, 26)),
            float(rng.uniform(14, 20)),
            float(rng.uniform(2.2, 5)),
            float(rng.uniform(0.9, 2.6)),
        ),
        seed=(seed, subject),
    )


@dataclass(frozen=True)
class HeadShape:
    """The surface of one head on its map, M x M; `blend` moves it with the expression."""

    who: Identity
    u: Array
    v: Array
    base: Array
    rest: Array
    blend: dict[str, Array]
    layers: Array
    """(M, M, 4): hair cover, coarse grain, fine grain, curl."""
    extent: Array
    """(M, M, 2): visible face (for the face box), openness to the sky."""

    def sample(self, *, mouth_open: float, smile: float, brow: float) -> Array:
        """(M, M, 4): radius, its two derivatives by u and v, and the base radius, in mm."""
        r = self.rest.copy()
        for name, amount in (("open", mouth_open), ("smile", smile), ("brow", brow)):
            if amount:
                r += self.blend[name] * np.float32(amount)
        out = np.empty((*r.shape, 4), np.float32)
        out[..., 0] = r
        per_unit = np.float32(0.5 * (MAP_SIDE - 1) / (2 * MAP_REACH))
        out[:, 1:-1, 1] = (r[:, 2:] - r[:, :-2]) * per_unit
        out[:, 0, 1] = out[:, -1, 1] = 0
        out[1:-1, :, 2] = (r[2:] - r[:-2]) * per_unit
        out[0, :, 2] = out[-1, :, 2] = 0
        out[..., 3] = self.base
        return out


def noise(rng: np.random.Generator, side: int, cells: tuple[int, ...]) -> Array:
    """Smooth noise of about unit variance on side x side px, one octave per number of cells."""
    total = np.zeros((side, side), np.float32)
    for k, n in enumerate(cells):
        coarse = rng.standard_normal((n + 3, n + 3), np.float32)
        total += cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC) * np.float32(
            0.6**k
        )
    return total / np.float32(max(float(total.std()), 1e-6))


def head_shape(who: Identity) -> HeadShape:
    """Build the map of one person: skull, features, hair and expression blends."""
    rng = stream(*who.seed, 2)
    axis = np.linspace(-MAP_REACH, MAP_REACH, MAP_SIDE, dtype=np.float32)
    u, v = np.meshgrid(axis, axis)
    s = 1 + u * u + v * v
    dx, dy, dz = 2 * u / s, 2 * v / s, 1 - 2 / s
    a = who.width * (1 - who.jaw * smooth(dy, 0.1, 0.95))
    p = 2.35
    radius = (np.abs(dx / a) ** p + np.abs(dy / who.height) ** p + np.abs(dz / 97.0) ** p) ** (
        -1 / p
    )
    base = radius.astype(np.float32)
    x, y, z = base * dx, base * dy, base * dz
    front = smooth(z, -8, -45)

    r = base + np.float32(1.0) * noise(rng, MAP_SIDE, (5,)) * front
    half, eye = who.eye_gap / 2, who.eye_y
    tip = eye + who.nose_length
    rise = smooth(y, eye - 12, tip - 3)
    fall = smooth(y, tip + 12, tip + 1)
    ridge = (2.5 + (who.nose_out - 2.5) * rise) * fall * smooth(y, eye - 26, eye - 4)
    width = (5.0 + 3.8 * rise) * who.nose_width
    r += front * ridge * np.exp(-0.5 * (x / width) ** 2)
    face = [
        (3.2, (0, eye - 19), (36, 8)),
        (who.chin, (0, 103), (17, 11)),
        (-3.0, (0, who.mouth_y + 17), (19, 5)),
        (3.2 * who.lip, (0, who.mouth_y - 5), (15, 4)),
        (4.0 * who.lip, (0, who.mouth_y + 6.5), (13.5, 4.5)),
        (-3.2, (0, who.mouth_y), (21, 1.9)),
        (-1.6, (0, who.mouth_y - 14), (3.5, 6)),
    ]
    for side in (-1, 1):
        face += [
            (-8.5, (side * half * 0.95, eye + 0.5), (14, 9.5)),
            (5.0 * who.eye_size, (side * half, eye + 0.5), (9.5, 6.5)),
            (7.5, (side * 11.0 * who.nose_width, tip + 1.5), (4.4, 4.6)),
            (who.cheek, (side * 43, eye + 25), (15, 13)),
            (-0.6 * who.cheek, (side * 44, 62), (14, 18)),
            (3.0, (side * 26, tip + 6), (12, 12)),
        ]
    for height, at, sigma in face:
        r += front * np.float32(height) * bump(x, y, at, sigma)
    for side in (-1, 1):
        ear = bump(y, z, (eye + 14, 8), (16, 8)) * (side * x > 0)
        r += 17 * np.minimum(1, 1.6 * ear) - 5 * bump(y, z, (eye + 14, 4), (8, 4)) * (side * x > 0)

    hair = hair_mask(who, x, y, z, rng)
    curl = noise(rng, MAP_SIDE, (26, 52))
    swell = who.hair_volume * (0.75 + 0.25 * smooth(y, 0, -90))
    r += hair * (swell + curl * (0.8 + 2.2 * who.hair_curl))
    r = np.clip(r, 40, 190).astype(np.float32)

    jaw = smooth(y, who.mouth_y - 2, who.mouth_y + 6) * front
    blend = {
        "open": jaw * (5.0 * bump(x, y, (0, 108), (30, 12)) - 5.5 * bump(x, y, (0, 74), (15, 6))),
        "smile": front
        * sum(
            4.0 * bump(x, y, (k * 38, eye + 36), (11, 10))
            - 2.6 * bump(x, y, (k * 30, who.mouth_y - 8), (4, 12))
            for k in (-1, 1)
        ),
        "brow": front * 1.5 * bump(x, y, (0, eye - 26), (34, 5)),
    }
    oval = 1 - np.sqrt((x / (who.width * 0.93)) ** 2 + ((y - 17) / 96) ** 2)
    face_mask = smooth(oval, -0.02, 0.02) * smooth(z, 8, -4) * (1 - hair)
    grain, fine = noise(rng, MAP_SIDE, (9, 18)), noise(rng, MAP_SIDE, (60, 110))
    hollow = cv2.GaussianBlur(r, (0, 0), 7) - r
    openness = np.clip(1 - 0.055 * hollow, 0.45, 1.1) * (1 - 0.25 * smooth(y, 70, 125) * (z > -60))
    return HeadShape(
        who,
        u,
        v,
        base,
        r,
        {k: np.asarray(b, np.float32) for k, b in blend.items()},
        np.stack([hair, grain, fine, curl], axis=-1).astype(np.float32),
        np.stack([face_mask, openness], axis=-1).astype(np.float32),
    )


def hair_mask(who: Identity, x: Array, y: Array, z: Array, rng: np.random.Generator) -> Array:
    """Where hair grows, 0 to 1, on the map's base coordinates."""
    if who.hair_style == "bald":
        return np.zeros_like(x)
    ragged = noise(rng, MAP_SIDE, (34,)) * (1.5 + 2.5 * who.hair_curl)
    top = who.hairline + who.fringe * np.exp(-0.5 * ((x - who.parting) / 34) ** 2)
    top = top + 0.006 * (x - 0.3 * who.parting) ** 2 + ragged
    above = smooth(y - top, 3.5, -3.5)
    side_line = -22.0 if who.hair_style != "long" else -34.0
    low = {"short": 22.0, "buzz": 8.0, "long": 30.0}[who.hair_style]
    side = smooth(z, side_line - 3, side_line + 5) * smooth(y, low + 5, low - 5)
    side = side * smooth(y + 0.4 * z, who.eye_y + 40, who.eye_y - 16)
    if who.hair_style != "long":  # short hair leaves the ear free
        ear = bump(y, z, (who.eye_y + 14, 8), (17, 10))
        side = side * (1 - smooth(ear, 0.25, 0.6))
    return np.maximum(above, side).astype(np.float32)
