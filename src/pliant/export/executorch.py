"""One .pte for ExecuTorch: a method per tier, run by XNNPACK, the large weights once.

`tier_low` is the method of tier `low`; see `mobile.method_name`. What is shared, and what that
costs, is said in sharing.py. `low`, `mid`, `high` and `max` of MobileNetV2 1.0 take 10.6 MB, four
files 25.8 MB; logits differ from PyTorch's by less than 1e-5 (benchmarks/results/mobile.csv).

Needs the extra `pliant[executorch]`; nothing of it is imported before a function here is called.
"""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pliant.adaptive.network import AdaptiveNetwork
from pliant.errors import UserError
from pliant.export.mobile import Model, check_tiers, in_batches, method_name
from pliant.export.sharing import SHARED, tier_graphs
from pliant.runtime.files import write_atomic


def write_executorch(
    network: AdaptiveNetwork, tiers: Sequence[str], input_shape: Sequence[int], path: Path
) -> None:
    """Writes the file; it appears whole or not at all.

    Args:
        network: The network; it stays as it is.
        tiers: Names of its tiers; each becomes the method `method_name(tier)`.
        input_shape: (B, C, H, W) of the only input, float32; fixed.
        path: The .pte.

    Raises:
        UserError: if ExecuTorch is missing, or a tier cannot be exported.
        OSError: if the file cannot be written.
    """
    write_atomic(path, executorch_bytes(network, tiers, input_shape))


def executorch_bytes(
    network: AdaptiveNetwork,
    tiers: Sequence[str],
    input_shape: Sequence[int],
    *,
    shared: float = SHARED,
) -> bytes:
    """What `write_executorch` writes.

    Args:
        network: The network; it stays as it is.
        tiers: Names of its tiers; one alone has its batch norms folded entirely.
        input_shape: (B, C, H, W), fixed.
        shared: Part of the weights that is stored once; see `sharing.tier_graphs`.

    Raises:
        UserError: if ExecuTorch is missing, or a tier cannot be exported.
    """
    check_tiers(network, tiers)
    exir: Any = _need("executorch.exir")
    xnnpack: Any = _need("executorch.backends.xnnpack.partition.xnnpack_partitioner")
    example = (torch.zeros(tuple(input_shape)),)
    graphs = tier_graphs(network, tiers, input_shape, shared=shared)
    methods = {
        method_name(tier): torch.export.export(graph, example) for tier, graph in graphs.items()
    }
    lowered = exir.to_edge_transform_and_lower(
        methods, partitioner={name: [xnnpack.XnnpackPartitioner()] for name in methods}
    )
    return bytes(lowered.to_executorch().buffer)


def run_executorch(path: Path, method: str, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Logits (N, K) that ExecuTorch's own run time computes.

    Args:
        path: A .pte of `write_executorch`.
        method: Such as `tier_low`.
        images: (N, C, H, W), N a multiple of the exported batch.

    Raises:
        UserError: if ExecuTorch is missing, or the file has no such method or takes other images.
    """
    return load_executorch(path, method)(images)


def load_executorch(path: Path, method: str) -> Model:
    """The method as a function, loaded once; see `run_executorch`.

    Raises:
        UserError: if ExecuTorch is missing, or the file has no such method.
    """
    runtime: Any = _need("executorch.runtime")
    program = runtime.Runtime.get().load_program(path)
    if method not in program.method_names:
        known = ", ".join(sorted(program.method_names))
        raise UserError(f'{path} has no method "{method}"; it has: {known}')
    loaded = program.load_method(method)
    shape = loaded.metadata.input_tensor_meta(0).sizes()

    def one_batch(images: NDArray[np.float32]) -> NDArray[np.float32]:
        (logits,) = loaded.execute([torch.from_numpy(np.ascontiguousarray(images))])
        return logits.numpy().copy()  # the run time keeps the memory for its next call

    return lambda images: in_batches(images, shape, one_batch)


def _need(module: str) -> Any:
    try:
        return import_module(module)
    except ModuleNotFoundError as missing:
        raise UserError(
            f"the target executorch needs {missing.name}; pip install 'pliant[executorch]'"
        ) from missing
