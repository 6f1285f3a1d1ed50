"""The manifest: a CSV that lists samples, so that any data set plugs in without code.

Columns: path and bona_fide (or label, the class name, for other tasks); optional: pai_species,
subject, session, split, clip, device, depth_path, ir_path, box_x box_y box_w box_h, and five
landmarks as right_eye_x ... mouth_left_y, in pixels of the image, named from the person's own side;
frame, where path is a video (see frames.py).
Other columns are ignored. A path is relative to the manifest's folder and may not leave it.
"""

import csv
import difflib
import io
import math
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pliant.errors import UserError
from pliant.runtime.files import write_atomic

MAX_BYTES = 500_000_000
MAX_ROWS = 5_000_000

BOX_COLUMNS = ("box_x", "box_y", "box_w", "box_h")
LANDMARK_COLUMNS = tuple(
    f"{point}_{axis}"
    for point in ("right_eye", "left_eye", "nose", "mouth_right", "mouth_left")
    for axis in "xy"
)
TEXT_COLUMNS = ("pai_species", "subject", "session", "clip", "device", "label")
COLUMNS = (
    "path", "bona_fide", "pai_species", "subject", "session", "split", "clip", "device", "label",
    "depth_path", "ir_path", *BOX_COLUMNS, *LANDMARK_COLUMNS, "frame",
)  # fmt: skip
SPLITS = {"train": "train", "dev": "dev", "val": "dev", "test": "test"}
"""Words for a split, and what each means here."""
FRAME = re.compile(
    r"(?:(?P<start>\d{1,6})\+)?(?P<k>\d{1,6})of(?P<parts>\d{1,6})|(?P<index>\d{1,6})"
)
"""How a frame of a video is named; frames.py says which one is meant."""
TRUTH = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One image with what is known of it."""

    path: Path
    """The colour image, absolute; or a video."""
    name: str = ""
    """The path as the data set names it, with forward slashes: the same on every machine."""
    bona_fide: bool | None = None
    """None for other tasks than anti-spoofing."""
    pai_species: str | None = None
    """What the attack was made with; None when bona fide or not recorded."""
    subject: str | None = None
    """Who is, or is imitated, before the camera."""
    session: str | None = None
    """When it was taken."""
    split: str | None = None
    """`train`, `dev` or `test`; None where the data set does not say."""
    clip: str | None = None
    """Frames of one presentation share it."""
    device: str | None = None
    """What it was taken with."""
    depth_path: Path | None = None
    """16-bit depth image, absolute."""
    ir_path: Path | None = None
    """Infrared image, absolute."""
    box: tuple[float, float, float, float] | None = None
    """The face: x, y, width, height in pixels of the image."""
    landmarks: tuple[tuple[float, float], ...] | None = None
    """Right eye, left eye, nose, right and left corner of the mouth; x, y in pixels."""
    label: str | None = None
    """Class name, for other tasks than anti-spoofing."""
    frame: str | None = None
    """Which frame of the video at `path`, as frames.py names it; None: `path` is an image."""
    box_rule: str | None = None
    """How the face's box is found beside the image when that is read, a name of boxes.py."""

    @property
    def presentation(self) -> str:
        """The clip, or the image where there is no clip."""
        return self.clip or self.name or str(self.path)


@dataclass(frozen=True)
class Skipped:
    """An image that was left out, and why."""

    path: Path
    reason: str


def read_manifest(path: Path | str) -> list[Sample]:
    """The samples of a manifest in its order; whether the images exist is not checked here.

    Raises:
        UserError: naming file, line and what is allowed, if the file is missing, empty, too large,
            not a CSV in UTF-8, lacks a column, or a row has a value that is not allowed, a path
            that leaves the folder (links resolved), or a path that another row has.
    """
    path = Path(path)
    inside = _Inside(path.resolve().parent)
    samples: list[Sample] = []
    lines: dict[tuple[Path, str | None], int] = {}
    reader = csv.DictReader(io.StringIO(_text_of(path), newline=""), strict=True)
    try:
        _check_columns(path, reader.fieldnames or [])
        for row in reader:
            where = f"{path}, line {reader.line_num}"
            sample = _sample(row, where, inside)
            key = sample.path, sample.frame
            if key in lines:
                first = lines[key]
                raise UserError(f"{where}: {row['path']!r} is listed on line {first} already")
            lines[key] = reader.line_num
            samples.append(sample)
            if len(samples) > MAX_ROWS:
                raise UserError(f"{path} has more than {MAX_ROWS:,} rows; split it up")
    except csv.Error as error:
        line = reader.line_num + 1
        raise UserError(f"{path}, near line {line}: not a CSV row ({error})") from error
    if not samples:
        raise UserError(f"{path} lists no samples; it needs one row per image")
    return samples


def write_manifest(samples: Iterable[Sample], path: Path | str) -> None:
    """Write a manifest that `read_manifest` gives back; paths become relative to its folder.

    Raises:
        ValueError: if a sample's file lies outside the manifest's folder.
    """
    path = Path(path)
    folder = path.resolve().parent
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for sample in samples:
        truth = "" if sample.bona_fide is None else str(int(sample.bona_fide))
        texts = [getattr(sample, name) or "" for name in COLUMNS[2:9]]
        extra = [_relative(p, folder) if p else "" for p in (sample.depth_path, sample.ir_path)]
        box = sample.box or [""] * 4
        points = [v for p in sample.landmarks for v in p] if sample.landmarks else [""] * 10
        row = [_relative(sample.path, folder), truth, *texts, *extra, *box, *points]
        table.writerow([*row, sample.frame or ""])
    write_atomic(path, text.getvalue())


