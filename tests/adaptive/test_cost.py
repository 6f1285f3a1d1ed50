"""Costs: the specification's table to the digit, hooks as the second truth, latency as a model."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from pliant.adaptive import cost as module
from pliant.adaptive.configuration import Configuration
from pliant.adaptive.cost import (
    CostTable,
    balanced,
    cost,
    cost_tables,
    count_macs,
    latency,
    latency_table,
    prediction_error,
)
from pliant.adaptive.network import AdaptiveNetwork, pta_mobilenet_v2
from pliant.errors import UserError
from pliant.models.mobilenet_v2 import mobilenet_v2


@pytest.mark.parametrize(
    ("expand", "name", "params", "at_224", "at_128"),
    [  # million parameters, million MACs at 224 and at 128 px
        (1, "high", 2.226, 299.5, 97.8),
        (1, "low", 0.593, 62.4, 20.4),
        (2, "low", 1.022, 127.1, 41.5),
        (3, "low", 1.323, 170.2, 55.6),
        (1, "max", 2.403, 321.0, 104.8),
        (2, "max", 2.832, 385.7, 125.9),
        (3, "max", 3.133, 428.8, 140.0),
    ],
)
def test_the_specifications_table(expand, name, params, at_224, at_128):
    with torch.device("meta"):
        network = pta_mobilenet_v2(light_expand=expand)
    found = cost(network, name, (1, 3, 224, 224))
    assert round(found.params / 1e6, 3) == params
    assert round(found.macs / 1e6, 1) == at_224
    assert round(count_macs(network, name, (1, 3, 128, 128)) / 1e6, 1) == at_128


def test_exact_counts():
    with torch.device("meta"):
        network = pta_mobilenet_v2()
    assert cost(network, "high").params == 2_226_434
    assert cost(network, "high", (1, 3, 224, 224)).macs == 299_496_832
    assert cost(network, "low").params == 592_994
    assert cost(network, "max").params == sum(p.numel() for p in network.parameters())


def macs_by_hooks(net: nn.Module, image: torch.Tensor) -> int:
    total = 0

    def note(layer: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        nonlocal total
        if isinstance(layer, nn.Conv2d):
            kernel = layer.kernel_size[0] * layer.kernel_size[1]
            pixels = output.shape[2] * output.shape[3]
            total += layer.out_channels * layer.in_channels // layer.groups * kernel * pixels
        elif isinstance(layer, nn.Linear):
            total += layer.in_features * layer.out_features

    for layer in net.modules():
        layer.register_forward_hook(note)
    net(image)
    return total


@given(
    letters=st.text("LHB", min_size=16, max_size=16),
    side=st.sampled_from([32, 45, 64]),
    padding=st.sampled_from(["same_tf", "symmetric"]),
)
@settings(max_examples=6)
def test_tables_against_hooks(letters: str, side: int, padding):
    network = pta_mobilenet_v2(width=0.1, padding=padding, stem_stride=1).eval()
    plain = network.extract(letters)
    found = cost(network, letters, (1, 3, side, side))
    assert found.macs == macs_by_hooks(plain, torch.zeros(1, 3, side, side))
    assert found.params == sum(p.numel() for p in plain.parameters())
    state = plain.state_dict().values()
    assert found.size_bytes == sum(t.numel() * t.element_size() for t in state)


def test_counting_leaves_the_network_alone(network: AdaptiveNetwork):
    network.use("mid")
    cost_tables(network, (8, 3, 64, 64))
    assert str(network.configuration) == "HLHLLHLLLHLLHLLH"
    assert not any(m._forward_hooks for m in network.modules())
    assert next(network.parameters()).device.type == "cpu"


def test_other_networks(images: torch.Tensor):
    plain = AdaptiveNetwork(mobilenet_v2(width=0.35))
    assert count_macs(plain, "plain", (1, 3, 32, 32)) == macs_by_hooks(
        plain.net.eval(), torch.zeros(1, 3, 32, 32)
    )
    with pytest.raises(UserError, match="has 2 letters"):
        cost(pta_mobilenet_v2(width=0.1), "LL")


TRUE = np.random.default_rng(0).uniform(0.1, 1.0, (16, 3)).cumsum(axis=1)


def fake_times(network, configurations, input_shape, *, threads, runs, clock):
    """Additive times, 3 ms and up, with a little noise."""
    noise = np.random.default_rng(len(configurations))
    found = {}
    for one in configurations:
        ms = 3 + sum(TRUE[i]["LHB".index(x)] for i, x in enumerate(one.letters))
        found[one] = list(ms * (1 + 0.01 * noise.standard_normal(runs)))
    return found


@pytest.mark.parametrize("design", ["mixed", "one_at_a_time"])
def test_latency_table_finds_additive_times(monkeypatch, network: AdaptiveNetwork, design):
    monkeypatch.setattr(module, "measure", fake_times)
    table = latency_table(network, design=design, runs=25)
    error = prediction_error(network, table, runs=25)
    assert error.mean_percent < (1.0 if design == "mixed" else 2.0)
    assert error.num_configurations == 20
    assert 0 < error.noise_percent < 1
    extra = TRUE[4] - TRUE[4][0]
    found = [table.blocks[4][x] for x in "LHB"]
    np.testing.assert_allclose(found, extra, atol=0.2)


def test_latency_is_measured_and_the_network_restored(network: AdaptiveNetwork):
    network.train()
    network.use("mid")
    version = network.switch.version
    table = latency_table(network, (1, 3, 32, 32), runs=2, design="one_at_a_time")
    assert table.kind == "latency_ms"
    assert np.isfinite(table.of(Configuration("H" * 16)))  # how long depends on the machine
    assert network.training
    assert str(network.configuration) == "HLHLLHLLLHLLHLLH"
    assert network.switch.version == version


@given(st.integers(1, 20), st.integers(3, 40))
def test_balanced_designs(num_blocks: int, num: int):
    rows = balanced(num_blocks, "LHB", num)
    assert len(rows) == num
    for column in zip(*rows, strict=True):
        counts = [column.count(x) for x in "LHB"]
        assert max(counts) - min(counts) <= 1


def test_a_table_by_hand():
    table = CostTable(kind="macs", base=10, blocks=({"L": 1, "H": 5}, {"L": 2, "H": 7}))
    assert table.of(Configuration("LH")) == 18
    with pytest.raises(ValueError, match="zip"):
        table.of(Configuration("L"))


def test_latency_of_any_configuration(network: AdaptiveNetwork):
    found = latency(network, "L" * 8 + "B" * 8, (1, 3, 32, 32), runs=3)
    assert 0 < found.median_ms <= found.p90_ms
    assert (found.threads, found.runs) == (1, 3)
    assert str(network.configuration) == "H" * 16
