"""`pliant predict MODEL DATA --scores out.csv`: verdicts on images whose truth is known.

The file is what `pliant pad evaluate` reads: one row per image, with a score, or with the reason
why there is none, so that what the system refused to judge is counted (APNRR, BPNRR). Every image
is judged as any other: its face is looked for, and boxes in the data are not used.
"""

import csv
import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pliant.data.folder import read_folder
from pliant.data.manifest import Sample, read_manifest
from pliant.data.readers import parse, read
from pliant.errors import UserError
from pliant.jobs.folders import refuse_existing
from pliant.runtime.files import write_atomic
from pliant.runtime.verdict import Prediction

COLUMNS = ("subject", "presentation", "bona_fide", "species", "score", "reason", "latency_ms")
"""Of the file; with `frame` where the data names clips."""


def labelled_images(given: Sequence[Path]) -> list[Sample]:
    """The images of a manifest CSV, a folder of live/ and spoof/, or `NAME:PATH` of a reader.

    Raises:
        UserError: if it is not one of these, an image's truth is not known, or a sample is a frame
            of a video.
    """
    if len(given) != 1:
        raise UserError(
            "--scores needs one manifest CSV, or one folder of live/ and spoof/, got "
            f"{len(given)} sources"
        )
    path = given[0]
    named = None if path.exists() else parse(str(path))
    listing = path / "manifest.csv" if path.is_dir() else path
    if named:
        name, root, options = named
        samples = list(read(name, root, **options).samples)
    elif path.is_dir() and not listing.is_file():
        samples = read_folder(path, "pad")
    elif listing.suffix.lower() == ".csv":
        samples = read_manifest(listing)
    else:
        raise UserError(
            f"{path} is neither a folder nor a .csv manifest; --scores needs to know which images "
            "are bona fide"
        )
    for sample in samples:
        if sample.bona_fide is None:
            raise UserError(f"{path}: {sample.name} is neither bona fide nor an attack")
        if sample.frame is not None:
            raise UserError(
                f"{path}: {sample.name} is a frame of a video; --scores takes images, and pliant "
                "evaluate takes videos too"
            )
    return samples


def check_scores(path: Path) -> None:
    """Refuses a name before anything is judged.

    Raises:
        UserError: if it does not end with .csv, exists, or its folder does not.
    """
    if path.suffix.lower() != ".csv":
        raise UserError(f"--scores must end with .csv, got {path.name}")
    refuse_existing(path, "--scores")
    if path.is_dir() or not path.parent.is_dir():
        raise UserError(
            f"--scores cannot be written: {path} must be a file in a folder that exists"
        )


def write_scores(path: Path, samples: Sequence[Sample], found: Sequence[Prediction]) -> str:
    """Writes the score file, whole or not at all; a sentence on what is in it comes back.

    Args:
        path: As `check_scores` takes it.
        samples: What was judged.
        found: The prediction on each; where its score does not count, its reason does.
    """
    clips = any(sample.clip for sample in samples)
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow([*COLUMNS, *(["frame"] if clips else [])])
    frames: Counter[tuple[str | None, str]] = Counter()
    for sample, one in zip(samples, found, strict=True):
        key = sample.subject, sample.presentation
        truth = "true" if sample.bona_fide else "false"
        species = "" if sample.bona_fide else sample.pai_species or ""
        score, reason = (repr(one.score), "") if one.responded else ("", one.reason)
        row = [sample.subject or "", sample.presentation, truth, species, score, reason]
        row.append(f"{one.latency_ms:.3f}")
        table.writerow([*row, *([frames[key]] if clips else [])])
        frames[key] += 1
    write_atomic(path, out.getvalue())
    silent = sum(not one.responded for one in found)
    return f"{path}: {len(found)} images, {silent} without a response; pliant pad evaluate reads it"
