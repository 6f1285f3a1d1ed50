"""Tiers as plain graphs whose large convolutions are equal, so that a file stores them once.

Every tier has batch-norm statistics of its own. Folded into the convolutions in the usual way, they
give every tier weights of its own, and one file of four tiers is as large as four files. With W the
convolution, g and b the batch norm's parameters, m_t and s_t the mean and deviation of tier t (s_t
with epsilon), and r a tier that serves as reference:

    BN_t(W x) = (s_r / s_t) * ((g / s_r) W) x + (b - g m_t / s_t)

(g / s_r) W is the same for every tier. Tier r runs it as if it were alone; the others scale its
result per channel, by a depthwise 1x1 convolution that takes bias and activation along (XNNPACK has
a kernel for just that). s_r / s_t is positive and near 1, whatever g is.

Early convolutions have few weights and large results, so there sharing saves little and costs most.
The smallest ones, `1 - SHARED` of the weights together, are therefore folded per tier.
"""

import hashlib
from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any

import torch
from torch import Tensor, fx, nn

from pliant.adaptive.configuration import ALL
from pliant.adaptive.network import AdaptiveNetwork

SHARED = 0.95
"""Of the convolution weights that several tiers run, the part that is stored once.

MobileNetV2 1.0, 96 px, four tiers: 10.6 MB of 25.8 for four files and 9.6 for the weights alone;
`low` and `high` up to 3 % slower than in a file of their own, `mid` and `max` 2 to 6 %. With 1 the
file is 6 % smaller, `mid` 22 % slower, `max` 15 to 20 % (benchmarks/results/mobile.csv).
"""

_ATEN = torch.ops.aten
_CONVOLUTIONS = (_ATEN.conv2d.default, _ATEN.conv2d.padding)


def tier_graphs(
    network: AdaptiveNetwork,
    tiers: Sequence[str],
    input_shape: Sequence[int],
    *,
    shared: float = SHARED,
) -> dict[str, fx.GraphModule]:
    """One graph per tier, without batch norms; large convolutions have equal weights in all tiers.

    Args:
        network: The network; it stays as it is.
        tiers: Names of its tiers.
        input_shape: (B, C, H, W), fixed.
        shared: Part of the weights that is stored once, in [0, 1].

    Raises:
        UserError: if a tier is unknown.
    """
    example = torch.zeros(tuple(input_shape))
    exported: dict[str, Any] = {}
    for tier in tiers:
        plain = network.extract(tier).cpu().float().eval()
        exported[tier] = torch.export.export(plain, (example,)).module(check_guards=False)
        _divide_before_adding(exported[tier].graph)
    # the reference of a convolution is the first tier that runs it: uniform tiers come before mixed
    # ones, and both before B, so that `low` and `high` are as fast as if they were alone
    used = {tier: network.configuration_of(tier).used for tier in tiers}
    order = sorted(tiers, key=lambda tier: (ALL in used[tier], len(used[tier])))
    references = _references({tier: exported[tier] for tier in order}, shared)
    return {tier: _without_norms(module, references) for tier, module in exported.items()}


def _divide_before_adding(graph: fx.Graph) -> None:
    """Leaves the division in the mean of branches to their batch norms, which scale anyway.

    LiteRT's converter would fold it into the convolution that follows, whose weights then differ.
    """
    for node in list(graph.nodes):
        if node.target is _ATEN.div.Tensor and isinstance(node.args[1], int | float):
            norms = _summands(node.args[0])
            if norms:
                for norm in norms:
                    norm.meta["factor"] = 1 / node.args[1]
                node.replace_all_uses_with(node.args[0])
                graph.erase_node(node)


def _summands(node: Any) -> list[fx.Node]:
    """The batch norms whose sum this is, where nothing else uses them; else none."""
    if not isinstance(node, fx.Node) or len(node.users) > 1:
        return []
    if node.target is _ATEN.batch_norm.default:
        return [node]
    if node.target is not _ATEN.add.Tensor or node.kwargs:
        return []
    parts = [_summands(part) for part in node.args]
    return [norm for part in parts for norm in part] if all(parts) else []


