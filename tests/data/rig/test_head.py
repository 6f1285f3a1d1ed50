import numpy as np

from pliant.data.rig.cast import (
    FAR,
    Pose,
    cast_head,
    cast_quadric,
    head_normals,
    look_up,
    rays,
    turn,
)
from pliant.data.rig.head import MAP_SIDE, HeadShape, head_shape, identity, linear, smooth


def ball(radius: float) -> HeadShape:
    """A head that is a sphere, to be compared with the formula."""
    head = head_shape(identity(0, 0))
    round_ = np.full((MAP_SIDE, MAP_SIDE), radius, np.float32)
    return HeadShape(head.who, head.u, head.v, round_, round_, {}, head.layers, head.extent)


def test_linear_light_by_hand() -> None:
    np.testing.assert_allclose(linear((0, 255, 10.31475)), [0, 1, 0.0031308], atol=1e-6)


def test_smoothstep_by_hand() -> None:
    x = np.array([-1, 0, 0.5, 1, 2], np.float32)
    np.testing.assert_allclose(smooth(x, 0, 1), [0, 0, 0.5, 1, 1])
    np.testing.assert_allclose(smooth(x, 1, 0), [1, 1, 0.5, 0, 0])


def test_same_person_same_head_and_other_person_other_head() -> None:
    one, again, other = (head_shape(identity(0, k)) for k in (4, 4, 5))
    assert np.array_equal(one.rest, again.rest)
    assert not np.array_equal(one.rest, other.rest)


def test_the_nose_is_the_front_of_every_head() -> None:
    for subject in range(6):
        head = head_shape(identity(1, subject))
        middle = head.rest[MAP_SIDE // 2 :, MAP_SIDE // 2].max()
        assert 90 < middle < 150
        nose = np.unravel_index(
            np.argmax(head.rest * (np.hypot(head.u, head.v) < 0.33)), head.rest.shape
        )
        assert abs(head.u[nose]) < 0.06
        assert 0.05 < head.v[nose] < 0.33


def test_expression_moves_the_mouth_and_leaves_the_skull() -> None:
    head = head_shape(identity(1, 2))
    rest = head.sample(mouth_open=0, smile=0, brow=0)[..., 0]
    moved = head.sample(mouth_open=1, smile=1, brow=0)[..., 0]
    change = np.abs(moved - rest)
    assert change.max() > 1.5
    assert change[: MAP_SIDE // 3].max() < 0.05


def test_casting_a_sphere_agrees_with_the_formula() -> None:
    radius, distance = 100.0, 500.0
    table = ball(radius).sample(mouth_open=0, smile=0, brow=0)
    pose = Pose((0, 0, distance), 0.4, -0.2, 0.1)
    view = rays(96, 130)
    back = pose.rotation.T
    origin = back @ -np.asarray(pose.centre)
    d = turn(back, view)
    t = cast_head(table, origin, d)
    exact, normal = cast_quadric(origin, d, (0, 0, 0), (radius, radius, radius))
    inside = exact < FAR
    rim = np.hypot(view[0], view[1]) / view[2]
    clear = inside & (rim < 0.18)
    assert np.abs(t - exact)[rim < 0.1].max() < 0.3
    assert np.abs(t - exact)[clear].max() < 2
    assert not (t[rim > 0.22] < FAR).any()
    p = tuple(origin[k] + np.where(clear, t, distance) * d[k] for k in range(3))
    found, _ = look_up(table, tuple(c.astype(np.float32) for c in p))
    n = head_normals(found, p)
    cosine = sum(a * b for a, b in zip(n, normal, strict=True))
    assert cosine[clear].min() > 0.999


def test_normals_of_a_head_agree_with_its_depth() -> None:
    """The analytic normals against differences of neighbouring surface points."""
    table = head_shape(identity(2, 1)).sample(mouth_open=0.3, smile=0.2, brow=0)
    view = rays(256, 300)
    origin = np.array([0.0, 0.0, -520.0])
    t = cast_head(table, origin, view)
    hit = t < FAR
    t = np.where(hit, t, 0)
    p = tuple((origin[k] + t * view[k]).astype(np.float32) for k in range(3))
    found, _ = look_up(table, p)
    n = np.stack(head_normals(found, p), -1)
    points = np.stack(p, -1)
    across = points[1:-1, 2:] - points[1:-1, :-2]
    down = points[2:, 1:-1] - points[:-2, 1:-1]
    slow = np.cross(down, across)
    slow /= np.linalg.norm(slow, axis=-1, keepdims=True) + 1e-9
    cosine = (slow * n[1:-1, 1:-1]).sum(-1)
    face = np.zeros(hit.shape, bool)
    face[100:170, 95:160] = True
    assert np.median(cosine[face[1:-1, 1:-1] & hit[1:-1, 1:-1]]) > 0.98
