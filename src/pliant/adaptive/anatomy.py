"""Finding inverted residuals in any module tree, by their structure and by no library's class.

Two shapes are known: a Sequential named `conv` or `block` beside `use_res_connect` (torchvision,
pliant), and the named layers conv_pw, bn1, conv_dw, bn2, conv_pwl, bn3 beside `has_skip` or
`has_residual` (timm). Squeeze-and-excitation between depthwise and projection may be there.

Shapes: C = channels in, M = hidden channels, D = channels out.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pliant.models.mobilenet_v2 import InvertedResidual

FLAGS = ("use_res_connect", "has_skip", "has_residual")
"""Names of the attribute that says whether a block adds its input."""


@dataclass(frozen=True)
class Anatomy:
    """The layers of an inverted residual that has an expansion."""

    expand: nn.Conv2d
    """1x1, C to M."""
    expand_norm: nn.BatchNorm2d
    """Of M channels."""
    expand_act: nn.Module
    """Identity where the norm holds the activation."""
    depthwise: nn.Conv2d
    """One filter per hidden channel; its stride is the block's."""
    depthwise_norm: nn.BatchNorm2d
    """Of M channels."""
    depthwise_act: nn.Module
    """Identity where the norm holds the activation."""
    project: nn.Conv2d
    """1x1, M to D, linear."""
    project_norm: nn.BatchNorm2d
    """Of D channels."""
    residual: bool
    """Whether the block adds its input."""


def anatomy(module: nn.Module) -> Anatomy | None:
    """The layers of an inverted residual; None for anything else, and for one without expansion."""
    flag = next((f for f in FLAGS if isinstance(getattr(module, f, None), bool)), None)
    if flag is None:
        return None
    layers = _of_sequential(module) or _of_names(module)
    if layers is None:
        return None
    convs, norms, acts = layers
    expand, depthwise, project = convs
    hidden = expand.out_channels
    fits = (
        expand.kernel_size == project.kernel_size == (1, 1)
        and depthwise.groups == depthwise.in_channels == depthwise.out_channels == hidden
        and project.in_channels == hidden
        and hidden > expand.in_channels
        and expand.groups == project.groups == 1
    )
    if not fits:
        return None
    return Anatomy(
        expand=expand,
        expand_norm=norms[0],
        expand_act=acts[0],
        depthwise=depthwise,
        depthwise_norm=norms[1],
        depthwise_act=acts[1],
        project=project,
        project_norm=norms[2],
        residual=bool(getattr(module, flag)),
    )


Layers = tuple[list[nn.Conv2d], list[nn.BatchNorm2d], list[nn.Module]]


def _of_sequential(module: nn.Module) -> Layers | None:
    found = (getattr(module, name, None) for name in ("conv", "block"))
    inside = next((m for m in found if isinstance(m, nn.Sequential)), None)
    if inside is None:
        return None
    flat: list[nn.Module] = []
    for layer in inside:  # one level: what lies deeper (squeeze-and-excitation) is no layer of ours
        flat += list(layer) if isinstance(layer, nn.Sequential) else [layer]
    convs = [m for m in flat if isinstance(m, nn.Conv2d)]
    norms = [m for m in flat if isinstance(m, nn.BatchNorm2d)]
    if len(convs) != 3 or len(norms) != 3:
        return None
    acts: list[nn.Module] = []
    for norm in norms[:2]:
        after = flat[flat.index(norm) + 1]
        acts.append(nn.Identity() if isinstance(after, nn.Conv2d) else after)
    return convs, norms, acts


def _of_names(module: nn.Module) -> Layers | None:
    convs = [getattr(module, name, None) for name in ("conv_pw", "conv_dw", "conv_pwl")]
    norms = [getattr(module, name, None) for name in ("bn1", "bn2", "bn3")]
    acts: list[nn.Module] = [getattr(module, n, nn.Identity()) for n in ("act1", "act2")]
    right_convs = [m for m in convs if isinstance(m, nn.Conv2d)]
    right_norms = [m for m in norms if isinstance(m, nn.BatchNorm2d)]
    if len(right_convs) != 3 or len(right_norms) != 3:
        return None
    return right_convs, right_norms, acts


def set_residual(module: nn.Module, on: bool) -> None:
    """Tells an inverted residual whether to add its input."""
    for flag in FLAGS:
        if isinstance(getattr(module, flag, None), bool):
            setattr(module, flag, on)


def light_branch(heavy: Anatomy, *, expand: int) -> InvertedResidual:
    """A cheaper inverted residual of the same input, output, stride, padding and activation.

    Its layers are cut from copies of the heavy ones, so a library's own convolutions and norms stay
    in use; the weights are the first channels' until `start.py` gives it better ones.

    Args:
        heavy: What it goes beside.
        expand: Hidden channels per input channel, >= 1; at 1 there is no expanding layer.

    Raises:
        ValueError: if the heavy branch is not wider than that.
    """
    channels = heavy.expand.in_channels
    hidden = channels * expand
    if expand < 1 or hidden >= heavy.expand.out_channels:
        raise ValueError(
            f"light_expand must be at least 1 and below the heavy branch's "
            f"{heavy.expand.out_channels / channels:g}, got {expand}"
        )
    kept = torch.arange(hidden)
    layers: list[nn.Module] = []
    if expand > 1:
        layers.append(
            nn.Sequential(
                cut_conv(heavy.expand, rows=kept),
                cut_norm(heavy.expand_norm, kept),
                copy.deepcopy(heavy.expand_act),
            )
        )
    layers += [
        nn.Sequential(
            cut_conv(heavy.depthwise, rows=kept),
            cut_norm(heavy.depthwise_norm, kept),
            copy.deepcopy(heavy.depthwise_act),
        ),
        cut_conv(heavy.project, columns=kept),
        copy.deepcopy(heavy.project_norm),
    ]
    return InvertedResidual(nn.Sequential(*layers), use_res_connect=False)


def cut_conv(
    conv: nn.Conv2d, *, rows: Tensor | Sequence[int] | None = None, columns: Tensor | None = None
) -> nn.Conv2d:
    """A copy of a convolution with some of its output (rows) or input (columns) channels."""
    cut = copy.deepcopy(conv)
    weight = conv.weight.detach()
    if rows is not None:
        weight = weight[rows]
        cut.out_channels = len(weight)
        if conv.bias is not None:
            cut.bias = nn.Parameter(conv.bias.detach()[rows].clone())
        if conv.groups > 1:
            cut.groups = cut.in_channels = len(weight)
    if columns is not None:
        weight = weight[:, columns]
        cut.in_channels = weight.shape[1]
    cut.weight = nn.Parameter(weight.clone(memory_format=torch.preserve_format))
    return cut


def cut_norm(norm: nn.BatchNorm2d, kept: Tensor) -> nn.BatchNorm2d:
    """A copy of a batch norm with some of its channels."""
    cut = copy.deepcopy(norm)
    cut.num_features = len(kept)
    for name in ("weight", "bias"):
        value = getattr(norm, name)
        if value is not None:
            setattr(cut, name, nn.Parameter(value.detach()[kept].clone()))
    for name in ("running_mean", "running_var"):
        value = norm._buffers[name]
        if value is not None:
            cut._buffers[name] = value[kept].clone()
    return cut
