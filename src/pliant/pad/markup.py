"""Numbers and names as HTML: everything that comes from data is escaped here.

Numbers are rounded to what a reader can use, thin-spaced from their units; a missing one is a dash.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from typing import Any, TypeGuard

from pliant.pad.svg import plain

NONE = '<span class="none" title="not measured">–</span>'
THIN = "\u202f"
MOST_ITEMS = 12
"""Of a list in a record; the rest is counted."""


def text(value: object) -> str:
    """Any value as safe text."""
    return escape(plain(value), quote=True)


def number(value: object) -> float | None:
    """The value if it is a finite number, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def percent(rate: object) -> str:
    """0.0314 -> `3.1 %`; small ones keep two figures, whole ones no decimal."""
    value = number(rate)
    if value is None:
        return NONE
    return f"{bare_percent(value)}{THIN}%"


def counted(num: object, noun: str) -> str:
    """`1 image`, `2 images`."""
    return f"{text(num)} {noun}{'s' * (num != 1)}"


def singular(sentence: object) -> str:
    """The sentence with `1 subject` for `1 subjects`."""
    return re.sub(r"(?<![\d.,])(1 (?:image|presentation|subject))s\b", r"\1", str(sentence))


def bare_percent(rate: float) -> str:
    """0.0314 -> `3.1`."""
    value = 100 * rate
    places = 0 if value in (0.0, 100.0) or round(value, 1) >= 99.95 else 1
    if 0 < value < 0.095:
        places = 2
    return f"{value:.{places}f}"


def decimal(value: object, places: int = 3) -> str:
    """A plain decimal."""
    known = number(value)
    return NONE if known is None else f"{known:.{places}f}"


def count(value: object, unit: str = "") -> str:
    """12345678 -> `12.3 M`: thousands, millions, billions, then the unit."""
    known = number(value)
    if known is None:
        return NONE
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(known) >= size * 0.9995:
            return f"{known / size:.3g}{THIN}{letter}{unit}"
    return f"{known:.3g}{THIN}{unit}" if unit else f"{known:.3g}"


def latency(record: object) -> str:
    """Median with the 90th percentile small beside it."""
    record = record if isinstance(record, Mapping) else {"median": record}
    median = number(record.get("median"))
    if median is None:
        return NONE
    p90 = number(record.get("p90"))
    small = f'<small class="range">p90 {_ms(p90)}</small>' if p90 is not None else ""
    return f'<span class="figure">{milliseconds(median)}</span>{small}'


def milliseconds(value: float) -> str:
    """0.7461 -> `0.75 ms`."""
    return f"{_ms(value)}{THIN}ms"


def _ms(value: float) -> str:
    return f"{value:.2f}" if 0.1 <= value < 10 else f"{value:.3g}"


def interval(record: Mapping[str, Any], *, as_percent: bool, places: int = 3) -> str:
    """`0.8-5.4`, small; empty without both ends."""
    low, high = number(record.get("low")), number(record.get("high"))
    if low is None or high is None:
        return ""
    ends = [bare_percent(end) if as_percent else f"{end:.{places}f}" for end in (low, high)]
    return f'<small class="range">{ends[0]}–{ends[1]}</small>'


def measured(record: object, *, scale: float = 1.0, note: str = "", as_percent: bool = True) -> str:
    """A rate with its interval as small text and as a whisker; `scale` is the whisker's full width.

    `record` has `rate` or `value`, and may have `low` and `high`.
    """
    if not isinstance(record, Mapping):
        return NONE
    value = number(record.get("rate", record.get("value")))
    if value is None:
        return NONE
    shown = percent(value) if as_percent else decimal(value)
    under = f'<small class="note">{text(note)}</small>' if note else ""
    return (
        f'<span class="figure">{shown}</span>{interval(record, as_percent=as_percent)}'
        f"{whisker(value, record, scale=scale)}{under}"
    )


