"""Mutated bundles and images into the run time; writes fuzz.csv, one row per kind of mutation.

    python benchmarks/fuzz.py face.pliant --count 10000

Each case opens one mutant as a device would, self-test and all, and scores the true golden images
in every tier. Allowed ends: `refused` (a UserError; for images a reason), or `same` (it opened, and
every score is the true bundle's). All else is a failure: `crash` (the process died), `hang` (over
20 s), `wrong_error` (any exception but a UserError), `wrong_score`, `memory` (over 2 GiB).

`hashes` says whether the mutant kept the true hashes, so that only its bytes changed, or was given
new ones that fit, so that the parsers behind them are reached. Cases run in child processes, many
in each; case k is the same on every machine. Exit code 1 if anything failed. In the published run,
ONNX Runtime 1.31.1, `tiny` is the bundle that tests/runtime/conftest.py builds, and `face` one of
`pliant export` with four tiers at 64 px.
"""

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mutants import KINDS, Mutants, kind_of, mutate_bytes

from pliant.errors import UserError
from pliant.runtime import Bundle, decode_image, read_image, write_atomic
from pliant.runtime.images import BadImage

RESULTS = Path(__file__).parent / "results" / "fuzz.csv"
MAX_SECONDS = 20
MAX_MB = 2048
CASES_PER_CHILD = 500
IMAGES = (".jpg", ".png", ".webp", ".bmp")
FAILURES = ("crash", "hang", "wrong_error", "wrong_score", "memory")
OUTCOMES = ("refused", "same", *FAILURES)


class Bundles:
    """Runs one case of a mutated bundle."""

    def __init__(self, path: Path, folder: Path) -> None:
        self.mutants, self.folder = Mutants(path), folder
        true = Bundle.open(path)
        self.tolerance = true.contract.tolerance
        self.images = [
            (decode_image(self.mutants.parts[golden.file]), golden.box, golden.probabilities)
            for golden in true.contract.golden
        ]

    def __call__(self, case: int, seed: int) -> str:
        made = self.mutants.make(case, seed)
        place = self.folder / "mutant"
        if isinstance(made, bytes):
            place.write_bytes(made)
        else:
            for name, data in made.items():
                (place / name).parent.mkdir(parents=True, exist_ok=True)
                (place / name).write_bytes(data)
        try:
            bundle = Bundle.open(place)
        except UserError:
            return "refused"
        finally:
            _remove(place)
        return "same" if self.scores_are_true(bundle) else "wrong_score"

    def scores_are_true(self, bundle: Any) -> bool:
        """Of every golden image, in every tier, within the true bundle's tolerance."""
        for tier in bundle.contract.tiers:
            bundle.use(tier.name)
            for image, box, promised in self.images:
                if box is None and bundle.contract.task == "pad":
                    continue
                found = bundle.predict(image, box=box)
                wanted = promised.get(tier.name)
                if wanted is None or found.score is None:
                    return False
                true = wanted[1] if bundle.contract.task == "pad" else max(wanted)
                if abs(found.score - true) > self.tolerance:
                    return False
        return True


class Images:
    """Runs one case of a mutated image file, read alone and by `predict`."""

    def __init__(self, path: Path, folder: Path) -> None:
        self.bundle, self.folder = Bundle.open(path), folder
        x, y = np.meshgrid(np.linspace(0, 255, 200), np.linspace(0, 255, 160))
        picture = np.stack([x, y, 255 - x], axis=2).astype(np.uint8)
        self.files = {ending: cv2.imencode(ending, picture)[1].tobytes() for ending in IMAGES}

    def __call__(self, case: int, seed: int) -> str:
        rng = random.Random(f"{seed}/{case}")
        ending = IMAGES[case % len(IMAGES)]
        data = self.files[ending]
        end = rng.choice((len(data), min(len(data), 200)))
        place = self.folder / f"image{ending}"
        place.write_bytes(mutate_bytes(data, rng, 0, end))
        found = self.bundle.predict(place, box=(40, 30, 90, 100) if rng.random() < 0.1 else None)
        try:
            read_image(place)
        except BadImage:
            fair = found.score is None and found.verdict.startswith("undecided(")
            return "refused" if fair else "wrong_score"
        return "same"


