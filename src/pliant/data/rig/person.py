"""One moment of one person in one place, as light: colour radiance, depth, infrared, face box.

Bona fide faces, the pictures that are later printed or replayed, and masked heads all pass here.
"""

from dataclasses import dataclass, field, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from pliant.data.rig import cast
from pliant.data.rig.backdrop import GRID
from pliant.data.rig.cast import FAR, Planes, Pose
from pliant.data.rig.head import MAP_SIDE, HeadShape, Identity, grey, smooth
from pliant.data.rig.light import Light, shade
from pliant.data.rig.mask import Mask, mould, paint_mask
from pliant.data.rig.paint import Expression, Surface, paint_head
from pliant.data.rig.settings import Array

FACE_MM = 186.0
"""Height of a mean face, forehead to chin."""

FACE_FRONT = 75.0
"""How far the face's outline stands before the point between the ears, mm."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a clip is taken: light, backdrop and its distance, clothes."""

    light: Light
    backdrop: Array
    backdrop_mm: float
    shift: tuple[float, float] = (0.0, 0.0)
    """How far the hand-held camera has moved the backdrop, in parts of its side."""
    cloth: Array = field(default_factory=lambda: np.full(3, 0.2, np.float32))
    cloth_ir: float = 0.5
    neckline: float = 128.0


@dataclass
class Picture:
    """What arrives at the lens, on side x side px."""

    radiance: Array
    """(H, W, 3) linear, about 1 for white in full light."""
    depth: Array
    """(H, W), mm along the optical axis."""
    infrared: Array
    """(H, W), about 1 for white paper at 0.5 m."""
    cover: Array
    """(H, W), 1 on the person."""
    box: tuple[float, float, float, float]
    """x, y, w, h of the face in px, forehead to chin."""
    landmarks: NDArray[np.float64]
    """(5, 2) px: right eye, left eye, nose tip, right and left mouth corner."""

    def put(
        self,
        rows: slice,
        cols: slice,
        where: NDArray[np.bool_],
        radiance: Array,
        depth: Array,
        infrared: Array,
    ) -> None:
        """Overwrite a region where something nearer stands."""
        np.copyto(self.radiance[rows, cols], radiance, where=where[..., None])
        np.copyto(self.depth[rows, cols], depth, where=where)
        np.copyto(self.infrared[rows, cols], infrared, where=where)
        np.copyto(self.cover[rows, cols], np.float32(1), where=where)

    def lay_over(self, cover: Array, radiance: Array, depth: Array, infrared: Array) -> None:
        """Put a sheet before everything; cover in [0, 1] is soft at its edges."""
        self.radiance += cover[..., None] * (radiance - self.radiance)
        self.infrared += cover * (infrared - self.infrared)
        np.copyto(self.depth, depth, where=cover > 0.5)
        self.cover = cover.astype(np.float32)


def infrared_light(facing: Array | float, depth: Array) -> Array:
    """Irradiance of the lamp beside the infrared camera, 1 at 0.5 m, with a little daylight."""
    lamp = np.float32(500.0**2) / np.maximum(depth, np.float32(150)) ** 2
    return np.asarray(np.minimum(lamp, 2.0) * facing * 0.9 + 0.08, np.float32)


def backdrop_at(place: Place, side: int) -> Array:
    """The backdrop's radiance on side x side px."""
    scale = GRID / (1.12 * side)
    move = np.asarray(
        [
            [scale, 0, GRID * (0.055 + place.shift[0])],
            [0, scale, GRID * (0.055 + place.shift[1])],
        ],
        np.float32,
    )
    return cv2.warpAffine(
        place.backdrop,
        move,
        (side, side),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REFLECT_101,
    )


def empty_place(place: Place, side: int) -> Picture:
    """The place without anyone in it."""
    depth = np.full((side, side), place.backdrop_mm, np.float32)
    seen = backdrop_at(place, side)
    infrared = infrared_light(1.0, depth) * (0.3 + 0.5 * grey(seen))
    return Picture(
        seen, depth, infrared, np.zeros_like(depth), (0.0, 0.0, 0.0, 0.0), np.zeros((5, 2))
    )


