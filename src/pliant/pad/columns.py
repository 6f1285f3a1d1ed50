"""Columns of names, millions of rows long: which values there are, and whether rows are distinct.

Names are compared by a 64-bit hash first, because sorting numbers is many times faster than
sorting strings; no result rests on the hash alone.

Shapes: N = rows, U = distinct values.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
from jaxtyping import Int64, Shaped, UInt64

FEW_ROWS = 50_000
"""Up to here plain sorting is as fast."""
ROWS_PER_CHUNK = 1_000_000
_FACTOR = np.uint64(0x9E3779B97F4A7C15)  # odd, so multiplying loses nothing


def texts(values: Iterable[Any]) -> Shaped[np.ndarray, " N"]:
    """The values as an array of strings, None as an empty one; such an array is not copied."""
    if isinstance(values, np.ndarray) and values.dtype.kind == "U":
        return values
    return np.asarray(["" if value is None else str(value) for value in values], dtype=str)


def row_names(num: int) -> Shaped[np.ndarray, " N"]:
    """`0`, `1`, `2` ... as strings, without a Python object for each."""
    width = max(1, len(str(num - 1)))
    letters = np.zeros((num, width), dtype=np.uint32)
    for digits in range(1, width + 1):
        rows = slice(0 if digits == 1 else 10 ** (digits - 1), min(num, 10**digits))
        rest = np.arange(rows.start, rows.stop, dtype=np.int64)
        for place in range(digits - 1, -1, -1):
            letters[rows, place] = ord("0") + rest % 10
            rest //= 10
    return letters.view(f"U{width}").reshape(-1)


def hashes(*columns: Shaped[np.ndarray, " N"]) -> UInt64[np.ndarray, " N"]:
    """One number per row; rows whose texts are equal have equal ones."""
    mixed = np.zeros(len(columns[0]), dtype=np.uint64)
    for column in columns:
        letters = np.ascontiguousarray(column).view(np.uint32).reshape(len(column), -1)
        for place in range(letters.shape[1]):
            mixed ^= letters[:, place]
            mixed *= _FACTOR
            mixed ^= mixed >> np.uint64(29)
    return mixed


def all_distinct(*columns: Shaped[np.ndarray, " N"]) -> bool:
    """Whether no two rows agree in every column; a clash of hashes counts as agreement."""
    found = np.sort(hashes(*columns))
    return not bool((found[1:] == found[:-1]).any())


def factorise(
    values: Shaped[np.ndarray, " N"],
) -> tuple[Shaped[np.ndarray, " U"], Int64[np.ndarray, " N"]]:
    """The distinct values, sorted, and the place of each row's value among them."""
    if len(values) > FEW_ROWS:
        _, first, codes = np.unique(hashes(values), return_index=True, return_inverse=True)
        names, codes = values[first], codes.reshape(-1)
        if _spells(names, codes, values):
            order = np.argsort(names)
            rank = np.empty(len(order), dtype=np.int64)
            rank[order] = np.arange(len(order))
            return names[order], rank[codes]
    names, codes = np.unique(values, return_inverse=True)
    return names, codes.reshape(-1).astype(np.int64)


def _spells(names: np.ndarray, codes: np.ndarray, values: np.ndarray) -> bool:
    """Whether the codes give every value back, so that no two values shared a hash."""
    chunks = (slice(i, i + ROWS_PER_CHUNK) for i in range(0, len(values), ROWS_PER_CHUNK))
    return all(bool((names[codes[rows]] == values[rows]).all()) for rows in chunks)
