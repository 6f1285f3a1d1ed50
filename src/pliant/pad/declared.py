"""Declared attack species: those that a score file may name, each spelt in one way.

A misspelt species counts as one more species with few attacks, while the right one loses them; and
one that was never captured is missed by nobody. A list given by hand shows both.

Shapes: N = rows.
"""

import difflib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Shaped

from pliant.errors import UserError
from pliant.pad.scores import UNNAMED_SPECIES


def declared_species(given: Sequence[str] | str) -> tuple[str, ...]:
    """The names of a list, or of a text with commas between them.

    Raises:
        UserError: if there is none, one is empty, given twice, or means an attack without one.
    """
    names = [str(name).strip() for name in (given.split(",") if isinstance(given, str) else given)]
    twice = next((name for name in names if names.count(name) > 1), None)
    if not names or "" in names:
        raise UserError(f"the declared species {given!r} must be names, e.g. print,replay,mask")
    if twice is not None:
        raise UserError(f"species {twice!r} is declared twice; leave one of them out")
    if UNNAMED_SPECIES in names:
        raise UserError(
            f"species {UNNAMED_SPECIES!r} cannot be declared: it stands for attacks that name none"
        )
    return tuple(names)


def undeclared_row(
    bona_fide: Bool[np.ndarray, " N"], species: Shaped[np.ndarray, " N"], declared: Sequence[str]
) -> tuple[int, str] | None:
    """The first attack of none of the declared species, and what is wrong with it in words."""
    wrong = np.flatnonzero(~bona_fide & ~np.isin(species, list(declared)))
    if not len(wrong):
        return None
    row, name = int(wrong[0]), str(species[wrong[0]])
    if name in ("", UNNAMED_SPECIES):
        return row, f"an attack names no species; name one of those declared: {_list(declared)}"
    near = difflib.get_close_matches(name, declared, n=1, cutoff=0.5) or [
        one for one in declared if one.lower() == name.lower()
    ]
    hint = f'; did you mean "{near[0]}"?' if near else ""
    return row, f"species {name!r} is not declared{hint} (declared: {_list(declared)})"


def untested(species: Shaped[np.ndarray, " N"], declared: Sequence[str]) -> list[str]:
    """A sentence for each declared species without any presentation."""
    held = set(np.unique(species).tolist())
    return [
        f"species {name} was not tested: it was declared, and no presentation is of it"
        for name in declared
        if name not in held
    ]


def _list(declared: Sequence[str]) -> str:
    return ", ".join(declared)