def _remove(place: Path) -> None:
    if place.is_dir():
        for path in sorted(place.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        place.rmdir()
    else:
        place.unlink(missing_ok=True)


def work(path: Path, what: str, first: int, end: int, seed: int) -> None:
    """The child: one line of JSON after each case; a case that hangs ends it by SIGALRM."""
    with tempfile.TemporaryDirectory() as folder:
        run = {"bundles": Bundles, "images": Images}[what](path, Path(folder))
        print("ready", flush=True)
        for case in range(first, end):
            _reset_peak()
            signal.alarm(MAX_SECONDS)
            begun, said = time.perf_counter(), ""
            try:
                outcome = run(case, seed)
            except Exception as error:
                outcome, said = "wrong_error", f"{type(error).__name__}: {error}"[:300]
            signal.alarm(0)
            seconds, peak = time.perf_counter() - begun, _peak_mb()
            if peak > MAX_MB:
                outcome = "memory"
            line = {"outcome": outcome, "said": said, "seconds": seconds, "peak_mb": peak}
            print(json.dumps(line), flush=True)


def _reset_peak() -> None:
    with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
        file.write("5")


def _peak_mb() -> float:
    with open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith("VmHWM"))


def supervise(path: Path, what: str, count: int, seed: int) -> list[dict[str, Any]]:
    """The outcome of each case; a child that dies is replaced, and its case counted."""
    results: list[dict[str, Any]] = []
    while len(results) < count:
        span = [str(len(results)), str(min(count, len(results) + CASES_PER_CHILD))]
        command = [sys.executable, __file__, str(path), "--seed", str(seed), "--work", what, *span]
        done = subprocess.run(command, capture_output=True, text=True)
        ready, *lines = done.stdout.splitlines() or [""]
        if ready != "ready":
            raise SystemExit(f"the child could not start:\n{done.stderr}")
        results += [json.loads(line) for line in lines]
        if done.returncode:
            outcome = "hang" if done.returncode == -signal.SIGALRM else "crash"
            results.append({"outcome": outcome, "said": done.stderr[-300:], "seconds": MAX_SECONDS,
                            "peak_mb": 0.0})  # fmt: skip
        print(f"{what} {len(results)}", file=sys.stderr)
    return results


def table(name: str, kinds: dict[str, str], results: list[dict[str, Any]]) -> list[str]:
    """CSV rows: one per kind; case k is of kind k modulo their number."""
    rows = []
    for first, (kind, hashes) in enumerate(kinds.items()):
        mine = results[first :: len(kinds)]
        counts = Counter(one["outcome"] for one in mine)
        slowest = max((one["seconds"] for one in mine), default=0)
        peak = max((one["peak_mb"] for one in mine), default=0)
        found = [str(counts[outcome]) for outcome in OUTCOMES]
        rows.append(
            ",".join([name, kind, hashes, str(len(mine)), *found, f"{slowest:.2f}", f"{peak:.0f}"])
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path, nargs="+")
    parser.add_argument("--count", type=int, nargs="+", default=[10_000], help="for each bundle")
    parser.add_argument("--images", type=int, default=2000, help="mutated image files")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--work", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        what, first, end = given.work
        work(given.bundle[0], what, int(first), int(end), given.seed)
        return
    header = ["bundle", "kind", "hashes", "cases", *OUTCOMES, "slowest_s", "peak_mb"]
    rows, failed = [",".join(header)], []
    for path, count in zip(given.bundle, given.count, strict=True):
        results = supervise(path, "bundles", count, given.seed)
        rows += table(path.stem, KINDS, results)
        failed += [(path.name, case, one) for case, one in enumerate(results) if _is_bad(one)]
    results = supervise(given.bundle[0], "images", given.images, given.seed)
    rows += table("", {f"image{ending}": "" for ending in IMAGES}, results)
    failed += [("image", case, one) for case, one in enumerate(results) if _is_bad(one)]
    write_atomic(given.out, "\n".join(rows) + "\n")
    print(*rows, sep="\n")
    for name, case, one in failed:
        print(f"{name}, case {case} ({kind_of(case)}): {one['outcome']}: {one['said']}")
    if failed:
        raise SystemExit(1)


def _is_bad(result: dict[str, Any]) -> bool:
    return result["outcome"] in FAILURES


if __name__ == "__main__":
    main()