def landmark_points(shape: HeadShape, table: Array, smile: float) -> NDArray[np.float64]:
    """(5, 3) points of the five landmarks in head space, mm."""
    who = shape.who
    corner = who.mouth_width * (1 + 0.16 * smile)
    eye, mouth = who.eye_gap / 2, who.mouth_y - 5 * smile
    nose = who.eye_y + who.nose_length
    x = np.array([-eye, eye, 0.0, -corner, corner])
    y = np.array([who.eye_y, who.eye_y, nose, mouth, mouth])
    inside = 1 - np.abs(x / (0.95 * who.width)) ** 2.35 - np.abs(y / who.height) ** 2.35
    z = -97.0 * np.maximum(inside, 0.01) ** (1 / 2.35)
    p = np.stack([x, y, z])
    px, py, pz = (c.astype(np.float32)[:, None] for c in p)
    found, rad = cast.look_up(np.ascontiguousarray(table[..., 0]), (px, py, pz))
    return (p * (found / rad).reshape(1, 5)).T.astype(np.float64)


def region(pose: Pose, reach: float, focal: float, side: int) -> tuple[slice, slice]:
    """Even-sided rows and columns that hold the head's bounding sphere."""
    x, y, z = pose.centre
    radius = focal * reach / max(z - reach, 1.0) * (1 - 0.5 * reach / z) + 2
    cuts = []
    for c in (y, x):
        mid = focal * c / z + side / 2
        low = int(np.clip(mid - radius, 0, side - 16)) // 2 * 2
        high = int(np.clip(mid + radius, low + 16, side)) // 2 * 2
        cuts.append(slice(low, high))
    return cuts[0], cuts[1]


def render_person(
    shape: HeadShape,
    *,
    pose: Pose,
    act: Expression,
    place: Place,
    focal: float,
    side: int,
    glasses: bool,
    mask: Mask | None = None,
) -> Picture:
    """Render one person.

    Args:
        shape: Whose head.
        pose: Where the head is and looks.
        act: The expression.
        place: Light, backdrop, clothes.
        focal: Focal length in px of the side x side picture.
        side: Side of the picture in px, even.
        glasses: Whether they are worn.
        mask: Worn over the face, or None.
    """
    picture = empty_place(place, side)
    d = cast.rays(side, focal)
    add_body(picture, shape, pose, place, d, bare=shape.who if mask is None else mask.wearer)
    lamp = pose.rotation.T @ place.light.direction
    act = replace(act, glint=(2.6 * float(lamp[0]), 2.4 * float(lamp[1])))
    if shape.who.hair_style == "long":
        add_long_hair(picture, shape, pose, place, d)
    table = shape.sample(mouth_open=act.mouth_open, smile=act.smile, brow=act.brow)
    if mask is not None:
        table = mould(mask, shape, table)
    rows, cols = region(pose, float(table[..., 0].max()), focal, side)
    view: Planes = (d[0][rows, cols], d[1][rows, cols], d[2][rows, cols])
    back = pose.rotation.T
    origin = back @ -np.asarray(pose.centre)
    t = cast.cast_head(table, origin, cast.turn(back, view))
    hit = t < FAR
    assert hit.any(), "the head stands outside the frame"
    w = cast.around(hit)
    rows, cols = (
        slice(a.start + b.start, a.start + b.stop) for a, b in zip((rows, cols), w, strict=True)
    )
    view = (view[0][w], view[1][w], view[2][w])
    hit, ray = hit[w], cast.turn(back, view)
    t = np.where(hit, t[w], np.float32(pose.centre[2]))
    o = origin.astype(np.float32)
    p: Planes = (o[0] + t * ray[0], o[1] + t * ray[1], o[2] + t * ray[2])
    found, rad = cast.look_up(table, p)
    n = cast.head_normals(found, p)
    ratio = found[..., 3] / rad
    x, y, z = p[0] * ratio, p[1] * ratio, p[2] * ratio
    layers, _ = cast.look_up(shape.layers, p)
    worn, _ = cast.look_up(shape.extent, p)
    surface = paint_head(shape, x, y, z, layers, act, soft=0.55 * pose.centre[2] / focal + 0.15)
    if glasses:
        arms = smooth(np.abs(y - shape.who.eye_y + 1), 2.6, 1.2) * smooth(np.abs(x), 52, 58)
        surface.lay(arms * smooth(z, 14, 4), (0.03, 0.03, 0.035), 0.1)
    soft_skin = 1.0
    if mask is not None:
        soft_skin = paint_mask(mask, surface, shape, x, y, z, layers[..., 0])
    lit = cast.shadow(table, p, n, lamp)
    n_cam = cast.turn(pose.rotation, n)
    radiance = shade(
        surface.colour,
        surface.gloss,
        surface.sharp,
        n_cam,
        view,
        place.light,
        lit,
        worn[..., 1],
        skin=soft_skin,
    )
    depth = t * view[2]
    facing = np.clip(-(n_cam[0] * view[0] + n_cam[1] * view[1] + n_cam[2] * view[2]), 0, 1)
    infrared = surface.infrared * infrared_light(facing, depth) * (0.5 + 0.5 * worn[..., 1])
    glint = facing**40
    infrared += (0.5 * glint**8 * surface.sharp + 0.06 * glint * surface.gloss).astype(np.float32)
    if glasses:
        put_on_glasses(shape, table, origin, ray, place.light, hit, radiance, infrared, depth)
    nearer = hit & (depth < picture.depth[rows, cols])
    picture.put(rows, cols, nearer, radiance, depth, infrared)
    picture.box = face_box(worn[..., 0], nearer, rows.start, cols.start)
    points = pose.to_camera(landmark_points(shape, table, act.smile))
    picture.landmarks = focal * points[:, :2] / points[:, 2:] + side / 2
    return picture


