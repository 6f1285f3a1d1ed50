"""The report's result sections, each from its blocks of evaluation.json, or None without them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from pliant.pad import markup, plots, score_plots
from pliant.pad.markup import text
from pliant.pad.svg import SERIES

Record = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Section:
    """One part of the page; `lead` and `body` are HTML."""

    anchor: str
    title: str
    lead: str
    body: str
    from_data: bool = True
    """Whether it shows results, which carry the synthetic tag."""


def tiers_of(evaluation: Record) -> list[dict[str, Any]]:
    """The tiers, each with its place, and a `metrics` record even where that is missing."""
    return [
        dict(tier) | {"metrics": tier.get("metrics") or {}, "place": place}
        for place, tier in enumerate(evaluation.get("tiers") or [])
    ]


def is_classification(evaluation: Record) -> bool:
    """Whether the model names classes, rather than telling attacks from bona fide presentations."""
    named = any("accuracy" in tier["metrics"] for tier in tiers_of(evaluation))
    return named or evaluation.get("task") == "classify"


def subject_overlap(evaluation: Record) -> str:
    """Whether the model has seen the subjects; empty where classes are not of named people."""
    data = evaluation.get("data") or {}
    if is_classification(evaluation) and not (data.get("counts") or {}).get("subjects"):
        return ""
    return markup.singular(data.get("subject_overlap") or "")


def chip(name: object, place: int) -> str:
    """A tier's name behind a dot in the colour that the figures give it."""
    series = place % len(SERIES) + 1
    return f'<span class="chip series{series}"><span class="name">{text(name)}</span></span>'


def rate_scale(evaluation: Record) -> float:
    """Where the bars of every error rate end: the largest upper end, up to the next 10 %."""
    metrics = [tier["metrics"] for tier in tiers_of(evaluation)]
    metrics.append((evaluation.get("baseline") or {}).get("metrics") or {})
    records = [m.get(key) for m in metrics for key in ("apcer_ap", "bpcer", "acer", "eer")]
    records += [record for m in metrics for record in (m.get("apcer") or {}).values()]
    ends = [
        end
        for r in records
        if isinstance(r, Mapping)
        for key in ("high", "cluster_high", "rate", "value")
        if (end := markup.number(r.get(key))) is not None
    ]
    return min(1.0, math.ceil(10 * max(ends, default=0.0) - 1e-9) / 10)


def _column(rows: Sequence[Record], key: str, scale: float, *, note: str = "") -> list[str]:
    found = [row["metrics"].get(key) for row in rows]
    notes = [str(r.get(note) or "") if isinstance(r, Mapping) else "" for r in found]
    return [
        markup.measured(r, scale=scale, note=said) for r, said in zip(found, notes, strict=True)
    ]


def _threshold(tier: Record) -> str:
    threshold = tier.get("threshold")
    if not isinstance(threshold, Mapping):
        return markup.NONE
    ends = threshold.get("interval") or (None, None)
    small = markup.interval({"low": ends[0], "high": ends[1]}, as_percent=False)
    return f'<span class="figure">{markup.decimal(threshold.get("value"))}</span>{small}'


