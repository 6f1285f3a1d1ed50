"""Similarity-preserving: by hand, by loops, invariances, gradient, refusals."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pliant.distill.offline import Outputs
from pliant.distill.similarity import (
    SimilarityPreserving,
    SimilarityPreservingLoss,
    similarities,
    similarity_loss,
)
from pliant.errors import UserError


def features(seed: int, *shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def slow_similarities(feature: torch.Tensor) -> list[list[float]]:
    rows = [image.flatten().tolist() for image in feature]
    gram = [[sum(p * q for p, q in zip(a, b, strict=True)) for b in rows] for a in rows]
    return [[v / math.sqrt(sum(w * w for w in row)) for v in row] for row in gram]


def slow(student: torch.Tensor, teacher: torch.Tensor) -> float:
    own, taught = slow_similarities(student), slow_similarities(teacher)
    b = len(own)
    return sum((taught[i][j] - own[i][j]) ** 2 for i in range(b) for j in range(b)) / b**2


def test_by_hand():
    feature = torch.tensor([[1.0, 0.0], [3.0, 4.0]])  # inner products 1, 3; 3, 25
    first = [1 / math.sqrt(10), 3 / math.sqrt(10)]
    second = [3 / math.sqrt(634), 25 / math.sqrt(634)]
    torch.testing.assert_close(similarities(feature), torch.tensor([first, second]))


def test_reference():
    student, teacher = features(0, 4, 3, 2, 2), features(1, 4, 7)
    assert float(similarity_loss(student, teacher)) == pytest.approx(slow(student, teacher))


@settings(max_examples=25)
@given(st.integers(0, 100), st.floats(0.1, 10))
def test_blind_to_scale_rotation_and_order(seed, scale):
    student, teacher = features(seed, 5, 3), features(seed + 500, 5, 4)
    turn = torch.linalg.qr(features(seed + 900, 3, 3)).Q
    one = similarity_loss(student, teacher)
    assert one > 0
    torch.testing.assert_close(similarity_loss(scale * student @ turn, teacher), one)
    order = [4, 2, 0, 1, 3]
    torch.testing.assert_close(similarity_loss(student[order], teacher[order]), one)
    assert float(similarity_loss(student, scale * student @ turn)) < 1e-25


def test_gradient():
    student, teacher = features(0, 3, 2, 2).requires_grad_(), features(1, 3, 5).requires_grad_()
    assert torch.autograd.gradcheck(lambda s: similarity_loss(s, teacher), (student,))
    similarity_loss(student, teacher).backward()
    assert teacher.grad is None


def test_a_dead_image_has_a_finite_gradient():
    student = torch.tensor([[0.0, 0.0], [1.0, 2.0]], requires_grad=True)
    similarity_loss(student, torch.eye(2)).backward()
    assert student.grad.isfinite().all()


def test_the_module_sums_over_layers():
    own, taught = (
        (features(0, 3, 4), features(1, 3, 2, 2, 2)),
        (features(2, 3, 5), features(3, 3, 6)),
    )
    logits, targets = features(4, 3, 3), torch.tensor([0, 1, 2])
    losses = SimilarityPreservingLoss(SimilarityPreserving(weight=10.0))(
        Outputs(logits, own), Outputs(logits, taught), targets, 0
    )
    expected = slow(own[0], taught[0]) + slow(own[1], taught[1])
    assert float(losses["similarity"]) == pytest.approx(expected)
    torch.testing.assert_close(losses["loss"], losses["ce"] + 10 * losses["similarity"])


def test_refusals():
    with pytest.raises(
        UserError, match=r"equal batches, got student \(3, 2\) and teacher \(4, 2\)"
    ):
        similarity_loss(features(0, 3, 2), features(0, 4, 2))
    with pytest.raises(UserError, match=r"SimilarityPreserving\.weight must be >= 0"):
        SimilarityPreserving(weight=-1.0)
