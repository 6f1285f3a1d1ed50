"""How an adaptive network starts: given weights in the heavy branches, the light ones from those.

A light branch of expansion t >= 2 can keep a part of the heavy one's hidden channels. At t = 1 it
has no expanding layer: hidden channel j is a filter on input channel j itself. Its starts:

- `largest`: at t >= 2 the hidden channels of largest strength, with their filters, norms and
  projection columns. At t = 1 every input channel j takes over one hidden channel k, no two the
  same, so that the product of path strengths is largest (an assignment problem): k's depthwise
  filter with the sign of the expanding weight (k, j), k's norm and k's projection column.
- `rank1` (the default): with both activations left out, the heavy branch is one 3x3 convolution;
  at t = 1, for every input channel, its (outputs x 9) matrix is replaced by its best rank-1
  approximation, which is a depthwise filter and a projection column. The norm is set so that ReLU6
  stays linear. At t >= 2 it is the same as `largest`.
- `fitted` (needs images): as `rank1`, then the projection and the last norm are fitted by ridge
  regression to what the heavy branch puts out on those images.
- `random`: He's initialisation.

Measured in benchmarks/results/light_start.csv: at t = 1 `largest` is further off than `random`.

The strength of hidden channel k as fed by input j is the gain of that path with every norm folded
in: |expand(k, j)| x norm x |depthwise filter| x norm x |projection column|. `light_errors` measures
how far a light branch is from its heavy one.

Shapes: B = batch, N = pixels, C = channels in, M = hidden channels, D = channels out.
"""

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from jaxtyping import Float
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from pliant.adaptive.anatomy import Anatomy, anatomy, cut_conv, cut_norm
from pliant.adaptive.block import PTABlock
from pliant.adaptive.modes import evaluating
from pliant.models.checkpoint import State, load_exactly
from pliant.models.mobilenet_v2 import InvertedResidual, MobileNetV2, load_mobilenet_v2

if TYPE_CHECKING:
    from pliant.adaptive.network import AdaptiveNetwork

LightStart = Literal["largest", "rank1", "fitted", "random"]
FITTED_PIXELS = 20_000
"""Pixels of a block that a fit uses at most."""


def load_start(
    network: "AdaptiveNetwork",
    source: str | Path | State,
    light_start: LightStart = "rank1",
    *,
    images: Float[Tensor, "B C H W"] | None = None,
    seed: int = 0,
) -> list[str]:
    """Gives the heavy branches a checkpoint of the plain network, and the light ones their start.

    Args:
        network: Made of a MobileNetV2, or of any model whose own checkpoint this is.
        source: A .safetensors file or a state dict, with the plain network's keys.
        light_start: See above.
        images: As the network takes them; for `fitted`.
        seed: For `random`.

    Returns:
        What was replaced or cut, as sentences.

    Raises:
        UserError: if it is no checkpoint of the plain network.
        ValueError: if `fitted` has no images.
    """
    plain = network.extract(_high(network))
    if isinstance(plain, MobileNetV2):
        notes = load_mobilenet_v2(plain, source)
    else:
        load_exactly(plain, source)
        notes = []
    state = plain.state_dict()
    own = network.net.state_dict()
    for path, module in network.net.named_modules():
        if isinstance(module, PTABlock):
            heavy = f"{path}.branches.{module.names[module.letters[-2]]}."
            for name in [n for n in state if n.startswith(f"{path}.")]:
                state[heavy + name.removeprefix(f"{path}.")] = state.pop(name)
    with torch.no_grad():
        for name, tensor in state.items():
            own[name].copy_(tensor)
    network.switch.version += 1
    if network.num_blocks:
        start_light(network, light_start, images=images, seed=seed)
        notes.append(f'the light branches start from the heavy ones by "{light_start}"')
        if light_start == "random":
            notes[-1] = "the light branches start at random"
    return notes


@torch.no_grad()
def start_light(
    network: "AdaptiveNetwork",
    how: LightStart = "rank1",
    *,
    images: Float[Tensor, "B C H W"] | None = None,
    seed: int | None = None,
) -> None:
    """Sets the weights of every branch but the heavy ones, from the heavy ones; see above.

    Args:
        network: Made by `make_adaptive`.
        how: See above.
        images: As the network takes them, on its device; for `fitted`.
        seed: For `random`; None draws from torch's global state.

    Raises:
        ValueError: if `fitted` has no images.
    """
    if how not in ("largest", "rank1", "fitted", "random"):
        raise ValueError(f"light_start must be largest, rank1, fitted or random, got {how!r}")
    if how == "fitted" and images is None:
        raise ValueError("light_start fitted needs images")
    draw = None if seed is None else torch.Generator().manual_seed(seed)
    inputs = _block_inputs(network, images) if how == "fitted" and images is not None else []
    power = _input_power(network)
    for block in network.blocks():
        heavy, lighter = _branches(block)
        for light in lighter:
            if how == "random":
                _random(light, draw)
            elif how != "largest" and _layers(light)[0] is None:
                _rank1(light, heavy, power[block.index])
            else:
                _largest(light, heavy)
            if how == "fitted":
                x = inputs[block.index]
                with evaluating(block):
                    _fit(light, x, block.branches[block.names[block.letters[-2]]](x))
    network.switch.version += 1


