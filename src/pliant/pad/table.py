"""A score file as a whole: scores, presentations that got no response, and columns to slice by.

A non-response is a presentation for which the system gave no score (no face found, a time-out). It
is counted in APNRR and BPNRR and never dropped. The unit is the presentation: frames of one clip
are pooled (mean over those that got a response) before anything is counted, and a clip got no
response only if none of its frames did.

Shapes: N = rows, P = presentations.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Bool, Float64, Shaped

from pliant.errors import UserError
from pliant.pad.columns import all_distinct, factorise
from pliant.pad.declared import undeclared_row
from pliant.pad.score_csv import BOB_COLUMNS, COLUMNS, MATCH, REASON, finite, read_columns
from pliant.pad.scores import UNNAMED_SPECIES, Scores
from pliant.runtime.files import sha256_file, write_atomic

FRAME = "frame"
"""A column that numbers the frames of a presentation: where it is there, frames are pooled."""
MIXED = "mixed"
"""Value of a text column whose frames within one presentation differ."""
Frames = Literal["refuse", "mean"]


@dataclass(frozen=True, kw_only=True, eq=False)
class ScoreTable:
    """One row per presentation, or per frame before `pool`."""

    subject: Shaped[np.ndarray, " N"]
    presentation: Shaped[np.ndarray, " N"]
    bona_fide: Bool[np.ndarray, " N"]
    species: Shaped[np.ndarray, " N"]
    """Attack species; empty on bona fide rows."""
    score: Float64[np.ndarray, " N"]
    """In [0, 1]; NaN for a non-response."""
    reason: Shaped[np.ndarray, " N"]
    """Why there is no score; empty where there is one."""
    extra: Mapping[str, Shaped[np.ndarray, " N"]] = field(default_factory=dict)
    """Further columns as text: slices, and durations (`..._ms`)."""
    source: str = "memory"
    """Where the rows come from, in words."""
    sha256: str | None = None
    """Hash of the file; None where there is none."""
    num_frames: int = 0
    """Rows before frames were pooled; 0: nothing was pooled."""

    def __post_init__(self) -> None:
        unnamed = ~self.bona_fide & (self.species == "")
        if unnamed.any():
            named = np.where(unnamed, UNNAMED_SPECIES, self.species)
            object.__setattr__(self, "species", named)
        wrong = np.flatnonzero(self.bona_fide & (self.species != ""))
        if len(wrong):
            raise UserError(
                f"{self.source}: presentation {str(self.presentation[wrong[0]])!r} is bona fide "
                f"and yet names the attack species {str(self.species[wrong[0]])!r} "
                f"({len(wrong)} such rows); leave species empty for bona fide, or correct the label"
            )

    @classmethod
    def of(cls, scores: Scores, **columns: Sequence[object] | np.ndarray) -> "ScoreTable":
        """Scores that all got a response, with further columns to slice by."""
        own = {name: getattr(scores, name) for name in COLUMNS}
        extra = {name: np.asarray([str(v) for v in column]) for name, column in columns.items()}
        return cls(**own, reason=np.zeros(len(scores), dtype="U1"), extra=extra)

    def __len__(self) -> int:
        return len(self.score)

    def __getitem__(self, rows: np.ndarray) -> "ScoreTable":
        """The chosen rows, by mask or by index."""
        return ScoreTable(
            **{name: getattr(self, name)[rows] for name in (*COLUMNS, REASON)},
            extra={name: column[rows] for name, column in self.extra.items()},
            source=self.source,
            sha256=self.sha256,
            num_frames=self.num_frames,
        )

    @cached_property
    def responded(self) -> Bool[np.ndarray, " N"]:
        """Whether there is a score."""
        return ~np.isnan(self.score)

    @cached_property
    def silent_species(self) -> list[str]:
        """Attack species of which no presentation got a response: no APCER speaks of them."""
        made, heard = (self.species[~self.bona_fide & rows] for rows in (True, self.responded))
        return sorted(set(made.tolist()) - set(heard.tolist()))

    @cached_property
    def scores(self) -> Scores:
        """The rows that got a response, in the same order."""
        rows = slice(None) if self.responded.all() else self.responded
        return Scores(**{name: getattr(self, name)[rows] for name in COLUMNS})

    def pool(self, frames: Frames = "refuse") -> "ScoreTable":
        """One row per presentation of each subject.

        Args:
            frames: `refuse` takes two rows of one presentation for a mistake, unless a column
                `frame` tells them apart; `mean` takes them for frames.

        Raises:
            UserError: for presentations that occur twice, or whose frames differ in label.
        """
        if frames not in get_args(Frames):
            raise UserError(f"frames must be one of {', '.join(get_args(Frames))}, got {frames!r}")
        if all_distinct(self.subject, self.presentation):
            return self
        named, code = factorise(self.presentation)
        key = factorise(self.subject)[1] * len(named) + code
        order = np.lexsort((self.score, key))  # by score too: the sum ignores row order
        key = key[order]
        first = np.flatnonzero(np.r_[True, key[1:] != key[:-1]])
        if len(first) == len(self):
            return self
        rows = self[order]
        group = np.repeat(np.arange(len(first)), np.diff(np.r_[first, len(key)]))
        _check_frames(rows, first[group], group, frames)
        heard = rows.responded
        num = np.bincount(group, weights=heard)
        total = np.bincount(group, weights=np.where(heard, rows.score, 0.0))
        with np.errstate(invalid="ignore"):
            score = total / num
        return ScoreTable(
            **{name: getattr(rows, name)[first] for name in COLUMNS if name != "score"},
            score=score,
            reason=np.where(np.isnan(score), rows.reason[first], ""),
            extra={
                name: (
                    _pooled_match(column, heard, group)
                    if name == MATCH
                    else _pooled_column(column, first, group)
                )
                for name, column in rows.extra.items()
                if name != FRAME
            },
            source=self.source,
            sha256=self.sha256,
            num_frames=len(self),
        )


def _check_frames(rows: ScoreTable, head: np.ndarray, group: np.ndarray, frames: Frames) -> None:
    """Refuses rows that are no frames of one presentation; `head` is each row's first."""
    if frames == "refuse" and FRAME not in rows.extra:
        at = int(np.flatnonzero(head != np.arange(len(head)))[0])
        raise UserError(
            f"{rows.source}: presentation {str(rows.presentation[at])!r} of subject "
            f"{str(rows.subject[at])!r} occurs more than once; give each presentation a name of "
            "its own, or, if the rows are frames of one clip, say so (frames=mean)"
        )
    same = (rows.bona_fide == rows.bona_fide[head]) & (rows.species == rows.species[head])
    if not same.all():
        at = int(np.flatnonzero(~same)[0])
        raise UserError(
            f"{rows.source}: presentation {str(rows.presentation[at])!r} of subject "
            f"{str(rows.subject[at])!r} has frames of different label or species; give each "
            "clip a name of its own"
        )
    if FRAME in rows.extra:
        seen: set[tuple[int, str]] = set()
        for at, cell in enumerate(zip(group.tolist(), rows.extra[FRAME].tolist(), strict=True)):
            if cell in seen:
                raise UserError(
                    f"{rows.source}: frame {cell[1]!r} of presentation "
                    f"{str(rows.presentation[at])!r} occurs twice; leave one of them out"
                )
            seen.add(cell)


