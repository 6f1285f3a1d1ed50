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
    parts = []
    if missing:
        parts.append(f'{len(missing)} weights are missing (first "{missing[0]}")')
    if extra:
        parts.append(f'{len(extra)} are unexpected (first "{extra[0]}")')
    raise UserError(
        f"{source} is no checkpoint of this network: {' and '.join(parts)}; "
        f'names like "{next(iter(wanted))}" are needed'
    )


def name_of(source: str | Path | State) -> str:
    """What a message calls the checkpoint."""
    return "the given state dict" if isinstance(source, Mapping) else str(source)


def load_exactly(model: torch.nn.Module, source: str | Path | State) -> None:
    """Loads weights whose names and shapes are the network's own.

    Raises:
        UserError: if a name is missing or unexpected, or a shape differs.
    """
    state, wanted = read_state(source), model.state_dict()
    check_keys(state, wanted, source=name_of(source))
    for name, tensor in wanted.items():
        if name in state and state[name].shape != tensor.shape:
            raise UserError(
                f'{name_of(source)} is no checkpoint of this network: "{name}" has shape '
                f"{tuple(state[name].shape)}, the network has {tuple(tensor.shape)}"
            )
    model.load_state_dict(state, strict=False)
