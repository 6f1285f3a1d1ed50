"""The report's sections for a score file alone, where no model is known: errors, curves, slices."""

from collections.abc import Mapping
from typing import Any

from pliant.pad import markup, score_plots
from pliant.pad.markup import text
from pliant.pad.roc import figure_roc
from pliant.pad.sections import (
    Record,
    Section,
    interval_method,
    operating_points,
    rate_scale,
    tiers_of,
)

AT_THRESHOLD = {
    "apcer_ap": ("APCER of the worst species", "the headline"),
    "bpcer": ("BPCER", "bona fide rejected"),
    "apcer_pooled": ("APCER, pooled", "species mixed; hides the worst"),
    "acer": ("ACER", "mean of worst APCER and BPCER; for comparison with papers"),
    "hter": ("HTER", "mean of pooled APCER and BPCER, threshold from dev"),
}
FREE = {
    "eer": ("EER", "pooled APCER = BPCER"),
    "bpcer10": ("BPCER10", "BPCER where APCER is at most 10 %"),
    "bpcer20": ("BPCER20", "at most 5 %"),
    "bpcer100": ("BPCER100", "at most 1 %"),
    "apcer_at_bpcer1": ("APCER at BPCER 1 %", "worst species"),
    "apcer_at_bpcer05": ("APCER at BPCER 0.5 %", "worst species"),
    "apcer_at_bpcer01": ("APCER at BPCER 0.1 %", "worst species"),
}
MOST_FLAGS = 12
"""Flagged slices named above their tables; the rest is counted."""


def _system(evaluation: Record) -> Record:
    """The only row; empty where there is none."""
    rows = tiers_of(evaluation)
    return rows[0] if rows else {"metrics": {}}


def errors(evaluation: Record) -> Section | None:
    """Every error rate at the threshold, with both of its intervals."""
    row = _system(evaluation)
    metrics = row["metrics"]
    if not metrics.get("apcer"):
        return None
    scale = rate_scale(evaluation)
    found = [(f"APCER, {name}", "attacks accepted", r) for name, r in metrics["apcer"].items()]
    found += [(name, what, metrics.get(key)) for key, (name, what) in AT_THRESHOLD.items()]
    body = [_line(name, what, r, scale) for name, what, r in found if isinstance(r, Mapping)]
    header = ["Measure", "Rate<small>95 % interval</small>", "95 % over subjects", "Errors"]
    threshold = row.get("threshold") or {}
    fitted = f", fitted on {text(threshold['source'])}" if threshold.get("dev_sha256") else ""
    return Section(
        anchor="errors",
        title="Errors at the threshold",
        lead=f"A presentation is accepted when its score reaches "
        f"{markup.decimal(threshold.get('value'), 4)} (policy "
        f"<code>{text(threshold.get('policy'))}</code>{fitted}).",
        body=markup.table("Errors at the threshold", header, body)
        + f'<p class="key">Intervals: {text(interval_method([row]))}. Bars run from 0 to '
        f"{100 * scale:.0f}{markup.THIN}%.</p>",
    )


def free(evaluation: Record) -> Section | None:
    """Measures that choose their threshold on the very scores."""
    metrics = _system(evaluation)["metrics"]
    if not metrics.get("auc"):
        return None
    body = []
    for key, (name, what) in FREE.items():
        record = metrics.get(key)
        if isinstance(record, Mapping):
            few = record.get("supported") is False
            shown = markup.measured(record, scale=0, note="too few to show it" if few else "")
            body.append([_named(name, what), shown])
    area = markup.measured(metrics["auc"], scale=0, as_percent=False)
    body.append([_named("AUC", "bona fide above attack"), area])
    return Section(
        anchor="free",
        title="Measures without a threshold",
        lead="They pick their threshold on these very scores: they rank systems, and flatter "
        "each of them.",
        body=markup.table("Measures without a threshold", ["Measure", "Value"], body),
    )


def _line(name: str, what: str, record: Mapping[str, Any], scale: float) -> list[str]:
    """One measure: the rate with a whisker, its interval over subjects, its count of errors."""
    plain = "rate" in record
    ends = {end: record.get(f"cluster_{end}" if plain else end) for end in ("low", "high")}
    counts = f"{text(record.get('errors'))} of {text(record.get('n'))}" if plain else ""
    worst = f"{what}: {record['species']}" if record.get("species") else what
    own = record if plain else {key: v for key, v in record.items() if key == "value"}
    return [
        _named(name, worst),
        markup.measured(own, scale=scale),
        markup.interval(ends, as_percent=True) or markup.NONE,
        counts,
    ]


