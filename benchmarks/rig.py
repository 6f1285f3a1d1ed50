"""How fast the synthetic rig renders colour, depth and infrared together.

Command: python benchmarks/rig.py
Writes benchmarks/results/rig.csv: one row for each size and number of processes. A rig is rendered
into memory (every frame is coded as JPEG and decoded again), the processes' start included;
several runs, median and worst. `cpu_ms_per_frame` adds up all processes and suffers less from
other programs; `load_before` says how many of those there were; `frames_per_s_free` is what the
CPU time alone would give if the cores were free.
"""

import csv
import os
import platform
import resource
import statistics
import time
from pathlib import Path

import cv2
import numpy as np

from pliant.data.rig import RigSettings, render

RESULTS = Path(__file__).parent / "results" / "rig.csv"
RUNS = 3


def cpu_seconds() -> float:
    """CPU time of this process and of those that have ended."""
    own, ended = (
        resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return own.ru_utime + own.ru_stime + ended.ru_utime + ended.ru_stime


def measure(size: int, workers: int) -> dict[str, object]:
    """Render the same rig several times."""
    settings = RigSettings(subjects=10, clips_per_subject=6, attack_clips=2, frames=3, size=size)
    wall, cpu = [], []
    for _ in range(RUNS):
        begin, busy = time.perf_counter(), cpu_seconds()
        count = len(render(settings, progress=False, workers=workers))
        wall.append((time.perf_counter() - begin) / count)
        cpu.append((cpu_seconds() - busy) / count)
    return {
        "size_px": size,
        "workers": workers,
        "frames": count,
        "runs": RUNS,
        "frames_per_s_median": round(1 / statistics.median(wall), 1),
        "frames_per_s_worst": round(1 / max(wall), 1),
        "cpu_ms_per_frame": round(1000 * statistics.median(cpu), 2),
        "frames_per_s_free": round(workers / statistics.median(cpu), 1),
        "load_before": round(os.getloadavg()[0], 2),
        "cores": os.cpu_count(),
        "device": platform.machine(),
        "numpy": np.__version__,
        "opencv": cv2.__version__,
    }


def main() -> None:
    render(RigSettings(subjects=3, clips_per_subject=1, frames=1), progress=False)  # warm-up
    rows = [measure(size, workers) for size in (96, 128) for workers in (1, 2)]
    with RESULTS.open("w", newline="") as file:
        table = csv.DictWriter(file, rows[0])
        table.writeheader()
        table.writerows(rows)
    for row in rows:
        print(", ".join(f"{key} {value}" for key, value in row.items()))


if __name__ == "__main__":
    main()
