"""CeFA protocol 4 with PipeNet: three trainings, ACER over 4@1 to 4@3, and the submission file.

    python recipes/pad_pipenet_cefa.py --data CEFA --out DIR     # a GPU is used; hours on a CPU
    python recipes/pad_pipenet_cefa.py --synthetic --out DIR     # dry run: 3 minutes on 2 cores

Liu et al. "CASIA-SURF CeFA", WACV 2021, https://arxiv.org/abs/2003.05136; the challenge of CVPR
2020 (CodaLab 22036). The set needs a signed agreement and is not shipped: CEFA is the folder with
phase1/, phase2/ and the lists 4@k_train.txt, 4@k_{dev,test}_{ref,res}.txt (docs/data.md).

Of each sub-protocol: the training clips are split by **subject** into train and held-out dev (the
lists of PipeNet's authors split frames, so that nearly every video lay on both sides); the best
epoch and the threshold come from the held-out subjects alone; the organisers' dev and test clips
are scored, and judged where their labels are there (`_ref`). A clip's score is the Limited Frame
Vote over its frames. A modality that cannot be used is zeros to the network: a submission needs a
score for every clip. ACER is the challenge's: APCER over all attacks pooled, and BPCER.

Writes three runs (run-4@k/), results.csv, and submission.txt: `path score`, dev and then test of
4@1, 4@2, 4@3. The dry run, smaller in everything, shows that this works and says nothing of faces.
"""

import argparse
import csv
import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any, get_args

from cefa_synthetic import MARK, write_tree

from pliant.data.augment import Augment
from pliant.data.cefa import CHALLENGE
from pliant.data.frames import pick_some
from pliant.data.manifest import Sample
from pliant.data.reading import Folders, label, relative, rows
from pliant.data.source import open_source
from pliant.data.split import split_by_subject
from pliant.errors import UserError
from pliant.jobs.clip_vote import vote_clips
from pliant.jobs.modal_judging import modal_scores
from pliant.jobs.samples import PAD_CLASSES, Prepared, say
from pliant.jobs.train import train_prepared
from pliant.pad.folds import fold_summary
from pliant.pad.metrics import apcer_pooled, bpcer
from pliant.pad.table import ScoreTable
from pliant.pad.thresholds import fit_threshold
from pliant.runtime.crop import Preprocessing
from pliant.runtime.files import write_atomic
from pliant.runtime.frame_vote import Rule, VoteSettings
from pliant.train.pipenet import BLACK_IS_ZERO, PIPENET, PipeNetSettings
from pliant.train.run_folder import Run, RunFolder
from pliant.train.settings import NetworkSettings, TrainSettings

PROTOCOLS = (1, 2, 3)
SPLITS = {"dev": "phase1", "test": "phase2"}

SIZES: dict[str, tuple[Any, Any, str]] = {
    "epochs": (50, 3, "passes over the training frames"),
    "batch_size": (256, 32, "frames per step"),
    "lr": (0.1, 0.05, "peak learning rate"),
    "size": (112, 64, "px of a frame"),
    "patch": (48, 32, "px of a patch"),
    "crops": (36, 1, "patches averaged at test time: 36 or 1"),
    "frames": ("16", "4", "of a clip: N spread evenly, or firstN"),
}
"""Flag -> its default, its default in the dry run, and what it is."""


@dataclass(frozen=True, kw_only=True)
class Clips:
    """Clips of the organisers."""

    names: list[str]
    """As the lists name them, in their order: `dev/003000`."""
    live: list[bool | None]
    """None: the labels are not there."""


def prepare(root: Path, k: int, *, frames: str, dev_share: float, seed: int) -> Prepared:
    """The training clips of 4@k, split by subject."""
    source = open_source(f"cefa:{root}?protocol=challenge.{k}", "pad")
    listed = (replace(s, split=None) for s in source.samples if s.split == "train")
    clips = groupby(listed, lambda sample: sample.clip)
    split = split_by_subject(
        [frame for _, clip in clips for frame in pick_some(list(clip), frames)],
        seed=seed,
        dev_share=dev_share,
    )
    say(f"4@{k}: {len(split.train)} frames to train on, {len(split.dev)} held out", *split.notes)
    return Prepared(
        task="pad",
        train=split.train,
        dev=split.dev,
        classes=PAD_CLASSES,
        skipped=[{"path": str(skip.path), "reason": skip.reason} for skip in source.skipped],
        modalities=PipeNetSettings().modalities,
        record={
            "name": f"CeFA 4@{k}",
            "sha256": source.sha256,
            "synthetic": (root / MARK).exists(),
            "num_train": len(split.train),
            "num_dev": len(split.dev),
            "num_test": 0,
            "train_subjects": sorted({str(s.subject) for s in split.train}),
            "dev_subjects": sorted({str(s.subject) for s in split.dev}),
            "split": {"seed": seed, "dev_share": dev_share, "live_only": False},
            "notes": [*source.notes, *split.notes],
        },
    )


def organisers_clips(root: Path, k: int, split: str, frames: str) -> tuple[Clips, list[Sample]]:
    """The clips of a list, without scores yet, and some frames of each.

    Raises:
        UserError: if the list is missing, or a clip has no images.
    """
    known, folders = root / f"4@{k}_{split}_ref.txt", Folders()
    if known.exists():
        lines = [(name, where, truth) for where, (name, truth) in rows(known, "path label")]
    else:
        blind = rows(root / f"4@{k}_{split}_res.txt", "path")
        lines = [(name, where, None) for where, (name,) in blind]
    samples: list[Sample] = []
    for name, where, truth in lines:
        clip = root / SPLITS[split] / relative(name, where)
        images = pick_some(folders.images(str(clip / "profile")), frames)
        if not images:
            raise UserError(f"{where}: there are no images in {clip / 'profile'}")
        samples += [
            Sample(
                path=clip / "profile" / image,
                depth_path=clip / "depth" / image,
                ir_path=clip / "ir" / image,
                bona_fide=truth == "1",
                clip=name,
                box_rule="content",
            )
            for image in images
        ]
    live = [None if truth is None else label(truth, CHALLENGE, where) for _, where, truth in lines]
    return Clips(names=[name for name, *_ in lines], live=live), samples


