"""Write the README's tables from benchmarks/results: python docs/make_tables.py [--check].

Each table stands between `<!-- table: NAME -->` and `<!-- end: NAME -->`; what is between is
replaced. With --check nothing is written, and exit 1 says that a table is out of date.
"""

import csv
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
EMPTY = "_No results yet._"

Row = dict[str, str]


def read(name: str) -> list[Row]:
    """The rows of a result file; none if it is not there yet."""
    path = RESULTS / name
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def grouped(rows: Sequence[Row], keys: Sequence[str]) -> dict[tuple[str, ...], list[Row]]:
    """Rows that agree on `keys`, in the order of their first appearance."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    return groups


def spread(rows: Sequence[Row], column: str, *, digits: int, scale: float = 1.0) -> str:
    """Mean ± sample standard deviation over the rows that have a value; their mean alone if one."""
    values = [float(row[column]) * scale for row in rows if row.get(column)]
    if not values:
        return "-"
    mean = f"{statistics.mean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.{digits}f}"


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, the first column left, the others right."""
    if not rows:
        return EMPTY
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def replaced(text: str, name: str, table: str) -> str:
    """The text with the table put between the markers of `name`."""
    start, end = f"<!-- table: {name} -->", f"<!-- end: {name} -->"
    before, rest = text.split(start)
    _, after = rest.split(end)
    return f"{before}{start}\n{table}\n{end}{after}"


TABLES: dict[str, Callable[[], str]] = {}
"""Marker name -> the function that makes its table."""


def main(words: Sequence[str]) -> int:
    """Rewrites README.md; with --check only compares."""
    readme = ROOT / "README.md"
    before = text = readme.read_text(encoding="utf-8")
    for name, make in TABLES.items():
        text = replaced(text, name, make())
    if "--check" in words:
        if text != before:
            print("README.md: a table is out of date; run python docs/make_tables.py")
        return int(text != before)
    readme.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
