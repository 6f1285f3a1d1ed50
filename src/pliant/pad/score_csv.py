"""The rows of a scores CSV as columns, checked cell by cell; two spellings are read.

pliant: `subject, presentation, bona_fide, species, score`, and where wanted `reason` (why there is
no score), `frame`, `match_score` (of a comparator: any finite number, higher is more alike; empty
only where there is no score) and any other columns. bob (bob.pad.base): `claimed_id, test_label,
is_bonafide, attack_type, score`, where an empty or `nan` score means that there was no response.
`bona_fide` and `score` are needed, all else is optional.

Shapes: N = rows.
"""

import csv
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64, Shaped

from pliant.errors import UserError

COLUMNS = ("subject", "presentation", "bona_fide", "species", "score")
REASON = "reason"
MATCH = "match_score"
"""The comparator's score, for measures of the full system (pliant.pad.full_system)."""
BOB_COLUMNS = {
    "claimed_id": "subject",
    "test_label": "presentation",
    "is_bonafide": "bona_fide",
    "attack_type": "species",
    "score": "score",
}
"""Name in bob's files -> name here."""
BOB_REASON = "no score in the file"
ROWS_PER_CHUNK = 100_000
TRUTH = {"true": True, "false": False}


@dataclass(frozen=True, kw_only=True, eq=False)
class Columns:
    """One entry per row of the file, in its order."""

    subject: Shaped[np.ndarray, " N"]
    presentation: Shaped[np.ndarray, " N"]
    bona_fide: Bool[np.ndarray, " N"]
    species: Shaped[np.ndarray, " N"]
    score: Float64[np.ndarray, " N"]
    """In [0, 1]; NaN where there was no response."""
    reason: Shaped[np.ndarray, " N"]
    """Why there was none; empty where there is a score."""
    line: Int64[np.ndarray, " N"]
    """Where the row ends in the file, from 1."""
    extra: dict[str, Shaped[np.ndarray, " N"]]
    """Every other column as text."""


def read_columns(path: Path | str) -> Columns:
    """Every row of the file.

    Raises:
        UserError: if the file cannot be read or holds no row, a column is missing or twice there,
            or a cell makes no sense, with the line's number.
    """
    path = Path(path)
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            chunks = _read(path, csv.reader(file, strict=True))
    except (OSError, UnicodeDecodeError) as problem:
        raise UserError(f"cannot read the scores file {path}: {problem}") from problem
    if not chunks:
        raise UserError(f"{path} holds no scores")
    whole: dict[str, Any] = {
        name: np.concatenate([chunk.pop(name) for chunk in chunks]) for name in list(chunks[0])
    }
    own = {name: whole.pop(name) for name in (*COLUMNS, REASON, "line")}
    return Columns(**own, extra=whole)


def _read(path: Path, reader: Any) -> list[dict[str, np.ndarray]]:
    try:
        header, bob = _header(path, next(reader, []))
        return [
            _parse(path, header, rows, lines, bob=bob)
            for rows, lines in _chunks(path, reader, len(header))
        ]
    except csv.Error as problem:
        raise UserError(f"{path}, line {reader.line_num}: {problem}") from problem


def _header(path: Path, names: Sequence[str]) -> tuple[list[str], bool]:
    """The columns' names as used here, and whether they were bob's."""
    names = [name.strip() for name in names]
    bob = "is_bonafide" in names
    header = [BOB_COLUMNS.get(name, name) for name in names] if bob else names
    missing = [name for name in ("bona_fide", "score") if name not in header]
    if missing:
        raise UserError(
            f"{path} lacks the column {missing[0]!r}; a scores file has the columns "
            f"{', '.join(COLUMNS)} (or bob's: {', '.join(BOB_COLUMNS)})"
        )
    twice = next((name for name in header if header.count(name) > 1), None)
    if twice is not None:
        raise UserError(f"{path} has the column {twice!r} twice; leave one of them out")
    if "" in header or "line" in header:
        bad = "without a name" if "" in header else "named 'line', which means the file's lines"
        raise UserError(f"{path} has a column {bad}; give it another name")
    return header, bob


