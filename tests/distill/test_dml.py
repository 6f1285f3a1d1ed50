"""DML: the formula against loops, who learns from whom, the task."""

import math

import pytest
import torch
from torch.nn import functional as F

from pliant.distill.dml import DML, mutual_loss
from pliant.distill.peers import Networks
from pliant.errors import UserError
from pliant.models.cifar_resnet import cifar_resnet

IMAGES = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
TARGETS = torch.tensor([0, 1, 2, 1])


def logits(num: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(num)
    return [torch.randn(3, 4, generator=generator, dtype=torch.float64) for _ in range(num)]


def peers(num: int = 2) -> Networks:
    torch.manual_seed(0)
    return Networks([cifar_resnet(8, num_classes=3) for _ in range(num)], example=IMAGES)


def slow(zs) -> float:
    """Each network's mean divergence from every other one, at temperature 1."""
    total = 0.0
    for k, own in enumerate(zs):
        for j, other in enumerate(zs):
            for row, peer in zip(own.tolist(), other.tolist(), strict=True):
                if j != k:
                    p = [math.exp(v) / sum(map(math.exp, peer)) for v in peer]
                    q = [math.exp(v) / sum(map(math.exp, row)) for v in row]
                    kl = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
                    total += kl / len(own) / (len(zs) - 1)
    return total


@pytest.mark.parametrize("num", [2, 3, 4])
def test_by_loops(num: int):
    zs = logits(num)
    assert float(mutual_loss(zs)) == pytest.approx(slow(zs))
    warm = 4 * slow([z / 2 for z in zs])
    assert float(mutual_loss(zs, temperature=2.0)) == pytest.approx(warm)


def test_by_hand():
    zs = [torch.zeros(1, 2), torch.tensor([[math.log(3.0), 0.0]])]  # (1/2, 1/2) and (3/4, 1/4)
    one = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    other = 0.5 * math.log(2 / 3) + 0.5 * math.log(2)
    assert float(mutual_loss(zs)) == pytest.approx(one + other)


def test_a_network_learns_from_its_own_term_alone():
    """The gradient of network k is (q_k - mean of the others' p) / B."""
    zs = [z.requires_grad_() for z in logits(3)]
    mutual_loss(zs).backward()
    for k, z in enumerate(zs):
        others = torch.stack([o.detach().softmax(1) for j, o in enumerate(zs) if j != k])
        torch.testing.assert_close(z.grad, (z.detach().softmax(1) - others.mean(0)) / 3)


def test_gradient():
    """That of the network's own term, whose own gradient is checked by differences."""
    own, *others = logits(3)

    def own_term(z):
        terms = [
            (p.softmax(1) * (p.log_softmax(1) - z.log_softmax(1))).sum(1).mean() for p in others
        ]
        return sum(terms) / 2

    z = own.clone().requires_grad_()
    (got,) = torch.autograd.grad(mutual_loss([*others, z]), z)
    (expected,) = torch.autograd.grad(own_term(z), z)
    torch.testing.assert_close(got, expected)
    assert torch.autograd.gradcheck(own_term, (z,))


def test_zero_where_all_agree_and_the_same_in_any_order():
    zs = logits(3)
    assert float(mutual_loss([zs[0]] * 3)) == pytest.approx(0, abs=1e-12)
    torch.testing.assert_close(mutual_loss(zs), mutual_loss(zs[::-1]))


def test_one_alone_and_other_shapes_are_refused():
    with pytest.raises(ValueError, match="logits of two networks or more, got 1"):
        mutual_loss(logits(1))
    with pytest.raises(ValueError, match="needs equal shapes"):
        mutual_loss([torch.zeros(2, 3), torch.zeros(2, 4)])
    with pytest.raises(UserError, match="DML needs 2 sub-networks or more, got 1"):
        DML().build(peers(1), total_steps=1)


def test_task():
    task = DML(weight=0.5).build(peers(3), total_steps=10)
    losses = task(IMAGES, TARGETS, 0)
    torch.testing.assert_close(losses["loss"], losses["ce"] + 0.5 * losses["mutual"])
    zs = task.peers(IMAGES).logits
    torch.testing.assert_close(losses["ce"], sum(F.cross_entropy(z, TARGETS) for z in zs))
    assert list(task.predictors(IMAGES)) == ["network_1", "network_2", "network_3", "ensemble"]