@torch.no_grad()
def light_errors(network: "AdaptiveNetwork", images: Float[Tensor, "B C H W"]) -> list[float]:
    """Share of the heavy branch's variance that the lightest branch misses, for every block.

    0: the same output; 1: as far as a constant. Both see what the heavy path sees; the light one's
    norms use the statistics of these images.
    """
    errors = []
    for block, x in zip(network.blocks(), _block_inputs(network, images), strict=True):
        light, heavy = (block.branches[block.names[block.letters[i]]] for i in (0, -2))
        with evaluating(heavy):
            target = heavy(x)
        left = copy.deepcopy(light).train()(x) - target
        errors.append(float(left.pow(2).mean() / target.var(dim=(0, 2, 3)).mean()))
    return errors


def _high(network: "AdaptiveNetwork") -> str:
    return network.letters[-2] * network.num_blocks if network.num_blocks else "plain"


def _branches(block: PTABlock) -> tuple[Anatomy, list[InvertedResidual]]:
    *lighter, last = block.branches.values()
    heavy = anatomy(last)
    if heavy is None or not all(isinstance(light, InvertedResidual) for light in lighter):
        raise ValueError("light starts are known for blocks of make_adaptive alone")
    return heavy, [light for light in lighter if isinstance(light, InvertedResidual)]


def _layers(light: InvertedResidual) -> tuple[nn.Sequential | None, nn.Sequential]:
    """The expanding and the depthwise group of a light branch; projection and norm follow."""
    expand, depthwise = ([None] * 4 + list(light.conv))[-4:-2]
    assert isinstance(depthwise, nn.Sequential)
    assert expand is None or isinstance(expand, nn.Sequential)
    return expand, depthwise


def _gain(norm: nn.BatchNorm2d) -> Float[Tensor, " C"]:
    variance = norm._buffers["running_var"]
    assert variance is not None
    return norm.weight.abs() / (variance + norm.eps).sqrt()


def _strength(heavy: Anatomy) -> Float[Tensor, "M C"]:
    """Gain of the path from every input channel through every hidden channel to the output."""
    into = heavy.expand.weight[:, :, 0, 0].abs() * _gain(heavy.expand_norm)[:, None]
    through = heavy.depthwise.weight.flatten(1).norm(dim=1) * _gain(heavy.depthwise_norm)
    columns = heavy.project.weight[:, :, 0, 0] * _gain(heavy.project_norm)[:, None]
    return into * (through * columns.norm(dim=0))[:, None]


def _largest(light: InvertedResidual, heavy: Anatomy) -> None:
    strength = _strength(heavy)
    expand, depthwise = _layers(light)
    project = light.conv[-2]
    assert isinstance(project, nn.Conv2d)
    if expand is None:
        score = strength.clamp(min=1e-12).log().cpu().numpy()
        hidden, inputs = linear_sum_assignment(score, maximize=True)
        kept = torch.empty(strength.shape[1], dtype=torch.long)
        kept[torch.as_tensor(inputs)] = torch.as_tensor(hidden)
        sign = heavy.expand.weight[kept, torch.arange(len(kept)), 0, 0].sign()
    else:
        kept = strength.norm(dim=1).topk(project.in_channels).indices.sort().values.cpu()
        sign = torch.ones(1)
        _copy(expand[0], cut_conv(heavy.expand, rows=kept))
        _copy(expand[1], cut_norm(heavy.expand_norm, kept))
    _copy(depthwise[0], cut_conv(heavy.depthwise, rows=kept))
    for parameter in depthwise[0].parameters():
        parameter.mul_(sign.to(parameter).view(-1, *[1] * (parameter.dim() - 1)))
    _copy(depthwise[1], cut_norm(heavy.depthwise_norm, kept))
    _copy(project, cut_conv(heavy.project, columns=kept))
    _copy(light.conv[-1], heavy.project_norm)