def _chunks(path: Path, reader: Any, width: int) -> Iterator[tuple[list[list[str]], list[int]]]:
    """Rows with the numbers of their lines, so many at a time; empty lines are no rows."""
    rows: list[list[str]] = []
    lines: list[int] = []
    for row in reader:
        if len(row) != width:
            if not row:
                continue
            raise UserError(
                f"{path}, line {reader.line_num}: {len(row)} cells where the header has {width}"
            )
        rows.append(row)
        lines.append(reader.line_num)
        if len(rows) == ROWS_PER_CHUNK:
            yield rows, lines
            rows, lines = [], []
    if rows:
        yield rows, lines


def _parse(
    path: Path, header: Sequence[str], rows: list[list[str]], lines: list[int], *, bob: bool
) -> dict[str, np.ndarray]:
    """One chunk, column by column."""
    cells = dict(zip(header, zip(*rows, strict=True), strict=True))
    blank = ("",) * len(rows)
    try:
        bona_fide = _each(cells["bona_fide"], _read_bool)
        reasons = cells.get(REASON, blank)
        score, reasons = _read_scores(cells["score"], reasons, bob=bob)
        _check_match(cells.get(MATCH, ()), np.isnan(score))
    except _BadCell as bad:
        raise UserError(f"{path}, line {lines[bad.row]}: {bad}") from bad
    named = [name.strip() for name in cells.get("presentation", blank)]
    parsed = {
        "subject": np.char.strip(np.array(cells.get("subject", blank))),
        "presentation": np.array(
            [name or f"line {line}" for name, line in zip(named, lines, strict=True)]
        ),
        "bona_fide": np.array(bona_fide, dtype=bool),
        "species": np.char.strip(np.array(cells.get("species", blank))),
        "score": score,
        REASON: np.array(reasons),
        "line": np.array(lines, dtype=np.int64),
    }
    others = {name: np.array(cells[name]) for name in header if name not in parsed}
    return parsed | others


class _BadCell(ValueError):
    """A cell that makes no sense, with the place of its row in the chunk."""

    def __init__(self, row: int, sentence: str) -> None:
        super().__init__(sentence)
        self.row = row


def _each(cells: Sequence[str], read: Any) -> list[Any]:
    """Every cell read; each distinct text is read once."""
    known: dict[str, Any] = {}
    for text in set(cells):
        try:
            known[text] = read(text)
        except ValueError as problem:
            raise _BadCell(cells.index(text), str(problem)) from problem
    return [known[text] for text in cells]


def _read_bool(text: str) -> bool:
    known = TRUTH.get(text.strip().lower())
    if known is None:
        raise ValueError(f"bona_fide is {text!r}; it must be true (bona fide) or false (attack)")
    return known


def _read_scores(
    cells: Sequence[str], reasons: Sequence[str], *, bob: bool
) -> tuple[np.ndarray, Sequence[str]]:
    """Scores, NaN for a non-response, and the reasons of those."""
    reasons = [reason.strip() for reason in reasons]
    if bob:
        silent = [cell.strip().lower() in ("", "nan") for cell in cells]
        reasons = [
            (reason or BOB_REASON) if none else reason
            for reason, none in zip(reasons, silent, strict=True)
        ]
        cells = ["" if none else cell for cell, none in zip(cells, silent, strict=True)]
    score = np.empty(len(cells))
    for row, (cell, reason) in enumerate(zip(cells, reasons, strict=True)):
        if reason:
            if cell.strip():
                raise _BadCell(
                    row, f"score is {cell!r} and yet a reason for having none is given ({reason!r})"
                )
            score[row] = np.nan
            continue
        try:
            value = float(cell)
        except ValueError:
            value = np.nan
        if not 0 <= value <= 1:
            hint = "" if cell.strip() else ", or empty with the reason in the column 'reason'"
            raise _BadCell(row, f"score is {cell!r}; it must be a number in [0, 1]{hint}")
        score[row] = value
    return score, reasons


def _check_match(cells: Sequence[str], silent: np.ndarray) -> None:
    """Refuses comparator scores that are no numbers; a non-response needs none."""
    for row, cell in enumerate(cells):
        if finite(cell) is None and (cell.strip() or not silent[row]):
            raise _BadCell(
                row, f"{MATCH} is {cell!r}; it must be a finite number (higher: more alike)"
            )


def finite(text: str) -> float | None:
    """The number that the text says; None if it says none, or none that is finite."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
