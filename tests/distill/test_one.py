"""ONE: the gate and the mixture against loops, the ensemble as a constant teacher, the task."""

import math

import pytest
import torch
from torch.nn import functional as F

from pliant.distill.one import ONE, Gate, gated_ensemble
from pliant.distill.peers import Networks, SharedTrunk
from pliant.errors import UserError
from pliant.models.cifar_resnet import cifar_resnet

IMAGES = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
TARGETS = torch.tensor([0, 1, 2, 1])


def peers(num: int = 3) -> SharedTrunk:
    torch.manual_seed(0)
    nets = [cifar_resnet(8, num_classes=3) for _ in range(num)]
    return SharedTrunk(nets, upto="layer2", example=IMAGES)


def test_mixture_by_loops():
    generator = torch.Generator().manual_seed(0)
    zs = [torch.randn(2, 4, generator=generator, dtype=torch.float64) for _ in range(3)]
    gate = torch.rand(2, 3, generator=generator, dtype=torch.float64)
    got = gated_ensemble(zs, gate)
    for b in range(2):
        for c in range(4):
            slow = sum(float(gate[b, k]) * float(zs[k][b, c]) for k in range(3))
            assert float(got[b, c]) == pytest.approx(slow)
    order = [2, 0, 1]
    torch.testing.assert_close(gated_ensemble([zs[k] for k in order], gate[:, order]), got)


def test_the_ensemble_of_equal_branches_is_the_branch():
    z, shares = torch.randn(4, 3), torch.rand(4, 2).softmax(1)
    torch.testing.assert_close(gated_ensemble([z, z], shares), z)


def test_gate_by_loops():
    torch.manual_seed(0)
    gate = Gate(4, 3).double()
    shared = torch.randn(5, 4, 2, 2, dtype=torch.float64)
    got = gate(shared)
    weight = gate.linear.weight.tolist()
    means = [[float(pixels.mean()) for pixels in image] for image in shared]
    scores = [
        [sum(w * m for w, m in zip(row, image, strict=True)) for row in weight] for image in means
    ]
    rows = [[0.0] * 3 for _ in range(5)]
    for k in range(3):  # batch norm in train mode, then ReLU
        column = [row[k] for row in scores]
        mean = sum(column) / 5
        variance = sum((v - mean) ** 2 for v in column) / 5
        for b in range(5):
            rows[b][k] = max(0.0, (column[b] - mean) / math.sqrt(variance + 1e-5))
    for b in range(5):
        powers = [math.exp(v) for v in rows[b]]
        assert got[b].tolist() == pytest.approx([p / sum(powers) for p in powers])


def test_gradients_are_right():
    generator = torch.Generator().manual_seed(0)
    zs = [torch.randn(2, 3, generator=generator, dtype=torch.float64) for _ in range(2)]
    gate = torch.rand(2, 2, generator=generator, dtype=torch.float64)
    inputs = tuple(t.requires_grad_() for t in (*zs, gate))
    assert torch.autograd.gradcheck(lambda a, b, g: gated_ensemble([a, b], g), inputs)


def test_task_by_the_slow_way():
    task = ONE(temperature=2.0, weight=0.7).build(peers(), total_steps=30)
    losses = task(IMAGES, TARGETS, 4)
    answers = task.peers(IMAGES)
    shares = task.gate(answers.shared)
    ensemble = sum(shares[:, k : k + 1] * z for k, z in enumerate(answers.logits))
    ce = sum(F.cross_entropy(z, TARGETS) for z in (*answers.logits, ensemble))
    p = (ensemble / 2).softmax(1)
    kd = sum(4 * (p * (p.log() - (z / 2).log_softmax(1))).sum(1).mean() for z in answers.logits)
    torch.testing.assert_close(losses["ce"], ce)
    torch.testing.assert_close(losses["kd"], kd)
    ramp = math.exp(-5 * (1 - 4 / 8) ** 2)
    torch.testing.assert_close(losses["loss"], ce + 0.7 * ramp * kd)


def test_what_the_ensemble_teaches_does_not_move_the_gate():
    task = ONE().build(peers(), total_steps=10)
    task(IMAGES, TARGETS, 9)["kd"].backward()
    assert all(p.grad is None for p in task.gate.parameters())
    assert all(p.grad is not None for p in task.peers.parameters())
    task(IMAGES, TARGETS, 9)["ce"].backward()
    assert task.gate.linear.weight.grad.abs().sum() > 0


def test_predictors_and_what_can_be_taken_out():
    task = ONE().build(peers(2), total_steps=10).eval()
    with torch.inference_mode():
        named = task.predictors(IMAGES)
        assert list(named) == ["network_1", "network_2", "ensemble", "gated"]
        assert torch.equal(task.extract("gated")(IMAGES), named["gated"])
        assert torch.equal(task.extract("network_2")(IMAGES), named["network_2"])


def test_refusals():
    apart = Networks([cifar_resnet(8, num_classes=3) for _ in range(2)], example=IMAGES)
    with pytest.raises(UserError, match="ONE needs a SharedTrunk, got Networks"):
        ONE().build(apart, total_steps=10)
    with pytest.raises(UserError, match="ONE needs 2 sub-networks or more, got 1"):
        ONE().build(peers(1), total_steps=10)
    with pytest.raises(UserError, match=r"ONE.ramp must be in \[0, 1\], got 2"):
        ONE(ramp=2.0)
