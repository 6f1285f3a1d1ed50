from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from pliant.data.rig import ATTACKS, Clip, Frame, RigSet, RigSettings, list_clips, render_clip
from pliant.data.rig.clips import split_of


def same(a: Frame, b: Frame) -> bool:
    return (
        a.jpeg == b.jpeg
        and np.array_equal(a.depth, b.depth)
        and np.array_equal(a.infrared, b.infrared)
        and a.box == b.box
        and np.array_equal(a.landmarks, b.landmarks)
    )


def inner(frame: Frame, plane: NDArray, share: float = 0.6) -> NDArray:
    """The middle of the face box."""
    x, y, w, h = frame.box
    cx, cy = x + w / 2, y + h / 2
    rows = slice(int(cy - share * h / 2), int(cy + share * h / 2))
    cols = slice(int(cx - share * w / 2), int(cx + share * w / 2))
    return plane[rows, cols]


def relief(frame: Frame) -> float:
    """What is left of the face's depth after the best plane, mm (RMS)."""
    depth = inner(frame, frame.depth).astype(float)
    y, x = np.mgrid[: depth.shape[0], : depth.shape[1]]
    known = depth > 0
    a = np.stack([x[known], y[known], np.ones(known.sum())], -1)
    rest = depth[known] - a @ np.linalg.lstsq(a, depth[known], rcond=None)[0]
    return float(np.sqrt((rest**2).mean()))


def kinds(rig: RigSet, species: str | None) -> list[Frame]:
    return [frame for frame in rig.frames if frame.species == species]


@pytest.mark.parametrize("kind", range(5))
def test_a_frame_does_not_depend_on_what_came_before(small_rig: RigSet, kind: int) -> None:
    clip = Clip(subject=2, kind=kind, number=0)
    alone = list(render_clip(small_rig.settings, clip, range(1, 2)))
    among = [frame for frame in small_rig.frames if frame.clip == clip.name]
    assert same(alone[0], among[1])


def test_another_seed_is_another_world(small_rig: RigSet) -> None:
    clip = Clip(subject=0, kind=0, number=0)
    other = next(render_clip(replace(small_rig.settings, seed=4), clip))
    assert not same(other, small_rig.frames[0])


def test_leaving_an_attack_out_leaves_the_others_alone(small_rig: RigSet) -> None:
    fewer = replace(small_rig.settings, attacks=("replay",))
    clip = next(c for c in list_clips(fewer) if c.species == "replay")
    assert same(next(render_clip(fewer, clip)), kinds(small_rig, "replay")[0])


def test_frames_of_a_clip_move_a_little(small_rig: RigSet) -> None:
    first, second = small_rig.frames[:2]
    assert first.clip == second.clip
    assert not np.array_equal(first.colour, second.colour)
    assert np.abs(first.landmarks - second.landmarks).max() < 6


def test_prints_and_screens_are_flat_and_faces_are_not(small_rig: RigSet) -> None:
    for species in ("print_flat", "replay"):
        assert max(relief(frame) for frame in kinds(small_rig, species)) < 3
    for species in (None, "mask"):
        assert min(relief(frame) for frame in kinds(small_rig, species)) > 5


def test_screens_are_dark_and_paper_is_pale_in_the_infrared(small_rig: RigSet) -> None:
    """Compared at the same irradiance: the square of the distance is divided out."""

    def reflectance(species: str | None) -> float:
        values = []
        for frame in kinds(small_rig, species):
            light = 500.0**2 / inner(frame, frame.depth.astype(float) + 1) ** 2
            seen = (inner(frame, frame.infrared).astype(float) / 215) ** 2
            values.append(np.median(seen / (0.9 * np.minimum(light, 2) + 0.08)))
        return float(np.median(values))

    assert reflectance("replay") < 0.12
    assert 0.25 < reflectance(None) < 0.7
    assert reflectance("print_flat") > reflectance(None)


def fine_energy(frames: list[Frame]) -> float:
    """Share of a face's contrast that lies in the finest frequencies."""
    shares = []
    for frame in frames:
        face = inner(frame, frame.colour.mean(-1), 0.9)
        power = np.abs(np.fft.fft2(face - face.mean())) ** 2
        fy, fx = np.fft.fftfreq(face.shape[0]), np.fft.fftfreq(face.shape[1])
        fine = np.hypot(fy[:, None], fx[None]) > 0.25
        shares.append(power[fine].sum() / power.sum())
    return float(np.median(shares))


@pytest.mark.parametrize("kind", [1, 3])
def test_dots_and_moire_fade_with_difficulty(kind: int) -> None:
    energy = []
    for difficulty in (0.0, 0.6, 1.0):
        settings = RigSettings(subjects=8, size=96, difficulty=difficulty, seed=2)
        clips = [Clip(subject=k, kind=kind, number=0) for k in range(8)]
        energy.append(fine_energy([next(render_clip(settings, clip, range(1))) for clip in clips]))
    assert energy[0] > 1.5 * energy[2]
    assert energy[0] > energy[1]


def test_the_box_holds_the_landmarks_and_half_the_frame(small_rig: RigSet) -> None:
    size = small_rig.settings.size
    for frame in small_rig.frames:
        x, y, w, h = frame.box
        marks = frame.landmarks
        assert (marks > [x - 0.2 * w, y]).all()
        assert (marks < [x + 1.2 * w, y + h]).all()
        assert marks[0, 0] < marks[1, 0]
        assert marks[:2, 1].max() < marks[3:, 1].min()
        assert 0.35 * size < h < 0.65 * size
        assert h > w


def test_no_kind_of_clip_gives_itself_away_by_the_size_of_its_face(small_rig: RigSet) -> None:
    heights = {s: np.mean([f.box[3] for f in kinds(small_rig, s)]) for s in (None, *ATTACKS)}
    for species in ATTACKS:
        assert abs(heights[species] - heights[None]) < 0.12 * small_rig.settings.size


def test_splits_are_by_subject_and_none_is_empty() -> None:
    for subjects in (3, 5, 40):
        split = split_of(RigSettings(subjects=subjects))
        assert len(split) == subjects
        assert set(split) == {"train", "dev", "test"}
    assert split.count("train") == 24