def tiers(evaluation: Record) -> Section | None:
    """Every tier with its threshold, errors and cost; the trivial baseline beneath."""
    rows = tiers_of(evaluation)
    if not rows:
        return None
    baseline = evaluation.get("baseline") or {}
    beside = [{"metrics": baseline.get("metrics") or {}}] if baseline else []
    judged = [*rows, *beside]
    names = [
        f"{chip(row.get('tier'), row['place'])}{markup.strip(row.get('configuration'))}"
        for row in rows
    ]
    if beside:
        name = (
            f"{text(baseline.get('name') or 'baseline')}<span class='sub'>trivial baseline</span>"
        )
        names.append(f'<span class="trivial">{name}</span>')
    lead, scale = "One trained network; each row is one way to run it", rate_scale(evaluation)
    if is_classification(evaluation):
        header = ["Tier", "Accuracy", "NLL<small>nats</small>", "ECE"]
        accuracy = [markup.measured(row["metrics"].get("accuracy"), scale=0) for row in judged]
        columns = [accuracy, _plain(judged, "nll"), _plain(judged, "ece")]
        lead += "."
    else:
        header = [
            "Tier",
            "Threshold<small>fitted on dev</small>",
            "APCER<small>worst species</small>",
            "BPCER<small>bona fide rejected</small>",
            "ACER<small>mean of both</small>",
            "EER",
            "AUC",
        ]
        columns = [
            [_threshold(row) for row in judged],
            _column(judged, "apcer_ap", scale, note="species"),
            *(_column(judged, key, scale) for key in ("bpcer", "acer", "eer")),
            [
                markup.measured(row["metrics"].get("auc"), scale=0, as_percent=False)
                for row in judged
            ],
        ]
        lead += (
            ", with a threshold of its own. A presentation is accepted when its score reaches it."
            if any(row.get("threshold") for row in rows)
            else ". No threshold was fitted, so nothing is accepted or rejected yet."
        )
    header += ["Latency<small>one image</small>", "MACs", "Weights"]
    columns += [
        [markup.latency(row.get("latency_ms")) for row in judged],
        [_size(row.get("macs")) for row in judged],
        [_size(row.get("size_bytes"), "B") for row in judged],
    ]
    shown = [
        (head, column)
        for head, column in zip(header[1:], columns, strict=True)
        if any(cell != markup.NONE for cell in column)
    ]
    header, columns = [header[0], *(head for head, _ in shown)], [column for _, column in shown]
    body = markup.table("Tiers", header, zip(names, *columns, strict=True), kind="tiers")
    return Section(anchor="tiers", title="Tiers", lead=lead, body=body + _key(evaluation, scale))


def _size(value: object, unit: str = "") -> str:
    shown = markup.count(value, unit)
    return shown if shown == markup.NONE else f'<span class="figure">{shown}</span>'


def _plain(rows: Sequence[Record], key: str) -> list[str]:
    """A number that may come bare or as a record with `value`."""
    found = [row["metrics"].get(key) for row in rows]
    return [markup.decimal(r.get("value") if isinstance(r, Mapping) else r) for r in found]


def _key(evaluation: Record, scale: float) -> str:
    """How to read the table: the strips, the intervals, the bars, the clock, the thresholds."""
    rows, classes = tiers_of(evaluation), is_classification(evaluation)
    clock = next((c for row in rows if isinstance(c := row.get("latency_ms"), Mapping)), {})
    parts = [
        f"{markup.strip('L')} light block, {markup.strip('H')} heavy block, "
        f"{markup.strip('B')} both together.",
        f"Small figures are intervals: {text(interval_method(rows))}.",
    ]
    if not classes and scale:
        parts.append(f"Bars draw them from 0 to {100 * scale:.0f}{markup.THIN}% in every column.")
    if clock.get("threads"):
        runs = markup.counted(clock.get("runs", "?"), "run")
        threads = markup.counted(clock["threads"], "thread")
        parts.append(f"Latency: median of {runs}, batch 1, {threads}.")
    fitted = next((t for row in rows if isinstance(t := row.get("threshold"), Mapping)), None)
    if fitted and not classes:
        attacks = markup.counted(fitted.get("num_attack"), "attack")
        subjects = fitted.get("num_subjects")
        named = f" of {markup.counted(subjects, 'subject')}" if subjects else ""
        parts.append(
            f"Thresholds: policy <code>{text(fitted.get('policy'))}</code> on "
            f"{text(fitted.get('source'))}, {text(fitted.get('num_bona_fide'))} bona fide and "
            f"{attacks}{named}."
        )
    return f'<p class="key">{" ".join(parts)}</p>'


