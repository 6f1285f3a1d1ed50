"""One file of four tiers against four files, in ExecuTorch and LiteRT; writes mobile.csv.

    python benchmarks/mobile.py executorch                  # needs pliant[executorch]
    python benchmarks/mobile.py litert                      # needs pliant[litert]
    python benchmarks/mobile.py executorch --run runs/face  # a trained network instead

Without --run: PTA-MobileNetV2 1.0 at 96 px with random weights, calibrated on noise. Bytes of the
file that pliant writes (`shared`), of one with every convolution stored once (`all_shared`), of one
file per tier, summed (`separate`), and of the weights in float32 (`weights`). Milliseconds are CPU
time of one image on one thread, the median of interleaved runs: on an idle machine the latency, and
on a busy one nearer to it than the clock on the wall. Parity is the largest difference of a logit
to PyTorch on 8 images. About 100 s of CPU time for each command; rows of other commands stay.
"""

import argparse
import csv
import importlib
import io
import tempfile
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from pliant.adaptive.calibration import calibrate
from pliant.adaptive.network import AdaptiveNetwork, pta_mobilenet_v2
from pliant.export.executorch import executorch_bytes, load_executorch
from pliant.export.litert import litert_bytes, load_litert
from pliant.export.mobile import Model, method_name, tier_parity
from pliant.metrics.latency import measure_times
from pliant.runtime.files import write_atomic
from pliant.train.run_folder import RunFolder

RESULTS = Path(__file__).parent / "results" / "mobile.csv"
TIERS = ("low", "mid", "high", "max")
RUNTIMES: dict[str, tuple[Callable[..., bytes], Callable[[Path, str], Model]]] = {
    "executorch": (executorch_bytes, load_executorch),
    "litert": (litert_bytes, load_litert),
}
RUNS = 120
COPIES = 3
"""Every file is loaded this often: where its memory lies changes the time by up to 5 %."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runtime", choices=RUNTIMES)
    parser.add_argument("--run", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.run is None:
        called, network, side = "width 1.0, random", random_network(), 96
    else:
        run = RunFolder.open(given.run)
        called = f"width {run.settings['network']['width']}, trained"
        network, side = run.model, run.preprocessing.size
    if given.runtime == "executorch":
        one_thread()
    rows = measured(given.runtime, called, network, side)
    old = list(csv.DictReader(RESULTS.open())) if RESULTS.exists() else []
    kept = [r for r in old if (r["runtime"], r["network"]) != (given.runtime, called)]
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(sorted(kept + rows, key=lambda r: (r["runtime"], r["network"])))
    write_atomic(RESULTS, text.getvalue())


def random_network(side: int = 96) -> AdaptiveNetwork:
    torch.manual_seed(0)
    network = pta_mobilenet_v2()
    for tier in TIERS:
        calibrate(network, tier, [torch.randn(16, 3, side, side)] * 2, name=tier)
    return network.eval()


def one_thread() -> None:
    """ExecuTorch takes all cores unless told otherwise."""
    importlib.import_module("executorch.runtime")
    bindings = importlib.import_module("executorch.extension.pybindings.portable_lib")
    bindings._unsafe_reset_threadpool(1)


def measured(runtime: str, called: str, network: AdaptiveNetwork, side: int) -> list[dict]:
    """A row per tier."""
    encode, load = RUNTIMES[runtime]
    shape = (1, 3, side, side)
    images = np.random.default_rng(0).normal(size=(8, *shape[1:])).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        files = {"shared": Path(folder) / "shared", "all_shared": Path(folder) / "all_shared"}
        files["shared"].write_bytes(encode(network, TIERS, shape))
        files["all_shared"].write_bytes(encode(network, TIERS, shape, shared=1))
        for tier in TIERS:
            files[tier] = Path(folder) / tier
            files[tier].write_bytes(encode(network, [tier], shape))
        size = {name: path.stat().st_size for name, path in files.items()}
        parity = tier_parity(
            network, TIERS, images, lambda method, x: load(files["shared"], method)(x)
        )
        calls = {
            (tier, how, copy): partial(
                load(files.get(how, files[tier]), method_name(tier)), images[:1]
            )
            for tier in TIERS
            for how in ("shared", "all_shared", "separate")
            for copy in range(COPIES)
        }
        times = measure_times(calls, RUNS // COPIES, warmup=5, clock="cpu")
    medians = {
        (tier, how): round(float(np.median([times[tier, how, c] for c in range(COPIES)])), 3)
        for tier, how, _ in times
    }
    return [
        {
            "runtime": runtime,
            "version": version("executorch" if runtime == "executorch" else "ai-edge-litert"),
            "network": called,
            "side": side,
            "tier": tier,
            "shared_bytes": size["shared"],
            "all_shared_bytes": size["all_shared"],
            "separate_bytes": sum(size[name] for name in TIERS),
            "weights_bytes": sum(4 * p.numel() for p in network.parameters()),
            "tier_bytes": size[tier],
            "shared_ms": medians[tier, "shared"],
            "all_shared_ms": medians[tier, "all_shared"],
            "separate_ms": medians[tier, "separate"],
            "runs": RUNS,
            "max_abs_logits": f"{parity[tier]:.2g}",
        }
        for tier in TIERS
    ]


if __name__ == "__main__":
    main()
