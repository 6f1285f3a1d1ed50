"""A sheet before the camera, flat or bent to a cylinder: where each ray meets it.

Prints and screens are both sheets. Sheet space is in mm, a to the right and b down along the
surface (so a bent print is neither stretched nor squeezed), with (0, 0) in the middle of the
face.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pliant.data.rig.cast import Planes, Pose, rays, turn
from pliant.data.rig.settings import Array


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """Pose and bend of a sheet, and which part of the plane it covers."""

    pose: Pose
    """Of the point (0, 0); unturned, the sheet faces the camera."""
    curvature: float = 0.0
    """1 / radius in 1/mm; above 0 the middle stands towards the camera, below 0 away from it."""
    upright: bool = True
    """Whether the axis of the bend is vertical."""
    left: float = -100.0
    right: float = 100.0
    top: float = -130.0
    bottom: float = 130.0
    corner: float = 0.0
    """Radius of the corners, mm."""


@dataclass
class Meeting:
    """Where the rays of side x side px meet a sheet, planes of (H, W)."""

    a: Array
    b: Array
    depth: Array
    normal: Planes
    view: Planes
    inside: Array
    """1 on the sheet, 0 beside it, soft over one ray at the edge."""
    edge: Array
    """Signed distance to the sheet's edge in mm, positive inside."""


def meet(sheet: Sheet, focal: float, side: int) -> Meeting:
    """Intersect the rays of a camera with a sheet."""
    view = rays(side, focal)
    back = sheet.pose.rotation.T
    origin = back @ -np.asarray(sheet.pose.centre)
    d = turn(back, view)
    o = origin.astype(np.float32)
    if not sheet.upright:
        d, o = (d[1], d[0], d[2]), o[[1, 0, 2]]
    flat = -o[2] / np.where(np.abs(d[2]) < 1e-4, np.float32(1e-4), d[2])
    if abs(sheet.curvature) < 1e-5:
        t, ok = flat, flat > 0
        a, b = o[0] + t * d[0], o[1] + t * d[1]
        n = (np.zeros_like(a), np.zeros_like(a), np.full_like(a, -1))
    else:
        radius = np.float32(1 / sheet.curvature)  # signed; axis through (0, ., radius)
        oz = o[2] - radius
        aa = d[0] ** 2 + d[2] ** 2
        bb = o[0] * d[0] + oz * d[2]
        disc = bb * bb - aa * (o[0] ** 2 + oz**2 - radius**2)
        t = (-bb - np.sign(radius) * np.sqrt(np.maximum(disc, 0))) / aa
        ok = (disc > 0) & (t > 0)
        x, b, z = o[0] + t * d[0], o[1] + t * d[1], oz + t * d[2]
        a = radius * np.arcsin(np.clip(x / radius, -1, 1))
        n = (x / radius, np.zeros_like(x), z / radius)
    if not sheet.upright:
        a, b, n = b, a, (n[1], n[0], n[2])
    middle = ((sheet.left + sheet.right) / 2, (sheet.top + sheet.bottom) / 2)
    half = ((sheet.right - sheet.left) / 2, (sheet.bottom - sheet.top) / 2)
    qa = np.abs(a - np.float32(middle[0])) - np.float32(half[0] - sheet.corner)
    qb = np.abs(b - np.float32(middle[1])) - np.float32(half[1] - sheet.corner)
    beyond = np.hypot(np.maximum(qa, 0), np.maximum(qb, 0))
    edge = np.float32(sheet.corner) - beyond - np.minimum(np.maximum(qa, qb), 0)
    ray_mm = sheet.pose.centre[2] / focal
    inside = np.clip(edge * np.float32(1 / ray_mm) + np.float32(0.5), 0, 1) * ok
    return Meeting(a, b, t * view[2], turn(sheet.pose.rotation, n), view, inside, edge)


def project(sheet: Sheet, points: NDArray[np.float64], focal: float, side: int) -> NDArray:
    """(N, 2) px of points given by their (a, b) on the sheet."""
    a, b = points[:, 0], points[:, 1]
    along = a if sheet.upright else b
    if abs(sheet.curvature) < 1e-5:
        x, z = along, np.zeros_like(along)
    else:
        radius = 1 / sheet.curvature
        x, z = radius * np.sin(along / radius), radius * (1 - np.cos(along / radius))
    space = np.stack([x, b, z] if sheet.upright else [a, x, z], axis=-1)
    camera = sheet.pose.to_camera(space)
    return focal * camera[:, :2] / camera[:, 2:] + side / 2


@dataclass(frozen=True, kw_only=True)
class Original:
    """The stolen picture: linear colour, silhouette and the face in it, and its printed scale."""

    colour: Array
    """(H, W, 3) in [0, 1]."""
    infrared: Array
    cover: Array
    box: tuple[float, float, float, float]
    landmarks: NDArray[np.float64]
    mm_per_px: float

    @property
    def middle(self) -> tuple[float, float]:
        """Centre of the face box in px."""
        x, y, w, h = self.box
        return x + w / 2, y + h / 2

    def on_sheet(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """(a, b) in mm of points in px."""
        return (points - np.asarray(self.middle)) * self.mm_per_px

    def sample(self, plane: Array, meeting: Meeting) -> Array:
        """A plane of the picture, seen where the rays meet the sheet."""
        k = np.float32(1 / self.mm_per_px)
        return cv2.remap(
            plane,
            meeting.a * k + np.float32(self.middle[0] - 0.5),
            meeting.b * k + np.float32(self.middle[1] - 0.5),
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REFLECT_101,
        )

    def face_on(self, sheet: Sheet, focal: float, side: int) -> tuple[tuple, NDArray[np.float64]]:
        """Face box and landmarks in the new picture, px."""
        x, y, w, h = self.box
        angle = np.linspace(0, 2 * np.pi, 25)
        rim = np.stack([x + w / 2 + w / 2 * np.cos(angle), y + h / 2 + h / 2 * np.sin(angle)], -1)
        seen = project(sheet, self.on_sheet(rim), focal, side)
        (x0, y0), (x1, y1) = seen.min(0), seen.max(0)
        marks = project(sheet, self.on_sheet(self.landmarks), focal, side)
        return (float(x0), float(y0), float(x1 - x0), float(y1 - y0)), marks
