"""Photos from a camera become face cut-outs: found, cut and cached once, on all cores.

A cut-out holds the photo's pixels within 2.0 times the box, shrunk to at most 256 px, as PNG;
nothing is made up where it would reach over the photo's edge. Of a video the frames that are asked
for are cut, all in one pass. Where the data set ships boxes (see boxes.py), they take the place of
the search. A journal in the cache folder has one
line per photo, so that a killed run goes on where it stopped; a photo that changed is cut again.
The cache is for its owner's eyes only, and can be deleted at any time.
"""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pliant.data.augment import CANVAS_MARGIN
from pliant.data.boxes import UNCUT, NoBox, box_of
from pliant.data.frames import read_frames
from pliant.data.manifest import Sample, Skipped, write_manifest
from pliant.data.progress import map_threads, watched
from pliant.data.readable import refuse_too_many
from pliant.errors import UserError
from pliant.runtime.faces import MIN_SIDE_PX, Face, FaceFinder, Undecided, choose_face
from pliant.runtime.files import sha256_file, write_atomic
from pliant.runtime.images import BadImage, read_image

CUT_SCALE = 2.0
"""Least side of a cut-out in multiples of the box's longer side."""
CUT_PX = 256
"""Longest side of a cut-out."""
FORMAT = 1
"""Raised when the cut-outs change, so that old caches are left alone."""
WORDS = {
    "no_face": "no face found",
    "several_faces": "several faces found",
    "face_too_small": "the face is too small",
}


@dataclass(frozen=True)
class _Found:
    """One line of the journal."""

    name: str
    stamp: str
    """The photo's size and time of change."""
    box: list[float] | None
    """In pixels of the cut-out."""
    landmarks: list[list[float]] | None
    reason: str | None
    """Why there is no cut-out."""
    unreadable: bool = False
    uncut: bool = False
    """The box lies in the photo itself."""


def cut_faces(
    samples: Sequence[Sample],
    source: Path,
    *,
    detector: Path | None,
    cache_dir: Path | None,
    crop_scale: float,
    progress: bool,
) -> tuple[list[Sample], list[Skipped], list[str]]:
    """Samples that have a box, unchanged, and cut-outs of the others; what was skipped; notes.

    Args:
        samples: Of one data set.
        source: The data set's place; with the detector it names the cache's folder.
        detector: A YuNet ONNX file, or None for the cascade.
        cache_dir: Root of the cache, or None for the user's.
        crop_scale: What the cut-outs must be wide enough for, with the margin of augmentation.
        progress: Show a bar on stderr where that is a terminal.

    Raises:
        UserError: if more than 5 % of the photos cannot be read, or no face is found.
    """
    finder = FaceFinder(detector)
    scale = max(CUT_SCALE, CANVAS_MARGIN * crop_scale)
    folder = cache_folder(source, detector, cache_dir, scale)
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise UserError(
            f"cannot make the cache folder {folder}: {error.strerror}; set XDG_CACHE_HOME to "
            "a place that can be written"
        ) from error
    photos = [sample for sample in samples if sample.box is None]
    found = _find_all(photos, folder, finder, scale, progress=progress)
    unreadable = [
        Skipped(p.path, f.reason or "") for p, f in zip(photos, found, strict=True) if f.unreadable
    ]
    refuse_too_many(unreadable, len(samples))
    by_name = {photo.name: record for photo, record in zip(photos, found, strict=True)}
    usable, skipped, cuts = [], [], []
    for sample in samples:
        record = by_name.get(sample.name)
        if record is None:
            usable.append(sample)
        elif record.reason:
            skipped.append(Skipped(sample.path, record.reason))
        else:
            usable.append(_as_cut(sample, record, folder))
            if not record.uncut:
                cuts.append(usable[-1])
    if not usable:
        reasons = Counter(skip.reason for skip in skipped)
        counts = ", ".join(f"{n} x {reason}" for reason, n in reasons.items())
        raise UserError(f"{source}: no photo of {len(photos)} can be used ({counts})")
    write_manifest(cuts, folder / "manifest.csv")
    return usable, skipped, _notes(photos, by_name, finder.name)