def _rank1(light: InvertedResidual, heavy: Anatomy, power: Float[Tensor, " C"]) -> None:
    expand, depthwise = _layers(light)
    assert expand is None
    signed = heavy.expand_norm.weight.sign()[:, None], heavy.depthwise_norm.weight.sign()[:, None]
    into = heavy.expand.weight[:, :, 0, 0] * _gain(heavy.expand_norm)[:, None] * signed[0]
    filters = heavy.depthwise.weight.flatten(1) * _gain(heavy.depthwise_norm)[:, None] * signed[1]
    out = heavy.project.weight[:, :, 0, 0]
    paths = (into[:, :, None] * filters[:, None, :]).flatten(1)
    whole = (out @ paths).view(len(out), into.shape[1], -1).movedim(1, 0)  # D x 9 per input channel
    # The first right singular vector of each, from its 9 x 9 square; eigh sorts upwards.
    best = torch.linalg.eigh(torch.einsum("cdk,cdl->ckl", whole, whole)).eigenvectors[:, :, -1]
    first, norm = depthwise[0], depthwise[1]
    project = light.conv[-2]
    assert isinstance(first, nn.Conv2d)
    assert isinstance(project, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    first.weight.copy_(best.view_as(first.weight))
    # The norm takes the filtered channel's scale away; the projection gives it back.
    columns = torch.einsum("cdk,ck->dc", whole, best) * power.sqrt()
    project.weight.copy_(columns.view_as(project.weight))
    norm.reset_running_stats()
    norm.weight.fill_(1.0)
    norm.bias.fill_(3.0)  # the middle of ReLU6
    _copy(light.conv[-1], heavy.project_norm)


def _random(light: InvertedResidual, draw: torch.Generator | None) -> None:
    for module in light.modules():
        if isinstance(module, nn.Conv2d):
            fresh = torch.empty(module.weight.shape)
            nn.init.kaiming_normal_(fresh, mode="fan_out", generator=draw)
            module.weight.copy_(fresh)
            if module.bias is not None:
                module.bias.zero_()
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()


def _fit(light: InvertedResidual, x: Float[Tensor, "B C H W"], y: Tensor) -> None:
    """Least squares: projection and last norm of `light` so that light(x) is close to y."""
    *before, project, norm = light.conv
    assert isinstance(project, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    h = x
    for group in before:
        assert isinstance(group, nn.Sequential)
        for layer in group:
            if isinstance(layer, nn.BatchNorm2d):  # its statistics become those of these images
                _set_statistics(layer, h.mean((0, 2, 3)), h.var((0, 2, 3)))
            h = layer(h)
    h, y = (t.movedim(1, -1).flatten(0, -2).double() for t in (h, y))
    few = torch.linspace(0, len(h) - 1, min(len(h), FITTED_PIXELS), device=h.device).long()
    h, y = h[few], y[few]
    h_mean, y_mean = h.mean(0), y.mean(0)
    h, y = h - h_mean, y - y_mean
    square = h.T @ h / len(h)
    ridge = (
        (1e-3 + len(square) / len(h)) * square.diagonal().mean() * torch.eye(len(square)).to(square)
    )
    columns = torch.linalg.solve(square + ridge, h.T @ y / len(h))  # M x D
    project.weight.copy_(columns.T.view_as(project.weight))
    spread = (h @ columns).var(0)
    _set_statistics(norm, h_mean @ columns, spread)
    norm.weight.copy_((spread + norm.eps).sqrt())
    norm.bias.copy_(y_mean)


def _set_statistics(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor) -> None:
    for name, value in (("running_mean", mean), ("running_var", variance)):
        buffer = norm._buffers[name]
        assert buffer is not None
        buffer.copy_(value)


def _copy(to: nn.Module, of: nn.Module) -> None:
    """Copies parameters and buffers, place by place (of's class may name its own differently)."""
    for name, value in of.state_dict().items():
        to.state_dict()[name].copy_(value)


def _block_inputs(network: "AdaptiveNetwork", images: Tensor) -> list[Tensor]:
    """What every block sees when the heavy branches run in eval mode."""
    seen: list[Tensor] = []
    hooks = [
        block.register_forward_pre_hook(lambda _, args: seen.append(args[0].clone()))
        for block in network.blocks()
    ]
    try:
        with evaluating(network), network.use(_high(network)):
            network(images)
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def _input_power(network: "AdaptiveNetwork") -> list[Float[Tensor, " C"]]:
    """Variance of every block's input channels, as the norms before it promise."""
    found: list[Tensor] = []
    power = torch.ones(())
    inside: set[nn.Module] = set()
    for module in network.net.modules():
        if isinstance(module, PTABlock):
            heavy, _ = _branches(module)
            channels = heavy.expand.in_channels
            found.append(power if power.shape == (channels,) else power.new_ones(channels))
            own = heavy.project_norm.weight.detach() ** 2
            power = found[-1] + own if module.residual else own
            inside |= set(module.modules())
        elif isinstance(module, nn.BatchNorm2d) and module not in inside:
            power = module.weight.detach() ** 2
    return found