WORDS = {
    "low, high of error rates: Clopper-Pearson; ": "APCER and BPCER: Clopper-Pearson; ",
    "all others and cluster_low, cluster_high: ": "all others, and thin bars: ",
}
"""evaluation.json's account of intervals in the page's words; without a threshold, in none."""


def interval_method(rows: Sequence[Record]) -> str:
    """How the tiers' intervals came about; where tiers differ, which tier has which."""
    named: dict[str, list[str]] = {}
    for row in rows:
        method = str(row["metrics"].get("interval_method") or "95 %")
        for wording, said in (WORDS if row.get("threshold") else dict.fromkeys(WORDS, "")).items():
            method = method.replace(wording, said)
        method = method if row.get("threshold") else method.removesuffix(", threshold held")
        named.setdefault(method, []).append(str(row.get("tier")))
    if len(named) == 1:
        return next(iter(named))
    parts = [method.split(", ") for method in named]
    same = [
        said[0] for said in takewhile(lambda said: len(set(said)) == 1, zip(*parts, strict=False))
    ]
    each = [
        f"{', '.join(part[len(same) :])} ({', '.join(tiers)})"
        for part, tiers in zip(parts, named.values(), strict=True)
    ]
    return "; ".join([", ".join(same), *each] if same else each)


def quality_points(evaluation: Record) -> list[dict[str, Any]]:
    """The Pareto block, or, where there is none, the tiers; with the tiers' intervals."""
    key = "accuracy" if is_classification(evaluation) else "auc"
    points: list[dict[str, Any]] = []
    for tier in tiers_of(evaluation):
        found = tier["metrics"].get(key)
        record = found if isinstance(found, Mapping) else {}
        quality = record.get("rate", record.get("value"))
        ends = {"low": record.get("low"), "high": record.get("high")}
        points.append(dict(tier) | ends | {"quality": quality})
    if not evaluation.get("pareto"):
        return points
    known = {
        (point["tier"], point["quality"]): {"low": point["low"], "high": point["high"]}
        for point in points
        if point.get("tier") is not None
    }
    return [
        known.get((point.get("tier"), point.get("quality")), {}) | dict(point)
        for point in evaluation["pareto"]
    ]


def cost(evaluation: Record) -> Section | None:
    """Quality against latency with the Pareto front."""
    points = quality_points(evaluation)
    names = [str(tier.get("tier")) for tier in tiers_of(evaluation)]
    if not points:
        return None
    level, measured = None, any(point.get("high") is not None for point in points)
    if measured:  # the points are of these very data, and so is the baseline
        found = ((evaluation.get("baseline") or {}).get("metrics") or {}).get("auc") or {}
        level = markup.number(found.get("value"))
    plot = plots.figure_quality_against_cost(
        points,
        quality_name="accuracy" if is_classification(evaluation) else "AUC",
        baseline=level,
        tiers=names,
    )
    rings = any(not point.get("tier") for point in points)
    caption = (
        "<b>Up and to the left is better.</b> The staircase is the Pareto front: the best quality "
        "that each budget buys."
        + (" Rings are configurations without a name." if rings else "")
        + (" Upright lines are intervals." if measured else "")
    )
    return Section(
        anchor="cost",
        title="Quality against cost",
        lead="What a slower device gives up, and what a faster one gains.",
        body=markup.figure(plot.inline(), caption, "wide"),
    )


