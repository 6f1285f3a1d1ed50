"""BSS: which images, which classes, the attack by hand and by loops, the weights, the task."""

import math
from collections import Counter

import pytest
import torch
from torch import nn

from pliant.distill.bss import (
    BSS,
    base_samples,
    boundary_samples,
    draw_classes,
    falling_weights,
    soft_kl,
)
from pliant.distill.kd import kd_loss
from pliant.errors import UserError


def randn(seed: int, *shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def network(seed: int, classes: int = 3) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.Tanh(), nn.Linear(8, classes)).double()


def slow_attack(teacher, image, label, wanted, *, moves, eta, low, high) -> torch.Tensor:
    """One image, straight from the equations, with its gradient from finite differences."""
    x = image.clone()

    def f(x):
        return teacher(x[None])[0].detach()

    for _ in range(moves):
        if int(f(x).argmax()) != label:
            break
        g = torch.zeros_like(x)
        for position in range(x.numel()):
            step = torch.zeros_like(x)
            step.view(-1)[position] = 1e-5
            up, down = f(x + step), f(x - step)
            g.view(-1)[position] = ((up - down)[wanted] - (up - down)[label]) / 2e-5
        gap = f(x)[label] - f(x)[wanted] + 1e-4
        x = (x + eta * gap * g / math.sqrt(float(g.square().sum()))).clamp(low, high)
    return x


def test_the_attack_by_hand():
    # f = (x, -x): the gap is 2x and the gradient of f_1 - f_0 is -2, of length 2
    teacher = nn.Sequential(nn.Flatten(), nn.Linear(1, 2, bias=False)).double()
    teacher[1].weight.data = torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
    x = torch.full((1, 1, 1, 1), 1.0, dtype=torch.float64)
    label, wanted = torch.tensor([0]), torch.tensor([1])
    span = (-5.0, 5.0)
    moved = boundary_samples(teacher, x, label, wanted, attack_steps=1, input_range=span)
    assert float(moved) == pytest.approx(1 - 0.3 * (2 + 1e-4))
    unmoved = boundary_samples(teacher, x, label, wanted, attack_steps=0, input_range=span)
    assert float(unmoved) == 1
    # with a large step it crosses once and stays
    over = boundary_samples(teacher, x, label, wanted, step_size=0.6, input_range=span)
    assert float(over) == pytest.approx(1 - 0.6 * (2 + 1e-4))
    assert float(boundary_samples(teacher, x, label, wanted, input_range=(0.9, 5.0))) == 0.9


@pytest.mark.parametrize("moves", [1, 4, 10])
def test_the_attack_against_loops(moves):
    teacher = network(0)
    images = randn(1, 6, 3, 2, 2)
    labels = teacher(images).argmax(1)
    wanted = (labels + 1) % 3
    moved = boundary_samples(teacher, images, labels, wanted, attack_steps=moves, step_size=0.3)
    low, high = float(images.min()), float(images.max())
    for i in range(6):
        expected = slow_attack(
            teacher,
            images[i],
            int(labels[i]),
            int(wanted[i]),
            moves=moves,
            eta=0.3,
            low=low,
            high=high,
        )
        torch.testing.assert_close(moved[i], expected, atol=1e-7, rtol=1e-6)
    assert low <= moved.min()
    assert moved.max() <= high


def test_the_attack_comes_closer_to_the_boundary_and_leaves_the_teacher():
    teacher = network(0).train()
    images = randn(1, 16, 3, 2, 2)
    labels = teacher(images).detach().argmax(1)
    classes = draw_classes(teacher(images).detach(), labels, torch.Generator().manual_seed(0))

    def gap(x):
        logits = teacher(x).detach()
        own, rival = (logits.gather(1, which[:, None]) for which in (labels, classes))
        return (own - rival).abs()

    with torch.no_grad():
        moved = boundary_samples(teacher, images, labels, classes, input_range=(-9.0, 9.0))
    assert (gap(moved) <= gap(images)).all()
    assert gap(moved).mean() < 0.5 * gap(images).mean()
    assert not moved.requires_grad
    assert teacher.training
    assert all(p.grad is None for p in teacher.parameters())


