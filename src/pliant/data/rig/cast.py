"""Ray casting: where the camera's rays meet a star-shaped head, a neck and shoulders.

The head is found by sphere tracing on its map (one cv2.remap a step): first on half the pixels in
each direction, then a few steps on all of them. Neck and shoulders are quadrics, solved exactly.
"""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from pliant.data.rig.head import MAP_REACH, MAP_SIDE
from pliant.data.rig.settings import Array

Planes = tuple[Array, Array, Array]

FAR = np.float32(1e6)


@dataclass(frozen=True)
class Pose:
    """Where the head is, in camera space (mm, x right, y down, z away), and how it is turned."""

    centre: tuple[float, float, float]
    yaw: float
    pitch: float
    roll: float

    @property
    def rotation(self) -> NDArray[np.float64]:
        """3 x 3, head to camera; angles in radians."""
        cy, sy = np.cos(self.yaw), np.sin(self.yaw)
        cp, sp = np.cos(self.pitch), np.sin(self.pitch)
        cr, sr = np.cos(self.roll), np.sin(self.roll)
        turn = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
        nod = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
        tilt = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
        return tilt @ nod @ turn

    def to_camera(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """(N, 3) head points in camera space."""
        return points @ self.rotation.T + np.asarray(self.centre)


@lru_cache(maxsize=8)
def rays(side: int, focal: float) -> Planes:
    """Unit directions of the rays through the centres of side x side px; focal in px."""
    axis = (np.arange(side, dtype=np.float32) + np.float32(0.5 - side / 2)) / np.float32(focal)
    x, y = np.meshgrid(axis, axis)
    scale = 1 / np.sqrt(x * x + y * y + 1)
    return x * scale, y * scale, scale


def turn(matrix: NDArray[np.float64], planes: Planes) -> Planes:
    """Apply a 3 x 3 matrix to three planes of coordinates."""
    m = matrix.astype(np.float32)
    x, y, z = planes
    a, b, c = (row[0] * x + row[1] * y + row[2] * z for row in m)
    return a, b, c


def look_up(table: Array, p: Planes) -> tuple[Array, Array]:
    """The map's entries in the directions of p, and |p|."""
    x, y, z = p
    rad = np.sqrt(x * x + y * y + z * z)
    scale = np.float32(0.5 * (MAP_SIDE - 1) / MAP_REACH) / np.maximum(rad - z, np.float32(1e-3))
    shift = np.float32(0.5 * (MAP_SIDE - 1))
    found = cv2.remap(
        table,
        x * scale + shift,
        y * scale + shift,
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return found, rad


def march(
    table: Array, origin: NDArray[np.float64], d: Planes, t: Array, steps: int
) -> tuple[Array, Array]:
    """Advance t along the rays by `steps` sphere-tracing steps.

    Returns:
        t, and the smallest height over the surface met on the way, mm (below 0: inside).
    """
    ox, oy, oz = (np.float32(c) for c in origin)
    radius = np.ascontiguousarray(table[..., 0])
    least = np.full_like(t, FAR)
    for _ in range(steps):
        r, rad = look_up(radius, (ox + t * d[0], oy + t * d[1], oz + t * d[2]))
        height = rad - r
        least = np.minimum(least, height)
        t = t + np.float32(0.72) * height
    return t, least


def cast_head(table: Array, origin: NDArray[np.float64], d: Planes) -> Array:
    """Distance along each ray to the head, mm; FAR where it is missed.

    Args:
        table: (M, M, 4) from `HeadShape.sample`.
        origin: The camera in head space, mm.
        d: Unit ray directions in head space, planes of (H, W) with even sides.
    """
    reach = float(table[..., 0].max())
    o = origin.astype(np.float32)

    def entry(planes: Planes) -> tuple[Array, Array]:
        along = o[0] * planes[0] + o[1] * planes[1] + o[2] * planes[2]
        disc = along * along - np.float32(float(origin @ origin) - reach * reach)
        return -along - np.sqrt(np.maximum(disc, 0)), disc

    radius = np.ascontiguousarray(table[..., 0])
    cx, cy, cz = (np.ascontiguousarray(c[::2, ::2]) for c in d)
    start, _ = entry((cx, cy, cz))
    t, least = march(table, origin, (cx, cy, cz), start, 13)
    t = np.clip(t, start, start + np.float32(2.2 * reach))
    out = np.full(d[0].shape, FAR, np.float32)
    rows, cols = around(cv2.dilate((least < 12).astype(np.uint8), np.ones((5, 5), np.uint8)) > 0)
    if rows.stop == rows.start:
        return out
    t = cv2.erode(t, np.ones((3, 3), np.uint8))[rows, cols]
    w = (slice(2 * rows.start, 2 * rows.stop), slice(2 * cols.start, 2 * cols.stop))
    fine: Planes = (d[0][w], d[1][w], d[2][w])
    t = cv2.resize(t, (fine[0].shape[1], fine[0].shape[0]), interpolation=cv2.INTER_NEAREST)
    t, least = march(table, origin, fine, t - np.float32(1), 6)
    start, disc = entry(fine)
    r, rad = look_up(radius, (o[0] + t * fine[0], o[1] + t * fine[1], o[2] + t * fine[2]))
    outside = (rad - r > 2.5) & (least > -1)  # before a steep wall, t swings around the root
    miss = (disc < 0) | outside | (t < start - 2) | (t > start + 2.2 * reach)
    seen = cv2.morphologyEx((~miss).astype(np.uint8), cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    out[w] = np.where(seen > 0, t, FAR)
    return out


def around(where: NDArray[np.bool_]) -> tuple[slice, slice]:
    """The rows and columns that hold all true pixels; empty slices where there is none."""
    rows, cols = np.flatnonzero(where.any(1)), np.flatnonzero(where.any(0))
    if not len(rows):
        return slice(0, 0), slice(0, 0)
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(cols[0]), int(cols[-1]) + 1)


def head_normals(found: Array, p: Planes) -> Planes:
    """Unit outward normals in head space at surface points p, from the map's derivatives."""
    x, y, z = p
    rad = np.sqrt(x * x + y * y + z * z)
    inv = 1 / np.maximum(rad - z, np.float32(1e-3))
    u, v = x * inv, y * inv
    s = 1 + u * u + v * v
    r, gu, gv = found[..., 0], found[..., 1] * s * 0.5, found[..., 2] * s * 0.5
    gu, gv = gu / r, gv / r
    i = 2 / s  # unit tangents e_u = (1 - u*u*i, -u*v*i, u*i), e_v alike
    nx = x / rad - gu * (1 - u * u * i) + gv * (u * v * i)
    ny = y / rad + gu * (u * v * i) - gv * (1 - v * v * i)
    nz = z / rad - gu * (u * i) - gv * (v * i)
    n = 1 / np.sqrt(nx * nx + ny * ny + nz * nz)
    return nx * n, ny * n, nz * n


def shadow(table: Array, p: Planes, n: Planes, light: NDArray[np.float64]) -> Array:
    """Share of the key light that reaches each point p of the head, 0 to 1, soft-edged.

    It is soft enough to be found for every second pixel and row.
    """
    lx, ly, lz = (np.float32(c) for c in light)
    radius = np.ascontiguousarray(table[..., 0])
    x, y, z = (a[::2, ::2] + np.float32(1.5) * b[::2, ::2] for a, b in zip(p, n, strict=True))
    lit = np.ones_like(x)
    for distance, slack in ((6, 1.2), (12, 1.8), (22, 2.6), (36, 4.0), (56, 6.0)):
        k = np.float32(distance)
        r, rad = look_up(radius, (x + k * lx, y + k * ly, z + k * lz))
        lit = np.minimum(lit, (rad - r) * np.float32(0.5 / slack) + np.float32(0.5))
    return cv2.resize(np.clip(lit, 0, 1), (p[0].shape[1], p[0].shape[0]))


def cast_quadric(
    origin: NDArray[np.float64],
    d: Planes,
    centre: tuple[float, float, float],
    axes: tuple[float, float, float],
) -> tuple[Array, Planes]:
    """Nearest hit with an axis-aligned ellipsoid (an infinite axis makes a cylinder).

    Returns:
        Distance along each ray in mm (FAR where missed) and the unit normals.
    """
    inv = np.array([0.0 if np.isinf(a) else 1 / a for a in axes])
    o = ((origin - np.asarray(centre)) * inv).astype(np.float32)
    s = inv.astype(np.float32)
    e = (d[0] * s[0], d[1] * s[1], d[2] * s[2])
    aa = e[0] * e[0] + e[1] * e[1] + e[2] * e[2]
    bb = o[0] * e[0] + o[1] * e[1] + o[2] * e[2]
    cc = np.float32(float(o @ o) - 1)
    disc = bb * bb - aa * cc
    t = (-bb - np.sqrt(np.maximum(disc, 0))) / np.maximum(aa, np.float32(1e-12))
    hit = (disc > 0) & (t > 0)
    n = tuple((o[k] + t * e[k]) * s[k] for k in range(3))
    norm = 1 / np.sqrt(np.maximum(n[0] ** 2 + n[1] ** 2 + n[2] ** 2, np.float32(1e-12)))
    return np.where(hit, t, FAR).astype(np.float32), (n[0] * norm, n[1] * norm, n[2] * norm)
