"""Attention transfer: by hand, against a slow version, properties, gradient, refusals."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from pliant.distill.attention_transfer import (
    AttentionTransfer,
    AttentionTransferLoss,
    attention,
    attention_loss,
)
from pliant.distill.offline import Outputs
from pliant.errors import UserError


def maps(seed: int, *shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def slow_attention(feature: torch.Tensor, power: float) -> list[list[float]]:
    rows = []
    for image in feature.tolist():
        height, width = len(image[0]), len(image[0][0])
        row = [
            sum(abs(channel[y][x]) ** power for channel in image)
            for y in range(height)
            for x in range(width)
        ]
        length = math.sqrt(sum(v * v for v in row))
        rows.append([v / length for v in row])
    return rows


def slow(student: torch.Tensor, teacher: torch.Tensor, power: float) -> float:
    own, taught = slow_attention(student, power), slow_attention(teacher, power)
    squares = [(a - b) ** 2 for p, q in zip(own, taught) for a, b in zip(p, q)]  # noqa: B905
    return sum(squares) / len(squares)


def test_by_hand():
    feature = torch.tensor([[[[1.0, 0.0]], [[1.0, 2.0]]]])  # two channels, 1 x 2 positions
    expected = torch.tensor([[2.0, 4.0]]) / math.sqrt(20)
    torch.testing.assert_close(attention(feature), expected)


@pytest.mark.parametrize("power", [1.0, 2.0, 4.0])
def test_reference(power):
    student, teacher = maps(0, 3, 2, 2, 3), maps(1, 3, 5, 2, 3)
    loss = attention_loss(student, teacher, power=power)
    assert float(loss) == pytest.approx(slow(student, teacher, power))


@settings(max_examples=25)
@given(st.integers(0, 100), st.floats(0.1, 10))
def test_blind_to_scale_sign_and_order_of_channels(seed, scale):
    student, teacher = maps(seed, 3, 4, 2, 2), maps(seed + 500, 3, 2, 2, 2)
    one = attention_loss(student, teacher)
    assert one > 0
    torch.testing.assert_close(attention_loss(-scale * student[:, [3, 1, 0, 2]], teacher), one)
    torch.testing.assert_close(attention_loss(student[[2, 0, 1]], teacher[[2, 0, 1]]), one)
    assert float(attention_loss(student, scale * student)) < 1e-28


def test_gradient():
    student = maps(0, 2, 3, 2, 2).requires_grad_()
    teacher = maps(1, 2, 2, 2, 2).requires_grad_()
    assert torch.autograd.gradcheck(lambda s: attention_loss(s, teacher), (student,))
    attention_loss(student, teacher).backward()
    assert teacher.grad is None


def test_a_map_of_zeros_has_a_finite_gradient():
    student = torch.zeros(1, 2, 2, 2, requires_grad=True)
    attention_loss(student, maps(1, 1, 2, 2, 2).float()).backward()
    assert student.grad.isfinite().all()


def test_the_module_sums_over_layers_and_averages_the_larger_map_down():
    own = (maps(0, 2, 3, 4, 4), maps(1, 2, 3, 2, 2))
    taught = (maps(2, 2, 5, 2, 2), maps(3, 2, 5, 2, 2))
    down = own[0].unflatten(2, (2, 2)).unflatten(4, (2, 2)).mean((3, 5))
    logits, targets = maps(4, 2, 3), torch.tensor([0, 1])
    settings = AttentionTransfer(
        student_taps=("a", "b"), teacher_taps=("a", "b"), weight=10.0, power=4.0
    )
    losses = AttentionTransferLoss(settings)(
        Outputs(logits, own), Outputs(logits, taught), targets, 0
    )
    expected = slow(down, taught[0], 4.0) + slow(own[1], taught[1], 4.0)
    assert float(losses["attention"]) == pytest.approx(expected)
    torch.testing.assert_close(losses["loss"], losses["ce"] + 10 * losses["attention"])


def test_refusals():
    with pytest.raises(UserError, match="needs equal batch, height and width, got student"):
        attention_loss(maps(0, 2, 3, 2, 2), maps(0, 2, 3, 4, 4))
    with pytest.raises(UserError, match="needs equal batch"):
        attention_loss(maps(0, 1, 3, 2, 2), maps(0, 2, 3, 2, 2))
    with pytest.raises(UserError, match=r"AttentionTransfer\.power must be >= 1"):
        AttentionTransfer(power=0.5)


def test_a_map_of_one_position_is_refused():
    networks = [nn.Sequential(nn.Flatten(), nn.Linear(12, 4), nn.Linear(4, 2)) for _ in range(2)]
    settings = AttentionTransfer(student_taps=("1",), teacher_taps=("1",))
    with pytest.raises(UserError, match='the one of "1" and its teacher has a single position'):
        settings.build(*networks, torch.zeros(2, 3, 2, 2))
