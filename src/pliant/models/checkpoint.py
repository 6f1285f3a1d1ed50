"""Reading weights: safetensors alone, and a clear refusal where they belong to another network."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from pliant.errors import UserError

State = Mapping[str, Tensor]


def read_state(source: str | Path | State) -> dict[str, Tensor]:
    """Tensors by name, from a .safetensors file or from a mapping that is one already.

    Raises:
        UserError: if the file is missing or is not safetensors.
    """
    if isinstance(source, Mapping):
        return dict(source)
    path = Path(source)
    try:
        return load(path.read_bytes())
    except (FileNotFoundError, IsADirectoryError):
        raise UserError(f"no weights at {path}; give a .safetensors file") from None
    except SafetensorError as problem:
        raise UserError(
            f"{path} is not a safetensors file ({problem}); convert other checkpoints with "
            "safetensors.torch.save_file(model.state_dict(), ...)"
        ) from None


def check_keys(given: State, wanted: State, *, source: str, optional: str = "") -> None:
    """Refuses weights whose names differ; batch counters (num_batches_tracked) may be absent.

    Args:
        given: The checkpoint.
        wanted: State dict of the network.
        source: What the message calls the checkpoint.
        optional: Names that start with this may be absent or extra; "" for none.

    Raises:
        UserError: naming the first missing and the first unexpected key.
    """

    def counts(name: str) -> bool:
        return not name.endswith("num_batches_tracked") and not (
            optional and name.startswith(optional)
        )

    missing = [name for name in wanted if name not in given and counts(name)]
    extra = [name for name in given if name not in wanted and counts(name)]
    if not missing and not extra:
        return
    adaptive = [any(name.startswith("net.") for name in state) for state in (given, wanted)]
    if adaptive == [True, False]:
        raise UserError(
            f"{source} holds the network of a pliant run, and a plain network's weights are "
            f'needed, with torchvision\'s names such as "{next(iter(wanted))}"; '
            "give those that the run started from"
        )
    parts = []
    if missing:
        parts.append(f'{len(missing)} weights are missing (first "{missing[0]}")')
    if extra:
        parts.append(f'{len(extra)} are unexpected (first "{extra[0]}")')
    raise UserError(
        f"{source} is no checkpoint of this network: {' and '.join(parts)}; "
        f'names like "{next(iter(wanted))}" are needed'
    )


def check_values(given: State, wanted: State, *, source: str) -> None:
    """Refuses weights that are no numbers, or of another number of axes or kernel size.

    Args:
        given: The checkpoint, its names checked.
        wanted: State dict of the network.
        source: What the message calls the checkpoint.

    Raises:
        UserError: naming the first such weight.
    """
    for name, tensor in given.items():
        if name not in wanted:
            continue
        shape = wanted[name].shape
        if tensor.dim() != len(shape) or tensor.shape[2:] != shape[2:]:
            raise UserError(_other_shape(name, tensor, wanted[name], source))
        if not tensor.float().isfinite().all():  # float8 has no isfinite
            raise UserError(
                f'"{name}" of {source} holds values that are no finite numbers; '
                "give weights of a training that went well"
            )


def _other_shape(name: str, given: Tensor, wanted: Tensor, source: str) -> str:
    return (
        f'{source} is no checkpoint of this network: "{name}" has shape {tuple(given.shape)}, '
        f"the network has {tuple(wanted.shape)}"
    )


def name_of(source: str | Path | State) -> str:
    """What a message calls the checkpoint."""
    return "the given state dict" if isinstance(source, Mapping) else str(source)


def load_exactly(
    model: torch.nn.Module, source: str | Path | State, *, called: str | None = None
) -> None:
    """Loads weights whose names and shapes are the network's own.

    Args:
        model: The network.
        source: A .safetensors file, or a state dict.
        called: What a message calls the checkpoint; None: its path.

    Raises:
        UserError: if a name is missing or unexpected, a shape differs, or a value is no number.
    """
    state, wanted, called = read_state(source), model.state_dict(), called or name_of(source)
    check_keys(state, wanted, source=called)
    check_values(state, wanted, source=called)
    for name, tensor in wanted.items():
        if name in state and state[name].shape != tensor.shape:
            raise UserError(_other_shape(name, state[name], tensor, called))
    model.load_state_dict(state, strict=False)
