"""Where samples come from: a manifest CSV, a folder, or a published data set by its reader's name.

Anti-spoofing samples without a face box are taken for photos as they come from a camera: the face
is found and cut out once, into a cache (see faces.py).
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pliant.data.faces import cut_faces
from pliant.data.folder import LAYOUTS, read_folder
from pliant.data.manifest import Sample, Skipped, read_manifest
from pliant.data.readers import parse, read
from pliant.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Source:
    """Samples that are ready to be cut, with what has to be said of them."""

    samples: list[Sample]
    """Of the task that was asked for; anti-spoofing ones with a face box."""
    skipped: list[Skipped]
    """What could not be used."""
    notes: list[str]
    """Sentences that a user should read."""
    name: str
    """The data set's name: its folder's, or the CSV's."""
    sha256: str
    """Of the listing (names, labels, subjects, splits), the same on every machine."""


def open_source(
    path: Path | str,
    task: str,
    *,
    detector: Path | None = None,
    cache_dir: Path | None = None,
    crop_scale: float = 1.5,
    progress: bool = True,
) -> Source:
    """Lists the samples of a data set, with a face box for each where the task is `pad`.

    Args:
        path: A manifest CSV, a folder that holds a manifest.csv, a plain folder (see folder.py), or
            `NAME:PATH?option=value` (see readers.py).
        task: `pad` or `classify`.
        detector: A YuNet ONNX file; None: the cascade inside OpenCV.
        cache_dir: Where cut-out faces are kept; None: `pliant` in the user's cache folder.
        crop_scale: The network's; faces are cut out of photos wide enough for it.
        progress: Show a bar on stderr where that is a terminal.

    Raises:
        UserError: if there is nothing at `path`, it is not laid out as it must be, its labels are
            not the task's, more than 5 % of the photos cannot be read, or no face was found.
    """
    if task not in LAYOUTS:
        raise ValueError(f"unknown task {task!r}; allowed: {', '.join(LAYOUTS)}")
    samples, skipped, notes, name, path = _list(Path(path), task)
    _check_task(samples, task, path)
    sha256 = listing_sha256(samples)
    if task == "pad" and any(sample.box is None for sample in samples):
        samples, lost, said = cut_faces(
            samples,
            path,
            detector=detector,
            cache_dir=cache_dir,
            crop_scale=crop_scale,
            progress=progress,
        )
        skipped, notes = [*skipped, *lost], [*notes, *said]
    elif task == "classify":  # whole images are classified
        samples = [replace(sample, box=None, landmarks=None) for sample in samples]
    return Source(samples=samples, skipped=skipped, notes=notes, name=name, sha256=sha256)


def _list(path: Path, task: str) -> tuple[list[Sample], list[Skipped], list[str], str, Path]:
    """Samples, what was skipped, notes, the data set's name, and where it lies."""
    named = None if path.exists() else parse(str(path))
    if named:
        name, root, options = named
        if task != "pad":
            raise UserError(f"{name} is a set of anti-spoofing; leave --task {task} out")
        reading = read(name, root, **options)
        said = [*reading.notes]
        if reading.skipped:
            said.append(f"{len(reading.skipped)} files are left out (see pliant data inspect)")
        protocol = options.get("protocol")
        title = f"{name}, protocol {protocol}" if protocol else name
        return reading.samples, reading.skipped, said, title, root
    if not path.exists():
        raise UserError(f"no such data: {path}; give a manifest CSV, a folder, or NAME:PATH")
    manifest = path / "manifest.csv" if path.is_dir() else path
    if path.is_file() and path.suffix.lower() != ".csv":
        raise UserError(f"{path} is neither a folder nor a .csv manifest")
    samples = read_manifest(manifest) if manifest.is_file() else read_folder(path, task)
    return samples, [], [], _name_of(path), path


def listing_sha256(samples: Sequence[Sample]) -> str:
    """A hash over what the data set says of each sample; the images' content is not part of it."""
    digest = hashlib.sha256()
    for s in sorted(samples, key=lambda sample: sample.name):
        row = (s.name, s.bona_fide, s.pai_species, s.subject, s.session, s.split, s.clip, s.label)
        digest.update(json.dumps(row).encode() + b"\n")
    return digest.hexdigest()


def _check_task(samples: Sequence[Sample], task: str, path: Path) -> None:
    """Refuses samples without the label that the task needs."""
    field, word = ("bona_fide", "1 or 0") if task == "pad" else ("label", "a class name")
    without = [sample.name for sample in samples if getattr(sample, field) is None]
    if without:
        other = "classify" if task == "pad" else "pad"
        raise UserError(
            f"{path}: {len(without)} of {len(samples)} samples, {without[0]} first, have no "
            f"{field} ({word}), which --task {task} needs; fill it in, or use --task {other}"
        )


def _name_of(path: Path) -> str:
    """The folder's name, also where the CSV in it is called manifest.csv; else the CSV's."""
    path = path.resolve()
    if path.name == "manifest.csv":
        path = path.parent
    return path.name if path.is_dir() else path.stem
