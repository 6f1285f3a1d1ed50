import pytest
import torch
from torch import nn

from pliant.adaptive.calibration import calibrate
from pliant.adaptive.network import AdaptiveNetwork, make_adaptive
from pliant.errors import UserError
from pliant.export.sharing import tier_graphs
from pliant.models.mobilenet_v2 import inverted_residual

SHAPE = (2, 3, 32, 32)
TIERS = ("low", "mid", "high", "max")


@pytest.fixture(scope="module")
def small() -> AdaptiveNetwork:
    """Three adaptive blocks; every tier was calibrated on images of another contrast."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = make_adaptive(
            nn.Sequential(
                inverted_residual(3, 16, stride=2, expand=6, padding="same_tf"),
                inverted_residual(16, 48, stride=2, expand=6, padding="same_tf"),
                inverted_residual(48, 48, stride=1, expand=6, padding="same_tf"),
                nn.Sequential(nn.Conv2d(48, 96, 1, bias=False), nn.BatchNorm2d(96), nn.ReLU6()),
                nn.AdaptiveAvgPool2d(1),
                nn.Flatten(),
            ),
            light_start="random",
        )
        for place, tier in enumerate(TIERS):
            calibrate(net, tier, [torch.randn(8, *SHAPE[1:]) * (1 + place)], name=tier)
    return net.eval()


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))


def weights_of(graph: nn.Module) -> dict[bytes, int]:
    """Numbers by content, of every tensor that a file would hold."""
    tensors = [*graph.parameters(), *graph.buffers()]
    return {t.detach().contiguous().numpy().tobytes(): t.numel() for t in tensors}


@pytest.mark.parametrize("shared", [0, 0.95, 1])
def test_graphs_compute_what_the_network_does(
    small: AdaptiveNetwork, images: torch.Tensor, shared: float
):
    graphs = tier_graphs(small, TIERS, SHAPE, shared=shared)
    assert list(graphs) == list(TIERS)
    for tier, graph in graphs.items():
        assert not any("batch_norm" in str(node.target) for node in graph.graph.nodes)
        with torch.no_grad(), small.use(tier):
            assert torch.allclose(graph(images), small(images), atol=1e-5), tier


def test_how_much_is_stored_once(small: AdaptiveNetwork):
    """By content, in units of the weights."""
    once = sum(p.numel() for p in small.net.parameters())
    stored = {}
    for shared in (0, 0.95, 1):
        graphs = tier_graphs(small, TIERS, SHAPE, shared=shared).values()
        union = {content: n for graph in graphs for content, n in weights_of(graph).items()}
        stored[shared] = sum(union.values()) / once
    assert stored[1] < stored[0.95] < 1.3
    assert stored[0] > 2


def test_uniform_tiers_are_the_references(small: AdaptiveNetwork):
    """`low` scales nothing; `high` only what `low` runs too: the last convolution."""
    graphs = tier_graphs(small, ["mid", "max", "low", "high"], SHAPE)
    ratios = {t: sum("ratio" in name for name, _ in g.named_buffers()) for t, g in graphs.items()}
    assert ratios["low"] == 0
    assert ratios["high"] == 1
    assert ratios["max"] > ratios["mid"] > 1


def test_the_mean_of_branches_is_no_division(small: AdaptiveNetwork):
    """A converter would fold it into the convolution that follows, and weights would differ."""
    (graph,) = tier_graphs(small, ["max"], SHAPE).values()
    assert not any("div" in str(node.target) for node in graph.graph.nodes)


def test_a_tier_alone_is_folded_entirely(small: AdaptiveNetwork):
    (graph,) = tier_graphs(small, ["max"], SHAPE).values()
    assert not any("ratio" in name for name, _ in graph.named_buffers())


def test_biases_norms_without_parameters_and_norms_without_convolutions(images: torch.Tensor):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = AdaptiveNetwork(
            nn.Sequential(
                nn.BatchNorm2d(3),
                nn.Conv2d(3, 8, 3, padding="same", bias=True),
                nn.BatchNorm2d(8, affine=False),
                nn.ReLU(),
                nn.BatchNorm2d(8),
                nn.AdaptiveAvgPool2d(1),
                nn.Flatten(),
            )
        )
        for place, tier in enumerate(("dark", "bright")):
            calibrate(net, "plain", [torch.randn(4, 3, 8, 8) * (1 + place) + place], name=tier)
    net.eval()
    for tier, graph in tier_graphs(net, ["dark", "bright"], SHAPE, shared=1).items():
        with torch.no_grad(), net.use(tier):
            assert torch.allclose(graph(images), net(images), atol=1e-5)


def test_the_network_stays_as_it_was(small: AdaptiveNetwork):
    before = {name: tensor.clone() for name, tensor in small.state_dict().items()}
    tier_graphs(small, ["low", "max"], SHAPE)
    after = small.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


def test_an_unknown_tier_is_refused(small: AdaptiveNetwork):
    with pytest.raises(UserError, match="medium"):
        tier_graphs(small, ["medium"], SHAPE)
