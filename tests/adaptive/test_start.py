"""Starts of the light branches: by hand, against loops, and better than random."""

import itertools

import pytest
import torch
from torch import nn

from pliant.adaptive.anatomy import anatomy
from pliant.adaptive.network import AdaptiveNetwork, load_start, pta_mobilenet_v2
from pliant.adaptive.start import light_errors, start_light
from pliant.errors import UserError
from pliant.models.mobilenet_v2 import InvertedResidual, mobilenet_v2


def trained_looking(width: float = 0.1) -> dict[str, torch.Tensor]:
    """A state whose norms differ from channel to channel."""
    torch.manual_seed(3)
    plain = mobilenet_v2(width=width)
    for name, tensor in plain.state_dict().items():
        if "running_mean" in name or name.endswith(".bias"):
            tensor.copy_(torch.randn(tensor.shape) * 0.3)
        elif tensor.dim() == 1:
            tensor.copy_(torch.rand(tensor.shape) + 0.3)
    return plain.state_dict()


def parts(network: AdaptiveNetwork, block: int):
    branches = network.blocks()[block].branches
    heavy, light = anatomy(branches["heavy"]), branches["light"]
    assert heavy is not None
    assert isinstance(light, InvertedResidual)
    return heavy, light.conv


@torch.no_grad()
def slow_strength(heavy, k: int, j: int) -> float:
    def gain(norm: nn.BatchNorm2d, i: int) -> float:
        return float(norm.weight[i].abs() / (norm.running_var[i] + norm.eps).sqrt())  # pyright: ignore

    into = abs(float(heavy.expand.weight[k, j])) * gain(heavy.expand_norm, k)
    through = float(heavy.depthwise.weight[k].norm()) * gain(heavy.depthwise_norm, k)
    column = [
        float(heavy.project.weight[o, k]) * gain(heavy.project_norm, o)
        for o in range(heavy.project.out_channels)
    ]
    return into * through * sum(c * c for c in column) ** 0.5


def test_largest_without_expansion_takes_the_strongest_distinct_paths():
    network = pta_mobilenet_v2(width=0.1)
    load_start(network, trained_looking(), "largest")
    heavy, conv = parts(network, 3)
    chosen = []
    for j in range(8):
        column = conv[1].weight[:, j]
        same = [k for k in range(48) if torch.equal(heavy.project.weight[:, k], column)]
        assert len(same) == 1
        k = same[0]
        chosen.append(k)
        sign = heavy.expand.weight[k, j].sign()
        assert torch.equal(conv[0][0].weight[j], heavy.depthwise.weight[k] * sign)
        assert torch.equal(conv[0][1].bias[j], heavy.depthwise_norm.bias[k])
    assert len(set(chosen)) == 8
    total = sum(torch.tensor(slow_strength(heavy, k, j)).log() for j, k in enumerate(chosen))
    for a, b in itertools.combinations(range(8), 2):  # no exchange and no replacement is better
        other = chosen.copy()
        other[a], other[b] = other[b], other[a]
        swapped = sum(torch.tensor(slow_strength(heavy, k, j)).log() for j, k in enumerate(other))
        assert swapped <= total + 1e-4
    for j, k in enumerate(chosen):
        free = [slow_strength(heavy, x, j) for x in range(48) if x not in chosen]
        assert slow_strength(heavy, k, j) >= max(free) * 0.9999


@pytest.mark.parametrize("expand", [2, 3])
def test_largest_with_expansion_keeps_the_strongest_channels(expand: int, images: torch.Tensor):
    network = pta_mobilenet_v2(width=0.1, light_expand=expand).eval()
    load_start(network, trained_looking(), "largest")
    heavy, conv = parts(network, 3)
    strength = [sum(slow_strength(heavy, k, j) ** 2 for j in range(8)) for k in range(48)]
    kept = sorted(sorted(range(48), key=lambda k: -strength[k])[: 8 * expand])
    assert torch.equal(conv[0][0].weight, heavy.expand.weight[kept])
    assert torch.equal(conv[1][1].running_var, heavy.depthwise_norm._buffers["running_var"][kept])
    assert torch.equal(conv[2].weight, heavy.project.weight[:, kept])
    # With all other hidden channels silenced, the heavy branch computes the light one.
    with torch.no_grad():
        dropped = [k for k in range(48) if k not in kept]
        heavy.project.weight[:, dropped] = 0
    block = network.blocks()[3]
    x = torch.randn(2, 8, 6, 6)
    torch.testing.assert_close(block.branches["light"](x), block.branches["heavy"](x))


