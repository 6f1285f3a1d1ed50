"""Cross-model triplets: occlusion, triplets by hand and by loops, gradient, task, refusals."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from pliant.distill.cross_triplet import (
    CrossTriplet,
    CrossTripletLoss,
    cross_triplet_loss,
    half_occlude,
    joined_embedding,
)
from pliant.distill.kd import kd_loss
from pliant.distill.offline import Outputs
from pliant.errors import UserError

LABELS = torch.tensor([0, 1, 0, 2, 1, 0])


def points(seed: int, count: int = 6, length: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, length, generator=generator, dtype=torch.float64)


def slow(student, teacher, labels, margin, normalize, mining) -> float:
    def unit(rows):
        return [
            [v / sum(w * w for w in row) ** 0.5 if normalize else v for v in row]
            for row in rows.tolist()
        ]

    def square(a, b):
        return sum((p - q) ** 2 for p, q in zip(a, b, strict=True))

    own, taught, y = unit(student), unit(teacher), labels.tolist()
    hinges = []
    for a in range(len(y)):
        for p in range(len(y)):
            for n in range(len(y)):
                if y[p] != y[a] or y[n] == y[a]:
                    continue
                positive, negative = square(own[a], taught[p]), square(own[a], own[n])
                if mining == "semi-hard" and not positive < negative < positive + margin:
                    continue
                hinges.append(max(0.0, positive - negative + margin))
    return sum(hinges) / len(hinges) if hinges else 0.0


def test_by_hand():
    student = torch.tensor([[0.0, 0.0], [1.0, 0.0]])
    teacher = torch.tensor([[0.5, 0.0], [1.0, 2.0]])
    # anchor 0: 0.25 - 1 + 1; anchor 1: 4 - 1 + 1
    loss = cross_triplet_loss(
        student, teacher, torch.tensor([0, 1]), margin=1.0, normalize=False, mining="all"
    )
    assert float(loss) == pytest.approx((0.25 + 4) / 2)
    # semi-hard: the second negative is nearer than its positive and does not count
    loss = cross_triplet_loss(
        student, teacher, torch.tensor([0, 1]), margin=1.0, normalize=False, mining="semi-hard"
    )
    assert float(loss) == pytest.approx(0.25)


@pytest.mark.parametrize("mining", ["semi-hard", "all"])
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("margin", [0.2, 1.0])
def test_reference(mining, normalize, margin):
    options = {"margin": margin, "normalize": normalize, "mining": mining}
    for seed in range(3):
        student, teacher = points(seed), points(seed + 50)
        loss = cross_triplet_loss(student, teacher, LABELS, **options)
        assert float(loss) == pytest.approx(slow(student, teacher, LABELS, **options))


@settings(max_examples=25)
@given(st.integers(0, 100), st.floats(0.1, 10))
def test_blind_to_order_rotation_and_scale(seed, scale):
    student, teacher = points(seed), points(seed + 500)
    turn = torch.linalg.qr(points(seed + 900, count=3)).Q
    for mining in ("semi-hard", "all"):
        one = cross_triplet_loss(student, teacher, LABELS, mining=mining)
        order = [4, 2, 0, 5, 1, 3]
        loss = cross_triplet_loss(
            scale * student[order] @ turn, teacher[order] @ turn, LABELS[order], mining=mining
        )
        torch.testing.assert_close(loss, one)


def test_zero_where_every_positive_is_closer_by_the_margin():
    corners = torch.eye(3)[LABELS]
    for mining in ("semi-hard", "all"):
        assert float(cross_triplet_loss(corners, corners, LABELS, margin=1.9, mining=mining)) == 0
    assert float(cross_triplet_loss(corners, corners, LABELS, margin=2.5, mining="all")) > 0


def test_one_class_alone_has_no_triplets():
    student = points(0).requires_grad_()
    loss = cross_triplet_loss(student, points(1), torch.zeros(6, dtype=torch.long))
    loss.backward()
    assert float(loss.detach()) == 0


@pytest.mark.parametrize("mining", ["semi-hard", "all"])
def test_gradient(mining):
    student, teacher = points(0).requires_grad_(), points(1).requires_grad_()

    def loss(s):
        return cross_triplet_loss(s, teacher, LABELS, margin=0.7, mining=mining)

    assert float(loss(student).detach()) > 0
    assert torch.autograd.gradcheck(loss, (student,))
    loss(student).backward()
    assert teacher.grad is None


@pytest.mark.parametrize(
    ("half", "hidden"),
    [
        ("upper", (slice(0, 2), slice(None))),
        ("lower", (slice(3, 5), slice(None))),
        ("left", (slice(None), slice(0, 2))),
        ("right", (slice(None), slice(2, 4))),
    ],
)
def test_a_half_is_hidden_and_the_rest_stays(half, hidden):
    images = points(0, count=2, length=3 * 5 * 4).view(2, 3, 5, 4)
    before = images.clone()
    seen = half_occlude(images, half, fill=7.0)
    mask = torch.zeros(5, 4, dtype=torch.bool)
    mask[hidden] = True
    assert (seen[:, :, mask] == 7).all()
    assert torch.equal(seen[:, :, ~mask], images[:, :, ~mask])
    assert torch.equal(images, before)
    assert torch.equal(half_occlude(seen, half, fill=7.0), seen)


def test_the_student_sees_half_and_the_teacher_all():
    torch.manual_seed(0)
    student, teacher = (nn.Sequential(nn.Flatten(), nn.Linear(48, 3)) for _ in range(2))
    images, targets = torch.randn(6, 3, 4, 4), torch.tensor([0, 1, 2, 0, 1, 2])
    method = CrossTriplet(half="upper", kd_weight=0.3, triplet_weight=2.0, mining="all")
    task = method.build(student, teacher, images)
    losses = task(images, targets, 0)
    own, taught = student(half_occlude(images, "upper")), teacher(images)
    ce = nn.functional.cross_entropy(own, targets)
    kd = kd_loss(own, taught, temperature=4.0)
    triplet = cross_triplet_loss(own, taught, targets, mining="all")
    torch.testing.assert_close(losses["loss"], 0.7 * ce + 0.3 * kd + 2 * triplet)
    assert list(task.loss.parameters()) == [], "equal lengths need no projector"


def test_other_lengths_get_a_projector_on_the_students_side():
    own, taught, logits = points(0, length=4), points(1, length=2), points(2)
    torch.manual_seed(0)
    loss = CrossTripletLoss(CrossTriplet(), own, taught)
    losses = loss(Outputs(logits, (own,)), Outputs(logits, (taught,)), LABELS, 0)
    expected = cross_triplet_loss(own @ loss.projector.weight.T, taught, LABELS)
    torch.testing.assert_close(losses["triplet"], expected)


def test_joined_embeddings_weigh_alike():
    joined = joined_embedding(100 * points(0), points(1, length=2))
    assert joined.shape == (6, 5)
    torch.testing.assert_close(joined[:, :3].norm(dim=1), torch.ones(6, dtype=torch.float64))
    torch.testing.assert_close(joined[:, 3:].norm(dim=1), torch.ones(6, dtype=torch.float64))


def test_refusals():
    with pytest.raises(UserError, match="cross_triplet_loss needs equal shapes"):
        cross_triplet_loss(points(0), points(0, length=2), LABELS)
    with pytest.raises(UserError, match='unknown mining "hard"; allowed: semi-hard, all'):
        cross_triplet_loss(points(0), points(1), LABELS, mining="hard")
    with pytest.raises(UserError, match='unknown half "top"; allowed: upper, lower, left, right'):
        half_occlude(torch.zeros(1, 3, 4, 4), "top")
    with pytest.raises(UserError, match=r"CrossTriplet\.half must be one of upper"):
        CrossTriplet(half="top")
    with pytest.raises(UserError, match=r"CrossTriplet\.mining must be one of semi-hard"):
        CrossTriplet(mining="hard")
    for name, value in (
        ("margin", 0.0),
        ("triplet_weight", -1.0),
        ("kd_weight", 2.0),
        ("temperature", 0.0),
        ("fill", float("nan")),
    ):
        with pytest.raises(UserError, match=rf"CrossTriplet\.{name} must be"):
            CrossTriplet(**{name: value})
