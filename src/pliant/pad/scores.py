"""A set of scores with their labels: what every measure of `pliant.pad` takes in.

Score convention: a score lies in [0, 1] and higher means more bona fide; a presentation is
accepted iff score >= threshold (a tie is accepted). The unit is the presentation: frames of one
clip are pooled before anything is counted.

Shapes: N = rows, K = species.
"""

import csv
import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float64, Int8, Int32, Int64, Shaped

from pliant.errors import UserError
from pliant.pad.columns import all_distinct, factorise, row_names, texts
from pliant.pad.score_csv import COLUMNS, read_columns
from pliant.runtime.files import write_atomic

UNNAMED_SPECIES = "unnamed"
"""Species of an attack whose species nobody recorded."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Scores:
    """Scores with labels, one row per frame or presentation; fields are turned into arrays.

    Raises:
        UserError: on rows of unequal number, a score that is NaN or outside [0, 1], or a
            bona fide row that names an attack species.
    """

    subject: Shaped[np.ndarray, " N"]
    """Who is (or is imitated) before the camera; empty where unknown."""
    presentation: Shaped[np.ndarray, " N"]
    """Clip, or image where there is no clip; frames of one presentation share it."""
    bona_fide: Bool[np.ndarray, " N"]
    """True for a bona fide presentation, False for an attack."""
    species: Shaped[np.ndarray, " N"]
    """Attack species; empty on bona fide rows."""
    score: Float64[np.ndarray, " N"]
    """In [0, 1]; higher is more bona fide."""

    def __post_init__(self) -> None:
        bona_fide = np.asarray(self.bona_fide)
        if bona_fide.dtype != bool:
            raise ValueError(
                f"bona_fide must hold booleans (True: bona fide), got {bona_fide.dtype}; a bare "
                "0/1 does not say which class is which"
            )
        score = np.asarray(self.score, dtype=np.float64)
        arrays = {
            "subject": texts(self.subject),
            "presentation": texts(self.presentation),
            "bona_fide": bona_fide,
            "species": texts(self.species),
            "score": score,
        }
        lengths = {name: array.shape for name, array in arrays.items()}
        if any(shape != (len(score),) for shape in lengths.values()):
            raise UserError(f"scores need as many rows in every column, got shapes {lengths}")
        names = arrays["presentation"]
        wrong = np.flatnonzero(~((score >= 0) & (score <= 1)))  # also catches NaN
        if len(wrong):
            raise UserError(
                f"score {score[wrong[0]]} of presentation {str(names[wrong[0]])!r} "
                f"({len(wrong)} such rows) is not a number in [0, 1]; give the probability of "
                "bona fide, higher = more bona fide"
            )
        species = arrays["species"]
        wrong = np.flatnonzero(arrays["bona_fide"] & (species != ""))
        if len(wrong):
            raise UserError(
                f"presentation {str(names[wrong[0]])!r} is bona fide and yet names "
                f"the attack species {str(species[wrong[0]])!r} ({len(wrong)} such rows); leave "
                "species empty for bona fide, or correct the label"
            )
        unnamed = ~bona_fide & (species == "")
        if unnamed.any():
            arrays["species"] = np.where(unnamed, UNNAMED_SPECIES, species)
        for name, array in arrays.items():
            object.__setattr__(self, name, array)

    @classmethod
    def of(
        cls,
        score: Sequence[float] | np.ndarray,
        bona_fide: Sequence[bool] | np.ndarray,
        *,
        species: Sequence[str | None] | np.ndarray | None = None,
        subject: Sequence[str | None] | np.ndarray | None = None,
        presentation: Sequence[str | None] | np.ndarray | None = None,
    ) -> "Scores":
        """The same from plain lists; without `presentation` every row is one of its own."""
        blank = np.zeros(len(score), dtype="U1")
        return cls(
            subject=blank if subject is None else texts(subject),
            presentation=row_names(len(score)) if presentation is None else texts(presentation),
            bona_fide=np.asarray(bona_fide) if len(bona_fide) else np.zeros(0, dtype=bool),
            species=blank if species is None else texts(species),
            score=np.asarray(score, dtype=np.float64),
        )

    def __len__(self) -> int:
        return len(self.score)

    def __getitem__(self, rows: np.ndarray) -> "Scores":
        """The chosen rows, by mask or by index."""
        return Scores(**{name: getattr(self, name)[rows] for name in COLUMNS})

    @cached_property
    def classes(self) -> Int8[np.ndarray, " N"] | Int32[np.ndarray, " N"]:
        """-1 on bona fide rows, else the place of the species in `species_names`."""
        names, codes = self._species
        shift = int(len(names) > 0 and names[0] == "")  # of bona fide rows
        return (codes - shift).astype(np.int8 if len(names) < 100 else np.int32)

    @cached_property
    def species_names(self) -> list[str]:
        """Attack species present, sorted."""
        return [str(name) for name in self._species[0] if name != ""]

    @cached_property
    def num_subjects(self) -> int:
        """Number of distinct named subjects; 0 when none is named."""
        named = self.subject != ""
        return len(factorise(self.subject[named])[0]) if named.any() else 0

    @cached_property
    def clusters(self) -> Int64[np.ndarray, " N"]:
        """Index of the resampling unit of each row: its subject, or itself where unknown."""
        named = self.subject != ""
        cluster = np.zeros(len(self), dtype=np.int64)
        if named.any():
            cluster[named] = factorise(self.subject[named])[1]
        lone = np.flatnonzero(~named)
        cluster[lone] = self.num_subjects + np.arange(len(lone))
        return cluster

    @cached_property
    def are_presentations(self) -> bool:
        """Whether every row is a presentation of its own; False may be a clash of hashes."""
        return all_distinct(self.subject, self.presentation)

    @cached_property
    def _species(self) -> tuple[Shaped[np.ndarray, " K"], Int64[np.ndarray, " N"]]:
        return factorise(self.species)

    @cached_property
    def sha256(self) -> str:
        """Hash of the rows, whatever their order."""
        rows = sorted(json.dumps(row) for row in _rows(self))
        return hashlib.sha256("\n".join(rows).encode()).hexdigest()


def _rows(scores: Scores) -> list[tuple[str, str, str, str, str]]:
    return [
        (str(subject), str(presentation), "true" if bona_fide else "false", str(species), repr(s))
        for subject, presentation, bona_fide, species, s in zip(
            scores.subject,
            scores.presentation,
            scores.bona_fide,
            scores.species,
            scores.score.tolist(),
            strict=True,
        )
    ]


def pool_presentations(scores: Scores) -> Scores:
    """One row per presentation of each subject, its score the mean over its frames.

    Rows that are presentations already come back unchanged. Frames are no independent trials, so
    everything that counts errors pools first.

    Raises:
        UserError: if frames of one presentation differ in label or species.
    """
    if not len(scores):
        return scores
    if scores.are_presentations:
        return scores
    presentation, code = factorise(scores.presentation)
    key = factorise(scores.subject)[1] * len(presentation) + code
    if len(np.unique(key)) == len(scores):  # a clash of hashes, no frames
        return scores
    ordered = scores[np.lexsort((scores.score, key))]  # by score too: the sum ignores row order
    key = np.sort(key)
    first = np.flatnonzero(np.r_[True, key[1:] != key[:-1]])
    frames = np.diff(np.r_[first, len(key)])
    of_frame = np.repeat(first, frames)
    same = (ordered.bona_fide == ordered.bona_fide[of_frame]) & (
        ordered.species == ordered.species[of_frame]
    )
    if not same.all():
        row = int(np.flatnonzero(~same)[0])
        raise UserError(
            f"presentation {str(ordered.presentation[row])!r} of subject "
            f"{str(ordered.subject[row])!r} has frames of different label or species; give each "
            "clip a name of its own"
        )
    return Scores(
        subject=ordered.subject[first],
        presentation=ordered.presentation[first],
        bona_fide=ordered.bona_fide[first],
        species=ordered.species[first],
        score=np.add.reduceat(ordered.score, first) / frames,
    )


def write_scores(scores: Scores, path: Path | str) -> None:
    """Writes the rows as CSV (`COLUMNS`; `bona_fide` as true or false), to the last digit."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(_rows(scores))
    write_atomic(Path(path), text.getvalue())


def read_scores(path: Path | str) -> Scores:
    """The rows of a scores CSV (pliant.pad.score_csv), which must all have a score.

    Raises:
        UserError: if the file cannot be read, a column is missing or a cell makes no sense, with
            the line's number.
    """
    read = read_columns(path)
    silent = np.flatnonzero(np.isnan(read.score))
    if len(silent):
        raise UserError(
            f"{path}, line {read.line[silent[0]]}: no score ({read.reason[silent[0]]}); these "
            "scores must all be there, only `pliant pad` counts non-responses"
        )
    return Scores(**{name: getattr(read, name) for name in COLUMNS})