def test_rank1_is_the_nearest_separable_convolution():
    network = pta_mobilenet_v2(width=0.1)
    load_start(network, trained_looking(), "rank1")
    heavy, conv = parts(network, 0)  # its input comes from one norm, so that norm says its power
    before = network.net.features[1].conv[-1].weight.detach()
    g1 = heavy.expand_norm.weight / (heavy.expand_norm._buffers["running_var"] + 1e-5).sqrt()
    g2 = heavy.depthwise_norm.weight / (heavy.depthwise_norm._buffers["running_var"] + 1e-5).sqrt()
    for j in range(8):
        whole = torch.zeros(heavy.project.out_channels, 9)
        for k in range(48):  # the linear path from input j through hidden k
            filters = heavy.depthwise.weight[k].flatten() * g1[k] * g2[k]
            whole += torch.outer(
                heavy.project.weight[:, k, 0, 0], filters * heavy.expand.weight[k, j, 0, 0]
            )
        column = conv[1].weight[:, j, 0, 0] / before[j].abs()
        ours = torch.outer(column, conv[0][0].weight[j].flatten())
        u, s, v = torch.linalg.svd(whole, full_matrices=False)
        torch.testing.assert_close(ours, s[0] * torch.outer(u[:, 0], v[0]), atol=1e-4, rtol=1e-3)


def test_fitted_beats_the_others_on_images_it_has_not_seen():
    torch.manual_seed(4)
    seen, unseen = torch.randn(32, 3, 64, 64).cumsum(3).cumsum(2).split(16)
    seen, unseen = seen / seen.std(), unseen / seen.std()
    missed = {}
    for how in ("random", "fitted"):
        network = pta_mobilenet_v2(width=0.35).eval()
        load_start(network, trained_looking(0.35), how, images=seen)
        missed[how] = sum(light_errors(network, unseen)[:6]) / 6
    assert missed["fitted"] < 0.8 * missed["random"]


def test_random_starts_repeat_and_leave_the_heavy_branches():
    network = pta_mobilenet_v2(width=0.1)
    load_start(network, trained_looking(), "random", seed=5)
    one = {k: v.clone() for k, v in network.state_dict().items()}
    state = torch.get_rng_state()
    start_light(network, "random", seed=5)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(v, one[k]) for k, v in network.state_dict().items())
    start_light(network, "random", seed=6)
    changed = {k for k, v in network.state_dict().items() if not torch.equal(v, one[k])}
    assert changed
    assert all(".light." in key for key in changed)


def test_notes_and_refusals(images: torch.Tensor):
    network = pta_mobilenet_v2(width=0.1, num_classes=4)
    network.net.features[4].eval()
    notes = load_start(network, trained_looking())
    assert ["2 classes" in notes[0], "rank1" in notes[-1]] == [True, True]
    assert "random" in load_start(network, trained_looking(), "random")[-1]
    with pytest.raises(ValueError, match="needs images"):
        start_light(network, "fitted")
    with pytest.raises(ValueError, match="largest, rank1, fitted or random"):
        start_light(network, "best")  # pyright: ignore[reportArgumentType]
    with pytest.raises(UserError, match="too narrow"):
        load_start(pta_mobilenet_v2(width=1.0), trained_looking())
    training = [m.training for m in network.modules()]
    start_light(network, "fitted", images=images)
    assert [m.training for m in network.modules()] == training
    assert not any(b._forward_pre_hooks for b in network.blocks())
