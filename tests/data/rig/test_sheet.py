import numpy as np
import pytest

from pliant.data.rig.cast import Pose
from pliant.data.rig.sheet import Sheet, meet, project


@pytest.mark.parametrize("curvature", [0.0, 0.008, -0.005])
@pytest.mark.parametrize("upright", [True, False])
def test_projection_undoes_the_meeting(curvature: float, upright: bool) -> None:
    """Where a ray meets the sheet, the sheet's point projects back to that ray's pixel."""
    pose = Pose((5, -8, 420), 0.15, -0.2, 0.1)
    sheet = Sheet(pose=pose, curvature=curvature, upright=upright)
    side, focal = 64, 90.0
    meeting = meet(sheet, focal, side)
    rows, cols = np.nonzero(meeting.inside[20:44, 20:44] == 1)
    rows, cols = rows + 20, cols + 20
    points = np.stack([meeting.a[rows, cols], meeting.b[rows, cols]], -1).astype(np.float64)
    seen = project(sheet, points, focal, side)
    assert len(rows) > 300
    np.testing.assert_allclose(seen, np.stack([cols + 0.5, rows + 0.5], -1), atol=0.02)


def test_a_flat_sheet_is_a_plane_and_a_bent_one_a_cylinder() -> None:
    pose = Pose((0, 0, 400), 0, 0, 0)
    flat = meet(Sheet(pose=pose), 90.0, 64)
    np.testing.assert_allclose(flat.depth, 400, atol=0.01)
    bent = meet(Sheet(pose=pose, curvature=1 / 100), 90.0, 64)
    on = np.abs(bent.a) < 80
    x = bent.view[0] / bent.view[2] * bent.depth
    radius = np.hypot(x, bent.depth - 500)
    np.testing.assert_allclose(radius[on], 100, atol=0.05)
    assert bent.depth[32, 32] == pytest.approx(400, abs=0.1)


def test_the_edge_is_a_signed_distance() -> None:
    sheet = Sheet(pose=Pose((0, 0, 400), 0, 0, 0), left=-50, right=50, top=-60, bottom=60)
    meeting = meet(sheet, 90.0, 64)
    inside = meeting.edge > 0
    assert np.array_equal(inside, (np.abs(meeting.a) < 50) & (np.abs(meeting.b) < 60))
    middle = np.abs(meeting.b) < 5
    np.testing.assert_allclose(meeting.edge[middle], 50 - np.abs(meeting.a[middle]), atol=1e-3)
