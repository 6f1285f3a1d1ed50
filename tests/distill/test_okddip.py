"""OKDDip: attention and targets against loops, who learns from what, the task."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pliant.distill.okddip import OKDDip, PeerAttention, attention, diverse_loss, peer_targets
from pliant.distill.peers import Networks, SharedTrunk
from pliant.errors import UserError
from pliant.models.cifar_resnet import cifar_resnet

IMAGES = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
TARGETS = torch.tensor([0, 1, 2, 1])


def peers(num: int = 4) -> SharedTrunk:
    torch.manual_seed(0)
    nets = [cifar_resnet(8, num_classes=3) for _ in range(num)]
    return SharedTrunk(nets, upto="layer2", example=IMAGES)


def numbers(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def softmax(row):
    powers = [math.exp(v) for v in row]
    return [p / sum(powers) for p in powers]


def test_formulas_by_loops():
    queries, keys, zs, temperature = numbers(2, 3, 5), 2 * numbers(2, 3, 5), numbers(3, 2, 4), 3.0
    shares = attention(queries, keys)
    targets = peer_targets(zs, shares)
    total = 0.0
    for b in range(2):
        for i in range(3):
            dots = [sum((queries[b, i] * keys[b, j]).tolist()) for j in range(3)]
            assert shares[b, i].tolist() == pytest.approx(softmax(dots))
            target = [
                sum(float(shares[b, i, j]) * float(zs[j, b, c]) for j in range(3)) for c in range(4)
            ]
            assert targets[i, b].tolist() == pytest.approx(target)
            p = softmax([v / temperature for v in target])
            q = softmax([v / temperature for v in zs[i, b].tolist()])
            total += sum(x * math.log(x / y) for x, y in zip(p, q, strict=True))
    got = diverse_loss(zs, shares, temperature=temperature)
    assert float(got) == pytest.approx(9 * total / 2)


def test_zero_where_all_agree_or_everybody_listens_to_himself():
    same = numbers(1, 2, 4).expand(3, -1, -1)
    shares = attention(numbers(2, 3, 5), numbers(2, 3, 5))
    assert float(diverse_loss(same, shares, temperature=3.0)) == pytest.approx(0, abs=1e-12)
    alone = torch.eye(3, dtype=torch.float64).expand(2, -1, -1)
    got = diverse_loss(numbers(3, 2, 4), alone, temperature=3.0)
    assert float(got) == pytest.approx(0, abs=1e-12)


def test_peers_may_change_places():
    zs, shares, order = numbers(3, 2, 4), attention(numbers(2, 3, 5), numbers(2, 3, 5)), [2, 0, 1]
    torch.testing.assert_close(
        diverse_loss(zs, shares, temperature=3.0),
        diverse_loss(zs[order], shares[:, order][:, :, order], temperature=3.0),
    )


def test_gradients():
    """In a target the peers are constants; the attention is not."""
    zs, scores = numbers(3, 2, 4).requires_grad_(), numbers(2, 3, 3).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda s: diverse_loss(zs.detach(), s.softmax(-1), temperature=3.0), (scores,)
    )
    shares = scores.detach().softmax(-1)
    diverse_loss(zs, shares, temperature=3.0).backward()
    p = (peer_targets(zs, shares) / 3).softmax(-1).detach()
    torch.testing.assert_close(zs.grad, 3 * ((zs.detach() / 3).softmax(-1) - p) / 2)
    assert torch.autograd.gradcheck(
        lambda q, k: attention(q, k), (numbers(1, 2, 3).requires_grad_(),) * 2
    )


def test_projections_are_shared_where_widths_agree():
    assert sum(p.numel() for p in PeerAttention([64, 64, 64]).parameters()) == 2 * 64 * 8
    apart = PeerAttention([64, 32])
    assert [layer.in_features for layer in apart.queries] == [64, 32]
    assert apart([torch.zeros(5, 64), torch.zeros(5, 32)]).shape == (5, 2, 2)


def test_task_by_the_slow_way():
    task = OKDDip(weight=0.5).build(peers(), total_steps=30)
    losses = task(IMAGES, TARGETS, 4)
    answers = task.peers(IMAGES)
    *auxiliary, leader = answers.logits
    mean = (sum(auxiliary) / 3 / 3).softmax(1)
    kd_leader = 9 * (mean * (mean.log() - (leader / 3).log_softmax(1))).sum(1).mean()
    torch.testing.assert_close(losses["kd_leader"], kd_leader)
    torch.testing.assert_close(
        losses["ce"], sum(F.cross_entropy(z, TARGETS) for z in answers.logits)
    )
    taught = losses["kd_peers"] + losses["kd_leader"]
    weight = 0.5 * math.exp(-5 * (1 - 4 / 8) ** 2)
    torch.testing.assert_close(losses["loss"], losses["ce"] + weight * taught)


def test_who_learns_from_what():
    task = OKDDip().build(peers(), total_steps=10)
    task(IMAGES, TARGETS, 0)["kd_leader"].backward()
    learns = [branch.fc.weight.grad is not None for branch in task.peers.branches]
    assert learns == [False, False, False, True]
    task.zero_grad(set_to_none=True)
    task(IMAGES, TARGETS, 0)["kd_peers"].backward()
    learns = [branch.fc.weight.grad is not None for branch in task.peers.branches]
    assert learns == [True, True, True, False]
    assert all(p.grad.abs().sum() > 0 for p in task.attention.parameters())


def test_predictors_and_the_leader():
    task = OKDDip().build(peers(), total_steps=10).eval()
    with torch.inference_mode():
        named = task.predictors(IMAGES)
        assert torch.equal(named["leader"], named["network_4"])
        auxiliary = [named[f"network_{k}"] for k in (1, 2, 3)]
        torch.testing.assert_close(named["ensemble"], sum(auxiliary) / 3)
        assert torch.equal(task.extract("leader")(IMAGES), named["leader"])


def test_refusals():
    with pytest.raises(UserError, match="OKDDip needs 3 sub-networks or more, got 2"):
        OKDDip().build(peers(2), total_steps=10)
    flat = [nn.Sequential(nn.Flatten(), nn.Linear(192, 3)) for _ in range(3)]
    with pytest.raises(
        UserError, match=r"OKDDip needs feature maps and sub-network 1 \(Sequential"
    ):
        OKDDip().build(Networks(flat, example=IMAGES), total_steps=10)