def _references(modules: Mapping[str, Any], shared: float) -> dict[str, Tensor]:
    """1 / s_r by convolution, of those that are stored once."""
    found: dict[str, Tensor] = {}
    users: dict[str, set[str]] = {}
    sizes: dict[str, int] = {}
    for tier, module in modules.items():
        for norm in _norms(module.graph):
            convolution = _convolution_before(norm)
            if convolution is not None:
                key = _key(module, convolution)
                found.setdefault(key, _inverse_deviation(module, norm))
                users.setdefault(key, set()).add(tier)
                sizes[key] = _value(module, convolution.args[1]).numel()
    several = sorted((key for key in found if len(users[key]) > 1), key=sizes.__getitem__)
    copied = (1 - shared) * sum(sizes[key] for key in several)
    once = {}
    for key in several:
        copied -= sizes[key]
        if copied < 0:
            once[key] = found[key]
    return once


@torch.no_grad()
def _without_norms(module: Any, references: Mapping[str, Tensor]) -> fx.GraphModule:
    """The same function with every batch norm written as convolutions; `module` is changed."""
    graph: fx.Graph = module.graph
    for index, norm in enumerate(_norms(graph)):

        def constant(part: str, value: Tensor, index: int = index) -> fx.Node:
            module.register_buffer(f"folded_{index}_{part}", value.float())
            return graph.get_attr(f"folded_{index}_{part}")

        own = _inverse_deviation(module, norm)
        zero, one = torch.zeros_like(own), torch.ones_like(own)
        gain = _vector(module, norm.args[1], one)
        mean = _vector(module, norm.args[3], zero)
        bias = _factor(norm) * _vector(module, norm.args[2], zero) - gain * own * mean
        x: Any = norm.args[0]
        ratio = gain * own
        convolution = _convolution_before(norm)
        with graph.inserting_before(norm):
            if convolution is not None:
                at = references.get(_key(module, convolution), own)
                x, weight, *rest = convolution.args
                if rest:
                    bias = bias + gain * own * _vector(module, rest[0], zero)
                ratio = None if torch.equal(at, own) else own / at
                values = _value(module, weight).double() * (gain * at).view(-1, 1, 1, 1)
                folded = constant("weight", values)
                inside = constant("bias", bias) if ratio is None else None
                target: Any = convolution.target
                x = graph.call_function(target, (x, folded, inside, *rest[1:]))
            if ratio is not None:
                scale = constant("ratio", ratio.view(-1, 1, 1, 1))
                depthwise = (scale, constant("bias", bias), [1, 1], [0, 0], [1, 1], len(own))
                x = graph.call_function(_ATEN.conv2d.default, (x, *depthwise))
        norm.replace_all_uses_with(x)
        graph.erase_node(norm)
    graph.eliminate_dead_code()
    return fx.GraphModule(module, graph)  # a copy of what the graph uses, and nothing else


def _norms(graph: fx.Graph) -> list[fx.Node]:
    return [node for node in graph.nodes if node.target is _ATEN.batch_norm.default]


def _convolution_before(norm: fx.Node) -> fx.Node | None:
    """The convolution whose result this batch norm alone takes."""
    x = norm.args[0]
    assert isinstance(x, fx.Node)
    return x if x.target in _CONVOLUTIONS and len(x.users) == 1 else None


def _key(module: nn.Module, convolution: fx.Node) -> str:
    """Equal for convolutions of equal weights: names differ from tier to tier, contents do not."""
    weight = _value(module, convolution.args[1])
    return f"{tuple(weight.shape)} {hashlib.sha256(weight.numpy().tobytes()).hexdigest()}"


def _inverse_deviation(module: nn.Module, norm: fx.Node) -> Tensor:
    """1 / s_t per channel, times the factor that the mean of branches asks for; float64."""
    epsilon: Any = norm.args[7]
    return _factor(norm) * torch.rsqrt(_value(module, norm.args[4]).double() + epsilon)


def _factor(norm: fx.Node) -> float:
    return norm.meta.get("factor", 1.0)


def _vector(module: nn.Module, argument: Any, default: Tensor) -> Tensor:
    """What an argument that may be None stands for, float64."""
    return default if argument is None else _value(module, argument).double()


def _value(module: nn.Module, argument: Any) -> Tensor:
    """The tensor that a node of the graph stands for."""
    found: Any = reduce(getattr, argument.target.split("."), module)
    return found.detach().contiguous()
