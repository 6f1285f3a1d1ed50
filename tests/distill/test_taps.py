"""Taps: what is recorded, that hooks go away, and what is refused."""

import pytest
import torch
from torch import nn

from pliant.distill.taps import as_map, find, pooled, record, same_size
from pliant.errors import UserError


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)
        self.stage = nn.Sequential(nn.BatchNorm2d(4), nn.ReLU(inplace=True))
        self.idle = nn.Linear(2, 2)
        self.pair = Pair()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.pair(self.stage(self.stem(x)))[0].mean((2, 3))


class Pair(nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x, x


def hooks(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) for m in model.modules())


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    return Net().eval()


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def test_records_what_the_module_puts_out(net, images):
    with record(net, ["stem", "stage.0", "stage.1"]) as features:
        net(images)
    stem = net.stem(images)
    torch.testing.assert_close(features["stem"], stem)
    # the ReLU behind it works in place and must not be seen here
    torch.testing.assert_close(features["stage.0"], net.stage[0](stem))
    torch.testing.assert_close(features["stage.1"], net.stage[0](stem).relu())
    assert hooks(net) == 0


def test_the_model_itself_is_a_tap_too(net, images):
    inner = nn.Sequential(net)
    with record(inner, ["", "0"]) as features:
        logits = inner(images)
    assert torch.equal(features[""], logits)
    assert torch.equal(features["0"], logits)


def test_gradients_flow_through_a_tap(net, images):
    with record(net, ["stage"]) as features:
        net(images)
    features["stage"].sum().backward()
    assert net.stem.weight.grad.abs().sum() > 0


def test_the_last_call_counts(net, images):
    with record(net, ["stem"]) as features:
        net(images)
        net(2 * images)
    torch.testing.assert_close(features["stem"], net.stem(2 * images))


def test_hooks_go_away_when_the_inside_fails(net):
    with pytest.raises(RuntimeError), record(net, ["stem"]):
        net(torch.randn(2, 5, 8, 8))
    assert hooks(net) == 0


@pytest.mark.parametrize(
    ("path", "near"), [("stage.2", "stage.1"), ("stme", "stem"), ("Stage", "stage")]
)
def test_an_unknown_path_names_the_nearest(net, path, near):
    with pytest.raises(UserError, match=f'no module "{path}" to tap; did you mean "{near}'):
        find(net, path)
    with pytest.raises(UserError), record(net, ["stem", path]):
        pass
    assert hooks(net) == 0


def test_a_model_without_submodules_is_told_so():
    with pytest.raises(UserError, match="it has no submodules"):
        find(nn.Linear(2, 2), "x")


def test_a_tap_that_does_not_run_is_refused(net, images):
    with pytest.raises(UserError, match='"idle" of Net did not run'), record(net, ["idle"]):
        net(images)
    assert hooks(net) == 0


def test_an_output_that_is_no_tensor_is_refused(net, images):
    with pytest.raises(UserError, match='"pair" puts out tuple'), record(net, ["pair"]):
        net(images)
    assert hooks(net) == 0


def test_maps_and_vectors():
    vector, map_ = torch.randn(2, 3), torch.randn(2, 3, 4, 5)
    assert as_map(vector).shape == (2, 3, 1, 1)
    assert torch.equal(pooled(vector), vector)
    torch.testing.assert_close(pooled(map_), map_.mean((2, 3)))
    with pytest.raises(UserError, match=r"got \(2, 3, 4\)"):
        as_map(torch.randn(2, 3, 4))


def test_the_larger_map_is_averaged_down():
    small, large = torch.randn(2, 3, 2, 2), torch.randn(2, 7, 4, 4)
    one, other = same_size(small, large)
    assert torch.equal(one, small)
    torch.testing.assert_close(other[..., 0, 1], large[..., :2, 2:].mean((2, 3)))
    assert same_size(small, small)[1] is small
    wide, tall = same_size(torch.randn(1, 1, 2, 6), torch.randn(1, 1, 4, 3))
    assert wide.shape == tall.shape == (1, 1, 2, 3)
