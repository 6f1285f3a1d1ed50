"""The report's result sections, each from its blocks of evaluation.json, or None without them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pliant.pad import markup, plots, score_plots
from pliant.pad.markup import text

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
    """The tiers, each with a `metrics` record even where it is missing."""
    return [dict(t) | {"metrics": t.get("metrics") or {}} for t in evaluation.get("tiers") or []]


def is_classification(evaluation: Record) -> bool:
    """Whether the model names classes, rather than telling attacks from bona fide presentations."""
    named = any("accuracy" in tier["metrics"] for tier in tiers_of(evaluation))
    return named or evaluation.get("task") == "classify"


def chip(name: object, index: int) -> str:
    """A tier's name behind a dot in the colour that the figures give it."""
    return f'<span class="chip series{index % 6 + 1}"><span class="name">{text(name)}</span></span>'


def _scale(records: Sequence[Any]) -> float:
    """Where a column's whiskers end: its largest upper end."""
    ends = [
        end
        for r in records
        if isinstance(r, Mapping)
        for key in ("high", "cluster_high", "rate", "value")
        if (end := markup.number(r.get(key))) is not None
    ]
    return max(ends, default=0.0)


def _column(rows: Sequence[Record], key: str, *, note: str = "", as_percent: bool = True) -> list:
    found = [row["metrics"].get(key) for row in rows]
    scale = _scale([r for r, row in zip(found, rows, strict=True) if "tier" in row])
    return [
        markup.measured(
            r,
            scale=scale if as_percent else 0.0,
            note=str(r.get(note) or "") if note and isinstance(r, Mapping) else "",
            as_percent=as_percent,
        )
        for r in found
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
        f"{chip(row.get('tier'), i)}{markup.strip(row.get('configuration'))}"
        for i, row in enumerate(rows)
    ]
    if beside:
        name = (
            f"{text(baseline.get('name') or 'baseline')}<span class='sub'>trivial baseline</span>"
        )
        names.append(f'<span class="trivial">{name}</span>')
    classes = is_classification(evaluation)
    if classes:
        header = ["Tier", "Accuracy", "NLL<small>nats</small>", "ECE"]
        accuracy = [markup.measured(row["metrics"].get("accuracy"), scale=0) for row in judged]
        columns = [accuracy, _plain(judged, "nll"), _plain(judged, "ece")]
        lead = "One trained network; each row is one way to run it."
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
            _column(judged, "apcer_ap", note="species"),
            *(_column(judged, key) for key in ("bpcer", "acer", "eer")),
            _column(judged, "auc", as_percent=False),
        ]
        lead = (
            "One trained network; each row is one way to run it, with a threshold of its own. "
            "A presentation is accepted when its score reaches the threshold."
        )
    header += ["Latency<small>one image</small>", "MACs", "Weights"]
    columns += [
        [markup.latency(row.get("latency_ms")) for row in judged],
        [_size(row.get("macs")) for row in judged],
        [_size(row.get("size_bytes"), "B") for row in judged],
    ]
    body = markup.table("Tiers", header, zip(names, *columns, strict=True), kind="tiers")
    return Section(anchor="tiers", title="Tiers", lead=lead, body=body + _key(rows, classes))


def _size(value: object, unit: str = "") -> str:
    return f'<span class="figure">{markup.count(value, unit)}</span>'


def _plain(rows: Sequence[Record], key: str) -> list[str]:
    """A number that may come bare or as a record with `value`."""
    found = [row["metrics"].get(key) for row in rows]
    return [markup.decimal(r.get("value") if isinstance(r, Mapping) else r) for r in found]


