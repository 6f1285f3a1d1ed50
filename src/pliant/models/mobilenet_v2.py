"""MobileNetV2: inverted residuals with linear bottlenecks.

Sandler, Howard, Zhu, Zhmoginov, Chen. "MobileNetV2: Inverted Residuals and Linear Bottlenecks",
2018. https://arxiv.org/abs/1801.04381 (table 2, section 6.1 for the width multiplier).

State-dict keys are torchvision's, so its checkpoints load. Departures: TensorFlow's SAME padding is
a setting, because the original weights were trained with it (at stride 2 it pads right and bottom
alone); the classifier has two classes unless told otherwise.

Shapes: B = batch, C = channels, H, W = height and width in pixels, K = classes.
"""

from pathlib import Path
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from pliant.errors import UserError
from pliant.models.checkpoint import State, check_keys, check_values, name_of, read_state

Padding = Literal["same_tf", "symmetric"]

STAGES = (  # channels, blocks, stride of the first block; expansion is 1 in the first stage
    (16, 1, 1),
    (24, 2, 2),
    (32, 3, 2),
    (64, 4, 2),
    (96, 3, 1),
    (160, 3, 2),
    (320, 1, 1),
)


class SameConv2d(nn.Conv2d):
    """A square convolution with TensorFlow's SAME padding: an odd remainder goes right and bottom.

    The result has ceil(H / stride) rows. Its own `padding` is not used.
    """

    def forward(self, input: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
        height, width = (self._missing(side) for side in input.shape[-2:])
        if height % 2 or width % 2:
            input = F.pad(
                input, (width // 2, width - width // 2, height // 2, height - height // 2)
            )
            height = width = 0
        return F.conv2d(
            input,
            self.weight,
            self.bias,
            self.stride,
            (height // 2, width // 2),
            self.dilation,
            self.groups,
        )

    def _missing(self, side: int) -> int:
        """Rows (or columns) to add, both sides together."""
        stride, reach = self.stride[0], (self.kernel_size[0] - 1) * self.dilation[0] + 1
        return max((-(-side // stride) - 1) * stride + reach - side, 0)


class InvertedResidual(nn.Module):
    """`x + conv(x)` or `conv(x)`; the shape of torchvision's block of this name.

    Args:
        conv: Expand, depthwise, project; or without the first.
        use_res_connect: Whether x is added; needs equal input and output shapes.
    """

    def __init__(self, conv: nn.Sequential, *, use_res_connect: bool) -> None:
        super().__init__()
        self.conv = conv
        self.use_res_connect = use_res_connect

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
        return x + self.conv(x) if self.use_res_connect else self.conv(x)


class MobileNetV2(nn.Module):
    """`features`, the mean over pixels, `classifier`; made by `mobilenet_v2`."""

    def __init__(self, features: nn.Sequential, classifier: nn.Sequential) -> None:
        super().__init__()
        self.features = features
        self.classifier = classifier

    def features_of(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B F"]:
        """What the classifier sees: the last feature maps, averaged over pixels."""
        return self.features(x).mean((2, 3))

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B K"]:
        return self.classifier(self.features_of(x))


def divisible(channels: float, divisor: int = 8) -> int:
    """The nearest multiple of `divisor`, at least one, never more than 10 % below `channels`."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


def mobilenet_v2(
    *,
    width: float = 1.0,
    num_classes: int = 2,
    in_channels: int = 3,
    padding: Padding = "same_tf",
    expand: int = 6,
    stem_stride: Literal[1, 2] = 2,
    dropout: float = 0.2,
) -> MobileNetV2:
    """A MobileNetV2 with random weights of torch's global seed.

    Args:
        width: Channel multiplier, > 0; the last convolution never falls below 1280 channels.
        num_classes: K.
        in_channels: Of the image.
        padding: At stride 2; `same_tf` is what the ImageNet weights were trained with.
        expand: Expansion t of every block but the first, >= 1.
        stem_stride: 1 keeps the resolution of small images.
        dropout: Before the classifier, 0 to below 1.

    Raises:
        ValueError: if a value lies outside its range.
    """
    if width <= 0 or num_classes < 1 or in_channels < 1 or expand < 1 or not 0 <= dropout < 1:
        raise ValueError(
            "mobilenet_v2 needs width > 0, num_classes, in_channels and expand >= 1 and dropout in "
            f"[0, 1), got {width}, {num_classes}, {in_channels}, {expand} and {dropout}"
        )
    if padding not in ("same_tf", "symmetric") or stem_stride not in (1, 2):
        raise ValueError(
            "mobilenet_v2 needs padding same_tf or symmetric and stem_stride 1 or 2, "
            f"got {padding!r} and {stem_stride!r}"
        )
    channels = divisible(32 * width)
    layers: list[nn.Module] = [
        _conv_bn_relu(in_channels, channels, 3, stem_stride, padding=padding)
    ]
    for stage, (base, num_blocks, first_stride) in enumerate(STAGES):
        out = divisible(base * width)
        for block in range(num_blocks):
            stride = first_stride if block == 0 else 1
            t = expand if stage else 1
            layers.append(
                inverted_residual(channels, out, stride=stride, expand=t, padding=padding)
            )
            channels = out
    last = divisible(1280 * max(1.0, width))
    layers.append(_conv_bn_relu(channels, last, 1, 1, padding=padding))
    model = MobileNetV2(
        nn.Sequential(*layers), nn.Sequential(nn.Dropout(dropout), nn.Linear(last, num_classes))
    )
    init_weights(model)
    return model


def inverted_residual(
    channels: int, out: int, *, stride: int, expand: int, padding: Padding
) -> InvertedResidual:
    """One block: 1x1 to `expand` times the channels (absent at 1), depthwise 3x3, linear 1x1."""
    hidden = channels * expand
    layers: list[nn.Module] = []
    if expand != 1:
        layers.append(_conv_bn_relu(channels, hidden, 1, 1, padding=padding))
    layers += [
        _conv_bn_relu(hidden, hidden, 3, stride, groups=hidden, padding=padding),
        nn.Conv2d(hidden, out, 1, bias=False),
        nn.BatchNorm2d(out),
    ]
    return InvertedResidual(nn.Sequential(*layers), use_res_connect=stride == 1 and channels == out)


def _conv_bn_relu(
    channels: int, out: int, kernel: int, stride: int, *, padding: Padding, groups: int = 1
) -> nn.Sequential:
    same = padding == "same_tf" and stride > 1
    conv = (SameConv2d if same else nn.Conv2d)(
        channels, out, kernel, stride, 0 if same else kernel // 2, groups=groups, bias=False
    )
    return nn.Sequential(conv, nn.BatchNorm2d(out), nn.ReLU6(inplace=True))


def init_weights(model: nn.Module) -> None:
    """Fresh random weights: He's for convolutions (fan out), deviation 0.01 for linear layers."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out")
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0, 0.01)
            nn.init.zeros_(module.bias)


def load_mobilenet_v2(model: MobileNetV2, source: str | Path | State) -> list[str]:
    """Loads a checkpoint with torchvision's keys; what was changed comes back as sentences.

    A wider checkpoint is cut to the network's channels: of every group of channels that the
    network ties together (a stage's outputs, a block's hidden channels) those with the largest L1
    norm stay, in their order, the norm taken of the filters with their batch norm folded in. A
    classifier of another size stays random; other input channels get the mean filter of the given
    ones, scaled to keep the sum.

    Args:
        model: Any MobileNetV2 of the same expansion.
        source: A .safetensors file, or a state dict.

    Raises:
        UserError: if the keys differ, naming the first ones, a value is no number, or the
            checkpoint is narrower.
    """
    state, wanted = read_state(source), model.state_dict()
    check_keys(state, wanted, source=name_of(source))
    check_values(state, wanted, source=name_of(source))
    notes: list[str] = []
    stem = "features.0.0.weight"
    given, needed = state[stem].shape[1], wanted[stem].shape[1]
    if given != needed:
        mean = state[stem].mean(dim=1, keepdim=True)
        state[stem] = mean.expand(-1, needed, -1, -1) * (given / needed)
        notes.append(f"the first convolution's {given} input channels were averaged into {needed}")
    classifier = [f"classifier.1.{part}" for part in ("weight", "bias")]
    classes, num_classes = (s["classifier.1.bias"].shape[0] for s in (state, wanted))
    if classes != num_classes:
        state = {name: tensor for name, tensor in state.items() if name not in classifier}
        notes.append(
            f"the classifier of {classes} classes was replaced by a random one of {num_classes}"
        )
    for name, tensor in state.items():
        small = wanted[name].shape
        if any(a < b for a, b in zip(tensor.shape, small, strict=True)):
            raise UserError(
                f'{name_of(source)} is too narrow for this network: "{name}" has shape '
                f"{tuple(tensor.shape)}, {tuple(small)} or more is needed; use a smaller width"
            )
    if any(wanted[name].shape != tensor.shape for name, tensor in state.items()):
        state = _narrow(model, state)
        notes.append("a wider checkpoint was cut to the channels of largest L1 norm")
    model.load_state_dict(state, strict=False)
    return notes


def _narrow(model: MobileNetV2, state: State) -> dict[str, Tensor]:
    """The checkpoint, cut to the network's channels."""
    cut = dict(state)
    blocks = [(f"features.{i}.conv", b) for i, b in enumerate(model.features)][1:-1]
    small = model.state_dict()

    def strength(conv: str, norm: str) -> Tensor:
        gain = state[f"{norm}.weight"].abs() / (state[f"{norm}.running_var"] + 1e-5).sqrt()
        return state[f"{conv}.weight"].abs().sum((1, 2, 3)) * gain

    def best(scores: Tensor, conv: str) -> Tensor:
        return scores.topk(small[f"{conv}.weight"].shape[0]).indices.sort().values

    def take(conv: str, norm: str, rows: Tensor, columns: Tensor | None) -> None:
        weight = state[f"{conv}.weight"][rows]
        cut[f"{conv}.weight"] = weight if columns is None else weight[:, columns]
        for part in ("weight", "bias", "running_mean", "running_var"):
            cut[f"{norm}.{part}"] = state[f"{norm}.{part}"][rows]

    def layers(at: str, block: nn.Module) -> tuple[list[str], list[str]]:
        assert isinstance(block, InvertedResidual)
        last = len(block.conv) - 2
        convs = [f"{at}.{i}.0" for i in range(last)] + [f"{at}.{last}"]
        return convs, [f"{at}.{i}.1" for i in range(last)] + [f"{at}.{last + 1}"]

    # Channels that residuals add to one another must be the same ones in every block of a stage.
    outputs: list[Tensor] = []
    for at, block in blocks:
        convs, norms = layers(at, block)
        scores = strength(convs[-1], norms[-1])
        assert isinstance(block, InvertedResidual)
        if block.use_res_connect and outputs and outputs[-1].shape == scores.shape:
            outputs[-1] += scores
            outputs.append(outputs[-1])
        else:
            outputs.append(scores)

    stem = "features.0.0"
    channels = best(strength(stem, "features.0.1"), stem)
    take(stem, "features.0.1", channels, None)
    for (at, block), scores in zip(blocks, outputs, strict=True):
        convs, norms = layers(at, block)
        hidden = channels
        if len(convs) == 3:
            hidden = best(strength(convs[0], norms[0]), convs[0])
            take(convs[0], norms[0], hidden, channels)
        take(convs[-2], norms[-2], hidden, None)  # depthwise: one input channel per filter
        channels = best(scores, convs[-1])
        take(convs[-1], norms[-1], channels, hidden)
    head = f"features.{len(model.features) - 1}"
    last = best(strength(f"{head}.0", f"{head}.1"), f"{head}.0")
    take(f"{head}.0", f"{head}.1", last, channels)
    if "classifier.1.weight" in cut:
        cut["classifier.1.weight"] = state["classifier.1.weight"][:, last]
    return cut
