"""One .tflite for LiteRT: a signature per tier, the large weights once.

`tier_low` is the signature of tier `low`; see `mobile.method_name`. What is shared, and what that
costs, is said in sharing.py. `low`, `mid`, `high` and `max` of MobileNetV2 1.0 take 10.7 MB, four
files 25.9 MB; logits differ from PyTorch's by less than 1e-5 (benchmarks/results/mobile.csv). The
input stays (B, C, H, W), as everywhere in pliant; the converter adds what it has to transpose.

Needs the extra `pliant[litert]`; nothing of it is imported before a function here is called.
"""

import os
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
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


def write_litert(
    network: AdaptiveNetwork, tiers: Sequence[str], input_shape: Sequence[int], path: Path
) -> None:
    """Writes the file; it appears whole or not at all.

    Args:
        network: The network; it stays as it is.
        tiers: Names of its tiers; each becomes the signature `method_name(tier)`.
        input_shape: (B, C, H, W) of the only input, float32; fixed.
        path: The .tflite.

    Raises:
        UserError: if LiteRT is missing, or a tier cannot be exported.
        OSError: if the file cannot be written.
    """
    write_atomic(path, litert_bytes(network, tiers, input_shape))


def litert_bytes(
    network: AdaptiveNetwork,
    tiers: Sequence[str],
    input_shape: Sequence[int],
    *,
    shared: float = SHARED,
) -> bytes:
    """What `write_litert` writes.

    Args:
        network: The network; it stays as it is.
        tiers: Names of its tiers; one alone has its batch norms folded entirely.
        input_shape: (B, C, H, W), fixed.
        shared: Part of the weights that is stored once; see `sharing.tier_graphs`.

    Raises:
        UserError: if LiteRT is missing, or a tier cannot be exported.
    """
    check_tiers(network, tiers)
    os.environ.setdefault("LITERT_TORCH_SHOW_PROGRESS", "n")  # many lines per tier
    converter: Any = _need("litert_torch")
    example = (torch.zeros(tuple(input_shape)),)
    with redirect_stdout(sys.stderr):
        for tier, graph in tier_graphs(network, tiers, input_shape, shared=shared).items():
            converter = converter.signature(method_name(tier), graph.eval(), example)
        return bytes(converter.convert().model_content())


def run_litert(path: Path, signature: str, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Logits (N, K) that LiteRT's own run time computes, on one thread.

    Args:
        path: A .tflite of `write_litert`.
        signature: Such as `tier_low`.
        images: (N, C, H, W), N a multiple of the exported batch.

    Raises:
        UserError: if LiteRT is missing, or the file has no such signature or takes other images.
    """
    return load_litert(path, signature)(images)


def load_litert(path: Path, signature: str) -> Model:
    """The signature as a function, loaded once; see `run_litert`.

    Raises:
        UserError: if LiteRT is missing, or the file has no such signature.
    """
    runtime: Any = _need("ai_edge_litert.interpreter")
    interpreter = runtime.Interpreter(str(path), num_threads=1)
    known = sorted(interpreter.get_signature_list())
    if signature not in known:
        raise UserError(f'{path} has no signature "{signature}"; it has: {", ".join(known)}')
    runner = interpreter.get_signature_runner(signature)
    ((name, details),) = runner.get_input_details().items()

    def one_batch(images: NDArray[np.float32]) -> NDArray[np.float32]:
        (logits,) = runner(**{name: np.ascontiguousarray(images)}).values()
        return logits

    return lambda images: in_batches(images, details["shape"].tolist(), one_batch)


def _need(module: str) -> Any:
    try:
        return import_module(module)
    except ModuleNotFoundError as missing:
        raise UserError(
            f"the target litert needs {missing.name}; in a venv of its own: "
            "pip install -c constraints-litert.txt 'pliant[litert]' (docs/export.md says why)"
        ) from missing