def cache_folder(
    source: Path, detector: Path | None, cache_dir: Path | None, scale: float = CUT_SCALE
) -> Path:
    """One folder for each data set, detector and width of the cut-outs."""
    root = cache_dir or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pliant"
    source = source.resolve()
    which = sha256_file(detector) if detector else "cascade"
    key = hashlib.sha256(f"{FORMAT}\n{source}\n{which}\n{scale:g}".encode()).hexdigest()[:12]
    name = source.stem if source.is_file() else source.name
    return Path(root).resolve() / "faces" / f"{name[:60]}-{key}"


def cut_out(
    image: NDArray[np.uint8], face: Face, scale: float = CUT_SCALE
) -> tuple[NDArray[np.uint8], list[float], list[list[float]] | None]:
    """The pixels within `scale` times the box; box and landmarks in pixels of the cut-out."""
    height, width = image.shape[:2]
    x, y, box_width, box_height = face.box
    half = scale * face.side / 2
    centre_x, centre_y = x + box_width / 2, y + box_height / 2
    left, top = (max(0, int(np.floor(v - half))) for v in (centre_x, centre_y))
    right = min(width, int(np.ceil(centre_x + half)))
    bottom = min(height, int(np.ceil(centre_y + half)))
    part = image[top:bottom, left:right]
    rows, columns = part.shape[:2]
    shrink = min(1.0, CUT_PX / max(rows, columns))
    if shrink < 1:
        size = (max(1, round(columns * shrink)), max(1, round(rows * shrink)))
        part = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
    by = np.array([part.shape[1] / columns, part.shape[0] / rows])
    box = [*((x - left) * by[0], (y - top) * by[1]), *(box_width * by[0], box_height * by[1])]
    points = None
    if face.landmarks:
        points = ((np.array(face.landmarks) - (left, top)) * by).round(3).tolist()
    return part.astype(np.uint8), [round(float(v), 3) for v in box], points


def _find_all(
    photos: Sequence[Sample], folder: Path, finder: FaceFinder, scale: float, *, progress: bool
) -> list[_Found]:
    """A record for each photo: from the journal where it has one, else found now and added."""
    journal = folder / "journal.jsonl"
    known = _read_journal(journal)
    stamps = [_stamp(photo.path) for photo in photos]
    missing = [
        (photo, stamp)
        for photo, stamp in zip(photos, stamps, strict=True)
        if not _holds(known.get(photo.name), stamp, folder)
    ]
    if not missing:
        return [known[photo.name] for photo in photos]
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # the photos are spread over the cores, not each of them
    try:
        with open(journal, "a", encoding="utf-8") as file:
            groups = _by_file(missing)
            parts = map_threads(lambda group: _find_some(group, folder, finder, scale), groups)
            for records in watched(parts, len(groups), "finding faces", progress=progress):
                for record in records:
                    file.write(json.dumps(record.__dict__) + "\n")
                    known[record.name] = record
                file.flush()
    finally:
        cv2.setNumThreads(threads)
    return [known[photo.name] for photo in photos]


def _by_file(photos: Sequence[tuple[Sample, str]]) -> list[list[tuple[Sample, str]]]:
    """Frames of one video together, so that it is decoded once."""
    groups: dict[object, list[tuple[Sample, str]]] = {}
    for k, (photo, stamp) in enumerate(photos):
        key = k if photo.frame is None else photo.path
        groups.setdefault(key, []).append((photo, stamp))
    return list(groups.values())


def _find_some(
    group: Sequence[tuple[Sample, str]], folder: Path, finder: FaceFinder, scale: float
) -> list[_Found]:
    """The records of one image, or of the frames of one video."""
    photos = [photo for photo, _ in group]
    return [
        _find_one(photo, stamp, image, index, folder, finder, scale)
        for (photo, stamp), (image, index) in zip(group, _images(photos), strict=True)
    ]