def whisker(value: float, record: Mapping[str, Any], *, scale: float) -> str:
    """Intervals on a rule from 0 to `scale`: `low` to `high` thick, `cluster_...` thin.

    Decoration for the first, which stands in the text too.
    """
    if scale <= 0 or value > scale:
        return ""
    spans = []
    for prefix, css in (("cluster_", "thin"), ("", "span")):
        low, high = number(record.get(f"{prefix}low")), number(record.get(f"{prefix}high"))
        if low is not None and high is not None:
            a, b = (_along(end / scale) for end in (low, high))
            spans.append(f'<path d="M{a:.1f} 4H{b:.1f}" class="{css}"/>')
    if not spans:
        return ""
    return (
        '<svg class="whisker" viewBox="0 0 80 8" width="80" height="8" aria-hidden="true">'
        f'<path d="M2 4H78" class="rail"/>{"".join(spans)}'
        f'<circle cx="{_along(value / scale):.1f}" cy="4" r="2.6"/></svg>'
    )


def _along(share: float) -> float:
    return 76 * min(max(share, 0.0), 1.0) + 2


def strip(letters: object) -> str:
    """A configuration as a row of blocks: low ones light, tall ones heavy, split ones both."""
    shown = text(letters or "")
    if not isinstance(letters, str) or not letters or set(letters) - set("LHB"):
        return f"<code>{shown}</code>"
    bars = []
    for index, letter in enumerate(letters):
        x, tall = 6 * index, 8 if letter == "B" else 14
        if letter in "HB":
            bars.append(f'<rect x="{x}" y="0" width="4" height="{tall}" rx="1" class="heavy"/>')
        if letter in "LB":
            bars.append(f'<rect x="{x}" y="9" width="4" height="5" rx="1" class="light"/>')
    return (
        f'<svg class="strip" viewBox="0 0 {6 * len(letters)} 14" width="{6 * len(letters)}" '
        f'height="14" role="img" aria-label="configuration {shown}">'
        f"<title>{shown}</title>{''.join(bars)}</svg>"
    )


def table(
    caption: str, header: Sequence[str], rows: Iterable[Sequence[str]], *, kind: str = ""
) -> str:
    """A table in a region that scrolls sideways; cells are HTML already, a row's first a header."""
    head = "".join(f'<th scope="col">{cell}</th>' for cell in header)
    body = "".join(
        f'<tr><th scope="row">{first}</th>{"".join(f"<td>{cell}</td>" for cell in rest)}</tr>'
        for first, *rest in rows
    )
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{text(caption)}">'
        f'<table class="{kind}"><caption>{text(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def pairs(record: Mapping[str, Any]) -> str:
    """A record as one flat description list; a key inside another stands behind its name."""
    rows = "".join(
        f"<div><dt>{' <i>›</i> '.join(map(text, path))}</dt><dd>{_value(value)}</dd></div>"
        for path, value in _flat(record)
    )
    return f"<dl>{rows}</dl>"


def _flat(record: Mapping[str, Any]) -> Iterator[tuple[list[str], object]]:
    """Every value with the keys that lead to it; a record's own values before its records'."""
    items = [(str(key).replace("_", " "), value) for key, value in record.items()]
    for key, value in sorted(items, key=lambda item: _is_record(item[1])):
        if _is_record(value):
            yield from (([key, *path], found) for path, found in _flat(value))
        else:
            yield [key], value


def _is_record(value: object) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(value, Mapping) and bool(value)


def _value(value: object) -> str:
    if value is None or value == "":
        return NONE
    if isinstance(value, Mapping):
        return ", ".join(f"{text(key)} {_value(item)}" for key, item in value.items()) or NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        more = f" … ({len(value)} in all)" if len(value) > MOST_ITEMS else ""
        return (", ".join(_value(item) for item in value[:MOST_ITEMS]) or NONE) + more
    return text(value)


def figure(drawing: str, caption: str, kind: str = "") -> str:
    """A drawing with the sentence beneath it; both are HTML already."""
    return f'<figure class="{kind}">{drawing}<figcaption>{caption}</figcaption></figure>'