def _pooled_column(column: np.ndarray, first: np.ndarray, group: np.ndarray) -> np.ndarray:
    """The mean of numbers, empty cells aside; of other texts the one all share, else `mixed`."""
    filled = np.char.strip(column.astype(str)) != ""
    numbers = as_numbers(column[filled])
    if numbers is not None:
        of, num = group[filled], int(group[-1]) + 1
        total = np.bincount(of, weights=numbers, minlength=num)
        with np.errstate(invalid="ignore"):
            mean = total / np.bincount(of, minlength=num)
        return np.where(np.isnan(mean), "", mean.astype(str))
    differs = np.bincount(group, weights=column != column[first][group]) > 0
    return np.where(differs, MIXED, column[first])


def _pooled_match(column: np.ndarray, heard: np.ndarray, group: np.ndarray) -> np.ndarray:
    """The mean over the frames that got a response, as for scores; empty where none did."""
    numbers = [finite(cell) for cell in column[heard].tolist()]
    values = np.array([np.nan if one is None else one for one in numbers], dtype=np.float64)
    order = np.argsort(values)  # the sum ignores row order
    of, num = group[heard][order], int(group.max()) + 1
    total = np.bincount(of, weights=values[order], minlength=num)
    with np.errstate(invalid="ignore"):
        mean = total / np.bincount(of, minlength=num)
    return np.where(np.isnan(mean), "", mean.astype(str))


def as_numbers(column: Shaped[np.ndarray, " N"]) -> Float64[np.ndarray, " N"] | None:
    """The texts as finite numbers, or None where one is not."""
    try:
        numbers = column.astype(np.float64)
    except ValueError:
        return None
    return numbers if np.isfinite(numbers).all() else None


def read_table(
    path: Path | str, *, frames: Frames = "refuse", species: Sequence[str] | None = None
) -> ScoreTable:
    """The presentations of a scores CSV, pliant's or bob's (pliant.pad.score_csv).

    Args:
        path: The file.
        frames: As in `ScoreTable.pool`.
        species: The attack species declared, if any; every attack must name one of them.

    Raises:
        UserError: if the file cannot be read, or a row makes no sense, with its line.
    """
    return read_rows(path, species=species).pool(frames)


def read_rows(path: Path | str, *, species: Sequence[str] | None = None) -> ScoreTable:
    """The rows of a scores CSV in its order, frames not pooled; else as `read_table`."""
    path = Path(path)
    read = read_columns(path)
    found = species and undeclared_row(read.bona_fide, read.species, species)
    if found:
        raise UserError(f"{path}, line {read.line[found[0]]}: {found[1]}")
    return ScoreTable(
        **{name: getattr(read, name) for name in (*COLUMNS, REASON)},
        extra=read.extra,
        source=path.name,
        sha256=sha256_file(path),
    )


def write_table(table: ScoreTable, path: Path | str, *, bob: bool = False) -> None:
    """Writes the rows as CSV, to the last digit; `bob=True` under the names that bob uses.

    bob has no column for the reason of a non-response: there its score is empty, nothing else.

    Raises:
        UserError: if a further column has the name of one of these.
    """
    own = {column: name for name, column in BOB_COLUMNS.items()} if bob else {}
    names = [*COLUMNS, *([] if bob else [REASON])]
    taken = sorted({own.get(name, name) for name in names} & set(table.extra))
    if taken:
        raise UserError(
            f"{table.source} has a further column {taken[0]!r}, a name that the new file needs; "
            "rename it or leave it out"
        )
    truth = ("False", "True") if bob else ("false", "true")
    shown: dict[str, list[Any]] = {name: getattr(table, name).tolist() for name in names}
    shown["bona_fide"] = [truth[label] for label in shown["bona_fide"]]
    shown["score"] = ["" if value != value else repr(value) for value in shown["score"]]
    shown |= {name: column.tolist() for name, column in table.extra.items()}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([own.get(name, name) for name in shown])
    writer.writerows(zip(*shown.values(), strict=True))
    write_atomic(Path(path), text.getvalue())