def _named(name: str, what: str) -> str:
    return f'{text(name)}<span class="sub">{text(what)}</span>'


def det(evaluation: Record) -> Section | None:
    """Error trade-offs as DET and as ROC, one line per species and one for the worst."""
    row = _system(evaluation)
    lines = dict(row.get("det") or {})
    if not lines:
        return None
    lines["worst species"] = lines.pop("all")
    points = operating_points(row)
    operating = {name: at for name, at in points.items() if name in lines}
    if "all" in points:
        operating["worst species"] = points["all"]
    plot = score_plots.figure_det(
        lines,
        operating=operating,
        ceiling=score_plots.det_ceiling(operating.values()),
        title="DET per species and of the worst species",
        name="det",
    )
    roc = figure_roc(
        lines,
        operating=operating,
        title="ROC per species and of the worst species",
        name="roc",
    )
    drawings = [
        markup.figure(plot.inline(), "<b>DET</b>, per species: down and left is better"),
        markup.figure(roc.inline(), "<b>ROC</b>, the same points: up and left is better"),
    ]
    return Section(
        anchor="det",
        title="Error trade-off",
        lead="Every point of a line is one threshold: accept more attacks or reject more people. "
        "Markers are the threshold in use. Rates below 0.1 % are drawn on the edge.",
        body=f'<div class="grid">{"".join(drawings)}</div>',
    )


def full_system(evaluation: Record) -> Section | None:
    """Attack detection and comparison as one system."""
    record = _system(evaluation).get("full_system") or {}
    if not record:
        return None
    found = [(f"IAPAR, {name}", "attacks accepted", r) for name, r in record["iapar"].items()]
    found += [
        ("IAPAR of the worst species", "the headline", record["iapar_worst"]),
        ("FRR", "bona fide not let in", record["frr"]),
        ("RIAPAR", "IAPAR of the worst species + FRR", record["riapar"]),
    ]
    rates = {"apcer": record["iapar"], "bpcer": record["frr"]}  # under the names that it knows
    scale = rate_scale({"tiers": [{"metrics": rates}]})
    body = [_line(name, what, r, scale) for name, what, r in found]
    header = ["Measure", "Rate<small>95 % interval</small>", "95 % over subjects", "Errors"]
    return Section(
        anchor="full-system",
        title="Full system",
        lead="A presentation is accepted when its score reaches "
        f"{markup.decimal(record['threshold'], 4)} and its match score "
        f"{markup.decimal(record['match_threshold'], 4)}. Attacks imitate the person they are "
        "compared with; bona fide presentations are compared with their own.",
        body=markup.table("Full system", header, body)
        + '<p class="key">Shares of all presentations; those without a response '
        f"({text(record['num_without_response'])}) count as not accepted. Intervals: "
        "Clopper-Pearson, and over resampled subjects with both thresholds held for fixed. "
        f"Bars run from 0 to {100 * scale:.0f}{markup.THIN}%.</p>",
    )


def reliability(evaluation: Record) -> Section | None:
    """Whether scores are probabilities."""
    record = _system(evaluation).get("reliability")
    if not record:
        return None
    plot = score_plots.figure_reliability(record["bins"], name="reliability")
    share = markup.percent(record["share_bona_fide"])
    ece, brier = (markup.decimal(record[key]) for key in ("ece", "brier"))
    caption = (
        f"<b>ECE {ece}, Brier score {brier}.</b> "
        f"Dots on the diagonal are scores that mean what they say, where {share} of presentations "
        "are bona fide, as here; other shares move them."
    )
    return Section(
        anchor="reliability",
        title="Reliability",
        lead="Of the presentations with a score near 0.8, are 80 % bona fide?",
        body=f'<div class="grid">{markup.figure(plot.inline(), caption)}</div>',
    )


def nonresponse(evaluation: Record) -> Section | None:
    """APNRR, BPNRR, and the errors over every presentation made."""
    record = _system(evaluation).get("nonresponse") or {}
    if not record.get("num"):
        return None
    whole = record.get("of_all") or {}
    rows = [
        [
            _named(f"APNRR, {name}", "attacks without a response"),
            markup.measured(rate, scale=0, note=_of(rate)),
            markup.measured((whole.get("apcer") or {}).get(name), scale=0),
        ]
        for name, rate in record["apnrr"].items()
    ]
    rows.append(
        [
            _named("BPNRR", "bona fide without a response"),
            markup.measured(record["bpnrr"], scale=0, note=_of(record["bpnrr"])),
            markup.measured(whole.get("bpcer_or_no_response"), scale=0),
        ]
    )
    reasons = ", ".join(f"{text(reason)} ({n})" for reason, n in record["reasons"].items())
    header = ["Measure", "No response", "Error<small>over all presentations</small>"]
    return Section(
        anchor="nonresponse",
        title="No response",
        lead="Presentations that got no score stand in no rate above. On the right: attacks "
        "accepted, and bona fide presentations not let in, of all that were made.",
        body=markup.table("Non-response rates", header, rows)
        + f'<p class="key">Reasons: {reasons}.</p>',
    )


