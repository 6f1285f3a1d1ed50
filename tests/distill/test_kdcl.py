"""KDCL: the four targets against loops and searches, constants, the task."""

import itertools
import math

import pytest
import torch
from torch.nn import functional as F

from pliant.distill.kdcl import (
    KDCL,
    error_correlation,
    general_shares,
    linear_shares,
    min_logit_target,
    naive_target,
)
from pliant.distill.peers import Answers, Networks
from pliant.errors import UserError
from pliant.models.cifar_resnet import cifar_resnet

IMAGES = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
TARGETS = torch.tensor([0, 1, 2, 1])
TARGET_NAMES = ("naive", "linear", "min_logit", "general")


def logits(num: int, *, images: int = 6, classes: int = 4, scale: float = 2.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(num)
    shape = (num, images, classes)
    return scale * torch.randn(*shape, generator=generator, dtype=torch.float64)


def labels(images: int = 6, classes: int = 4) -> torch.Tensor:
    return torch.arange(images) % classes


def peers(num: int = 2) -> Networks:
    torch.manual_seed(0)
    return Networks([cifar_resnet(8, num_classes=3) for _ in range(num)], example=IMAGES)


def ce(row, label: int) -> float:
    return math.log(sum(math.exp(v) for v in row)) - row[label]


@pytest.mark.parametrize("num", [2, 3])
def test_naive_and_min_logit_by_loops(num: int):
    zs, ys = logits(num), labels()
    naive, least = naive_target(zs, ys), min_logit_target(zs, ys)
    for b, y in enumerate(ys.tolist()):
        rows = [zs[k, b].tolist() for k in range(num)]
        assert naive[b].tolist() == min(rows, key=lambda row: ce(row, y))
        for c in range(4):
            assert float(least[b, c]) == min(row[c] - row[y] for row in rows)
        assert float(least[b, y]) == 0


def test_the_minimum_is_at_least_as_sure_as_the_best_network():
    zs, ys = logits(3), labels()
    least = F.cross_entropy(min_logit_target(zs, ys), ys, reduction="none")
    best = torch.stack([F.cross_entropy(z, ys, reduction="none") for z in zs]).amin(0)
    assert (least <= best + 1e-12).all()


@pytest.mark.parametrize(("num", "steps"), [(2, 1000), (3, 60)])
@pytest.mark.parametrize("scale", [1.0, 6.0])
def test_linear_shares_against_a_grid(num: int, steps: int, scale: float):
    zs, ys = logits(num, scale=scale), labels()
    shares = linear_shares(zs, ys)
    assert (shares >= -1e-12).all()
    torch.testing.assert_close(shares.sum(1), torch.ones_like(shares[:, 0]))
    mixed = torch.einsum("nbk,bn->bk", zs, shares)
    got = F.cross_entropy(mixed, ys, reduction="none")
    grid = [g for g in itertools.product(range(steps + 1), repeat=num - 1) if sum(g) <= steps]
    points = torch.tensor([[*g, steps - sum(g)] for g in grid], dtype=zs.dtype) / steps
    every = torch.einsum("gn,nbk->gbk", points, zs)
    ces = every.logsumexp(2) - every.gather(2, ys.view(1, -1, 1).expand(len(points), -1, 1))[..., 0]
    assert (got <= ces.amin(0) + 1e-6).all()  # nothing on the grid is better
    if num == 2:
        assert (got >= ces.amin(0) - 1e-3).all()


def test_linear_shares_by_hand():
    """One network right, one wrong: the right one alone; mirrored ones: half and half."""
    zs = torch.tensor([[[4.0, 0.0, 0.0], [1.0, 2.0, 0.0]], [[0.0, 4.0, 0.0], [1.0, 0.0, 2.0]]])
    shares = linear_shares(zs, torch.tensor([0, 0]))
    torch.testing.assert_close(shares, torch.tensor([[1.0, 0.0], [0.5, 0.5]]))


def test_general_by_loops():
    zs, ys = logits(3), labels()
    correlation = error_correlation(zs, ys)
    for i, j in itertools.product(range(3), repeat=2):
        total = 0.0
        for b, y in enumerate(ys.tolist()):
            p, q = zs[i, b].softmax(0).tolist(), zs[j, b].softmax(0).tolist()
            total += sum((p[c] - (c == y)) * (q[c] - (c == y)) for c in range(4))
        assert float(correlation[i, j]) == pytest.approx(total / 6)
    shares = general_shares(correlation)
    assert float(shares.sum()) == pytest.approx(1)
    inverse = torch.linalg.inv(correlation)
    torch.testing.assert_close(shares, inverse.sum(1) / inverse.sum(), atol=1e-4, rtol=1e-4)
    error = shares @ correlation @ shares  # smallest of all shares of sum 1
    for i, j in itertools.permutations(range(3), 2):
        other = shares.clone()
        other[i] += 0.01
        other[j] -= 0.01
        assert error < other @ correlation @ other


def test_equal_networks_get_equal_shares():
    zs = logits(1).expand(3, -1, -1)
    shares = general_shares(error_correlation(zs, labels()))
    torch.testing.assert_close(shares, torch.full((3,), 1 / 3, dtype=zs.dtype), atol=1e-6, rtol=0)
    torch.testing.assert_close(linear_shares(zs, labels()).sum(1), torch.ones_like(zs[0, :, 0]))


@pytest.mark.parametrize("target", TARGET_NAMES)
def test_networks_may_change_places(target: str):
    task = KDCL(target=target).build(peers(3), total_steps=1)
    zs, ys = logits(3), labels()
    torch.testing.assert_close(
        task.teacher(zs, ys), task.teacher(zs.flip(0), ys), atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize("target", TARGET_NAMES)
def test_task_by_the_slow_way(target: str):
    task = KDCL(target=target, temperature=3.0, weight=0.5).build(peers(), total_steps=1)
    losses = task(IMAGES, TARGETS, 0)
    zs = task.peers(IMAGES).logits
    p = (task.teacher(torch.stack(zs), TARGETS) / 3).softmax(1)
    kd = sum(9 * (p * (p.log() - (z / 3).log_softmax(1))).sum(1).mean() for z in zs)
    ces = sum(F.cross_entropy(z, TARGETS) for z in zs)
    torch.testing.assert_close(losses["kd"], kd, atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(losses["loss"], ces + 0.5 * kd, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("target", TARGET_NAMES)
def test_the_target_is_a_constant(target: str):
    """The gradient of a network's logits is T (q - p) / B, whatever the target is made of."""
    task = KDCL(target=target, temperature=3.0).build(peers(), total_steps=1)
    zs = [z.clone().requires_grad_() for z in logits(2, images=4, classes=3)]
    teacher = task.teacher(torch.stack(zs), TARGETS)
    p = (teacher.detach() / 3).softmax(1)
    task.peers.forward = lambda images: Answers(zs, [])  # type: ignore[method-assign]
    task(IMAGES, TARGETS, 0)["kd"].backward()
    for z in zs:
        expected = 3 * ((z.detach() / 3).softmax(1) - p) / 4
        torch.testing.assert_close(z.grad, expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("target", TARGET_NAMES)
def test_nothing_is_taught_where_all_agree(target: str):
    task = KDCL(target=target).build(peers(), total_steps=1)
    same = logits(1, images=4, classes=3)[0]
    task.peers.forward = lambda images: Answers([same, same], [])  # type: ignore[method-assign]
    assert float(task(IMAGES, TARGETS, 0)["kd"]) == pytest.approx(0, abs=1e-6)


def test_measure_sets_the_shares_of_general():
    task = KDCL(target="general").build(peers(), total_steps=1)
    assert task.shares.tolist() == [0.5, 0.5]
    task.measure([(IMAGES, TARGETS), (IMAGES[:2], TARGETS[:2])])
    assert task.training
    task.eval()
    with torch.no_grad():
        zs = torch.stack(task.peers(torch.cat([IMAGES, IMAGES[:2]])).logits).double()
    expected = general_shares(error_correlation(zs, torch.cat([TARGETS, TARGETS[:2]])))
    torch.testing.assert_close(task.shares, expected.float(), atol=1e-3, rtol=1e-3)
    with pytest.raises(UserError, match="needs held-out images to measure its shares; got none"):
        task.measure([])


def test_refusals():
    with pytest.raises(UserError, match='must be naive, linear, min_logit or general, got "best"'):
        KDCL(target="best")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="KDCL needs 2 sub-networks or more, got 1"):
        KDCL().build(peers(1), total_steps=1)
