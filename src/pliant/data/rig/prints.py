"""Print attacks: a picture on paper, held before another place and photographed again.

The printer narrows the gamut, lifts black to paper and ink reality, screens cyan, magenta, yellow
and black into dots at four angles and leaves bands; the paper has a white, a gloss and cut edges.
In the infrared only the black ink is visible, so the printed face is pale.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from pliant.data.rig.head import grey, smooth
from pliant.data.rig.light import shade
from pliant.data.rig.person import Picture, Place, empty_place, infrared_light
from pliant.data.rig.settings import Array
from pliant.data.rig.sheet import Meeting, Original, Sheet, meet

SCREEN_ANGLES = (0.26, 1.31, 0.0, 0.785)  # radians: cyan, magenta, yellow, black


@dataclass(frozen=True, kw_only=True)
class Paper:
    """One printer and its paper; strengths in [0, 1], 0 is a perfect print."""

    white: Array
    """Linear reflectance of the bare paper."""
    black: float
    """Linear reflectance of full ink."""
    dull: float
    """How much chroma is lost."""
    dots: float
    """Strength of the halftone."""
    pitch: float
    """Distance of the dots, mm."""
    bands: float
    gloss: float
    margin: float
    """Unprinted border, mm."""
    contour: float
    """Above 0, the person was cut out with this margin in mm; 0: a rectangle."""
    ink_ir: float
    """How far the inks are invisible in the infrared."""


def draw_paper(rng: np.random.Generator, cue: float, px_mm: float) -> Paper:
    """A random printer.

    Args:
        rng: Random stream.
        cue: Strength of the clues, 0 to about 1.3.
        px_mm: Size of a stored pixel on the paper, mm.
    """
    cue = min(cue, 1.3)
    return Paper(
        white=np.asarray([0.86, 0.85, 0.83], np.float32)
        * rng.normal(1, 0.03, 3).astype(np.float32),
        black=float(0.012 + 0.07 * cue * rng.uniform(0.5, 1)),
        dull=float(np.clip(0.55 * cue * rng.uniform(0.2, 1), 0, 0.6)),
        dots=float(np.clip(1.15 * cue * rng.uniform(0.5, 1), 0, 1)),
        pitch=float(px_mm * rng.uniform(1.3, 1.7 + 1.7 * cue)),
        bands=float(0.10 * cue * rng.uniform(0, 1)),
        gloss=float(np.clip(0.1 + 1.3 * cue * rng.uniform(0, 1), 0, 1.4)),
        margin=float(rng.uniform(0, 6) if rng.random() < 0.5 else 0.0),
        contour=float(rng.uniform(2, 7) if rng.random() < 0.22 * min(1.0, 2 * cue) else 0.0),
        ink_ir=float(np.clip(0.25 + 0.9 * cue, 0, 1)),
    )


def ink(colour: Array, paper: Paper, meeting: Meeting, px_mm: float) -> tuple[Array, Array]:
    """Printed reflectance (H, W, 3) of a linear colour in [0, 1], and the black ink's coverage.

    The dots are averaged over the footprint of one ray, half a stored pixel.
    """
    pale = grey(colour)[..., None]
    wanted = pale + np.float32(1 - paper.dull) * (colour - pale)
    wanted = np.float32(paper.black) + np.float32(1 - paper.black) * wanted
    cover = 1 - wanted ** np.float32(0.8)  # dot gain: the eye's scale is nearer to the dots' area
    black = 0.55 * np.minimum(np.minimum(cover[..., 0], cover[..., 1]), cover[..., 2])
    rest = (cover - black[..., None]) / (1 - black[..., None])
    left = np.ones_like(colour)
    black_seen = black
    soft = np.float32(0.42 * px_mm / paper.pitch)  # footprint in parts of the dots' period
    for k, angle in enumerate(SCREEN_ANGLES):
        area = black if k == 3 else rest[..., k]
        if paper.dots > 0.01:
            c, s = 2 * np.pi * np.cos(angle) / paper.pitch, 2 * np.pi * np.sin(angle) / paper.pitch
            fade = np.sinc(0.5 * px_mm / paper.pitch)  # one ray sees an area, not a point
            wave = np.cos(meeting.a * np.float32(c) + meeting.b * np.float32(s))
            wave = wave + np.cos(meeting.b * np.float32(c) - meeting.a * np.float32(s))
            level = np.float32(0.5) + np.float32(0.25 * fade) * wave
            dot = np.clip((area - level) / (2 * soft) + np.float32(0.5), 0, 1)
            area = area + np.float32(paper.dots) * (dot - area) * (4 * area * (1 - area)) ** 0.5
        if k == 3:
            left *= (1 - np.float32(0.96) * area)[..., None]
            black_seen = area
        else:
            left[..., k] *= 1 - np.float32(0.97) * area
    return left ** np.float32(1.25) * paper.white, black_seen


def render_print(
    original: Original, sheet: Sheet, *, paper: Paper, place: Place, focal: float, side: int
) -> Picture:
    """The picture that a camera takes of a held print."""
    picture = empty_place(place, side)
    meeting = meet(sheet, focal, side)
    px_mm = 2 * sheet.pose.centre[2] / focal  # a stored pixel is two rays wide
    colour = original.sample(original.colour, meeting)
    printed, black = ink(np.clip(colour, 0, 1), paper, meeting, px_mm)
    if paper.bands > 0.005:
        band = np.sin(meeting.b * np.float32(0.9)) * np.sin(meeting.b * np.float32(0.23) + 1)
        printed *= (1 + np.float32(paper.bands) * band)[..., None]
    soft = 0.5 * px_mm
    bare = smooth(meeting.edge, paper.margin + soft, paper.margin - soft)
    inside = meeting.inside
    if paper.contour > 0:
        near = original.sample(grow(original.cover, paper.contour / original.mm_per_px), meeting)
        core = original.sample(original.cover, meeting)
        inside = inside * smooth(near, 0.35, 0.65)
        bare = 1 - smooth(core, 0.3, 0.7)
    printed += bare[..., None] * (paper.white - printed)
    gloss = np.full_like(bare, paper.gloss)
    still = np.ones_like(bare)
    radiance = shade(
        printed, gloss, 0 * still, meeting.normal, meeting.view, place.light, still, still, skin=0.0
    )
    pale = 0.80 * (1 - 0.8 * black)
    face = original.sample(original.infrared, meeting)
    reflect = face + np.float32(paper.ink_ir) * (pale - face)
    reflect += bare * (np.float32(0.8) - reflect)
    n, v = meeting.normal, meeting.view
    facing = np.clip(-(n[0] * v[0] + n[1] * v[1] + n[2] * v[2]), 0, 1)
    infrared = reflect * infrared_light(facing, meeting.depth) + 0.15 * gloss * facing**200
    picture.lay_over(inside, radiance, meeting.depth, infrared)
    picture.box, picture.landmarks = original.face_on(sheet, focal, side)
    return picture


def grow(cover: Array, px: float) -> Array:
    """A silhouette with a margin, as scissors leave it."""
    k = 2 * max(1, int(px)) + 1
    grown = cv2.dilate(cover, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (k, k)))
    return cv2.GaussianBlur(grown, (0, 0), 1.5)
