"""Synthetic clips in the layout of CeFA's challenge, to run the recipe without the real set.

    python recipes/cefa_synthetic.py FOLDER

The real set needs a signed agreement and is never shipped. Heads, attacks and sensors are those of
the synthetic rig: "ethnicities" are three casts of it, replays stand for replays, flat prints for
cloth prints, masks for 3D masks. What the tree shares with CeFA is names, lists and image kinds
(8-bit JPEG of the face alone, depth and infrared over colour), and one trap: every live clip of
training comes from device 1, every attack from device 3.
"""

import argparse
import shutil
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import cv2
import numpy as np

from pliant.data.modal_read import depth_to_bytes
from pliant.data.rig import Frame, RigSettings, render
from pliant.errors import UserError
from pliant.runtime.crop import crop_square

SIDE_PX = 112
FACE_SCALE = 1.2
"""Side of the stored square in multiples of the face's longer side."""
MARK = "SYNTHETIC.txt"
"""A file that says what the tree is."""
FIRST_DEV, FIRST_TEST = 3000, 1
"""Numbers of the first clips without a telling name, as in the challenge."""


def write_tree(
    root: Path, *, subjects: int = 8, test_subjects: int = 6, frames: int = 4, seed: int = 0
) -> Path:
    """Writes phase1/, phase2/ and the lists of the three sub-protocols; the whole tree or nothing.

    Args:
        root: A new folder.
        subjects: People of each sub-protocol's training, >= 3.
        test_subjects: People of each cast in dev, and in test, >= 3.
        frames: Of a clip.
        seed: Of the rig.

    Raises:
        UserError: if the folder exists.
    """
    if root.exists():
        raise UserError(f"{root} exists already; give a new folder")
    draft = root.with_name(f".{root.name}.partial")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    dev_number, test_number = FIRST_DEV, FIRST_TEST
    for k in (1, 2, 3):
        _train(draft, k, _clips(subjects, frames, ("replay",), seed + k))
        shown = list(_clips(test_subjects, frames, ("replay",), seed + 20 + k))
        unseen = [
            clip
            for cast in {1, 2, 3} - {k}
            for clip in _clips(test_subjects, frames, ("print_flat", "mask"), seed + 10 + cast)
        ]
        _numbered(draft, f"4@{k}_dev", "dev", shown, dev_number)
        _numbered(draft, f"4@{k}_test", "test", unseen, test_number)
        dev_number, test_number = dev_number + len(shown), test_number + len(unseen)
    (draft / MARK).write_text("procedurally rendered faces; no person was photographed\n")
    draft.rename(root)
    return root


def _clips(
    subjects: int, frames: int, attacks: tuple[str, ...], seed: int
) -> Iterator[list[Frame]]:
    rig = RigSettings(
        subjects=subjects, clips_per_subject=2, attack_clips=2 // len(attacks), frames=frames,
        size=SIDE_PX, attacks=attacks, seed=seed,
    )  # fmt: skip
    for _, clip in groupby(render(rig, progress=False).frames, lambda frame: frame.clip):
        yield list(clip)


def _train(root: Path, k: int, clips: Iterator[list[Frame]]) -> None:
    """Names tell ethnicity, person, device, session and attack; one line of the list a frame."""
    lines: list[str] = []
    sessions: dict[tuple[str, bool], int] = {}
    for clip in clips:
        live, who = clip[0].species is None, clip[0].subject
        session = sessions[who, live] = sessions.get((who, live), 0) + 1
        person = int("".join(letter for letter in who if letter.isdigit()))
        name = f"train/{k}_{person}_{1 if live else 3}_{session}_{1 if live else 4}"
        _write(root / "phase1" / name, clip)
        lines += [f"{name}/profile/{j + 1:04d}.jpg {int(live)}" for j in range(len(clip))]
    (root / f"4@{k}_train.txt").write_text("\n".join(lines) + "\n")


def _numbered(root: Path, name: str, split: str, clips: list[list[Frame]], first: int) -> None:
    """Clips are six digits; one line a clip, with the label (`_ref`) and without it (`_res`)."""
    known, blind = [], []
    for number, clip in enumerate(clips, first):
        line = f"{split}/{number:06d}"
        _write(root / ("phase1" if split == "dev" else "phase2") / line, clip)
        known.append(f"{line} {int(clip[0].species is None)}")
        blind.append(line)
    (root / f"{name}_ref.txt").write_text("\n".join(known) + "\n")
    (root / f"{name}_res.txt").write_text("\n".join(blind) + "\n")


def _write(folder: Path, clip: list[Frame]) -> None:
    for place, frame in enumerate(clip):
        x, y, width, height = (round(value) for value in frame.box)
        face = frame.depth[max(0, y) : y + height, max(0, x) : x + width]
        depth = depth_to_bytes(frame.depth, face) if (face > 0).any() else frame.depth
        planes = {"profile": frame.colour, "depth": depth, "ir": frame.infrared}
        for kind, plane in planes.items():
            grey = plane if plane.ndim == 3 else np.repeat(plane[..., None], 3, axis=2)
            square = crop_square(
                grey.astype(np.uint8), frame.box, scale=FACE_SCALE, size=SIDE_PX, border="black"
            )
            path = folder / kind / f"{place + 1:04d}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), cv2.cvtColor(square, cv2.COLOR_RGB2BGR))


def main() -> None:
    """Writes the tree that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    print(write_tree(given.folder, seed=given.seed))


if __name__ == "__main__":
    main()
