"""JSON from a file that nobody vouches for, and checked access to its fields."""

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pliant.errors import UserError

MAX_DEPTH = 32
"""Objects and lists inside one another; deeper ones exhaust the parser's stack."""
MAX_WHOLE = 2**63 - 1
SHA256 = re.compile("[0-9a-f]{64}")


def load_json(data: bytes, where: str) -> Any:
    """The parsed value; only what every JSON parser reads the same way.

    Args:
        data: UTF-8 text.
        where: The file's name, for the refusal.

    Raises:
        UserError: if it is not JSON, names a key twice, holds NaN or an infinity, or is nested
            deeper than `MAX_DEPTH`.
    """
    try:
        value = json.loads(
            data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant
        )
    except (ValueError, RecursionError) as problem:  # UnicodeDecodeError and JSONDecodeError too
        raise UserError(f"{where} is damaged: {str(problem)[:120]}") from problem
    layer, depth = [value], 0
    while layer:
        depth += 1
        if depth > MAX_DEPTH:
            raise UserError(f"{where} is nested deeper than {MAX_DEPTH} levels")
        layer = [child for parent in layer for child in _children(parent)]
    return value


def is_number(value: Any) -> bool:
    """Whether it is a finite number that a float64 can hold, and no boolean."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= MAX_WHOLE if isinstance(value, int) else math.isfinite(value)


def path_of(given: Any, what: str) -> Path:
    """The path that a caller gave.

    Raises:
        UserError: if it is neither a text nor a Path.
    """
    if not isinstance(given, str | Path):
        raise UserError(f"{what} is named by a path, got {type(given).__name__}")
    return Path(given)


class Fields:
    """A JSON object whose fields are checked as they are read; every refusal names the field."""

    def __init__(self, record: Any, where: str) -> None:
        if not isinstance(record, dict):
            raise UserError(f"{where} must be a JSON object")
        self.given: dict[str, Any] = record
        self.where = where

    def refuse(self, name: str, allowed: str) -> UserError:
        shown = repr(self.given.get(name))[:100]
        return UserError(f"{self.where}: {name} must be {allowed}, got {shown}")

    def exactly(self, *names: str) -> None:
        """Refuses an object that lacks one of these fields, or holds another one."""
        if missing := [name for name in names if name not in self.given]:
            raise UserError(f"{self.where} has no field {missing[0]}")
        if unknown := sorted(set(self.given) - set(names)):
            raise UserError(f"{self.where} has an unknown field: {unknown[0][:80]!r}")

    def text(
        self, name: str, *, among: Sequence[str] = (), least: int = 0, most: int = 4096
    ) -> str:
        """A text without control characters (they could rewrite a terminal), line feeds apart."""
        value: Any = self.given.get(name)
        if isinstance(value, str) and len(value) < least:
            raise self.refuse(name, "a text that is not empty")
        if not isinstance(value, str) or len(value) > most or (among and value not in among):
            raise self.refuse(name, ", ".join(among) if among else f"a text of at most {most}")
        if not value.replace("\n", "").isprintable():
            raise self.refuse(name, "printable text")
        return value

    def whole(self, name: str, least: int, most: int) -> int:
        value: Any = self.given.get(name)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise self.refuse(name, f"a whole number in [{least}, {most}]")
        return value

    def number(self, name: str, least: float, most: float) -> float:
        value: Any = self.given.get(name)
        if not is_number(value) or not least <= value <= most:
            raise self.refuse(name, f"a number in [{least:g}, {most:g}]")
        return float(value)

    def numbers(self, name: str, count: int, least: float, most: float) -> tuple[float, ...]:
        value: Any = self.given.get(name)
        right = isinstance(value, list) and len(value) == count and all(map(is_number, value))
        if not right or not all(least <= one <= most for one in value):
            raise self.refuse(name, f"{count} numbers in [{least:g}, {most:g}]")
        return tuple(map(float, value))

    def listed(self, name: str, least: int, most: int) -> list[Any]:
        value: Any = self.given.get(name)
        if not isinstance(value, list) or not least <= len(value) <= most:
            raise self.refuse(name, f"a list of {least} to {most}")
        return value

    def mapping(self, name: str) -> dict[str, Any]:
        value: Any = self.given.get(name)
        if not isinstance(value, dict):
            raise self.refuse(name, "a JSON object")
        return value


def _children(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key is given twice")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")
