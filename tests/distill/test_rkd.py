"""RKD: distances and angles by hand and by loops, invariances, gradient, edges, refusals."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pliant.distill.offline import Outputs
from pliant.distill.rkd import (
    RKD,
    RKDLoss,
    angles,
    distances,
    rkd_angle_loss,
    rkd_distance_loss,
)
from pliant.errors import UserError


def points(seed: int, count: int = 5, length: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, length, generator=generator, dtype=torch.float64)


def huber(a: float, b: float) -> float:
    return 0.5 * (a - b) ** 2 if abs(a - b) <= 1 else abs(a - b) - 0.5


def slow_distances(x: torch.Tensor) -> list[float]:
    pairs = [(i, j) for i in range(len(x)) for j in range(len(x)) if i != j]
    lengths = [math.dist(x[i].tolist(), x[j].tolist()) for i, j in pairs]
    return [d / (sum(lengths) / len(lengths)) for d in lengths]


def slow_angles(x: torch.Tensor) -> list[float]:
    cosines = []
    for i in range(len(x)):
        for j in range(len(x)):
            for k in range(len(x)):
                if len({i, j, k}) == 3:
                    a, b = (x[i] - x[j]).tolist(), (x[k] - x[j]).tolist()
                    dot = sum(p * q for p, q in zip(a, b, strict=True))
                    cosines.append(dot / (math.hypot(*a) * math.hypot(*b)))
    return cosines


def slow(psi, student: torch.Tensor, teacher: torch.Tensor) -> float:
    terms = [huber(a, b) for a, b in zip(psi(teacher), psi(student), strict=True)]
    return sum(terms) / len(terms)


def test_by_hand():
    corner = torch.tensor([[3.0, 0.0], [0.0, 0.0], [0.0, 4.0]])  # sides 3, 4, 5; mean 4
    expected = torch.tensor([3.0, 5.0, 3.0, 4.0, 5.0, 4.0]) / 4
    torch.testing.assert_close(distances(corner), expected)
    # at corner 0 the angle's cosine is 3/5, at 1 it is 0, at 2 it is 4/5; each in both orders
    assert sorted(round(float(a), 5) for a in angles(corner)) == [0, 0, 0.6, 0.6, 0.8, 0.8]


def test_reference():
    student, teacher = points(0, length=2), points(1, length=4)
    torch.testing.assert_close(
        distances(student), torch.tensor(slow_distances(student), dtype=torch.float64)
    )
    torch.testing.assert_close(
        angles(student), torch.tensor(slow_angles(student), dtype=torch.float64)
    )
    assert float(rkd_distance_loss(student, teacher)) == pytest.approx(
        slow(slow_distances, student, teacher)
    )
    assert float(rkd_angle_loss(student, teacher)) == pytest.approx(
        slow(slow_angles, student, teacher)
    )


def test_large_differences_count_linearly():
    far = torch.tensor([[0.0], [1e-3], [1e-3], [100.0]], dtype=torch.float64)
    student = points(0, count=4)
    assert float(rkd_distance_loss(student, far)) == pytest.approx(
        slow(slow_distances, student, far), rel=1e-5
    )


@settings(max_examples=25)
@given(st.integers(0, 100), st.floats(0.1, 10), st.floats(-3, 3))
def test_blind_to_scale_shift_rotation_and_order(seed, scale, shift):
    student, teacher = points(seed), points(seed + 500, length=2)
    turn = torch.linalg.qr(points(seed + 900, count=3)).Q
    for loss in (rkd_distance_loss, rkd_angle_loss):
        one = loss(student, teacher)
        assert one > 0
        torch.testing.assert_close(loss(scale * student @ turn + shift, teacher), one)
        order = [4, 2, 0, 1, 3]
        torch.testing.assert_close(loss(student[order], teacher[order]), one)
        assert float(loss(student, scale * student @ turn + shift)) < 1e-20


@pytest.mark.parametrize("loss", [rkd_distance_loss, rkd_angle_loss])
def test_gradient(loss):
    student, teacher = points(0, count=4).requires_grad_(), points(1, count=4).requires_grad_()
    assert torch.autograd.gradcheck(lambda s: loss(s, teacher), (student,))
    loss(student, teacher).backward()
    assert teacher.grad is None


@pytest.mark.parametrize("loss", [rkd_distance_loss, rkd_angle_loss])
@pytest.mark.parametrize("student", [torch.ones(4, 3), torch.tensor([[1.0], [1.0], [2.0], [5.0]])])
def test_images_that_coincide_have_a_finite_gradient(loss, student):
    student = student.requires_grad_()
    value = loss(student, points(0, count=4).float())
    value.backward()
    assert value.isfinite()
    assert student.grad.isfinite().all()


@pytest.mark.parametrize("count", [1, 2])
def test_too_few_images_cost_nothing(count):
    student = points(0, count=count).requires_grad_()
    angle = rkd_angle_loss(student, points(1, count=count))
    angle.backward()
    assert float(angle.detach()) == 0
    if count == 1:
        assert float(rkd_distance_loss(student, points(1, count=1)).detach()) == 0


def test_the_module_averages_maps():
    maps = points(0, count=4, length=12).view(4, 3, 2, 2)
    embedding, logits = points(1, count=4), points(2, count=4)
    targets = torch.tensor([0, 1, 2, 0])
    losses = RKDLoss(RKD(distance_weight=2.0, angle_weight=3.0))(
        Outputs(logits, (maps,)), Outputs(logits, (embedding,)), targets, 0
    )
    own = maps.mean((2, 3))
    assert float(losses["distance"]) == pytest.approx(slow(slow_distances, own, embedding))
    assert float(losses["angle"]) == pytest.approx(slow(slow_angles, own, embedding))
    torch.testing.assert_close(
        losses["loss"], losses["ce"] + 2 * losses["distance"] + 3 * losses["angle"]
    )


def test_refusals():
    for loss in (rkd_distance_loss, rkd_angle_loss):
        with pytest.raises(UserError, match=r"needs embeddings .* of equal batches"):
            loss(points(0), points(1, count=4))
        with pytest.raises(UserError, match="needs embeddings"):
            loss(points(0)[..., None], points(1))
    with pytest.raises(UserError, match=r"RKD\.angle_weight must be >= 0"):
        RKD(angle_weight=-1.0)