def test_base_samples_by_hand():
    def of(rows):
        return torch.tensor(rows).log()

    teacher = of([[0.6, 0.3, 0.1], [0.6, 0.2, 0.2], [0.1, 0.8, 0.1], [0.5, 0.4, 0.1]])
    student = of([[0.6, 0.1, 0.3], [0.8, 0.1, 0.1], [0.8, 0.1, 0.1], [0.7, 0.1, 0.2]])
    labels = torch.tensor([0, 0, 1, 0])
    # gaps off the label: 0.08, 0.02, (the student is wrong), 0.10
    assert base_samples(student, teacher, labels, count=64).tolist() == [3, 0, 1]
    assert base_samples(student, teacher, labels, count=2).tolist() == [3, 0]
    assert base_samples(student, teacher, torch.tensor([1, 1, 0, 2]), count=9).tolist() == []


def test_classes_are_drawn_in_proportion_and_never_the_label():
    teacher = torch.tensor([[0.5, 0.1, 0.4]]).log().expand(4000, 3)
    drawn = draw_classes(
        teacher, torch.zeros(4000, dtype=torch.long), torch.Generator().manual_seed(0)
    )
    counts = Counter(drawn.tolist())
    assert counts[0] == 0
    assert counts[2] / 4000 == pytest.approx(0.8, abs=0.03)
    two = draw_classes(torch.tensor([[99.0, -99.0]]), torch.tensor([0]), torch.Generator())
    assert two.tolist() == [1]


def test_soft_kl_is_kd_without_its_factor():
    student, teacher = randn(0, 4, 5).requires_grad_(), randn(1, 4, 5)
    expected = kd_loss(student, teacher, temperature=3.0) / 9
    torch.testing.assert_close(soft_kl(student, teacher, temperature=3.0), expected)
    assert abs(float(soft_kl(teacher, teacher, temperature=3.0))) < 1e-12
    assert torch.autograd.gradcheck(lambda s: soft_kl(s, teacher, temperature=3.0), (student,))
    with pytest.raises(UserError, match="soft_kl needs equal shapes"):
        soft_kl(student, teacher[:1], temperature=1.0)


@pytest.mark.parametrize(
    ("epoch", "alpha", "beta"), [(0, 4, 2), (40, 2.5, 2 / 3), (60, 1.75, 0), (80, 1, 0), (90, 1, 0)]
)
def test_weights_are_those_of_80_epochs(epoch, alpha, beta):
    assert falling_weights(epoch / 80) == pytest.approx((alpha, beta))


def test_the_task_step_by_step():
    student, teacher = network(1).eval(), network(2).eval()
    images = randn(3, 12, 3, 2, 2)
    targets = teacher(images).detach().argmax(1)
    task = BSS(total_steps=80, samples=5).build(student, teacher, images)
    losses = task(images, targets, 20)
    own, taught = student(images), teacher(images).detach()
    chosen = base_samples(own, taught, targets, count=5)
    assert len(chosen) >= 2
    assert int(losses["found"]) == len(chosen)
    moved = task.push(images[chosen], targets[chosen], taught[chosen], 20)
    boundary = kd_loss(student(moved), teacher(moved), temperature=3.0) / 9
    torch.testing.assert_close(losses["boundary"], boundary)
    ce, kd = nn.functional.cross_entropy(own, targets), kd_loss(own, taught, temperature=3.0) / 9
    torch.testing.assert_close(losses["loss"], ce + 3.25 * kd + (2 * 2 / 3) * boundary)
    assert not torch.equal(moved, task.push(images[chosen], targets[chosen], taught[chosen], 21))


def test_late_steps_and_hopeless_students_have_no_boundary_term():
    student, teacher = network(1), network(2)
    images = randn(3, 6, 3, 2, 2)
    task = BSS(total_steps=80).build(student, teacher, images)
    right = teacher(images).detach().argmax(1)
    for targets, step in ((right, 60), ((right + 1) % 3, 0)):
        losses = task(images, targets, step)
        assert float(losses["boundary"]) == float(losses["found"]) == 0
        losses["loss"].backward()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"temperature": 0.0}, "BSS.temperature must be > 0"),
        ({"total_steps": 0}, "BSS.total_steps must be >= 1"),
        ({"samples": 1}, "BSS.samples must be >= 2"),
        ({"attack_steps": 0}, "BSS.attack_steps must be >= 1"),
        ({"step_size": 0.0}, "BSS.step_size must be > 0"),
        ({"input_range": (1.0, 0.0)}, "BSS.input_range must be an increasing pair"),
        ({"seed": -1}, "BSS.seed must be >= 0"),
    ],
)
def test_settings_are_refused(given, message):
    with pytest.raises(UserError, match=message):
        BSS(**given)