def face_box(
    face: Array, hit: NDArray[np.bool_], top: int, left: int
) -> tuple[float, float, float, float]:
    """Bounding box of the visible face, forehead to chin and side to side."""
    seen = (face > 0.5) & hit
    down, across = seen.sum(1), seen.sum(0)
    y = np.flatnonzero(down > 0.12 * max(1, int(down.max())))
    x = np.flatnonzero(across > 0.12 * max(1, int(across.max())))
    if not len(x) or not len(y):
        return (float(left), float(top), float(face.shape[1]), float(face.shape[0]))
    return (
        float(left + x[0]),
        float(top + y[0]),
        float(x[-1] - x[0] + 1),
        float(y[-1] - y[0] + 1),
    )


def add_body(
    picture: Picture, shape: HeadShape, pose: Pose, place: Place, d: Planes, bare: Identity
) -> None:
    """Neck, shoulders and clothes, with the chin's shadow on the neck."""
    half = Pose(pose.centre, 0.35 * pose.yaw, 0.15 * pose.pitch, 0.3 * pose.roll)
    back = half.rotation.T
    origin = back @ -np.asarray(pose.centre)
    start = max(0, int(picture.depth.shape[0] * 0.45))
    view: Planes = (d[0][start:], d[1][start:], d[2][start:])
    ray = cast.turn(back, view)
    size = shape.who.width / 76.0
    tn, neck = cast.cast_quadric(origin, ray, (0, 0, 24), (53 * size, np.inf, 55 * size))
    yn = np.float32(origin[1]) + tn * ray[1]
    tn = np.where((yn > 55) & (yn < 230), tn, FAR)
    ts, shoulder = cast.cast_quadric(origin, ray, (0, 262, 40), (222, 112, 92))
    on_neck = tn < ts
    t = np.minimum(tn, ts)
    hit = t < FAR
    t = np.where(hit, t, np.float32(1000))
    y = np.float32(origin[1]) + t * ray[1]
    x = np.float32(origin[0]) + t * ray[0]
    nx, ny, nz = (np.where(on_neck, a, b) for a, b in zip(neck, shoulder, strict=True))
    dressed = smooth(y + 0.0045 * x * x, place.neckline - 2, place.neckline + 2)
    weave = 1 + 0.05 * np.sin(0.22 * x + 0.1 * y)
    surface = Surface(
        np.broadcast_to(bare.skin, (*y.shape, 3)).astype(np.float32),
        np.full(y.shape, bare.skin_ir, np.float32),
        np.full(y.shape, 0.25, np.float32),
        np.zeros_like(y),
    )
    surface.lay(dressed, place.cloth * weave[..., None], place.cloth_ir)
    surface.gloss *= 1 - 0.8 * dressed
    shadow = smooth(y, 95, 170)
    n_cam = cast.turn(half.rotation, (nx, ny, nz))
    radiance = shade(
        surface.colour,
        surface.gloss,
        surface.sharp,
        n_cam,
        view,
        place.light,
        0.15 + 0.85 * shadow,
        0.35 + 0.65 * shadow,
        skin=0.6,
    )
    depth = t * view[2]
    facing = np.clip(-(n_cam[0] * view[0] + n_cam[1] * view[1] + n_cam[2] * view[2]), 0, 1)
    infrared = surface.infrared * infrared_light(facing, depth)
    picture.put(slice(start, None), slice(None), hit, radiance, depth, infrared)


