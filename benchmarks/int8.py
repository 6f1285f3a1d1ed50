"""Every tier in 8 bits against float32: error rates, size, speed; writes int8.csv.

    python benchmarks/int8.py RUN --data DATA

RUN is a finished anti-spoofing run, DATA what it was trained on. Rates are those of the dev split
at the stored thresholds, which were fitted on it: so `after` minus `before` is what counts.
`alone_mb` is the tier's own 8-bit file. Times are medians of one image on one thread, the two
precisions taking turns. Two minutes on one core.
"""

import argparse
import csv
import io
import statistics
from pathlib import Path

import numpy as np

from pliant.data.crops import load_or_skip
from pliant.export.golden import golden_images
from pliant.export.int8 import first_block, quantised
from pliant.export.onnx import adaptive_onnx
from pliant.export.parity import session
from pliant.export.static import INPUT, static_onnx
from pliant.jobs.export import default_tier
from pliant.jobs.export_int8 import inputs_of, int8_model
from pliant.jobs.search import dev_and_train
from pliant.metrics.latency import measure_times
from pliant.runtime.files import write_atomic
from pliant.train.run_folder import RunFolder

RESULTS = Path(__file__).parent / "results" / "int8.csv"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    run = RunFolder.open(given.run)
    size = run.preprocessing.size
    golden = np.stack([image.input(run.preprocessing) for image in golden_images()])
    small, records, _ = int8_model(
        run, given.data, golden, default=default_tier(run), max_change=1.0
    )
    whole = adaptive_onnx(run.model, golden.shape)
    some = load_or_skip(dev_and_train(run, given.data)[1][::20])[0]
    calibration = inputs_of(run, some)
    image, rows = {INPUT: golden[:1]}, []
    for tier, record in records.items():
        letters = str(run.tiers[tier].configuration)
        static = static_onnx(run.model.extract(tier), golden.shape)
        alone = quantised(static, calibration, first=first_block(run.model))
        runs = {
            "fp32": session(whole.configured(letters, tier)).run,
            "int8": session(small.configured("", tier)).run,
        }
        calls = {name: (lambda r=r: r(None, image)) for name, r in runs.items()}
        times = measure_times(calls, 300, 20)
        rows.append(
            {
                "data": run.settings["data"]["name"],
                "size": size,
                "width": run.settings["network"]["width"],
                "tier": tier,
                "dev_images": record["dev_images"],
                "apcer_before": f"{record['dev_fp32']['apcer']:.4f}",
                "apcer_after": f"{record['dev_int8']['apcer']:.4f}",
                "bpcer_before": f"{record['dev_fp32']['bpcer']:.4f}",
                "bpcer_after": f"{record['dev_int8']['bpcer']:.4f}",
                "mean_abs_score": f"{record['mean_abs_score']:.4f}",
                "fp32_mb": f"{len(whole.data) / 1e6:.2f}",
                "int8_mb": f"{len(small.data) / 1e6:.2f}",
                "alone_mb": f"{alone.ByteSize() / 1e6:.2f}",
                "fp32_ms": f"{statistics.median(times['fp32']):.3f}",
                "int8_ms": f"{statistics.median(times['int8']):.3f}",
            }
        )
        print(rows[-1], flush=True)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomic(given.out, text.getvalue())


if __name__ == "__main__":
    main()
