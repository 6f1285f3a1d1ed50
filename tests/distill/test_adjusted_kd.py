"""Adjusted KD: corrected rows by hand, a slow version, properties, gradient, refusals."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pliant.distill.adjusted_kd import (
    AdjustedKD,
    AdjustedKDLoss,
    adjusted_kd_loss,
    is_wrong,
    shift_probabilities,
    smooth_labels,
)
from pliant.distill.kd import kd_loss
from pliant.distill.offline import Outputs
from pliant.errors import UserError

ROWS = torch.tensor([[0.6, 0.3, 0.1], [0.2, 0.3, 0.5]])
LABELS = torch.tensor([0, 1])


def logits(seed: int, batch: int = 6, classes: int = 4) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(batch, classes, generator=generator, dtype=torch.float64)


def labels(seed: int, batch: int = 6, classes: int = 4) -> torch.Tensor:
    return torch.randint(classes, (batch,), generator=torch.Generator().manual_seed(seed))


def softmax(z: list[float], temperature: float) -> list[float]:
    weights = [math.exp(v / temperature) for v in z]
    return [w / sum(weights) for w in weights]


def slow(student, teacher, targets, temperature, adjustment, smoothing) -> float:
    total = 0.0
    for s, t, y in zip(student.tolist(), teacher.tolist(), targets.tolist(), strict=True):
        q, p = softmax(t, temperature), softmax(s, temperature)
        top = q.index(max(q))
        if top != y and adjustment == "shift":
            q[top], q[y] = q[y], q[top]
        elif top != y:
            q = [1 - smoothing if k == y else smoothing / (len(q) - 1) for k in range(len(q))]
        total += sum(a * (math.log(a) - math.log(b)) for a, b in zip(q, p, strict=True) if a)
    return temperature**2 * total / len(student)


def test_by_hand():
    expected = torch.tensor([[0.6, 0.3, 0.1], [0.2, 0.5, 0.3]])
    torch.testing.assert_close(shift_probabilities(ROWS, LABELS), expected)
    expected = torch.tensor([[0.6, 0.3, 0.1], [0.05, 0.9, 0.05]])
    torch.testing.assert_close(smooth_labels(ROWS, LABELS, smoothing=0.1), expected)
    assert is_wrong(ROWS, LABELS).tolist() == [[False], [True]]


def test_a_tie_counts_as_right():
    tied = torch.tensor([[0.4, 0.4, 0.2]])
    for label in (0, 1):
        targets = torch.tensor([label])
        assert torch.equal(shift_probabilities(tied, targets), tied)
        assert torch.equal(smooth_labels(tied, targets, smoothing=0.1), tied)


@pytest.mark.parametrize("adjustment", ["shift", "smooth"])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_reference(adjustment, temperature, smoothing):
    student, teacher, targets = logits(0), logits(1), labels(2)
    options = {"temperature": temperature, "adjustment": adjustment, "smoothing": smoothing}
    loss = adjusted_kd_loss(student, teacher, targets, **options)
    assert float(loss) == pytest.approx(slow(student, teacher, targets, **options))


@settings(max_examples=25)
@given(st.integers(0, 200), st.integers(2, 6))
def test_rows_sum_to_one_have_the_label_on_top_and_right_rows_stay(seed, classes):
    p, targets = logits(seed, classes=classes).softmax(1), labels(seed, classes=classes)
    right = p.argmax(1) == targets
    for q in (shift_probabilities(p, targets), smooth_labels(p, targets, smoothing=0.1)):
        torch.testing.assert_close(q.sum(1), torch.ones(6, dtype=torch.float64))
        assert torch.equal(q.argmax(1), targets)
        assert torch.equal(q[right], p[right])
    shifted = shift_probabilities(p, targets)
    assert torch.equal(shifted.sort(1).values, p.sort(1).values)  # only places change
    assert torch.equal(shift_probabilities(shifted, targets), shifted)


def test_a_teacher_that_is_right_gives_plain_kd():
    student, teacher = logits(3), logits(4)
    targets = teacher.argmax(1)
    for adjustment in ("shift", "smooth"):
        loss = adjusted_kd_loss(student, teacher, targets, temperature=2.0, adjustment=adjustment)
        torch.testing.assert_close(loss, kd_loss(student, teacher, temperature=2.0))
        same = adjusted_kd_loss(teacher, teacher, targets, temperature=2.0, adjustment=adjustment)
        assert abs(float(same)) < 1e-12


@pytest.mark.parametrize("adjustment", ["shift", "smooth"])
def test_gradient(adjustment):
    student, teacher = logits(5).requires_grad_(), logits(6).requires_grad_()

    def loss(s):
        return adjusted_kd_loss(s, teacher, labels(7), temperature=2.0, adjustment=adjustment)

    assert torch.autograd.gradcheck(loss, (student,))
    loss(student).backward()
    assert teacher.grad is None


def test_the_module_says_how_many_rows_it_corrected():
    student, teacher, targets = logits(0), logits(1), labels(2)
    losses = AdjustedKDLoss(AdjustedKD(weight=0.25))(Outputs(student), Outputs(teacher), targets, 0)
    wrong = (teacher.argmax(1) != targets).double().mean()
    assert float(losses["corrected"]) == pytest.approx(float(wrong))
    torch.testing.assert_close(losses["loss"], 0.75 * losses["ce"] + 0.25 * losses["kd"])


def test_refusals():
    with pytest.raises(UserError, match="adjusted_kd_loss needs equal shapes"):
        adjusted_kd_loss(logits(0), logits(0)[:1], labels(0), temperature=1.0)
    with pytest.raises(UserError, match='unknown adjustment "swap"; allowed: shift, smooth'):
        adjusted_kd_loss(logits(0), logits(1), labels(0), temperature=1.0, adjustment="swap")
    with pytest.raises(UserError, match=r"AdjustedKD\.adjustment must be one of shift, smooth"):
        AdjustedKD(adjustment="swap")
    with pytest.raises(UserError, match=r"AdjustedKD\.smoothing must be in"):
        AdjustedKD(smoothing=0.5)
