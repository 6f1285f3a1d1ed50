"""One small rig for all tests of this folder, rendered once."""

import pytest

from pliant.data.rig import RigSet, RigSettings, render

SMALL = RigSettings(
    subjects=5, clips_per_subject=2, attack_clips=1, frames=2, size=64, difficulty=0.2, seed=3
)


@pytest.fixture(scope="session")
def small_rig() -> RigSet:
    return render(SMALL, progress=False, workers=1)