def voted(run: Run, samples: Sequence[Sample], how: VoteSettings) -> ScoreTable:
    """One row for each clip; what cannot be used of a frame is zeros, and the frame counts."""
    assert run.pipenet is not None
    kept = run.pipenet.modalities
    return vote_clips(samples, modal_scores(run, samples, [kept]).scores[kept], how)


def judge(
    root: Path, k: int, run: Run, dev: Sequence[Sample], how: VoteSettings, frames: str
) -> tuple[list[dict[str, object]], list[tuple[str, float]]]:
    """Rows of results.csv, and (clip, score) of dev and then of test."""
    threshold = fit_threshold(voted(run, dev, how).scores, "min_acer", source="held-out subjects")
    rows_, scored = [], []
    for split in SPLITS:
        clips, samples = organisers_clips(root, k, split, frames)
        table = voted(run, samples, how)
        found = dict(zip(table.presentation.tolist(), table.score.tolist(), strict=True))
        scored += [(name, found[name]) for name in clips.names]
        row: dict[str, object] = {"protocol": f"4@{k}", "split": split, "clips": len(clips.names)}
        row["threshold"] = threshold.value
        if None in clips.live:
            say(f"4@{k} {split}: no labels, so no error rates")
        else:
            at = apcer_pooled(table.scores, threshold.value), bpcer(table.scores, threshold.value)
            for name, rate in zip(("apcer", "bpcer"), at, strict=True):
                row |= {name: rate.rate, f"{name}_low": rate.low, f"{name}_high": rate.high}
            row["acer"] = (at[0].rate + at[1].rate) / 2
        rows_.append(row)
    return rows_, scored


def summarise(results: Sequence[dict[str, object]]) -> list[dict[str, object]]:
    """Mean and both standard deviations of ACER over the sub-protocols, of dev and of test."""
    found = []
    for split in SPLITS:
        values = [float(str(r["acer"])) for r in results if r["split"] == split and "acer" in r]
        if len(values) == len(PROTOCOLS):
            said = fold_summary(values)
            spread = {name: said[name] for name in ("std_population", "std_sample")}
            found.append({"protocol": "mean", "split": split, "acer": said["mean"], **spread})
    return found


def write_csv(path: Path, rows_: Sequence[dict[str, object]]) -> None:
    """A table of whatever columns the rows have."""
    names = list(dict.fromkeys(name for row in rows_ for name in row))
    text = io.StringIO()
    table = csv.DictWriter(text, names, lineterminator="\n")
    table.writeheader()
    table.writerows(rows_)
    write_atomic(path, text.getvalue())


def run_recipe(given: argparse.Namespace) -> None:
    """Trains, scores and judges the three sub-protocols."""
    out: Path = given.out
    out.mkdir(parents=True, exist_ok=given.resume)
    if given.synthetic and not (out / "cefa").exists():
        say("rendering synthetic clips in CeFA's layout")
        write_tree(out / "cefa", seed=given.seed)
    root = out / "cefa" if given.synthetic else given.data
    how = VoteSettings(rule=given.vote)
    pipenet = PipeNetSettings(patch=given.patch, crops=given.crops)
    settings = TrainSettings(
        epochs=given.epochs, batch_size=given.batch_size, lr=given.lr, seed=given.seed,
        calibration_images=256,
    )  # fmt: skip
    results, submission = [], []
    for k in PROTOCOLS:
        data = prepare(root, k, frames=given.frames, dev_share=0.2, seed=given.seed)
        folder = out / f"run-4@{k}"
        if not (folder / "model.safetensors").exists():
            train_prepared(
                data, folder, init=None, model=PIPENET, settings=settings,
                preprocessing=Preprocessing(size=given.size, **BLACK_IS_ZERO),
                network=NetworkSettings(), augment=Augment(), pipenet=pipenet,
                resume=folder.exists(),
            )  # fmt: skip
        run = RunFolder.open(folder, several_modalities=True)
        rows_, scored = judge(root, k, run, data.dev, how, given.frames)
        results += rows_
        submission += scored
    results += summarise(results)
    write_csv(out / "results.csv", results)
    write_atomic(out / "submission.txt", "".join(f"{n} {s:.8f}\n" for n, s in submission))
    for row in results:
        print("  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{v}" for k, v in row.items()))
    print(f"{len(submission)} lines in {out / 'submission.txt'}")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--data", type=Path, help="CeFA's challenge folder")
    where.add_argument("--synthetic", action="store_true", help="the dry run")
    parser.add_argument("--out", type=Path, required=True, help="a new folder")
    parser.add_argument("--resume", action="store_true", help="go on in --out")
    for name, (usual, small, help_) in SIZES.items():
        kind = type(usual)
        shown = f"{help_} ({usual}; dry run: {small})"
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, help=shown)
    parser.add_argument("--vote", default="meanstd", choices=get_args(Rule))
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    for name, (usual, small, _) in SIZES.items():
        if getattr(given, name) is None:
            setattr(given, name, small if given.synthetic else usual)
    try:
        run_recipe(given)
    except FileExistsError:
        raise SystemExit(f"{given.out} exists already; give a new folder, or --resume") from None
    except UserError as problem:
        print(problem, file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
