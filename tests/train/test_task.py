"""Tasks: the loss by hand, against a slow version, with and without a teacher."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pliant.adaptive.configuration import Configuration
from pliant.adaptive.network import pta_mobilenet_v2
from pliant.train.task import AdaptiveTask, PlainTask, soft_label_loss

LOW, HIGH, MAX = (Configuration(letter * 16) for letter in "LHB")


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return torch.randn(4, 3, 32, 32), torch.tensor([0, 1, 1, 0])


@pytest.fixture
def network():
    torch.manual_seed(1)
    return pta_mobilenet_v2(width=0.35, dropout=0.0).eval()


def test_soft_labels_by_hand():
    student, teacher = torch.tensor([[0.0, 0.0]]), torch.tensor([[2.0, 0.0]])
    p = torch.tensor(2.0 / 2).sigmoid()  # two classes, temperature 2
    kl = p * torch.log(p / 0.5) + (1 - p) * torch.log((1 - p) / 0.5)
    torch.testing.assert_close(soft_label_loss(student, teacher, temperature=2.0), 4 * kl)


def test_soft_labels_vanish_at_equality_and_leave_the_teacher_alone():
    logits = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    student, teacher = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    loss = soft_label_loss(student, teacher, temperature=3.0)
    loss.backward()
    torch.testing.assert_close(loss, torch.tensor(0.0), atol=1e-6, rtol=0)
    assert teacher.grad is None
    assert student.grad.abs().max() < 1e-6


def test_plain_task_is_cross_entropy(batch):
    images, targets = batch
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 2))
    task = PlainTask(model, label_smoothing=0.1)
    expected = F.cross_entropy(model(images), targets, label_smoothing=0.1)
    assert torch.equal(task(images, targets, 0)["loss"], expected)
    assert task.configurations(0) == []


def _logits(network, images, configuration):
    with network.use(configuration):
        return network(images)


@pytest.mark.parametrize("sampled", [[LOW], [LOW, MAX, HIGH]])
def test_without_a_teacher_it_is_the_mean_over_configurations(network, batch, sampled):
    images, targets = batch
    task = AdaptiveTask(network, lambda step: sampled, heaviest=MAX)
    slow = [F.cross_entropy(_logits(network, images, c), targets) for c in sampled]
    losses = task(images, targets, 0)
    assert set(losses) == {"loss"}
    torch.testing.assert_close(losses["loss"], sum(slow) / len(slow))
    assert task.configurations(0) == sampled


@pytest.mark.parametrize("sampled", [[LOW], [LOW, MAX], [MAX]])
def test_with_a_teacher(network, batch, sampled):
    images, targets = batch
    task = AdaptiveTask(
        network, lambda step: sampled, heaviest=MAX, distill_weight=0.4, temperature=3.0
    )
    teacher = _logits(network, images, MAX).detach()
    slow, ces = [], []
    for configuration in sampled:
        logits = _logits(network, images, configuration)
        ces.append(F.cross_entropy(logits, targets))
        taught = soft_label_loss(logits, teacher, temperature=3.0)
        alone = configuration == MAX
        slow.append(ces[-1] if alone else 0.6 * ces[-1] + 0.4 * taught)
    losses = task(images, targets, 0)
    torch.testing.assert_close(losses["loss"], sum(slow) / len(slow))
    torch.testing.assert_close(losses["ce"], sum(ces) / len(ces))
    assert set(task.configurations(0)) == {MAX, *sampled}


def test_an_untrained_teacher_gets_no_gradient(network, batch):
    images, targets = batch
    task = AdaptiveTask(network, lambda step: [LOW], heaviest=MAX, distill_weight=0.5)
    task(images, targets, 0)["loss"].backward()
    heavy = [p.grad for name, p in network.named_parameters() if ".heavy." in name]
    light = [p.grad for name, p in network.named_parameters() if ".light." in name]
    assert heavy
    assert light
    assert all(grad is None for grad in heavy)
    assert all(grad is not None for grad in light)


def test_the_configuration_is_restored(network, batch):
    before = network.configuration
    task = AdaptiveTask(network, lambda step: [LOW, HIGH], heaviest=MAX)
    task(*batch, 0)
    assert network.configuration == before
