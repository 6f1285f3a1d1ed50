"""A contact sheet of a rig: one row for bona fide, one for each kind of attack."""

import numpy as np
from numpy.typing import NDArray

from pliant.data.rig.dataset import RigSet


def contact_sheet(rig: RigSet, columns: int = 8, *, gap: int = 4) -> NDArray[np.uint8]:
    """RGB picture of first frames, one column a subject, bona fide faces in the top row.

    Args:
        rig: The rendered frames.
        columns: How many subjects; fewer if the rig has fewer.
        gap: Light lines between the pictures, px.

    Raises:
        ValueError: if columns is below 1.
    """
    if columns < 1:
        raise ValueError(f"contact_sheet needs at least one column, got {columns}")
    side = rig.settings.size
    kinds: list[str | None] = [None]
    if rig.settings.attack_clips:
        kinds += rig.settings.attacks
    subjects = sorted({frame.subject for frame in rig.frames})[:columns]
    step = side + gap
    shape = (len(kinds) * step + gap, len(subjects) * step + gap, 3)
    sheet = np.full(shape, 244, np.uint8)
    taken: set[tuple[str | None, str]] = set()
    for frame in rig.frames:
        cell = (frame.species, frame.subject)
        if frame.subject not in subjects or cell in taken:
            continue
        taken.add(cell)
        top = gap + kinds.index(frame.species) * step
        left = gap + subjects.index(frame.subject) * step
        sheet[top : top + side, left : left + side] = frame.colour
    return sheet
