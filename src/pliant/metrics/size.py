"""How many bytes a network's weights take."""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable


@runtime_checkable
class _Tensor(Protocol):
    def numel(self) -> int: ...
    def element_size(self) -> int: ...


def size_bytes(state: Mapping[str, _Tensor]) -> int:
    """Bytes of all tensors of a state dict, statistics and counters included, headers not."""
    return sum(tensor.numel() * tensor.element_size() for tensor in state.values())