def species(evaluation: Record) -> Section | None:
    """APCER of every attack species in every tier, and BPCER where APCER is held."""
    rows = [row for row in tiers_of(evaluation) if row["metrics"].get("apcer")]
    names = list(dict.fromkeys(name for row in rows for name in row["metrics"]["apcer"]))
    if not names:
        return None
    found = [[row["metrics"]["apcer"].get(name) for name in names] for row in rows]
    scale = rate_scale(evaluation)
    body = [
        [
            chip(row.get("tier"), row["place"]),
            *(markup.measured(r, scale=scale, note=_errors(r)) for r in line),
            *(_held(row["metrics"].get(key)) for key in ("bpcer10", "bpcer20", "bpcer100")),
        ]
        for row, line in zip(rows, found, strict=True)
    ]
    header = [
        "Tier",
        *(f"{text(name)}<small>APCER</small>" for name in names),
        *(f"BPCER{n}<small>at APCER {p} %</small>" for n, p in ((10, 10), (20, 5), (100, 1))),
    ]
    return Section(
        anchor="species",
        title="Attack species",
        lead="The share of each kind of attack that gets in. A mean would hide the worst; the "
        "verdict uses the worst. BPCER10, 20 and 100 pick their threshold on these very scores: "
        "they rank tiers, they promise nothing.",
        body=markup.table("Errors per attack species", header, body)
        + f'<p class="key">Bars run from 0 to {100 * scale:.0f}{markup.THIN}%, as above.</p>',
    )


def _errors(rate: object) -> str:
    if not isinstance(rate, Mapping) or rate.get("n") is None:
        return ""
    return f"{rate.get('errors')} of {rate['n']}"


def _held(record: object) -> str:
    """BPCER at a held APCER; nothing where the attacks are too few to support the limit."""
    if isinstance(record, Mapping) and record.get("supported") is False:
        return '<span class="none">too few<br>attacks</span>'
    return markup.measured(record, scale=0)


def det(evaluation: Record) -> Section | None:
    """Error trade-offs: all tiers by their worst species, then each tier by species."""
    rows = [row for row in tiers_of(evaluation) if row.get("det")]
    if not rows:
        return None
    tiers = [str(tier.get("tier")) for tier in tiers_of(evaluation)]
    kinds = list(dict.fromkeys(name for row in rows for name in row["det"] if name != "all"))
    points = {row["place"]: operating_points(row) for row in rows}
    ceiling = score_plots.det_ceiling(p for at in points.values() for p in at.values())
    worst = {str(r.get("tier")): r["det"]["all"] for r in rows if r["det"].get("all")}
    drawings = []
    if worst:
        plot = score_plots.figure_det(
            worst,
            operating={tiers[i]: at["all"] for i, at in points.items() if "all" in at},
            order=tiers,
            ceiling=ceiling,
            title="DET, worst species",
            name="det-all",
        )
        drawings.append(markup.figure(plot.inline(), "<b>All tiers</b>, worst species"))
    for row in rows:
        place, at = row["place"], points[row["place"]]
        lines = {name: line for name, line in row["det"].items() if name != "all" and line}
        plot = score_plots.figure_det(
            lines,
            operating={name: at[name] for name in lines if name in at},
            order=kinds,
            colour=SERIES[place % len(SERIES)],
            ceiling=ceiling,
            title=f"DET of tier {tiers[place]}, per species",
            name=f"det-{place}",
        )
        caption = f"<b>{chip(tiers[place], place)}</b>, per species"
        drawings.append(markup.figure(plot.inline(), caption))
    markers = "; markers are the thresholds in use" if any(points.values()) else ""
    return Section(
        anchor="det",
        title="Error trade-off",
        lead="Every point of a line is one threshold: accept more attacks or reject more people. "
        f"Further down and left is better{markers}. Rates below 0.1 % are drawn on the edge.",
        body=f'<div class="grid">{"".join(drawings)}</div>',
    )


def operating_points(row: Record) -> dict[str, tuple[float, float]]:
    """Species, and `all` for the worst -> (APCER, BPCER) at the tier's threshold."""
    metrics = row["metrics"]
    rates = {**(metrics.get("apcer") or {}), "all": metrics.get("apcer_ap")}
    rejected = (metrics.get("bpcer") or {}).get("rate")
    if rejected is None:
        return {}
    return {name: (rate["rate"], rejected) for name, rate in rates.items() if rate}
