"""PipeNet on synthetic clips: which modalities help, and what a vote of frames adds.

    python recipes/pad_pipenet_rig.py --out DIR [--seeds 1]

Yang, Zhu, Fwu, Ye, You, Zhu. "PipeNet", 2020. https://arxiv.org/abs/2004.11744: the network, its
augmentation, its 36 test crops and the five rules of Limited Frame Vote. Nothing here reproduces
the paper's table: the faces are rendered, and CeFA needs an agreement.

What it does for every seed: renders people in clips of 12 frames (colour, depth, infrared); trains
on flat prints and replays alone; tests other people, also with bent prints and masks, which
neither training nor dev has seen. Then it judges PipeNet on every subset of its modalities with
every rule, and a PTA MobileNetV2 on colour, frame by frame and by vote. Every row has a threshold
of its own, fitted on dev with the same modalities and the same rule. Intervals resample subjects.

Hardware: two CPU cores; 230 s of CPU time a seed. Result, of `--seeds 2`, in
benchmarks/results/pipenet_rig.csv and docs/pad.md: modalities help against attacks like those of
training (ACER 10 to 15 % with depth, 28 to 43 % with colour alone) and not against masks (40 % and
more); the vote changes next to nothing, for frames of a rendered clip err alike.
"""

import argparse
import csv
import html
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any, get_args

import numpy as np

from pliant.data.augment import Augment
from pliant.data.manifest import Sample, read_manifest, write_manifest
from pliant.data.rig import RigSettings, write_rig
from pliant.errors import UserError
from pliant.jobs.clip_vote import vote_clips, vote_record
from pliant.jobs.modal_judging import all_subsets, judge_table, modal_scores
from pliant.jobs.scoring import tier_probabilities
from pliant.jobs.train import train
from pliant.runtime.crop import Preprocessing
from pliant.runtime.frame_vote import Rule, VoteSettings
from pliant.train.pipenet import PipeNetSettings
from pliant.train.run_folder import RunFolder
from pliant.train.settings import NetworkSettings, TrainSettings

RIG = RigSettings(
    subjects=25, clips_per_subject=3, attack_clips=2, frames=12, size=64, difficulty=0.5
)
SEEN = ("print_flat", "replay")
"""Attacks of training and dev; test has print_bent and mask too."""
TRAIN_EVERY = 3
"""Of a training clip every third frame is used."""
PIPENET = PipeNetSettings(patch=16)
FRAME_PX, COLOUR_PX = 32, 48
"""Sides of PipeNet's frames and of the colour network's input."""
PIPENET_RECIPE = TrainSettings(
    epochs=8, batch_size=32, optimiser="adamw", lr=0.001, dev_images=48, calibration_images=128
)
COLOUR_RECIPE = TrainSettings(
    epochs=60, batch_size=32, optimiser="adamw", lr=0.004, light_lr=1.0, sampler="presets",
    distill_weight=0.0, tiers=("low", "high"), dev_images=96, calibration_images=192,
)  # fmt: skip
COLOUR_AUGMENT = Augment(simulate=(), recompress=0.0)
"""No simulated attacks: PipeNet has none either."""
COLOUR_TIER = "high"
FRAME = "single frame"
DRAWS = 1000
RULES: tuple[Rule, ...] = get_args(Rule)
COLUMNS = (
    "seed", "model", "modalities", "vote", "presentations", "num_rejected", "threshold", "acer",
    "acer_low", "acer_high", "acer_seen", "acer_seen_low", "acer_seen_high", "apcer_worst",
    "worst_species", "bpcer", "auc", "apcer_print_flat", "apcer_replay", "apcer_print_bent",
    "apcer_mask", "no_response", "seconds", "cpu_seconds",
)  # fmt: skip
MEASURES = {"acer": "All attacks, two of them unseen", "acer_seen": "Attacks seen in training"}
Row = dict[str, Any]


def render(folder: Path, seed: int) -> list[Sample]:
    """The rig's samples without what training must not see; the manifest is written anew."""
    manifest = write_rig(replace(RIG, seed=seed), folder)

    def wanted(sample: Sample) -> bool:
        if sample.split == "test":
            return True
        frame = int(sample.path.stem.rsplit("-", 1)[-1])
        skipped = sample.split == "train" and frame % TRAIN_EVERY
        return not skipped and (sample.bona_fide or sample.pai_species in SEEN)

    samples = [sample for sample in read_manifest(manifest) if wanted(sample)]
    write_manifest(samples, manifest)
    return samples


