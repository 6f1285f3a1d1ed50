"""The report's later sections: scores, tiers that disagree, pictures, training, records."""

import re
from collections.abc import Collection, Mapping
from typing import Any

from pliant.pad import markup, plots, score_plots, sheet
from pliant.pad.markup import text
from pliant.pad.sections import (
    Record,
    Section,
    chip,
    is_classification,
    subject_overlap,
    tiers_of,
)

PICTURE = re.compile(r"data:image/(jpeg|png);base64,[A-Za-z0-9+/=]+")
MOST_SKIPPED = 50
HIT_TITLE = "right; of each kind, those nearest to the threshold"
PAD_ONLY = frozenset(
    ("policy", "draws", "bona_fide", "attack", "species", "simulate", "simulate_share")
)
"""Keys of records that mean nothing where classes are named."""
UNNAMED = frozenset(("subjects", "subject_overlap"))
"""Those that mean nothing besides where the classes are not of named people."""


def histograms(evaluation: Record) -> Section | None:
    """How the scores of each class spread around the threshold, one drawing per tier."""
    drawings = []
    rows = [row for row in tiers_of(evaluation) if row.get("histogram")]
    for row in rows:
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
            name=f"scores-{row['place']}",
        )
        caption = f"<b>{chip(row.get('tier'), row['place'])}</b>"
        if row.get("scores_csv"):
            caption += f" · <code>{text(row['scores_csv'])}</code>"
        drawings.append(markup.figure(plot.inline(), caption))
    if not drawings:
        return None
    decided = (
        "Solid bars are decided wrongly: bona fide left of the threshold, attacks from it on. "
        if any(row.get("threshold") for row in rows)
        else "Without a threshold nothing is right or wrong yet. "
    )
    return Section(
        anchor="scores",
        title="Scores",
        lead=f"{decided}Heights go with the square root of the share, so that few errors stay "
        "visible.",
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


def contact_sheet(evaluation: Record) -> Section | None:
    """Pictures of mistakes and close calls, per tier and outcome."""
    entries = evaluation.get("sheet") or []
    if not entries:
        return None
    tiers = [str(row.get("tier")) for row in tiers_of(evaluation)]
    parts = []
    for index, tier in enumerate(dict.fromkeys(str(entry.get("tier")) for entry in entries)):
        of_tier = [entry for entry in entries if str(entry.get("tier")) == tier]
        kinds = [*sheet.OUTCOMES, *(str(entry.get("outcome")) for entry in of_tier)]
        groups = []
        for outcome in dict.fromkeys(kinds):
            tiles = [_tile(e) for e in of_tier if str(e.get("outcome")) == outcome]
            if tiles:
                title = HIT_TITLE if outcome == sheet.HIT else outcome
                heading = text(title[:1].upper() + title[1:])
                groups.append(f"<h3>{heading}</h3><ul class='sheet'>{''.join(tiles)}</ul>")
        state, name = " open" if index == 0 else "", text(tier)
        if tier in tiers:
            name = chip(tier, tiers.index(tier))
        parts.append(f"<details{state}><summary>{name}</summary>{''.join(groups)}</details>")
    return Section(
        anchor="sheet",
        title="Contact sheet",
        lead="What the network saw. Mistakes come first, the grossest ahead; under each picture "
        "its score between 0 and 1, and the threshold as a tick.",
        body="".join(parts),
    )


def _tile(entry: Record) -> str:
    """One picture with its name, score and gauge."""
    truth = entry.get("label") or ("bona fide" if entry.get("bona_fide") else entry.get("species"))
    score, threshold = markup.number(entry.get("score")), markup.number(entry.get("threshold"))
    picture = str(entry.get("image") or "")
    says = text(f"{truth or 'attack'}, {entry.get('outcome')}")
    image = '<span class="lost">no picture</span>'
    if PICTURE.fullmatch(picture):
        image = f'<img src="{picture}" alt="{says}" loading="lazy" width="96" height="96">'
    gauge = ""
    if score is not None:
        tick = "" if threshold is None else f'<path d="M{_at(threshold)} 0V8" class="tick"/>'
        gauge = (
            '<svg class="gauge" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">'
            f'<path d="M0 4H100" class="rail"/>{tick}<circle cx="{_at(score)}" cy="4" r="3"/></svg>'
        )
    wrong = "" if entry.get("outcome") == sheet.HIT else ' class="wrong"'
    predicted = f" → {text(entry['predicted'])}" if entry.get("predicted") else ""
    return (
        f'<li{wrong} title="{text(entry.get("presentation") or "")}">{image}{gauge}'
        f"<p>{text(truth or 'attack')}{predicted}<small>{markup.decimal(score)}</small></p></li>"
    )


def _at(share: float) -> str:
    return f"{3 + 94 * min(max(share, 0.0), 1.0):.1f}"


def training(evaluation: Record) -> Section | None:
    """The loss and the dev measures over epochs."""
    block = evaluation.get("training") or {}
    if not block.get("curve"):
        return None
    seconds = markup.number(block.get("seconds"))
    took = "" if seconds is None else f" It took {text(spell_time(seconds))}."
    tiers = [str(row.get("tier")) for row in tiers_of(evaluation)]
    plot = plots.figure_training(block["curve"], tiers=tiers)
    caption = "<b>Watch the gap between lines,</b> not their height: one set of weights serves all."
    if len(block["curve"]) == 1:
        caption = "<b>One epoch</b> is a point, not yet a course."
    return Section(
        anchor="training",
        title="Training",
        lead=f"Loss on the training split, quality of every tier on the dev split.{took}",
        body=markup.figure(plot.inline(), caption, "wide"),
    )


def spell_time(seconds: float) -> str:
    """95 -> `1 min 35 s`."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def records(evaluation: Record) -> Section:
    """Limits, data, model, settings, environment, skipped files: what makes a number traceable."""
    data = dict(evaluation.get("data") or {})
    skipped = data.pop("skipped", None) or []
    settings = evaluation.get("settings") or {}
    if overlap := subject_overlap(evaluation):
        data["subject_overlap"] = overlap
    if is_classification(evaluation):
        settings = {key: value for key, value in settings.items() if key != "seed"}  # of the draws
        settings = _without(settings, PAD_ONLY)
        data = _without(data, PAD_ONLY if overlap else PAD_ONLY | UNNAMED)
    blocks = {
        "Data": data,
        "Model": evaluation.get("model") or {},
        "Environment": evaluation.get("environment") or {},
    }
    body = "".join(
        f"<div><h3>{title}</h3>{markup.pairs(block)}</div>"
        for title, block in blocks.items()
        if block
    )
    limits = "".join(
        f"<li>{text(markup.singular(limit))}</li>" for limit in evaluation.get("limits") or []
    )
    listed = ""
    if settings:
        listed = f"<details><summary>Settings</summary>{markup.pairs(settings)}</details>"
    if skipped:
        rows = [[f"<code>{text(s.get('path'))}</code>", text(s.get("reason"))] for s in skipped]
        num = max(len(rows), int(markup.number(data.get("num_skipped")) or 0))
        more = num - min(len(rows), MOST_SKIPPED)
        note = f'<p class="key">and {more} more</p>' if more > 0 else ""
        table = markup.table("Skipped files", ["File", "Reason"], rows[:MOST_SKIPPED])
        title = markup.counted(num, "skipped file")
        listed += f"<details><summary>{title}</summary>{table}{note}</details>"
    asked = f'<h3>Not tested</h3><ul class="limits">{limits}</ul>' if limits else ""
    return Section(
        anchor="records",
        title="Limits and records",
        lead="What these numbers do not cover, and what it takes to get them again.",
        body=f'{asked}<div class="records"><div class="blocks">{body}</div>{listed}</div>',
        from_data=False,
    )


def _without(record: Record, keys: Collection[str]) -> dict[str, Any]:
    """The record without these keys, in records inside it either."""
    return {
        key: _without(value, keys) if isinstance(value, Mapping) else value
        for key, value in record.items()
        if key not in keys
    }
