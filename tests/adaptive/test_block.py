"""The block: merge, residual, several branches, by hand."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from pliant.adaptive.block import PTABlock, Selection, Switch, merge_branches
from pliant.adaptive.configuration import Configuration


class Times(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.factor


def switch(letters: str) -> Switch:
    return Switch(Selection(Configuration(letters), letters))


X = torch.ones(1, 2, 3, 3)


@pytest.mark.parametrize(
    ("letter", "merge", "residual", "value"),
    [
        ("L", "mean", False, 2.0),
        ("H", "mean", False, 6.0),
        ("B", "mean", False, 4.0),
        ("B", "sum", False, 8.0),
        ("L", "mean", True, 3.0),
        ("B", "mean", True, 5.0),  # the residual is added once
        ("B", "sum", True, 9.0),
    ],
)
def test_by_hand(letter: str, merge, residual: bool, value: float):
    branches = {"light": Times(2.0), "heavy": Times(6.0)}
    block = PTABlock(branches, switch=switch(letter), index=0, residual=residual, merge=merge)
    assert torch.equal(block(X), X * value)


def test_more_than_two_branches():
    branches = {"light": Times(1.0), "medium": Times(2.0), "heavy": Times(6.0)}
    at = switch("LMHB")
    values = [
        PTABlock(branches, switch=at, index=i, residual=False)(X).mean().item() for i in range(4)
    ]
    assert values == [1.0, 2.0, 6.0, 3.0]


def test_a_branch_that_does_not_run_gets_no_gradient():
    branches = {"light": Times(2.0), "heavy": Times(6.0)}
    block = PTABlock(branches, switch=switch("L"), index=0, residual=True)
    block(X).sum().backward()
    assert branches["light"].factor.grad is not None
    assert branches["heavy"].factor.grad is None


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=5))
def test_merge_is_the_mean_or_the_sum(values: list[float]):
    outputs = [torch.full((1, 1, 1, 1), v, dtype=torch.float64) for v in values]
    torch.testing.assert_close(merge_branches(outputs, "sum"), torch.stack(outputs).sum(0))
    torch.testing.assert_close(merge_branches(outputs, "mean"), torch.stack(outputs).mean(0))


@pytest.mark.parametrize("names", [["light"], ["light", "low"], ["light", "both"]])
def test_refuses_unclear_branches(names: list[str]):
    with pytest.raises(ValueError, match="different letters"):
        PTABlock({n: Times(1.0) for n in names}, switch=switch("L"), index=0, residual=False)


def test_refuses_an_unknown_merge():
    with pytest.raises(ValueError, match="mean or sum"):
        PTABlock(
            {"light": Times(1.0), "heavy": Times(1.0)},
            switch=switch("L"),
            index=0,
            residual=False,
            merge="max",  # pyright: ignore[reportArgumentType]
        )