def judge(
    samples: Sequence[Sample], score: np.ndarray, rule: str, missing: Sequence[Sequence[str]]
) -> Row:
    """One row: threshold on dev, errors on test; `single frame` takes every frame by itself."""
    how = VoteSettings(rule="mean" if rule == FRAME else rule)  # type: ignore[arg-type]
    tables = {}
    for split in ("dev", "test"):
        rows = [k for k, sample in enumerate(samples) if sample.split == split]
        chosen = [samples[k] for k in rows]
        if rule == FRAME:
            chosen = [replace(sample, clip=None) for sample in chosen]
        tables[split] = vote_clips(chosen, score[rows], how, missing=[missing[k] for k in rows])
    test, dev = tables["test"], tables["dev"]
    found = judge_table(test, dev, policy="min_acer", draws=DRAWS, seed=0)
    familiar = test[test.bona_fide | np.isin(test.species, SEEN)]
    seen = judge_table(familiar, dev, policy="min_acer", draws=DRAWS, seed=0)["metrics"]["acer"]
    metrics = found["metrics"]
    record = vote_record(test, how)
    return {
        "vote": rule,
        "presentations": record["presentations"],
        "num_rejected": record["num_rejected"],
        "threshold": found["threshold"]["value"],
        "acer": metrics["acer"]["value"],
        "acer_low": metrics["acer"]["low"],
        "acer_high": metrics["acer"]["high"],
        "acer_seen": seen["value"],
        "acer_seen_low": seen["low"],
        "acer_seen_high": seen["high"],
        "apcer_worst": metrics["apcer_ap"]["rate"],
        "worst_species": metrics["apcer_ap"]["species"],
        "bpcer": metrics["bpcer"]["rate"],
        "auc": metrics["auc"]["value"],
        **{f"apcer_{name}": rate["rate"] for name, rate in metrics["apcer"].items()},
        "no_response": found["nonresponse"]["num"],
    }


def one_seed(seed: int, folder: Path) -> Iterator[Row]:
    """All rows of a seed, as they are known."""
    begun = time.perf_counter()

    def told(what: str) -> None:
        say(f"seed {seed}, {time.perf_counter() - begun:.0f} s: {what}")

    told("rendering")
    samples = render(folder / "rig", seed)
    data = folder / "rig" / "manifest.csv"
    judged = [sample for sample in samples if sample.split != "train"]
    nothing: list[list[str]] = [[] for _ in judged]
    told("training the colour network")
    run = train(
        data, folder / "colour",
        settings=replace(COLOUR_RECIPE, seed=seed), preprocessing=Preprocessing(size=COLOUR_PX),
        network=NetworkSettings(width=0.5), augment=COLOUR_AUGMENT,
    )  # fmt: skip
    opened = RunFolder.open(run)
    found = tier_probabilities(opened.model, judged, opened.preprocessing, [COLOUR_TIER])
    for rule in (FRAME, *RULES):
        row = judge(judged, found[COLOUR_TIER][:, 1], rule, nothing)
        yield {"model": "pta_mobilenet_v2", "modalities": "colour"} | row
    told("training PipeNet")
    run = train(
        data, folder / "pipenet", model="pipenet",
        settings=replace(PIPENET_RECIPE, seed=seed), preprocessing=Preprocessing(size=FRAME_PX),
        pipenet=PIPENET,
    )  # fmt: skip
    opened = RunFolder.open(run, several_modalities=True)
    told(f"judging {len(judged)} frames with every subset of modalities")
    modal = modal_scores(opened, judged, all_subsets(opened))
    for kept, score in modal.scores.items():
        for rule in (FRAME, *RULES):
            row = judge(judged, score, rule, modal.missing(kept))
            yield {"model": "pipenet", "modalities": "+".join(kept)} | row


def say(sentence: str) -> None:
    """On stderr: the result alone goes to stdout."""
    print(sentence, file=sys.stderr, flush=True)


