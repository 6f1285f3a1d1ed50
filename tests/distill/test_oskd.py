"""OSKD (a reading): mates and distances against loops, its edges, the task."""

import math

import pytest
import torch
from torch.nn import functional as F

from pliant.distill.oskd import OSKD, mates, push_loss, subclass_loss
from pliant.distill.peers import Networks
from pliant.errors import UserError
from pliant.models.cifar_resnet import cifar_resnet

LABELS = torch.tensor([0, 1, 0, 0, 1, 2, 0])
IMAGES = torch.randn(7, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def outputs() -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(7, 4, generator=generator, dtype=torch.float64)


def network(num: int = 1) -> Networks:
    torch.manual_seed(0)
    return Networks([cifar_resnet(8, num_classes=3) for _ in range(num)], example=IMAGES)


def slow_targets(h, neighbours: int):
    """t_i as lists; None where nobody shares the class."""
    rows, targets = h.tolist(), []
    for i, row in enumerate(rows):
        others = [j for j in range(len(rows)) if j != i and LABELS[j] == LABELS[i]]
        others.sort(key=lambda j: math.dist(row, rows[j]))
        kept = others[:neighbours] if neighbours else others
        columns = range(len(row))
        mean = [sum(rows[j][c] for j in kept) / len(kept) for c in columns] if kept else None
        targets.append(mean)
    return targets


@pytest.mark.parametrize("neighbours", [0, 1, 2, 5])
def test_by_loops(neighbours: int):
    h = outputs()
    squares, kls = 0.0, 0.0
    for row, target in zip(h.tolist(), slow_targets(h, neighbours), strict=True):
        if target is None:
            continue
        squares += math.dist(row, target) ** 2 / 7
        p, q = (torch.tensor(v, dtype=torch.float64).div(2).softmax(0) for v in (target, row))
        kls += 4 * float((p * (p / q).log()).sum()) / 7
    got = subclass_loss(h, LABELS, neighbours=neighbours)
    assert float(got) == pytest.approx(squares)
    soft = subclass_loss(h, LABELS, neighbours=neighbours, temperature=2.0)
    assert float(soft) == pytest.approx(kls)


def test_by_hand():
    h = torch.tensor([[0.0, 0.0], [1.0, 0.0], [5.0, 0.0], [0.0, 0.5]])
    labels = torch.tensor([0, 0, 0, 1])
    shares = mates(h, labels, neighbours=1)
    assert shares.tolist() == [[0, 1, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]]
    assert float(subclass_loss(h, labels)) == (1 + 1 + 16) / 4
    everybody = mates(h, labels, neighbours=0)
    assert everybody.tolist()[0] == [0, 0.5, 0.5, 0]
    far = push_loss(h, labels, margin=1.0)  # 0.5, 1.118, 5.02 and 0.5 away
    assert float(far) == pytest.approx((0.5 + 0.5) / 4)


def test_targets_are_constants():
    h = outputs().requires_grad_()
    subclass_loss(h, LABELS).backward()
    wanted = mates(h.detach(), LABELS, neighbours=1) @ h.detach()
    expected = 2 * (h.detach() - wanted) / 7
    expected[5] = 0  # alone in its class
    torch.testing.assert_close(h.grad, expected)
    fixed = wanted.clone()
    fixed[5] = h.detach()[5]
    assert torch.autograd.gradcheck(lambda z: (z - fixed).square().sum(1).mean(), (h,))


def test_push_by_loops_and_its_direction():
    h = (0.5 * outputs()).requires_grad_()
    rows = h.tolist()
    nearest = [
        min(math.dist(row, rows[j]) for j in range(7) if LABELS[j] != LABELS[i])
        for i, row in enumerate(rows)
    ]
    loss = push_loss(h, LABELS, margin=1.5)
    assert float(loss.detach()) == pytest.approx(sum(max(0, 1.5 - d) for d in nearest) / 7)
    loss.backward()
    moved = (h - 0.5 * h.grad).detach()
    assert push_loss(moved, LABELS, margin=1.5) < loss


def test_edges():
    alone = torch.arange(7)
    h = outputs().requires_grad_()
    loss = subclass_loss(h, alone)
    loss.backward()
    assert float(loss.detach()) == 0
    assert float(h.grad.abs().sum()) == 0
    assert float(push_loss(h.detach(), torch.zeros(7, dtype=torch.long), margin=1.0)) == 0
    same = outputs()[:1].expand(4, -1)
    assert float(subclass_loss(same, torch.zeros(4, dtype=torch.long))) == 0


def test_images_may_change_places():
    h, order = outputs(), torch.tensor([3, 6, 0, 2, 5, 1, 4])
    for neighbours in (0, 1, 2):
        torch.testing.assert_close(
            subclass_loss(h, LABELS, neighbours=neighbours),
            subclass_loss(h[order], LABELS[order], neighbours=neighbours),
        )


@pytest.mark.parametrize("matching", ["logits", "softened"])
def test_task(matching: str):
    task = OSKD(matching=matching, push=0.3, margin=2.0).build(network(), total_steps=1)
    losses = task(IMAGES, LABELS, 0)
    z = task.peers(IMAGES).logits[0]
    torch.testing.assert_close(losses["ce"], F.cross_entropy(z, LABELS))
    sum_of_parts = losses["ce"] + 0.1 * losses["subclass"] + 0.3 * losses["push"]
    torch.testing.assert_close(losses["loss"], sum_of_parts)
    plain = OSKD(weight=0.0).build(network(), total_steps=1)(IMAGES, LABELS, 0)
    assert set(plain) == {"loss", "ce", "subclass"}
    assert torch.equal(plain["loss"], plain["ce"])
    assert torch.equal(
        task.eval().extract("network_1")(IMAGES), task.predictors(IMAGES)["network_1"]
    )


def test_refusals():
    with pytest.raises(UserError, match="OSKD trains one network by itself, got 2"):
        OSKD().build(network(2), total_steps=1)
    with pytest.raises(UserError, match='matching must be logits or softened, got "features"'):
        OSKD(matching="features")  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"OSKD.neighbours must be >= 0, got -1"):
        OSKD(neighbours=-1)
