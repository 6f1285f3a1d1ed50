"""Features of any `nn.Module`, by module path: what the tapped modules put out in a forward pass.

    with record(model, ["layer3", "layer4"]) as features:
        logits = model(images)
    features["layer4"]  # (B, C, H, W)

The hooks live as long as the context and no longer, whatever happens inside.

Shapes: B = batch, C = channels of a feature, H, W = its height and width.
"""

import difflib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from pliant.errors import UserError


def find(model: nn.Module, path: str) -> nn.Module:
    """The submodule at `path`, as `named_modules` spells it; "" is the model itself.

    Raises:
        UserError: if there is none, naming the nearest.
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    if path in modules:
        return modules[path]
    named = [name for name in modules if name]
    near = difflib.get_close_matches(path, named, n=1, cutoff=0.0)
    hint = f'; did you mean "{near[0]}"?' if near else "; it has no submodules"
    raise UserError(f'{type(model).__name__} has no module "{path}" to tap{hint}')


@contextmanager
def record(model: nn.Module, paths: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Outputs of the modules at `paths`, by path, of their last call inside the context.

    A recorded tensor is a copy, so an in-place activation behind the tap does not change it;
    gradients flow through it as through the output itself.

    Raises:
        UserError: on an unknown path; on an output that is no tensor; at the end, if a tapped
            module never ran.
    """
    features: dict[str, Tensor] = {}

    def keep(path: str, output: object) -> None:
        if not isinstance(output, Tensor):
            raise UserError(
                f'"{path}" puts out {type(output).__name__}, not a tensor; tap a module inside it'
            )
        features[path] = output.clone()

    tapped = {path: find(model, path) for path in paths}  # all are checked before any hook is set
    handles = []
    try:
        for path, module in tapped.items():
            handles.append(
                module.register_forward_hook(
                    lambda _module, _inputs, output, path=path: keep(path, output)
                )
            )
        yield features
        for path in tapped:
            if path not in features:
                raise UserError(
                    f'"{path}" of {type(model).__name__} did not run in the forward pass; '
                    "tap a module that does"
                )
    finally:
        for handle in handles:
            handle.remove()


def pooled(feature: Tensor) -> Float[Tensor, "B C"]:
    """A feature as one vector per image: a map is averaged over its positions.

    Raises:
        UserError: if it is neither (B, C) nor (B, C, H, W).
    """
    return as_map(feature).mean(dim=(2, 3))


def as_map(feature: Tensor) -> Float[Tensor, "B C H W"]:
    """A feature as a map; a vector is a map of one position.

    Raises:
        UserError: if it is neither (B, C) nor (B, C, H, W).
    """
    if feature.ndim == 2:
        return feature[:, :, None, None]
    if feature.ndim != 4:
        raise UserError(
            f"a tapped feature must have shape (batch, channels) or (batch, channels, height, "
            f"width), got {tuple(feature.shape)}"
        )
    return feature


def same_size(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """Two features as maps of one height and width, the smaller of each: averages of the larger."""
    one, other = as_map(one), as_map(other)
    if one.shape[2:] == other.shape[2:]:
        return one, other
    size = min(one.shape[2], other.shape[2]), min(one.shape[3], other.shape[3])
    return F.adaptive_avg_pool2d(one, size), F.adaptive_avg_pool2d(other, size)


def settle_taps(settings: Any) -> None:
    """For `__post_init__`: lists of taps, as JSON has them, become tuples.

    Raises:
        UserError: if student and teacher have different numbers of taps.
    """
    for name in ("student_taps", "teacher_taps"):
        given = getattr(settings, name)
        object.__setattr__(settings, name, (given,) if isinstance(given, str) else tuple(given))
    if len(settings.student_taps) != len(settings.teacher_taps):
        raise UserError(
            f"{type(settings).__name__} pairs the student's taps with the teacher's, got "
            f"{len(settings.student_taps)} and {len(settings.teacher_taps)}"
        )


def check_taps(settings: Any, *, least: int) -> None:
    """Refuses to build a method that has nothing to look at.

    Raises:
        UserError: if there are fewer than `least` taps on a side.
    """
    if len(settings.student_taps) < least:
        raise UserError(
            f"{type(settings).__name__} needs at least {least} module path(s) in student_taps and "
            f"as many in teacher_taps, got {len(settings.student_taps)}"
        )
