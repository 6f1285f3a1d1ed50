"""`pliant data ...`: look at a data set before a model is trained on it."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from pliant.errors import UserError

if TYPE_CHECKING:
    from pliant.data.manifest import Sample, Skipped

VERBS = {"inspect": "count what a data set holds, and warn of confounds, overlaps and duplicates"}
MOST_DECODED = 20_000
"""Images that are compared with each other."""
SHOWN = 12
"""Rows of a table, and examples, in the terminal."""


def inspect(
    name: Annotated[str, Positional, arg(metavar="NAME")],
    path: Annotated[Path, Positional, arg(metavar="PATH")],
    *,
    protocol: str | None = None,
    frames: str | None = None,
    dev_share: float | None = None,
    decode: int = 0,
) -> dict[str, Any]:
    """Count samples per split, class, species and device; list what is skipped, and confounds.

    Args:
        name: A reader, such as celeba_spoof, oulu_npu, manifest or folder.
        path: Where the data set lies.
        protocol: One of the set's own; None: its first.
        frames: Of each video: a number (spread evenly), firstN, or mico; None: 8.
        dev_share: Share of the training images that becomes dev where the set ships none; None:
            0.2.
        decode: Images to read, spread evenly, for near-duplicates on two sides of the split and
            for files that cannot be read; 0: none, at most 20,000.

    Raises:
        UserError: if the data set is not laid out as it must be, or a number is out of range.
    """
    from pliant.data.duplicates import MAX_BITS, across_splits, hash_all
    from pliant.data.readers import read
    from pliant.data.reading import subject_overlap

    if not 0 <= decode <= MOST_DECODED:
        raise UserError(f"decode must lie in [0, {MOST_DECODED:,}], got {decode}")
    start = time.perf_counter()
    reading = read(name, path, protocol=protocol, frames=frames, dev_share=dev_share)
    seconds = time.perf_counter() - start
    skipped, duplicates = reading.skipped, None
    if decode:
        step = -(-len(reading.samples) // decode)
        kept, hashes, unreadable = hash_all(reading.samples[::step])
        pairs = across_splits(kept, hashes)
        skipped = [*skipped, *unreadable]
        duplicates = {
            "decoded": len(kept),
            "max_bits": MAX_BITS,
            "pairs": len(pairs),
            "examples": [{"a": a.name, "b": b.name, "bits": bits} for a, b, bits in pairs[:100]],
        }
    return {
        "name": reading.name,
        "root": reading.root,
        "protocol": protocol,
        "num_samples": len(reading.samples),
        "index_s": seconds,
        "splits": _splits(reading.samples),
        "species": _counts(reading.samples, "pai_species"),
        "devices": _counts(reading.samples, "device"),
        "subject_overlap": subject_overlap(reading.samples),
        "duplicates": duplicates,
        "skipped": _reasons(skipped),
        "notes": reading.notes,
    }


def _splits(samples: "Sequence[Sample]") -> list[dict[str, Any]]:
    """Images, presentations and subjects of each split and class."""
    groups: dict[tuple[str, bool | None], tuple[list[int], set[str], set[str]]] = {}
    for sample in samples:
        key = (sample.split or "", sample.bona_fide)
        images, clips, subjects = groups.setdefault(key, ([0], set(), set()))
        images[0] += 1
        clips.add(sample.presentation)
        if sample.subject:
            subjects.add(sample.subject)
    order = ("train", "dev", "test", "")
    return [
        {
            "split": split or None,
            "bona_fide": truth,
            "images": images[0],
            "presentations": len(clips),
            "subjects": len(subjects),
        }
        for (split, truth), (images, clips, subjects) in sorted(
            groups.items(), key=lambda item: (order.index(item[0][0]), not item[0][1])
        )
    ]


def _counts(samples: "Sequence[Sample]", field: str) -> list[dict[str, Any]]:
    """Images by split, class and a field; what the set does not name is null."""
    found = Counter((s.split, s.bona_fide, getattr(s, field)) for s in samples)
    return [
        {"split": split, "bona_fide": truth, field: value, "images": count}
        for (split, truth, value), count in sorted(found.items(), key=lambda item: str(item[0]))
    ]


def _reasons(skipped: "Sequence[Skipped]") -> list[dict[str, Any]]:
    """Reasons with their counts, and paths."""
    paths: dict[str, list[Path]] = {}
    for skip in skipped:
        paths.setdefault(skip.reason, []).append(skip.path)
    return [
        {"reason": reason, "count": len(held), "paths": held}
        for reason, held in sorted(paths.items(), key=lambda item: -len(item[1]))
    ]


def inspect_summary(result: Mapping[str, Any]) -> list:
    """The counts, what was skipped, and what to beware of."""
    from rich.table import Table

    title = f"{result['name']}: {result['num_samples']:,} samples in {result['index_s']:.1f} s"
    splits = Table("split", "class", "images", "presentations", "subjects", title=title)
    for row in result["splits"]:
        counts = (f"{row[key]:,}" for key in ("images", "presentations", "subjects"))
        splits.add_row(row["split"] or "-", _word(row["bona_fide"]), *counts)
    parts: list[Any] = [splits]
    for title, key, field in (
        ("species", "species", "pai_species"),
        ("device", "devices", "device"),
    ):
        rows = [row for row in result[key] if row[field]]
        if not rows:
            continue
        table = Table("split", "class", title, "images")
        for row in rows[: 4 * SHOWN]:
            cells = (row["split"] or "-", _word(row["bona_fide"]), row[field])
            table.add_row(*cells, f"{row['images']:,}")
        parts.append(table)
    parts += [
        f"skipped: {row['count']:,} x {row['reason']} ({row['paths'][0]} ...)"
        for row in result["skipped"][:SHOWN]
    ]
    if len(result["skipped"]) > SHOWN:
        parts.append(f"skipped for {len(result['skipped']) - SHOWN} more reasons: see --json")
    parts += [f"note: {note}" for note in result["notes"]]
    found = result["duplicates"]
    if found is None:
        parts.append("No image was read: --decode 2000 looks for near-duplicates and broken files.")
    else:
        parts.append(
            f"near-duplicates across splits: {found['pairs']} pairs in {found['decoded']:,} images "
            f"(at most {found['max_bits']} of 256 bits differ)"
        )
        parts += [f"  {x['a']} = {x['b']} ({x['bits']} bits)" for x in found["examples"][:SHOWN]]
    return parts


def _word(truth: bool | None) -> str:
    return {True: "bona fide", False: "attack", None: "-"}[truth]
