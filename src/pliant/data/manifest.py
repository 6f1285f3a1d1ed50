"""The manifest: a CSV that lists samples; any data set plugs in through it without code.

Columns: path and bona_fide (or label, for other tasks) are needed; subject, pai_species, session,
split, clip, device, depth_path, ir_path, box_x, box_y, box_w, box_h and ten landmark coordinates
are optional; further columns are ignored. Paths are relative to the CSV and must stay beneath it.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pliant.errors import UserError
from pliant.runtime.files import write_atomic

SPLITS = ("train", "dev", "test")
MAX_BYTES = 500_000_000
MAX_ROWS = 5_000_000
BOX = ("box_x", "box_y", "box_w", "box_h")
LANDMARKS = tuple(
    f"{point}_{axis}"
    for point in ("right_eye", "left_eye", "nose", "mouth_right", "mouth_left")
    for axis in "xy"
)
TEXTS = ("subject", "session", "clip", "device", "label")
COLUMNS = (
    *("path", "subject", "bona_fide", "pai_species", "session", "split", "clip", "device"),
    *("label", "depth_path", "ir_path", *BOX, *LANDMARKS),
)
TRUE, FALSE = ("1", "true", "yes"), ("0", "false", "no")


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One image and what is known of it."""

    path: Path
    """Absolute."""
    bona_fide: bool | None = None
    """None for tasks other than anti-spoofing."""
    pai_species: str | None = None
    """Kind of attack; None for bona fide, or where it is not known."""
    subject: str | None = None
    """Whose face; never on two sides of a split."""
    session: str | None = None
    """Which recording session."""
    split: str | None = None
    """train, dev or test; None where the data does not say."""
    clip: str | None = None
    """Frames of one presentation share it."""
    device: str | None = None
    """The camera."""
    depth_path: Path | None = None
    """Absolute; 16-bit depth."""
    ir_path: Path | None = None
    """Absolute; infrared."""
    box: tuple[float, float, float, float] | None = None
    """Face box x, y, width, height in pixels."""
    landmarks: tuple[float, ...] | None = None
    """Eyes, nose, mouth corners: ten coordinates in pixels."""
    label: str | None = None
    """Class name, for tasks other than anti-spoofing."""

    @property
    def presentation(self) -> str:
        """The unit of evaluation: the clip, or this image alone."""
        return self.clip or str(self.path)


def read_manifest(path: str | Path) -> list[Sample]:
    """The samples of a manifest CSV.

    Raises:
        UserError: if the file is missing, too large, no such CSV, or a row is wrong; with its line.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no such manifest: {path}")
    if path.stat().st_size > MAX_BYTES:
        raise UserError(f"{path} is larger than {MAX_BYTES} bytes; split it")
    root = path.resolve().parent
    with path.open(newline="", encoding="utf-8-sig") as file:
        try:
            rows = csv.DictReader(file)
            names = set(rows.fieldnames or ())
            if "path" not in names or not names & {"bona_fide", "label"}:
                raise UserError(
                    f"{path} is no manifest: its first line must name the columns path and "
                    f"bona_fide (or label), got {', '.join(rows.fieldnames or ['nothing'])}"
                )
            samples = []
            for row in rows:
                if len(samples) >= MAX_ROWS:
                    raise UserError(f"{path} has more than {MAX_ROWS} rows; split it")
                samples.append(_sample(row, root, f"{path}, line {rows.line_num}"))
        except (csv.Error, UnicodeDecodeError) as problem:
            raise UserError(f"{path} is no CSV in UTF-8: {problem}") from problem
    if not samples:
        raise UserError(f"{path} lists no samples")
    return samples


def write_manifest(samples: Sequence[Sample], path: str | Path) -> None:
    """Writes a manifest; paths become relative to its folder.

    Raises:
        UserError: if a sample lies outside that folder.
    """
    path = Path(path)
    root = path.resolve().parent
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    for sample in samples:
        writer.writerow(_row(sample, root, path))
    write_atomic(path, text.getvalue())


def _row(sample: Sample, root: Path, manifest: Path) -> dict[str, object]:
    def relative(file: Path | None) -> str:
        if file is None:
            return ""
        try:
            return file.resolve().relative_to(root).as_posix()
        except ValueError:
            raise UserError(f"{file} lies outside {root}, the folder of {manifest}") from None

    row: dict[str, object] = {
        name: getattr(sample, name) or "" for name in (*TEXTS, "pai_species", "split")
    }
    row |= {
        "path": relative(sample.path),
        "depth_path": relative(sample.depth_path),
        "ir_path": relative(sample.ir_path),
        "bona_fide": "" if sample.bona_fide is None else int(sample.bona_fide),
    }
    for names, values in ((BOX, sample.box), (LANDMARKS, sample.landmarks)):
        if values is not None:
            row |= {name: round(v, 2) for name, v in zip(names, values, strict=True)}
    return row


def _sample(row: Mapping[str, str | None], root: Path, where: str) -> Sample:
    cells = {name: (value or "").strip() for name, value in row.items() if isinstance(name, str)}

    def file(name: str) -> Path | None:
        text = cells.get(name, "")
        if not text:
            return None
        found = (root / text).resolve()
        if not found.is_relative_to(root):
            raise UserError(f'{where}: {name} "{text}" leaves the folder {root}')
        return found

    def numbers(names: Sequence[str]) -> tuple[float, ...] | None:
        texts = [cells.get(name, "") for name in names]
        if not any(texts):
            return None
        try:
            return tuple(float(text) for text in texts)
        except ValueError:
            raise UserError(
                f"{where}: {', '.join(names)} must all be numbers, or all empty, got {texts}"
            ) from None

    path = file("path")
    if path is None:
        raise UserError(f"{where}: the path is empty")
    truth = cells.get("bona_fide", "").lower()
    if truth not in (*TRUE, *FALSE, ""):
        raise UserError(f'{where}: bona_fide must be 1 or 0, got "{truth}"')
    if not truth and not cells.get("label"):
        raise UserError(f"{where}: neither bona_fide nor label is given")
    split = cells.get("split", "") or None
    if split is not None and split not in SPLITS:
        raise UserError(f'{where}: split must be {", ".join(SPLITS)} or empty, got "{split}"')
    box = numbers(BOX)
    if box is not None and not (box[2] > 0 and box[3] > 0):
        raise UserError(f"{where}: the face box must have an area, got {box}")
    return Sample(
        path=path,
        bona_fide=truth in TRUE if truth else None,
        pai_species=cells.get("pai_species") or None,
        split=split,
        depth_path=file("depth_path"),
        ir_path=file("ir_path"),
        box=box,  # type: ignore[arg-type]
        landmarks=numbers(LANDMARKS),
        **{name: cells.get(name) or None for name in TEXTS},
    )
