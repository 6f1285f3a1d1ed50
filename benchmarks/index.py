"""How long a CelebA-Spoof-like tree of 600,000 photos takes to list; writes index.csv.

    python benchmarks/index.py

Makes an empty file for each photo and each box file (1.2 million files, 10,000 subjects, 20 live
and 40 spoof photos each; 9 of 10 subjects in training) and label files of 44 integers a photo, in a
temporary folder, and removes them. Each row is a process of its own, which reads the tree and
carves dev; `peak_mb` is its largest resident memory, Python and its packages included. The folders
were written just before, so the system has them in memory: a cold or remote disk takes longer.
About two minutes on two shared cores.
"""

import argparse
import csv
import io
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pliant.data.celeba_spoof import read_celeba_spoof
from pliant.runtime.files import write_atomic

RESULTS = Path(__file__).parent / "results" / "index.csv"
LIVE, SPOOF = 20, 40
COLUMNS = ("photos", "samples", "skipped", "index_s", "peak_mb", "python", "cores")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=int, nargs="+", default=[60_000, 600_000])
    parser.add_argument("--folder", type=Path, default=None, help="where the tree is made")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        print(json.dumps(measure(given.measure)))
        return
    rows = []
    for photos in given.photos:
        root = Path(tempfile.mkdtemp(dir=given.folder))
        try:
            make_tree(root, photos // (LIVE + SPOOF))
            command = [sys.executable, __file__, "--measure", str(root)]
            answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            rows.append({"photos": photos, **json.loads(answer)})
            print(rows[-1], flush=True)
        finally:
            shutil.rmtree(root)
    text = io.StringIO()
    table = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    write_atomic(given.out, text.getvalue())


def measure(root: Path) -> dict[str, object]:
    start = time.perf_counter()
    reading = read_celeba_spoof(root)
    seconds = time.perf_counter() - start
    assert {sample.split for sample in reading.samples} == {"train", "dev", "test"}
    return {
        "samples": len(reading.samples),
        "skipped": len(reading.skipped),
        "index_s": f"{seconds:.1f}",
        "peak_mb": f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3:.0f}",
        "python": platform.python_version(),
        "cores": os.cpu_count(),
    }


def make_tree(root: Path, subjects: int) -> None:
    labels: dict[str, dict[str, list[int]]] = {"train": {}, "test": {}}
    number = 0
    for subject in range(subjects):
        part = "test" if subject % 10 == 0 else "train"
        for kind, count in (("live", LIVE), ("spoof", SPOOF)):
            folder = f"Data/{part}/{subject}/{kind}"
            os.makedirs(root / folder)
            spoof = kind == "spoof"
            for k in range(count):
                number += 1
                name = f"{folder}/{number:06d}"
                for ending in (".png", "_BB.txt"):
                    os.close(os.open(f"{root}/{name}{ending}", os.O_CREAT | os.O_WRONLY))
                last = [1 + k % 10, 1 + k % 4, 1 + k % 2, 1] if spoof else [0, 0, 0, 0]
                labels[part][f"{name}.png"] = [*[k % 2] * 40, *last]
    os.makedirs(root / "metas/intra_test")
    for part, held in labels.items():
        path = root / f"metas/intra_test/{part}_label.json"
        path.write_text(json.dumps(held), encoding="utf-8")


if __name__ == "__main__":
    main()
