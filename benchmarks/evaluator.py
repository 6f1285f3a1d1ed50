"""How long score files take to judge, and in how much memory; writes evaluator.csv.

    OMP_NUM_THREADS=1 python benchmarks/evaluator.py

Scores of six attack species, three attacks per bona fide presentation, EER about 11 %; each case
in a process of its own, `peak_mb` is its largest resident size, data included.

    evaluate    `evaluate_scores`, DET curves and histograms, of scores in memory
    bootstrap   the same measures on 2,000 resamples: of 1,000 subjects, or of all presentations
    dev         the same, the threshold refitted on resamples of a dev set of the same size
    read        a score file of five columns into a `ScoreTable`
    slow        the same measures on each resample by gathering its rows, sorting them and walking
                down the list with NumPy's cumulative sums, as a script with scikit-learn's
                `roc_curve` would; timed on 10 draws, `seconds` for all 2,000
"""

import csv
import io
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from pliant.pad.columns import row_names
from pliant.pad.evaluation import det_curves, evaluate_scores, score_histogram
from pliant.pad.scores import Scores, write_scores
from pliant.pad.table import read_table
from pliant.pad.thresholds import Threshold, fit_threshold
from pliant.runtime.files import write_atomic

RESULTS = Path(__file__).parent / "results" / "evaluator.csv"
CASES = (
    ("evaluate", 100_000, 1000, 0),
    ("evaluate", 1_000_000, 1000, 0),
    ("evaluate", 10_000_000, 1000, 0),
    ("bootstrap", 100_000, 1000, 2000),
    ("bootstrap", 100_000, 0, 2000),
    ("dev", 100_000, 1000, 2000),
    ("slow", 100_000, 1000, 2000),
    ("read", 1_000_000, 1000, 0),
    ("read", 10_000_000, 1000, 0),
)
SLOW_DRAWS = 10
BY_HAND = Threshold(policy="fixed=0.5", value=0.5, source="given by hand")


def some_scores(num: int, subjects: int, seed: int = 0) -> Scores:
    """Without subjects if `subjects` is 0."""
    rng = np.random.default_rng(seed)
    live = np.arange(num) % 4 == 0
    score = rng.normal(np.where(live, 1.2, -1.2))
    np.reciprocal(1 + np.exp(-score, out=score), out=score)
    names = np.array(["", "print", "replay", "mask", "cut", "video", "doll"])
    return Scores.of(
        score,
        live,
        species=names[np.where(live, 0, 1 + np.arange(num) % 6)],
        subject=row_names(subjects)[rng.integers(subjects, size=num)] if subjects else None,
    )


def slow_bootstrap(scores: Scores, draws: int) -> list[tuple[float, ...]]:
    """AUC, EER without a hull, BPCER20 and the errors at 0.5, each resample sorted anew."""
    rng = np.random.default_rng(0)
    members = [np.flatnonzero(scores.clusters == i) for i in range(scores.clusters.max() + 1)]
    found = []
    for _ in range(draws):
        drawn = rng.integers(len(members), size=len(members))
        rows = np.concatenate([members[i] for i in drawn])
        score, live, species = scores.score[rows], scores.bona_fide[rows], scores.species[rows]
        order = np.argsort(-score)
        ends = np.r_[np.flatnonzero(np.diff(score[order])), len(order) - 1]
        live_sorted = live[order]
        tpr = np.cumsum(live_sorted)[ends] / live.sum()
        fpr = np.cumsum(~live_sorted)[ends] / (~live).sum()
        kinds = np.unique(species[~live])
        worst = np.max(
            [np.cumsum(species[order] == k)[ends] / (species == k).sum() for k in kinds], axis=0
        )
        allowed = np.flatnonzero(worst <= 0.05)
        at = [float(np.mean(score[species == k] >= 0.5)) for k in kinds]
        crossing = int(np.argmin(np.abs(fpr - (1 - tpr))))
        found.append(
            (
                float(np.trapezoid(tpr, fpr)),
                float(fpr[crossing]),
                float(1 - tpr[allowed[-1]]) if len(allowed) else 1.0,
                float(np.mean(score[live] < 0.5)),
                *at,
            )
        )
    return found


def run(case: str, num: int, subjects: int, draws: int) -> float:
    """Seconds of one case."""
    scores = some_scores(num, subjects)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scores.csv"
        if case == "read":
            with open(path, "w", encoding="utf-8") as file:
                file.write("subject,presentation,bona_fide,species,score\n")
                for start in range(0, num, 1_000_000):
                    part = scores[np.arange(start, min(num, start + 1_000_000))]
                    write_scores(part, Path(folder) / "part.csv")
                    file.writelines(
                        (Path(folder) / "part.csv").open(encoding="utf-8").readlines()[1:]
                    )
            del scores, part
            began = time.perf_counter()
            read_table(path)
            return time.perf_counter() - began
        if case == "slow":
            began = time.perf_counter()
            slow_bootstrap(scores, SLOW_DRAWS)
            return (time.perf_counter() - began) * draws / SLOW_DRAWS
        dev = some_scores(num, subjects, seed=1) if case == "dev" else None
        began = time.perf_counter()
        threshold = BY_HAND if dev is None else fit_threshold(dev, draws=draws)
        evaluate_scores(scores, threshold, dev=dev, draws=draws)
        if case == "evaluate":
            det_curves(scores)
            score_histogram(scores)
        return time.perf_counter() - began


def main() -> None:
    if len(sys.argv) > 1:
        case, *numbers = sys.argv[1:]
        seconds = run(case, *map(int, numbers))
        print(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        return
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["case", "scores", "subjects", "draws", "seconds", "peak_mb", "numpy", "cores"])
    for case in CASES:
        words = [sys.executable, __file__, *map(str, case)]
        done = subprocess.run(words, check=True, capture_output=True, text=True)
        seconds, peak = map(float, done.stdout.split())
        row = [*case, f"{seconds:.1f}", f"{peak:.0f}", np.__version__, os.cpu_count()]
        print(*row, file=sys.stderr)
        writer.writerow(row)
    write_atomic(RESULTS, text.getvalue())


if __name__ == "__main__":
    main()
