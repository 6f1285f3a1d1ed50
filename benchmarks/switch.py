"""One patched file against everything else that could hold several tiers; writes switch.csv.

    PLIANT_DATA=... python benchmarks/switch.py

PTA-MobileNetV2 of width 1, random weights and statistics, each tier at 96, 128 and 224 px on one
and two threads, batch 1, ONNX Runtime on the CPU:

    ours      the bundle's model.onnx, its selection patched in memory
    static    a file of its own per tier, exported alone, batch norms folded by torch's exporter
    input     the same file, but the blocks' flags are a graph input: switched by a feed
    peer      the open anti-spoofing peer in PLIANT_DATA/weights (128 px), where it is there

All of one size and thread count take turns in shuffled order, so a busy moment hits all alike.
Idle threads do not spin (`session.intra_op.allow_spinning` 0): three sessions share the cores here.
`ms` is the median of a run; `ratio` the median over rounds of its time over that of `static` in the
same round; `switch_ms` the median time from bytes in memory to a session that has answered once.
About eight minutes on two free cores.
"""

import argparse
import csv
import io
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper

from pliant.adaptive.calibration import calibrate
from pliant.adaptive.network import AdaptiveNetwork, pta_mobilenet_v2
from pliant.export.onnx import SELECTION, AdaptiveOnnx, adaptive_onnx
from pliant.export.static import INPUT, static_onnx
from pliant.metrics.latency import measure_times
from pliant.runtime.files import write_atomic

RESULTS = Path(__file__).parent / "results" / "switch.csv"
TIERS = ("low", "mid", "high", "max")
COLUMNS = ("size", "threads", "tier", "way", "ms", "ratio", "switch_ms", "file_mb", "onnxruntime")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--sizes", type=int, nargs="+", default=[96, 128, 224])
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    network = random_network()
    rows: list[dict[str, object]] = []
    for size in given.sizes:
        adaptive = adaptive_onnx(network, (1, 3, size, size))
        static = {
            tier: static_onnx(network.extract(tier), (1, 3, size, size)).SerializeToString()
            for tier in TIERS
        }
        for threads in (1, 2):
            for tier in TIERS:
                rows += compare(network, adaptive, static[tier], tier, size, threads, given.runs)
                print(rows[-3:], flush=True)
            if size == 128:
                rows += [peer(path, threads, given.runs) for path in peers()]
        write(rows, given.out)


def random_network() -> AdaptiveNetwork:
    """Random weights, each batch norm with statistics of its own in every tier."""
    torch.manual_seed(0)
    network = pta_mobilenet_v2(width=1.0)
    for tier in TIERS:
        calibrate(network, tier, [torch.rand(16, 3, 96, 96) * 2 - 1], name=tier)
    return network.eval()


def compare(
    network: AdaptiveNetwork,
    adaptive: AdaptiveOnnx,
    static: bytes,
    tier: str,
    size: int,
    threads: int,
    runs: int,
) -> list[dict[str, object]]:
    """One tier in three ways, in turns."""
    letters = str(network.tiers[tier].configuration)
    image = np.random.default_rng(0).uniform(-1, 1, (1, 3, size, size)).astype(np.float32)
    fed, flags = as_input(adaptive, letters, tier)
    ways: dict[str, tuple[Callable[[], bytes], dict[str, np.ndarray]]] = {
        "ours": (lambda: adaptive.configured(letters, tier), {INPUT: image}),
        "static": (lambda: static, {INPUT: image}),
        "input": (lambda: fed, {INPUT: image, "flags": flags}),
    }
    sessions = {name: session(data(), threads=threads) for name, (data, _) in ways.items()}
    answers = {name: sessions[name].run(None, feed)[0] for name, (_, feed) in ways.items()}
    for name, answer in answers.items():
        assert np.abs(answer - answers["static"]).max() < 1e-4, name
    calls = {n: (lambda n=n: sessions[n].run(None, ways[n][1])) for n in ways}
    times = measure_times(calls, runs, warmup=20)
    switches = {name: switching(data, feed, threads) for name, (data, feed) in ways.items()}
    switches["input"] = 0.0  # a feed
    sizes = {"ours": len(adaptive.data), "static": len(static), "input": len(fed)}
    return [
        {
            "size": size,
            "threads": threads,
            "tier": tier,
            "way": name,
            "ms": f"{statistics.median(times[name]):.3f}",
            "ratio": f"{ratio(times[name], times['static']):.3f}",
            "switch_ms": f"{switches[name]:.1f}",
            "file_mb": f"{sizes[name] / 1e6:.2f}",
            "onnxruntime": onnxruntime.__version__,
        }
        for name in ways
    ]


def session(data: bytes, *, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def ratio(ours: list[float], static: list[float]) -> float:
    """The median over rounds of one time over the other."""
    return statistics.median(a / b for a, b in zip(ours, static, strict=True))


def switching(
    data: Callable[[], bytes], feed: dict[str, np.ndarray], threads: int, times: int = 9
) -> float:
    """Median milliseconds from bytes in memory to the first answer."""
    found = []
    for _ in range(times):
        start = time.perf_counter()
        session(data(), threads=threads).run(None, feed)
        found.append((time.perf_counter() - start) * 1e3)
    return statistics.median(found)


def as_input(adaptive: AdaptiveOnnx, letters: str, tier: str) -> tuple[bytes, np.ndarray]:
    """The file with the blocks' flags as a graph input, and the flags; statistics stay constant."""
    model = onnx.load_from_string(adaptive.configured(letters, tier))
    selection = adaptive.selection
    num_flags = selection.num_blocks * (len(selection.letters) - 1)
    chosen = selection.bytes_for(letters, tier)[:num_flags]

    def rename(graph: onnx.GraphProto) -> None:
        for node in graph.node:
            if node.op_type == "Gather" and node.input[0] == SELECTION:
                node.input[0] = "flags"
            for attribute in node.attribute:
                if attribute.type == onnx.AttributeProto.GRAPH:
                    rename(attribute.g)

    rename(model.graph)
    model.graph.input.append(helper.make_tensor_value_info("flags", TensorProto.BOOL, [num_flags]))
    return model.SerializeToString(), np.frombuffer(chosen, np.bool_).copy()


def peers() -> list[Path]:
    """The open peers, where PLIANT_DATA names the folder that holds them."""
    root = os.environ.get("PLIANT_DATA")
    return sorted((Path(root) / "weights").glob("peer_*.onnx")) if root else []


def peer(path: Path, threads: int, runs: int) -> dict[str, object]:
    """The peer's own speed, beside ours of the same size."""
    data = path.read_bytes()
    run = session(data, threads=threads)
    source = run.get_inputs()[0]
    image = np.zeros((1, 3, 128, 128), np.float32)
    feed = {source.name: image}
    times = measure_times({"peer": lambda: run.run(None, feed)}, runs, warmup=20)["peer"]
    return {
        "size": 128,
        "threads": threads,
        "tier": "",
        "way": f"peer: {path.stem}",
        "ms": f"{statistics.median(times):.3f}",
        "ratio": "",
        "switch_ms": f"{switching(lambda: data, feed, threads):.1f}",
        "file_mb": f"{len(data) / 1e6:.2f}",
        "onnxruntime": onnxruntime.__version__,
    }


def write(rows: list[dict[str, object]], path: Path) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomic(path, text.getvalue())


if __name__ == "__main__":
    main()
