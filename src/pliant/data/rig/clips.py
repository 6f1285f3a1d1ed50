"""A clip: who, where, with which camera, staged how; and the frames that it gives.

Every random choice comes from a stream keyed by (seed, subject, kind, clip) or, for what changes
between frames, (seed, subject, kind, clip, frame): any frame can be rendered alone, in any order.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache, partial

import cv2
import numpy as np
from numpy.typing import NDArray

from pliant.data.rig.backdrop import draw_backdrop, hue
from pliant.data.rig.camera import (
    OVERSAMPLE,
    Camera,
    draw_camera,
    measure_depth,
    photograph,
    photograph_infrared,
    to_jpeg,
)
from pliant.data.rig.cast import Pose
from pliant.data.rig.head import HeadShape, head_shape, identity
from pliant.data.rig.light import draw_light
from pliant.data.rig.mask import Mask, draw_mask
from pliant.data.rig.paint import Expression
from pliant.data.rig.person import FACE_FRONT, FACE_MM, Picture, Place, render_person
from pliant.data.rig.prints import draw_paper, render_print
from pliant.data.rig.replay import draw_screen, render_replay
from pliant.data.rig.settings import ATTACKS, RigSettings, stream
from pliant.data.rig.sheet import Original, Sheet

WIDER = 1.25  # a stolen picture shows this much more around the face than a stored frame
FACE_MIDDLE = 17.0  # mm below the point between the ears


@dataclass(frozen=True, kw_only=True)
class Frame:
    """One frame as the sensors give it."""

    subject: str
    species: str | None
    """None: bona fide."""
    clip: str
    index: int
    session: str
    split: str
    colour: NDArray[np.uint8]
    """(S, S, 3) RGB, decoded from `jpeg`."""
    depth: NDArray[np.uint16]
    """(S, S) mm; 0: no answer."""
    infrared: NDArray[np.uint8]
    """(S, S)."""
    jpeg: bytes
    box: tuple[float, float, float, float]
    """x, y, w, h of the face in px, forehead to chin."""
    landmarks: NDArray[np.float64]
    """(5, 2) px: right eye, left eye, nose tip, right and left mouth corner."""


@dataclass(frozen=True, kw_only=True)
class Clip:
    """Names one clip; `kind` is 0 for bona fide, else 1 + the index into `ATTACKS`."""

    subject: int
    kind: int
    number: int

    @property
    def species(self) -> str | None:
        """The kind of attack, None for bona fide."""
        return ATTACKS[self.kind - 1] if self.kind else None

    @property
    def name(self) -> str:
        """Unique within a rig."""
        return f"s{self.subject:04d}-{self.species or 'live'}-{self.number:02d}"


def list_clips(settings: RigSettings) -> list[Clip]:
    """All clips of a rig, person by person."""
    kinds = [(0, settings.clips_per_subject)]
    kinds += [(1 + ATTACKS.index(name), settings.attack_clips) for name in settings.attacks]
    return [
        Clip(subject=subject, kind=kind, number=number)
        for subject in range(settings.subjects)
        for kind, count in kinds
        for number in range(count)
    ]


def split_of(settings: RigSettings) -> list[str]:
    """The split of every subject: about 60 % train, 20 % dev, 20 % test, each at least one."""
    count = settings.subjects
    each = max(1, round(0.2 * count))
    names = ["dev"] * each + ["test"] * each + ["train"] * (count - 2 * each)
    order = stream(settings.seed, 7).permutation(count)
    split = [""] * count
    for subject, name in zip(order, names, strict=True):
        split[subject] = name
    return split


@lru_cache(maxsize=16)
def shape_of(seed: int, subject: int) -> HeadShape:
    """The head of a subject; kept, because all clips of one person follow each other."""
    return head_shape(identity(seed, subject))


def sway(rng: np.random.Generator, *sizes: float) -> Callable[[int], list[float]]:
    """A hand's or head's slow motion: frame -> one offset for each size."""
    count = len(sizes)
    pace, start = rng.uniform(0.02, 0.11, count), rng.uniform(0, 2 * np.pi, count)
    scale = np.asarray(sizes) * rng.normal(0, 1, count)

    def at(frame: int) -> list[float]:
        return (scale * np.sin(2 * np.pi * pace * frame + start)).tolist()

    return at


def draw_place(rng: np.random.Generator) -> Place:
    """Somewhere."""
    light = draw_light(rng)
    return Place(
        light=light,
        backdrop=draw_backdrop(rng, light),
        backdrop_mm=float(rng.uniform(900, 3200)),
        cloth=hue(rng, 0.08, 0.85, 0.14),
        cloth_ir=float(rng.uniform(0.15, 0.75)),
        neckline=float(rng.uniform(118, 165)),
    )


class Sitting:
    """A person who sits for a clip: the pose and the face at every frame."""

    def __init__(
        self, rng: np.random.Generator, *, side: int, seed: int, subject: int, wide: float = 1.0
    ) -> None:
        self.side = side
        self.shape = shape_of(seed, subject)
        self.place = draw_place(rng)
        self.distance = float(rng.uniform(330, 780))
        zoom = rng.uniform(0.93, 1.07) / wide
        self.focal = float(side / 2 * (self.distance - FACE_FRONT) / FACE_MM * zoom)
        self.turned = rng.normal(0, [0.19, 0.10, 0.06]).clip(-0.42, 0.42)
        self.aside = rng.uniform(-7, 7, 2)
        self.mood = (max(0.0, rng.normal(0, 0.5)), max(0.0, rng.normal(-0.25, 0.35)))
        self.moves = sway(rng, 0.07, 0.05, 0.03, 4, 4, 8)
        self.faces = sway(rng, 0.3, 0.25, 0.4, 1.4, 0.7, 0.004, 0.004)
        self.blink = int(rng.integers(0, 24))
        who = self.shape.who
        self.glasses = bool(who.wears_glasses and rng.random() < 0.85)

    def render(self, frame: int, *, mask: Mask | None = None) -> Picture:
        """What the camera sees at this frame."""
        yaw, pitch, roll, dx, dy, dz = self.moves(frame)
        smile, mouth, brow, gaze_x, gaze_y, bx, by = self.faces(frame)
        z = self.distance + dz
        pose = Pose(
            (float(self.aside[0]) + dx, float(self.aside[1]) + dy - FACE_MIDDLE, z),
            float(self.turned[0]) + yaw,
            float(self.turned[1]) + pitch,
            float(self.turned[2]) + roll,
        )
        blink = (frame + self.blink) % 24 == 0
        still = mask is not None
        act = Expression(
            smile=0.0 if still else float(np.clip(self.mood[0] + smile, 0, 1)),
            mouth_open=0.0 if still else float(np.clip(self.mood[1] + mouth, 0, 1)),
            brow=0.0 if still else float(np.clip(brow, 0, 1)),
            lids=0.12 if blink else 1.0,
            gaze=(float(np.clip(gaze_x, -3, 3)), float(np.clip(gaze_y, -1.5, 1.5))),
        )
        return render_person(
            self.shape,
            pose=pose,
            act=act,
            place=moved(self.place, bx, by),
            focal=self.focal,
            side=self.side,
            glasses=self.glasses and mask is None,
            mask=mask,
        )


def moved(place: Place, dx: float, dy: float) -> Place:
    """The same place after the hand-held camera moved."""
    return replace(place, shift=(dx, dy))


def steal(picture: Picture, *, exposure: float, mm_per_px: float) -> Original:
    """The picture that an attacker has: a good, clean photograph of the person."""
    seen = picture.radiance
    mean = np.asarray(cv2.mean(seen)[:3], np.float32)
    seen = seen * (mean.mean() / (mean + 0.01)) ** np.float32(0.5)
    seen = seen * np.float32(exposure / (float(mean.mean()) + 0.02))
    seen = np.clip(seen / (1 + np.float32(0.18) * seen * seen), 0, 1)
    return Original(
        colour=seen.astype(np.float32),
        infrared=picture.infrared,
        cover=picture.cover,
        box=picture.box,
        landmarks=picture.landmarks,
        mm_per_px=mm_per_px,
    )


def render_clip(settings: RigSettings, clip: Clip, frames: range | None = None) -> Iterator[Frame]:
    """The frames of one clip, all or those asked for."""
    rng = stream(settings.seed, clip.subject, 10 + clip.kind, clip.number)
    camera = draw_camera(rng, settings.difficulty)
    take = stage(settings, clip, rng)
    split = split_of(settings)[clip.subject]
    for index in frames if frames is not None else range(settings.frames):
        picture = take(index)
        grain = stream(settings.seed, clip.subject, 10 + clip.kind, clip.number, 1 + index)
        yield expose(settings, clip, index, split, picture, camera, grain)


def stage(settings: RigSettings, clip: Clip, rng: np.random.Generator) -> Callable[[int], Picture]:
    """Set a clip up; returns the function from frame to picture."""
    side = settings.size * OVERSAMPLE
    wide = WIDER if clip.species in ("print_flat", "print_bent", "replay") else 1.0
    sitting = Sitting(rng, side=side, seed=settings.seed, subject=clip.subject, wide=wide)
    cue = 1.35 * (1 - settings.difficulty**1.5) * float(rng.uniform(0.55, 1.25)) + 0.02
    if clip.species is None:
        return sitting.render
    if clip.species == "mask":
        other = identity(settings.seed, 10_000 + clip.subject * 100 + clip.number)
        worn = draw_mask(rng, cue, sitting.shape.who, other)
        return lambda frame: sitting.render(frame, mask=worn)
    return stage_sheet(clip, rng, sitting, side, cue)


def stage_sheet(
    clip: Clip, rng: np.random.Generator, sitting: Sitting, side: int, cue: float
) -> Callable[[int], Picture]:
    """Hold a print or a screen before the camera."""
    place = draw_place(rng)
    distance = float(rng.uniform(330, 780))
    life_size = float(rng.uniform(0.5, 1.05) if clip.species != "replay" else rng.uniform(0.4, 1))
    face_mm = FACE_MM * life_size
    focal = float(side / 2 * distance / face_mm * rng.uniform(0.93, 1.07))
    px_mm = OVERSAMPLE * distance / focal
    edges = rng.random() < 0.30 + 0.5 * min(1.0, cue)
    reach = rng.uniform(0.60, 1.0, 4) if edges else rng.uniform(1.0, 1.12, 4)
    left, right, top, bottom = (float(r) * face_mm for r in reach)
    bend, upright = 0.0, bool(rng.random() < 0.75)
    if clip.species == "print_bent":
        bend = float(rng.uniform(0.35, 1.0) / (face_mm * 0.55)) * (
            1 if rng.random() < 0.85 else -0.6
        )
    tilt = rng.normal(0, [0.13, 0.13, 0.07]).clip(-0.3, 0.3)
    aside = rng.uniform(-7, 7, 2) * life_size
    hand = sway(rng, 0.04, 0.04, 0.025, 4, 4, 7, 0.004, 0.004)
    gain = float(rng.uniform(0.2, 0.34))
    moving = clip.species == "replay"
    if moving:
        room = draw_place(rng).backdrop
        screen = draw_screen(rng, cue, px_mm, room, float(rng.uniform(0, 6)))
        shoot = partial(render_replay, screen=screen, focal=focal, side=side)
    else:
        paper = draw_paper(rng, cue, px_mm)
        shoot = partial(render_print, paper=paper, focal=focal, side=side)
    still: list[Original] = []

    def original(frame: int) -> Original:
        if still and not moving:
            return still[0]
        picture = sitting.render(frame if moving else 0)
        stolen = steal(picture, exposure=gain, mm_per_px=face_mm / max(picture.box[3], 1.0))
        still.append(stolen)
        return stolen

    def take(frame: int) -> Picture:
        yaw, pitch, roll, dx, dy, dz, bx, by = hand(frame)
        pose = Pose(
            (float(aside[0]) + dx, float(aside[1]) + dy, distance + dz),
            float(tilt[0]) + yaw,
            float(tilt[1]) + pitch,
            float(tilt[2]) + roll,
        )
        sheet = Sheet(
            pose=pose,
            curvature=bend,
            upright=upright,
            left=-left,
            right=right,
            top=-top,
            bottom=bottom,
            corner=7.0 if moving else 0.0,
        )
        return shoot(original(frame), sheet, place=moved(place, bx, by))

    return take


def decode(jpeg: bytes) -> NDArray[np.uint8]:
    """(S, S, 3) RGB of a frame's JPEG."""
    colour = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert colour is not None
    return np.asarray(cv2.cvtColor(colour, cv2.COLOR_BGR2RGB), np.uint8)


def expose(
    settings: RigSettings,
    clip: Clip,
    index: int,
    split: str,
    picture: Picture,
    camera: Camera,
    rng: np.random.Generator,
) -> Frame:
    """Take the picture with all three sensors."""
    jpeg = to_jpeg(photograph(picture.radiance, camera, rng), camera.quality)
    x, y, w, h = picture.box
    return Frame(
        subject=f"s{clip.subject:04d}",
        species=clip.species,
        clip=clip.name,
        index=index,
        session=f"{clip.number + 1:02d}",
        split=split,
        colour=decode(jpeg),
        depth=measure_depth(picture.depth, camera, rng),
        infrared=photograph_infrared(picture.infrared, camera, rng),
        jpeg=jpeg,
        box=(x / OVERSAMPLE, y / OVERSAMPLE, w / OVERSAMPLE, h / OVERSAMPLE),
        landmarks=picture.landmarks / OVERSAMPLE,
    )