def _images(photos: Sequence[Sample]) -> Iterator[tuple[NDArray[np.uint8] | str, int]]:
    """The image, or why there is none, and its place in the video."""
    try:
        if photos[0].frame is None:
            yield read_image(photos[0].path), 0
            return
        frames = read_frames(photos[0].path, [str(photo.frame) for photo in photos])
    except BadImage as error:
        yield from [(str(error), 0)] * len(photos)
        return
    for photo, frame in zip(photos, frames, strict=True):
        if frame is None:
            yield f"frame {photo.frame} cannot be decoded", 0
        else:
            yield frame.image, frame.index


def _find_one(
    photo: Sample,
    stamp: str,
    image: NDArray[np.uint8] | str,
    index: int,
    folder: Path,
    finder: FaceFinder,
    scale: float,
) -> _Found:
    def without(reason: str, *, unreadable: bool = False) -> _Found:
        return _Found(photo.name, stamp, None, None, reason, unreadable)

    if isinstance(image, str):
        return without(image, unreadable=True)
    if photo.box_rule is None:
        face = choose_face(finder.find(image))
        if isinstance(face, Undecided):
            return without(WORDS[face.reason])
    else:
        try:
            face = Face(box=box_of(photo, image, index), landmarks=None, confidence=1.0)
        except NoBox as error:
            return without(str(error))
        if face.side < MIN_SIDE_PX:
            return without(WORDS["face_too_small"])
        if photo.box_rule in UNCUT:
            return _Found(photo.name, stamp, list(face.box), None, None, uncut=True)
    part, box, points = cut_out(image, face, scale)
    done, data = cv2.imencode(".png", cv2.cvtColor(part, cv2.COLOR_RGB2BGR))
    assert done
    path = _cut_path(folder, photo.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, data.tobytes())
    return _Found(photo.name, stamp, box, points, None)


def _cut_path(folder: Path, name: str) -> Path:
    """Mirrors the photo's own path; the ending is added, so a.jpg and a.png stay apart."""
    return folder / "cuts" / f"{name}.png"


def _stamp(path: Path) -> str:
    try:
        status = path.stat()
    except OSError:
        return "missing"
    return f"{status.st_size} {status.st_mtime_ns}"


def _holds(record: _Found | None, stamp: str, folder: Path) -> bool:
    if record is None or record.stamp != stamp:
        return False
    return record.uncut or record.reason is not None or _cut_path(folder, record.name).is_file()


def _read_journal(path: Path) -> dict[str, _Found]:
    """The last record of each photo; a line that a kill cut short is passed over."""
    if not path.is_file():
        return {}
    known: dict[str, _Found] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            values: dict[str, Any] = json.loads(line)
            record = _Found(**values)
        except (json.JSONDecodeError, TypeError):
            continue
        known[record.name] = record
    return known


def _as_cut(sample: Sample, record: _Found, folder: Path) -> Sample:
    """Depth and infrared images no longer lie over the cut-out, so they are left out."""
    assert record.box is not None
    x, y, width, height = record.box
    if record.uncut:
        return replace(sample, box=(x, y, width, height), box_rule=None)
    points = record.landmarks and tuple((px, py) for px, py in record.landmarks)
    return replace(
        sample,
        path=_cut_path(folder, sample.name),
        box=(x, y, width, height),
        landmarks=points or None,
        depth_path=None,
        ir_path=None,
        frame=None,
        box_rule=None,
    )


def _notes(photos: Sequence[Sample], found: dict[str, _Found], detector: str) -> list[str]:
    """How many faces were found, and where none were, by class: a bias that a user should see."""
    good = sum(record.reason is None for record in found.values())
    rules = {photo.box_rule or detector for photo in photos}
    notes = [f"faces were found in {good} of {len(photos)} photos by {', '.join(sorted(rules))}"]
    lost = Counter(
        ("bona fide" if photo.bona_fide else "attack", found[photo.name].reason)
        for photo in photos
        if found[photo.name].reason and not found[photo.name].unreadable
    )
    if lost:
        counts = ", ".join(f"{n} {kind}: {reason}" for (kind, reason), n in sorted(lost.items()))
        notes.append(f"photos without one usable face are skipped ({counts})")
    if any((p.depth_path or p.ir_path) and p.box_rule not in UNCUT for p in photos):
        notes.append("depth and infrared images of photos without a face box are not used")
    return notes