def _of(rate: Any) -> str:
    return f"{rate['errors']} of {rate['n']}" if isinstance(rate, Mapping) else ""


def slices(evaluation: Record) -> Section | None:
    """The rates of every part of the data, one table per column."""
    record = _system(evaluation).get("slices") or {}
    columns = record.get("columns") or {}
    if not columns:
        return None
    flagged, parts = [], []
    for column, values in columns.items():
        kinds = [key for key in next(iter(values.values())) if key.split()[0] in ("bpcer", "apcer")]
        rows = []
        for value, entry in values.items():
            flagged += [f"{column} = {value}: {_upper(kind)}" for kind in entry["flagged"]]
            cells = [_part(entry, kind) for kind in kinds]
            rows.append([text(value), *cells, markup.measured(entry.get("bpnrr"), scale=0)])
        header = [text(column), *(text(_upper(kind)) for kind in kinds), "BPNRR"]
        parts.append(f"<h3>By {text(column)}</h3>")
        parts.append(markup.table(f"Slices by {column}", header, rows))
    shown = "".join(f"<li>{text(line)}</li>" for line in flagged[:MOST_FLAGS])
    more = len(flagged) - MOST_FLAGS
    shown += f"<li>and {more} more</li>" if more > 0 else ""
    expected = markup.number(record.get("num_rates")) or 0.0
    key = f"{expected:.0f} rates were compared; about {expected / 20:.0f} of so many would leave a "
    key += "95 % interval by chance alone."
    for column, why in (record.get("skipped") or {}).items():
        key += f" Column <code>{text(column)}</code> is no slice: {text(why)}."
    return Section(
        anchor="slices",
        title="Slices",
        lead="The same rates in parts of the data. Marked are those whose intervals exclude the "
        "rate over all data.",
        body=(f"<ul>{shown}</ul>" if flagged else "<p>No part differs from the whole.</p>")
        + "".join(parts)
        + f'<p class="key">{key}</p>',
    )


def _part(entry: Record, kind: str) -> str:
    """One rate of one part, in the colour of a warning where it differs from the whole."""
    rate = entry.get(kind)
    if kind not in entry["flagged"]:
        return markup.measured(rate, scale=0, note=_of(rate))
    shown = markup.measured(rate, scale=0, note=f"{_of(rate)}, differs")
    return f'<span class="differs">{shown}</span>'


def _upper(kind: str) -> str:
    return kind.replace("apcer", "APCER").replace("bpcer", "BPCER")


def durations(evaluation: Record) -> Section | None:
    """How long the system took."""
    record = _system(evaluation).get("durations") or {}
    if not record:
        return None
    rows = [
        [text(name), *(markup.milliseconds(entry[key]) for key in ("p50", "p95", "max"))]
        for name, entry in record.items()
    ]
    return Section(
        anchor="durations",
        title="Processing duration",
        lead="PS-PD, as the score file has it.",
        body=markup.table("Processing duration", ["Stage", "Median", "p95", "Longest"], rows),
    )


def celeba(evaluation: Record) -> Section | None:
    """The benchmark's own figure beside its twin in the words of ISO."""
    record = _system(evaluation).get("celeba_official") or []
    if not record:
        return None
    rows = [
        [
            f"TPR@FPR={entry['limit']:g}",
            markup.decimal(entry["tpr_at_fpr"], 5),
            markup.percent(entry["bpcer_there"]),
            markup.percent(entry["twin"]["apcer_pooled"]),
            markup.percent(entry["twin"]["apcer_ap"]),
        ]
        for entry in record
    ]
    header = [
        "CelebA-Spoof says",
        "Official value",
        "BPCER there",
        "APCER, pooled<small>BPCER at most that</small>",
        "APCER, worst species<small>BPCER at most that</small>",
    ]
    return Section(
        anchor="celeba",
        title="CelebA-Spoof's own measure",
        lead="There attacks are the positive class, so its FPR is a BPCER and 1 - TPR a pooled "
        "APCER.",
        body=markup.table("CelebA-Spoof's own measure", header, rows),
    )