def add_long_hair(picture: Picture, shape: HeadShape, pose: Pose, place: Place, d: Planes) -> None:
    """Hair that falls behind the ears to the shoulders: an ellipsoid, cut at the bottom."""
    who = shape.who
    back = pose.rotation.T
    origin = back @ -np.asarray(pose.centre)
    ray = cast.turn(back, d)
    wide = who.width + 0.9 * who.hair_volume + 4
    t, n = cast.cast_quadric(origin, ray, (0, 35, 38), (wide, 165, 58))
    y = np.float32(origin[1]) + t * ray[1]
    x = np.float32(origin[0]) + t * ray[0]
    wave = np.sin(0.13 * x + 0.03 * y)
    hit = (y < who.hair_length + 7 * wave) & (y > -60) & (t * d[2] < picture.depth)
    bend = x + (2 + 7 * who.hair_curl) * np.sin((0.03 + 0.06 * who.hair_curl) * y)
    strand = 1 + 0.22 * np.sin(0.55 * bend) + 0.18 * np.sin(1.13 * bend + 1.7)
    colour = who.hair * (strand * smooth(np.abs(x), 20, 75))[..., None]
    gloss = np.full(x.shape, 0.3, np.float32)
    n_cam = cast.turn(pose.rotation, n)
    still = np.ones_like(x)
    radiance = shade(
        colour, gloss, 0 * still, n_cam, d, place.light, 0.75 * still, 0.8 * still, skin=0.0
    )
    depth = t * d[2]
    facing = np.clip(-(n_cam[0] * d[0] + n_cam[1] * d[1] + n_cam[2] * d[2]), 0, 1)
    infrared = who.hair_ir * strand * infrared_light(facing, depth)
    picture.put(slice(None), slice(None), hit, radiance, depth, infrared)


def put_on_glasses(
    shape: HeadShape,
    table: Array,
    origin: NDArray[np.float64],
    ray: Planes,
    light: Light,
    hit: NDArray[np.bool_],
    radiance: Array,
    infrared: Array,
    depth: Array,
) -> None:
    """Rims, bridge and lenses in a plane before the eyes; changes the arrays in place."""
    who = shape.who
    wide, high, power, thick = who.glasses
    plane = -float(table[MAP_SIDE // 2 - 2, MAP_SIDE // 2, 0]) - 5.0
    s = (np.float32(plane) - np.float32(origin[2])) / np.where(
        np.abs(ray[2]) < 1e-3, np.float32(1e-3), ray[2]
    )
    x = np.float32(origin[0]) + s * ray[0]
    y = np.float32(origin[1]) + s * ray[1] - np.float32(who.eye_y + 3)
    ex = np.abs(x) - np.float32(who.eye_gap / 2 + 0.5)
    inner = (np.abs(ex / wide) ** power + np.abs(y / high) ** power) ** (1 / power)
    off = (inner - 1) * np.float32(high)
    rim = smooth(np.abs(off), thick * 0.5 + 0.9, thick * 0.5 - 0.3)
    bridge = smooth(np.abs(y + 4 - 0.01 * x * x), thick * 0.5 + 0.9, thick * 0.5 - 0.2)
    rim = np.maximum(rim, bridge * (np.abs(x) < who.eye_gap / 2 - wide + 1)) * hit
    lens = smooth(off, 0.5, -0.5) * hit
    streak = smooth(np.abs(ex * 0.8 + y - 6 * float(light.direction[0])), 7, 3)
    strength = np.float32(0.05 + 0.3 * max(0.0, -float(light.direction[2])) ** 3)
    shine = lens * (0.025 + strength * streak * smooth(y, 6, -8))
    dark = linear_frame(who.glasses[3])
    radiance *= (1 - 0.06 * lens)[..., None]
    radiance += shine[..., None] * (light.sky + 0.25 * light.key)
    radiance += rim[..., None] * (dark * (light.sky + 0.4 * light.key) - radiance)
    infrared += rim * (np.float32(0.06) - infrared)
    infrared += 0.04 * lens
    solid = rim > 0.5
    depth[solid] -= 6.0


def linear_frame(thick: float) -> Array:
    """Reflectance of the rims: thick ones are black plastic, thin ones brownish metal."""
    return (
        np.asarray([0.02, 0.02, 0.025], np.float32)
        if thick > 1.7
        else np.asarray([0.16, 0.12, 0.08], np.float32)
    )