def _key(rows: Sequence[Record], classes: bool) -> str:
    """How to read the table: the strips, the intervals, the clock."""
    method = next((m for row in rows if (m := row["metrics"].get("interval_method"))), "95 %")
    clock = next((c for row in rows if isinstance(c := row.get("latency_ms"), Mapping)), {})
    parts = [
        f"{markup.strip('L')} light block, {markup.strip('H')} heavy block, "
        f"{markup.strip('B')} both together.",
        f"Small figures are intervals ({text(method)})."
        if classes
        else f"Small figures are intervals ({text(method)}); bars show them, thin ones those over "
        "resampled subjects.",
    ]
    if clock.get("threads"):
        threads, runs = text(clock["threads"]), text(clock.get("runs", "?"))
        unit = "thread" if clock["threads"] == 1 else "threads"
        parts.append(f"Latency: median of {runs} runs, batch 1, {threads} {unit}.")
    fitted = next((t for row in rows if isinstance(t := row.get("threshold"), Mapping)), None)
    if fitted and not classes:
        parts.append(
            f"Thresholds: policy <code>{text(fitted.get('policy'))}</code> on "
            f"{text(fitted.get('source'))}, {text(fitted.get('num_bona_fide'))} bona fide and "
            f"{text(fitted.get('num_attack'))} attacks of {text(fitted.get('num_subjects'))} "
            "subjects."
        )
    return f'<p class="key">{" ".join(parts)}</p>'


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
    scale = _scale([r for line in found for r in line])
    body = [
        [
            chip(row.get("tier"), index),
            *(markup.measured(r, scale=scale, note=_errors(r)) for r in line),
            *(_held(row["metrics"].get(key)) for key in ("bpcer10", "bpcer20", "bpcer100")),
        ]
        for index, (row, line) in enumerate(zip(rows, found, strict=True))
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
        body=markup.table("Errors per attack species", header, body),
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
    drawings = []
    worst = {str(r.get("tier")): r["det"]["all"] for r in rows if r["det"].get("all")}
    at = {}
    for row in rows:
        point = [(row["metrics"].get(key) or {}).get("rate") for key in ("apcer_ap", "bpcer")]
        if None not in point:
            at[str(row.get("tier"))] = (point[0], point[1])
    if worst:
        plot = score_plots.figure_det(
            worst, operating=at, title="DET, worst species", name="det-all"
        )
        drawings.append(markup.figure(plot.inline(), "<b>All tiers</b>, worst species"))
    for index, row in enumerate(rows):
        lines = {name: line for name, line in row["det"].items() if name != "all" and line}
        rejected = (row["metrics"].get("bpcer") or {}).get("rate")
        rates = row["metrics"].get("apcer") or {}
        at = {n: (rates[n]["rate"], rejected) for n in lines if n in rates and rejected is not None}
        title = f"DET of tier {row.get('tier')}, per species"
        plot = score_plots.figure_det(lines, operating=at, title=title, name=f"det-{index}")
        caption = f"<b>Tier {text(row.get('tier'))}</b>, per species"
        drawings.append(markup.figure(plot.inline(), caption))
    return Section(
        anchor="det",
        title="Error trade-off",
        lead="Every point of a line is one threshold: accept more attacks or reject more people. "
        "Further down and left is better; markers are the thresholds in use. Rates below "
        "0.1 % are drawn on the edge.",
        body=f'<div class="grid">{"".join(drawings)}</div>',
    )


def histograms(evaluation: Record) -> Section | None:
    """How the scores of each class spread around the threshold, one drawing per tier."""
    drawings = []
    for index, row in enumerate(tiers_of(evaluation)):
        if not row.get("histogram"):
            continue
        threshold = (row.get("threshold") or {}).get("value")
        rates = row["metrics"].get("apcer") or {}
        notes = {name: _share(rate, "accepted") for name, rate in rates.items()}
        if row["metrics"].get("bpcer"):
            notes["bona_fide"] = _share(row["metrics"]["bpcer"], "rejected")
        plot = score_plots.figure_histogram(
            row["histogram"],
            threshold=threshold,
            notes=notes,
            title=f"Scores of tier {row.get('tier')}",
            name=f"scores-{index}",
        )
        caption = f"<b>Tier {text(row.get('tier'))}</b>"
        if row.get("scores_csv"):
            caption += f" · <code>{text(row['scores_csv'])}</code>"
        drawings.append(markup.figure(plot.inline(), caption))
    if not drawings:
        return None
    return Section(
        anchor="scores",
        title="Scores",
        lead="Solid bars are decided wrongly: bona fide left of the threshold, attacks from it on. "
        "Heights go with the square root of the share, so that few errors stay visible.",
        body=f'<div class="grid four">{"".join(drawings)}</div>',
    )


def _share(rate: object, verb: str) -> str:
    value = markup.number(rate.get("rate")) if isinstance(rate, Mapping) else None
    return "" if value is None else f"{markup.bare_percent(value)} % {verb}"


def agreement(evaluation: Record) -> Section | None:
    """How often each pair of tiers decides differently, as a matrix."""
    entries = evaluation.get("agreement") or []
    if not entries:
        return None
    names = [str(row.get("tier")) for row in tiers_of(evaluation)]
    names = list(dict.fromkeys([*names, *(str(e[k]) for e in entries for k in ("a", "b"))]))
    by_pair = {frozenset((str(e["a"]), str(e["b"]))): e for e in entries}
    darkest = max([0.1, *(markup.number(e.get("rate")) or 0.0 for e in entries)])
    rows = []
    for index, a in enumerate(names):
        cells = []
        for b in names:
            entry = by_pair.get(frozenset((a, b)))
            if a == b or entry is None:
                cells.append(f'<div class="cell same">{"" if a == b else markup.NONE}</div>')
                continue
            share = 55 * (markup.number(entry.get("rate")) or 0.0) / darkest
            shown = markup.percent(entry.get("rate"))
            small = f"{text(entry.get('different'))} of {text(entry.get('n'))}"
            cells.append(
                f'<div class="cell" style="--share:{share:.0f}"><span class="figure">{shown}</span>'
                f'<small class="range">{small}</small></div>'
            )
        rows.append([chip(a, index), *cells])
    header = ["", *(text(name) for name in names)]
    what = "images" if is_classification(evaluation) else "presentations"
    return Section(
        anchor="agreement",
        title="Where tiers disagree",
        lead=f"The share of {what} that two tiers decide differently. A fleet that runs several "
        "tiers gives different answers this often.",
        body=markup.table("Tier disagreement", header, rows, kind="matrix"),
    )
