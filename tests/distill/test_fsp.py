"""FSP: matrices by hand and by loops, properties, gradient, the two stages, refusals."""

import pytest
import torch

from pliant.distill.fsp import FSP, FSPLoss, fsp_loss, fsp_matrix
from pliant.distill.offline import Outputs
from pliant.errors import UserError


def maps(seed: int, *shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def slow_matrix(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    batch, channels1, height, width = first.shape
    g = torch.zeros(batch, channels1, second.shape[1], dtype=torch.float64)
    for b in range(batch):
        for i in range(channels1):
            for j in range(second.shape[1]):
                for s in range(height):
                    for t in range(width):
                        g[b, i, j] += first[b, i, s, t] * second[b, j, s, t] / (height * width)
    return g


def down(feature: torch.Tensor) -> torch.Tensor:
    return feature.unflatten(2, (-1, 2)).unflatten(4, (-1, 2)).mean((3, 5))


def test_by_hand():
    first = torch.tensor([[[[1.0, 2.0]]]])
    second = torch.tensor([[[[3.0, 4.0]], [[0.0, 1.0]]]])
    torch.testing.assert_close(fsp_matrix(first, second), torch.tensor([[[5.5, 1.0]]]))


def test_reference():
    first, second = maps(0, 2, 3, 4, 4), maps(1, 2, 5, 2, 2)
    torch.testing.assert_close(fsp_matrix(first, second), slow_matrix(down(first), second))
    one, other = maps(2, 2, 3, 5), maps(3, 2, 3, 5)
    slow = sum(
        float((one[b, i, j] - other[b, i, j]) ** 2)
        for b in range(2)
        for i in range(3)
        for j in range(5)
    )
    assert float(fsp_loss(one, other)) == pytest.approx(slow / 30)


def test_positions_do_not_matter_and_scales_multiply():
    first, second = maps(0, 2, 3, 2, 2), maps(1, 2, 4, 2, 2)
    one = fsp_matrix(first, second)
    torch.testing.assert_close(fsp_matrix(first.flip(2, 3), second.flip(2, 3)), one)
    torch.testing.assert_close(fsp_matrix(2 * first, 3 * second), 6 * one)
    torch.testing.assert_close(fsp_matrix(second, first), one.transpose(1, 2))
    assert float(fsp_loss(one, one)) == 0
    other = maps(2, 2, 3, 4)
    torch.testing.assert_close(fsp_loss(one[[1, 0]], other[[1, 0]]), fsp_loss(one, other))


def test_gradient():
    first, second = maps(0, 2, 2, 4, 4).requires_grad_(), maps(1, 2, 3, 2, 2).requires_grad_()
    teacher = maps(2, 2, 2, 3).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda a, b: fsp_loss(fsp_matrix(a, b), teacher), (first, second)
    )
    fsp_loss(fsp_matrix(first, second), teacher).backward()
    assert teacher.grad is None


@pytest.mark.parametrize(("step", "keep"), [(0, True), (1, False), (2, True), (2, False)])
def test_the_module_and_its_stages(step, keep):
    own = tuple(maps(i, 2, 3, 2, 2) for i in range(3))
    taught = tuple(maps(10 + i, 2, 3, 4, 4) for i in range(3))
    logits, targets = maps(4, 2, 3), torch.tensor([0, 1])
    loss = FSPLoss(FSP(weight=5.0, fsp_steps=2, keep=keep))
    losses = loss(Outputs(logits, own), Outputs(logits, taught), targets, step)
    pairs = [(0, 1), (1, 2)]
    terms = [
        (slow_matrix(own[i], own[j]) - slow_matrix(taught[i], taught[j])).square().mean()
        for i, j in pairs
    ]
    fsp = (terms[0] + terms[1]) / 2
    torch.testing.assert_close(losses["fsp"], fsp)
    ce = torch.nn.functional.cross_entropy(logits, targets)
    expected = 5 * fsp if step < 2 else ce + 5 * fsp * keep
    torch.testing.assert_close(losses["loss"], expected)


def test_refusals():
    with pytest.raises(UserError, match=r"fsp_loss .* needs equal shapes, got student \(2, 3, 4\)"):
        fsp_loss(maps(0, 2, 3, 4), maps(0, 2, 3, 5))
    with pytest.raises(UserError, match="FSP needs at least 2 module path"):
        FSP(student_taps=("a",), teacher_taps=("a",)).build(
            torch.nn.Identity(), torch.nn.Identity(), maps(0, 1, 3, 4, 4)
        )
    with pytest.raises(UserError, match=r"FSP\.weight must be >= 0, got nan"):
        FSP(weight=float("nan"))
