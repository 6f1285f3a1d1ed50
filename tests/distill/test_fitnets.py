"""FitNets: the hint loss against a slow version, the regressors, the two stages."""

import pytest
import torch
from torch import nn

from pliant.distill.fitnets import FitNets, FitNetsLoss, hint_loss
from pliant.distill.offline import Outputs
from pliant.errors import UserError


def maps(seed: int, *shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def test_by_hand():
    student, teacher = torch.zeros(1, 2, 1, 1), torch.tensor([1.0, 3.0]).view(1, 2, 1, 1)
    assert float(hint_loss(student, teacher)) == 5.0


def test_reference_of_the_whole_term():
    guided, hint = maps(0, 2, 3, 4, 4), maps(1, 2, 5, 2, 2)
    loss = FitNetsLoss(FitNets(weight=7.0), [guided], [hint])
    targets, logits = torch.tensor([0, 1]), maps(2, 2, 3)
    losses = loss(Outputs(logits, (guided,)), Outputs(logits, (hint,)), targets, 0)

    weight, bias = (p.detach() for p in loss.regressors[0].parameters())
    total = 0.0
    for b in range(2):
        for o in range(5):
            for y in range(2):
                for x in range(2):
                    cells = guided[b, :, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2]
                    regressed = float(bias[o])
                    for c in range(3):
                        regressed += float(weight[o, c, 0, 0]) * float(cells[c].mean())
                    total += (regressed - float(hint[b, o, y, x])) ** 2
    assert float(losses["hint"].detach()) == pytest.approx(total / 40)
    torch.testing.assert_close(losses["loss"], losses["ce"] + 7 * losses["hint"])


def test_zero_with_an_identity_regressor():
    feature = maps(0, 2, 3, 4, 4)
    loss = FitNetsLoss(FitNets(), [feature], [feature])
    nn.init.dirac_(loss.regressors[0].weight)
    nn.init.zeros_(loss.regressors[0].bias)
    seen = Outputs(maps(1, 2, 3), (feature,))
    assert float(loss(seen, seen, torch.tensor([0, 1]), 0)["hint"].detach()) < 1e-30


def test_scale_and_permutation():
    student, teacher = maps(0, 3, 2, 2, 2), maps(1, 3, 2, 2, 2)
    one = hint_loss(student, teacher)
    torch.testing.assert_close(hint_loss(3 * student, 3 * teacher), 9 * one)
    torch.testing.assert_close(hint_loss(student[[2, 0, 1]], teacher[[2, 0, 1]]), one)
    torch.testing.assert_close(hint_loss(student[:, [1, 0]], teacher[:, [1, 0]]), one)


def test_gradient():
    student = maps(0, 2, 2, 2, 2).requires_grad_()
    teacher = maps(1, 2, 2, 2, 2).requires_grad_()
    assert torch.autograd.gradcheck(lambda s: hint_loss(s, teacher), (student,))
    hint_loss(student, teacher).backward()
    assert teacher.grad is None


def test_vectors_may_be_tapped():
    guided, hint = maps(0, 2, 3), maps(1, 2, 5)
    loss = FitNetsLoss(FitNets(), [guided], [hint])
    seen = Outputs(guided, (guided,)), Outputs(guided, (hint,))
    expected = guided @ loss.regressors[0].weight[:, :, 0, 0].T + loss.regressors[0].bias - hint
    torch.testing.assert_close(
        loss(*seen, torch.tensor([0, 1]), 0)["hint"], expected.square().mean()
    )


def test_the_first_stage_trains_the_hint_alone():
    torch.manual_seed(0)
    student = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(32, 2))
    teacher = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(64, 2))
    images, targets = torch.randn(2, 3, 6, 6), torch.tensor([0, 1])
    settings = FitNets(student_taps=("0",), teacher_taps=("0",), weight=2.0, hint_steps=3)
    task = settings.build(student, teacher, images)
    assert [tuple(r.weight.shape) for r in task.loss.regressors] == [(4, 2, 1, 1)]
    first, later = task(images, targets, 2), task(images, targets, 3)
    torch.testing.assert_close(first["loss"], 2 * first["hint"])
    torch.testing.assert_close(later["loss"], later["ce"] + 2 * later["hint"])
    first["loss"].backward()
    assert not student[2].weight.grad.any(), "nothing above the guided layer learns"
    assert student[0].weight.grad.any()


def test_refusals():
    with pytest.raises(UserError, match="hint_loss needs equal shapes"):
        hint_loss(maps(0, 2, 1, 2, 2), maps(0, 2, 3, 2, 2))
    with pytest.raises(UserError, match=r"FitNets\.weight must be >= 0, got -1"):
        FitNets(weight=-1.0)
    with pytest.raises(UserError, match=r"FitNets\.hint_steps must be >= 0"):
        FitNets(hint_steps=-1)
