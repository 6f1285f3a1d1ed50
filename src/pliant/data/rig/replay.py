"""Replay attacks: a clip on a screen, filmed by the camera.

The screen is a grid of red, green and blue stripes. Its light is summed over the footprint of
each ray, and the camera samples it with a grid of its own: moire comes from that, nothing draws
it. The screen glows by itself: its own gamma, a black that is not black, a cold white, a mirror
image of the room, at times a bezel; to an infrared camera it is a dark, flat plate.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from pliant.data.rig.head import smooth
from pliant.data.rig.light import daylight
from pliant.data.rig.person import Picture, Place, empty_place, infrared_light
from pliant.data.rig.settings import Array
from pliant.data.rig.sheet import Meeting, Original, Sheet, meet


@dataclass(frozen=True, kw_only=True)
class Screen:
    """One display; strengths 0 for a perfect one."""

    pitch: float
    """Distance of the display's pixels, mm."""
    grid: float
    """Depth of the stripes and of the dark matrix between pixels, 0 to 1."""
    gamma: float
    """Exponent of the display's error; 1 is faithful."""
    black: float
    glow: float
    """Light that leaks in at a corner."""
    white: Array
    brightness: float
    reflection: float
    room: Array
    """What the glass mirrors, (h, w, 3) radiance."""
    bezel: Array
    flicker: float
    """Depth of the dark bands of the backlight."""
    phase: float


def draw_screen(
    rng: np.random.Generator, cue: float, px_mm: float, room: Array, phase: float
) -> Screen:
    """A random display; arguments as for `draw_paper`."""
    cue = min(cue, 1.3)
    kelvin = 6500 + 2600 * cue * rng.uniform(-0.3, 1)
    return Screen(
        pitch=float(px_mm * rng.uniform(1.0, 1.3 + 1.4 * cue)),
        grid=float(np.clip(1.2 * cue * rng.uniform(0.5, 1), 0, 0.95)),
        gamma=float(1 + 0.45 * cue * rng.uniform(0.1, 1)),
        black=float(0.004 + 0.06 * cue * rng.uniform(0.3, 1)),
        glow=float(0.10 * cue * rng.uniform(0, 1)),
        white=daylight(float(np.clip(kelvin, 5500, 9000))),
        brightness=float(rng.uniform(0.8, 2.2)),
        reflection=float(0.006 + 0.16 * cue * rng.uniform(0.2, 1)),
        room=cv2.GaussianBlur(room[:, ::-1], (0, 0), 2.0),
        bezel=np.full(3, rng.choice([0.015, 0.03, 0.75]), np.float32),
        flicker=float(0.16 * cue * rng.uniform(0, 1) * (rng.random() < 0.6)),
        phase=phase,
    )


def stripes(meeting: Meeting, screen: Screen, ray_mm: float) -> Array:
    """(H, W, 3): light of the display's stripes, mean 1, averaged over each ray's footprint.

    A stripe is a third of a pixel wide; the series of such a train of boxes is cut after two terms,
    each damped by the footprint's own sinc.
    """
    turns_a = meeting.a * np.float32(1 / screen.pitch)
    turns_b = meeting.b * np.float32(1 / screen.pitch)
    rows = np.ones_like(turns_b)
    out = np.empty((*rows.shape, 3), np.float32)
    width = ray_mm / screen.pitch
    gap = 0.9 * screen.grid * np.sinc(width)
    rows += np.float32(gap) * np.cos(np.float32(2 * np.pi) * turns_b)
    for k in range(3):
        line = np.ones_like(rows)
        for harmonic in (1, 2):
            share = 2 * np.sinc(harmonic / 3) * np.sinc(harmonic * width) * screen.grid
            if abs(share) > 0.01:
                angle = (turns_a - np.float32(k / 3)) * np.float32(2 * np.pi * harmonic)
                line += np.float32(share) * np.cos(angle)
        out[..., k] = line * rows
    return np.maximum(out, 0)


def render_replay(
    original: Original, sheet: Sheet, *, screen: Screen, place: Place, focal: float, side: int
) -> Picture:
    """The picture that a camera takes of a screen."""
    picture = empty_place(place, side)
    meeting = meet(sheet, focal, side)
    ray_mm = sheet.pose.centre[2] / focal
    shown = np.clip(original.sample(original.colour, meeting), 0, 1)
    shown = shown ** np.float32(screen.gamma)
    corner = smooth(meeting.a - meeting.b, 40, 260)[..., None]
    light = np.float32(screen.black) + shown + np.float32(screen.glow) * corner
    light = light * stripes(meeting, screen, ray_mm) * screen.white
    if screen.flicker > 0.005:
        band = np.sin(np.linspace(0, 11, side, dtype=np.float32) + np.float32(screen.phase))
        light = light * (1 - np.float32(screen.flicker) * (0.5 + 0.5 * band))[:, None, None]
    n, v = meeting.normal, meeting.view
    cos = -(n[0] * v[0] + n[1] * v[1] + n[2] * v[2])
    bounced = tuple(v[k] + 2 * cos * n[k] for k in range(3))
    height, width = screen.room.shape[:2]
    mirror = cv2.remap(
        screen.room,
        (0.5 + 0.9 * bounced[0]) * np.float32(width),
        (0.5 + 0.9 * bounced[1]) * np.float32(height),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT_101,
    )
    lx, ly, lz = place.light.direction
    lamp = np.clip(bounced[0] * lx + bounced[1] * ly + bounced[2] * lz, 0, 1).astype(np.float32)
    glare = (lamp**24 * 0.8 + lamp**300 * 20)[..., None] * place.light.key
    ambient = place.light.sky.mean() + 0.4 * place.light.key.mean()
    radiance = light * np.float32(screen.brightness * ambient)
    radiance = radiance + np.float32(screen.reflection) * (mirror + glare)
    lit_bezel = screen.bezel * (0.6 * place.light.sky + 0.4 * place.light.key)
    bezel = smooth(meeting.edge, 7.5, 6.5)
    radiance += bezel[..., None] * (lit_bezel - radiance)
    facing = np.clip(cos, 0, 1)
    dark = 0.035 + 0.05 * bezel * float(screen.bezel[0] > 0.5)
    infrared = dark * infrared_light(facing, meeting.depth) + 0.5 * facing**3000
    picture.lay_over(meeting.inside, radiance, meeting.depth, infrared)
    picture.box, picture.landmarks = original.face_on(sheet, focal, side)
    return picture