def write_csv(rows: Sequence[Row], path: Path) -> None:
    """The rows, rates with four digits."""
    with path.open("w", newline="", encoding="utf-8") as file:
        table: csv.DictWriter[str] = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        table.writeheader()
        for row in rows:
            table.writerow({k: f"{v:.4f}" if isinstance(v, float) else v for k, v in row.items()})


def grid(rows: Sequence[Row], measure: str) -> list[tuple[str, list[str]]]:
    """(model and modalities, a cell for each vote): mean over seeds, and the intervals' extremes.

    Args:
        rows: Of all seeds.
        measure: `acer`, or `acer_seen` for the attacks that training has seen alone.
    """
    named = list(dict.fromkeys((row["model"], row["modalities"]) for row in rows))
    lines = []
    for model, modalities in named:
        cells = []
        for rule in (FRAME, *RULES):
            same = [
                row
                for row in rows
                if (row["model"], row["modalities"], row["vote"]) == (model, modalities, rule)
            ]
            acer = 100 * mean(row[measure] for row in same)
            low = 100 * min(row[f"{measure}_low"] for row in same)
            high = 100 * max(row[f"{measure}_high"] for row in same)
            cells.append(f"{acer:.1f} ({low:.0f} to {high:.0f})")
        lines.append((f"{model}: {modalities}", cells))
    return lines


def show(rows: Sequence[Row]) -> None:
    """The table on the console."""
    from rich.console import Console
    from rich.table import Table

    for measure in MEASURES:
        table = Table("ACER in %", FRAME, *RULES, title=title(rows, measure))
        for name, cells in grid(rows, measure):
            table.add_row(name, *cells)
        Console(width=150).print(table)


def title(rows: Sequence[Row], measure: str) -> str:
    """What the table shows."""
    seeds = len({row["seed"] for row in rows})
    return (
        f"{MEASURES[measure]}: ACER at the dev threshold, {seeds} seed{'s' * (seeds > 1)}: mean, "
        "and the widest of the 95 % intervals over subjects; synthetic faces"
    )


def write_page(rows: Sequence[Row], path: Path) -> None:
    """The same tables as one page that opens offline."""
    head = "".join(f"<th scope=col>{html.escape(name)}" for name in ("", FRAME, *RULES))
    tables = ""
    for measure in MEASURES:
        body = "".join(
            f"<tr><th scope=row>{html.escape(name)}{''.join(f'<td>{cell}' for cell in cells)}"
            for name, cells in grid(rows, measure)
        )
        tables += f"<p>{html.escape(title(rows, measure))}"
        tables += f"<table><thead><tr>{head}</thead><tbody>{body}</tbody></table>"
    path.write_text(
        "<!doctype html><html lang=en><meta charset=utf-8><title>PipeNet on the rig</title>"
        "<style>body{font:16px system-ui;margin:2em}td,th{padding:.3em .8em;text-align:left;"
        "border-bottom:1px solid}</style><h1>Modalities and votes</h1>" + tables,
        encoding="utf-8",
    )


def main(words: Sequence[str] | None = None) -> int:
    """Runs all seeds; the files are whole after each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="a new folder")
    parser.add_argument("--seeds", type=int, default=1, help="how many, from --first-seed")
    parser.add_argument("--first-seed", type=int, default=0)
    asked = parser.parse_args(words)
    if asked.out.exists():
        raise UserError(f"{asked.out} exists already; give --out a new folder")
    asked.out.mkdir(parents=True)
    rows: list[Row] = []
    for seed in range(asked.first_seed, asked.first_seed + asked.seeds):
        begun, spent = time.perf_counter(), sum(os.times()[:4])
        with tempfile.TemporaryDirectory() as folder:
            new = [{"seed": seed} | row for row in one_seed(seed, Path(folder))]
        used = {
            "seconds": round(time.perf_counter() - begun),
            "cpu_seconds": round(sum(os.times()[:4]) - spent),  # the rig's workers too
        }
        rows += [row | used for row in new]
        write_csv(rows, asked.out / "pipenet_rig.csv")
        write_page(rows, asked.out / "pipenet_rig.html")
        say(f"seed {seed}: {used['seconds']} s, {used['cpu_seconds']} s of CPU time")
    show(rows)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as problem:
        say(f"pad_pipenet_rig: {problem}")
        sys.exit(2)