class _Inside:
    """Resolves the paths of a manifest and keeps them in its folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.resolved: dict[str, str] = {}  # folder by folder: a manifest has many rows in each

    def __call__(self, text: str, where: str) -> Path:
        if "\0" in text:
            raise UserError(f"{where}: a path holds a zero byte")
        given = os.path.join(self.folder, text.replace("\\", "/"))  # written on Windows, perhaps
        parent, name = os.path.split(given)
        if parent not in self.resolved:
            self.resolved[parent] = os.path.realpath(parent)
        path = os.path.join(self.resolved[parent], name)
        if name in ("", ".", "..") or os.path.islink(path):
            path = os.path.realpath(path)
        if not path.startswith(os.path.join(self.folder, "")):
            raise UserError(
                f"{where}: {text!r} leads out of {self.folder}; paths must stay in the manifest's "
                "folder, links resolved"
            )
        return Path(path)


def _text_of(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UserError(f"{path} is larger than {MAX_BYTES // 10**6} MB; split it up")
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"no such manifest: {path}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not text in UTF-8 (byte {error.start})") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error


def _check_columns(path: Path, names: Iterable[str]) -> None:
    """A misspelt optional column would silently switch a check off, so near misses are refused."""
    names = list(names)
    if not names:
        raise UserError(f"{path} is empty; it needs a header with path and bona_fide")
    for name in names:
        near = difflib.get_close_matches(name, COLUMNS, n=1, cutoff=0.8)
        if name not in COLUMNS and near and near[0] not in names:
            raise UserError(f"{path}: unknown column {name!r}; did you mean {near[0]!r}?")
    if "path" not in names or not {"bona_fide", "label"} & set(names):
        raise UserError(
            f"{path} needs the columns path and bona_fide (or label, for other tasks); it has "
            f"{', '.join(names[:30])}"
        )
    if twice := {name for name in names if names.count(name) > 1 and name in COLUMNS}:
        raise UserError(f"{path} has the column {', '.join(sorted(twice))} more than once")


def _sample(row: Mapping[str | None, str | None], where: str, inside: _Inside) -> Sample:
    if None in row or None in row.values():
        raise UserError(f"{where}: the row has more or fewer values than the header")

    def text(name: str) -> str:
        return (row.get(name) or "").strip()

    if not text("path"):
        raise UserError(f"{where}: path is empty")
    truth, split = text("bona_fide").lower(), text("split").lower()
    if truth and truth not in TRUTH:
        raise UserError(f"{where}: bona_fide is {truth!r}; allowed: 1, 0, true, false")
    if not truth and not text("label"):
        raise UserError(f"{where}: neither bona_fide (1 or 0) nor label is given")
    if split and split not in SPLITS:
        raise UserError(f"{where}: split is {split!r}; allowed: train, dev, test, or nothing")
    bona_fide = TRUTH[truth] if truth else None
    if bona_fide and text("pai_species"):
        raise UserError(f"{where}: bona fide, and yet pai_species is {text('pai_species')!r}")
    path = inside(text("path"), where)
    box = _numbers(row, BOX_COLUMNS, where)
    if box and not (box[2] > 0 and box[3] > 0):
        raise UserError(f"{where}: box_w and box_h must be > 0, got {box[2]:g} and {box[3]:g}")
    points = _numbers(row, LANDMARK_COLUMNS, where)
    frame = text("frame") or None
    if frame and not FRAME.fullmatch(frame):
        raise UserError(f"{where}: frame is {frame!r}; allowed: 12, 3of8, 6+1of2 and their like")
    name = path.relative_to(inside.folder).as_posix()
    return Sample(
        path=path,
        name=f"{name}#{frame}" if frame else name,
        frame=frame,
        bona_fide=bona_fide,
        split=SPLITS[split] if split else None,
        depth_path=inside(text("depth_path"), where) if text("depth_path") else None,
        ir_path=inside(text("ir_path"), where) if text("ir_path") else None,
        box=(box[0], box[1], box[2], box[3]) if box else None,
        landmarks=tuple(zip(points[::2], points[1::2], strict=True)) if points else None,
        **{name: text(name) or None for name in TEXT_COLUMNS},
    )


def _numbers(
    row: Mapping[str | None, str | None], names: tuple[str, ...], where: str
) -> list[float] | None:
    """All of the columns as finite numbers, or None where all are empty."""
    texts = [(row.get(name) or "").strip() for name in names]
    if not any(texts):
        return None
    values = []
    for name, given in zip(names, texts, strict=True):
        try:
            value = float(given)
        except ValueError:
            value = math.nan
        if not abs(value) < 1e6:
            raise UserError(
                f"{where}: {name} is {given!r}; needed: a number in pixels, for all of "
                f"{names[0]} ... {names[-1]} or for none"
            )
        values.append(value)
    return values


def _relative(path: Path, folder: Path) -> str:
    return Path(os.path.abspath(path)).relative_to(folder).as_posix()
