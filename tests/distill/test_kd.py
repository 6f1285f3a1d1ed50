"""KD: by hand, against a slow version, its properties, its gradient, its refusals."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pliant.distill.kd import KD, KDLoss, kd_loss
from pliant.distill.offline import Outputs
from pliant.errors import UserError


def logits(seed: int, batch: int = 4, classes: int = 5) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(batch, classes, generator=generator, dtype=torch.float64)


def slow_softmax(z: list[float], temperature: float) -> list[float]:
    weights = [math.exp(v / temperature) for v in z]
    return [w / sum(weights) for w in weights]


def slow_kd(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> float:
    total = 0.0
    for s, t in zip(student.tolist(), teacher.tolist(), strict=True):
        q, p = slow_softmax(s, temperature), slow_softmax(t, temperature)
        total += sum(pi * (math.log(pi) - math.log(qi)) for pi, qi in zip(p, q, strict=True))
    return temperature**2 * total / len(student)


def test_by_hand():
    # T = 2 halves ln 9 to ln 3: the teacher says 3/4 and 1/4, the student 1/2 and 1/2
    teacher, student = torch.tensor([[math.log(9.0), 0.0]]), torch.zeros(1, 2)
    expected = 4 * (0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    assert float(kd_loss(student, teacher, temperature=2.0)) == pytest.approx(expected)


@pytest.mark.parametrize("temperature", [0.7, 1.0, 4.0])
def test_reference(temperature):
    student, teacher = logits(0), logits(1)
    expected = slow_kd(student, teacher, temperature)
    assert float(kd_loss(student, teacher, temperature=temperature)) == pytest.approx(expected)


@settings(max_examples=25)
@given(st.integers(0, 100), st.floats(0.5, 10.0), st.floats(-5, 5))
def test_zero_at_equality_else_positive_and_blind_to_shifts(seed, temperature, shift):
    student, teacher = logits(seed), logits(seed + 1000)
    assert abs(float(kd_loss(student, student + shift, temperature=temperature))) < 1e-9
    loss = kd_loss(student, teacher, temperature=temperature)
    assert loss > 0
    torch.testing.assert_close(kd_loss(student - shift, teacher, temperature=temperature), loss)
    order = [2, 0, 3, 1]
    torch.testing.assert_close(
        kd_loss(student[order], teacher[order], temperature=temperature), loss
    )


def test_scaling_logits_and_temperature_scales_the_loss():
    student, teacher = logits(2), logits(3)
    one = kd_loss(student, teacher, temperature=2.0)
    torch.testing.assert_close(kd_loss(3 * student, 3 * teacher, temperature=6.0), 9 * one)


def test_gradient():
    student, teacher = logits(4).requires_grad_(), logits(5).requires_grad_()
    assert torch.autograd.gradcheck(lambda s: kd_loss(s, teacher, temperature=3.0), (student,))
    kd_loss(student, teacher, temperature=3.0).backward()
    assert teacher.grad is None
    # section 2: for soft probabilities the slope is T (q - p) / B
    q, p = (student / 3).softmax(1), (teacher / 3).softmax(1)
    torch.testing.assert_close(student.grad, 3 * (q - p).detach() / 4)


@pytest.mark.parametrize("shape", [(1, 5), (4, 1), (4, 4)])
def test_shapes_are_refused(shape):
    with pytest.raises(UserError, match=r"kd_loss needs equal shapes, got student \(4, 5\) and"):
        kd_loss(logits(0), torch.zeros(shape), temperature=1.0)


def test_the_module_mixes_both_terms():
    targets = torch.tensor([0, 1, 2, 3])
    losses = KDLoss(KD(temperature=2.0, weight=0.3))(
        Outputs(logits(0)), Outputs(logits(1)), targets, 0
    )
    kd = slow_kd(logits(0), logits(1), 2.0)
    ce = -sum(math.log(slow_softmax(z, 1.0)[i]) for i, z in enumerate(logits(0).tolist())) / 4
    assert float(losses["kd"]) == pytest.approx(kd)
    assert float(losses["ce"]) == pytest.approx(ce)
    assert float(losses["loss"]) == pytest.approx(0.7 * ce + 0.3 * kd)


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ({"temperature": 0.0}, "KD.temperature must be > 0, got 0.0"),
        ({"temperature": float("nan")}, "KD.temperature must be > 0, got nan"),
        ({"temperature": float("inf")}, "KD.temperature must be > 0, got inf"),
        ({"weight": 1.5}, r"KD.weight must be in \[0, 1\], got 1.5"),
    ],
)
def test_settings_are_refused(given_, message):
    with pytest.raises(UserError, match=message):
        KD(**given_)
