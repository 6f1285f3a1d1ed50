"""The report's later sections: pictures of decisions, the training run, limits and records."""

import re

from pliant.pad import markup, plots, sheet
from pliant.pad.markup import text
from pliant.pad.sections import Record, Section

PICTURE = re.compile(r"data:image/(jpeg|png);base64,[A-Za-z0-9+/=]+")
MOST_SKIPPED = 50


def contact_sheet(evaluation: Record) -> Section | None:
    """Pictures of mistakes and close calls, per tier and outcome."""
    entries = evaluation.get("sheet") or []
    if not entries:
        return None
    parts = []
    for index, tier in enumerate(dict.fromkeys(str(entry.get("tier")) for entry in entries)):
        of_tier = [entry for entry in entries if str(entry.get("tier")) == tier]
        kinds = [*sheet.OUTCOMES, *(str(entry.get("outcome")) for entry in of_tier)]
        groups = []
        for outcome in dict.fromkeys(kinds):
            tiles = [_tile(e) for e in of_tier if str(e.get("outcome")) == outcome]
            if tiles:
                title = "right, nearest to the threshold" if outcome == sheet.HIT else outcome
                heading = text(title[:1].upper() + title[1:])
                groups.append(f"<h3>{heading}</h3><ul class='sheet'>{''.join(tiles)}</ul>")
        state = " open" if index == 0 else ""
        parts.append(
            f"<details{state}><summary>Tier {text(tier)}</summary>{''.join(groups)}</details>"
        )
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
    plot = plots.figure_training(block["curve"])
    caption = "<b>Watch the gap between lines,</b> not their height: one set of weights serves all."
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
    blocks = {
        "Data": data,
        "Model": evaluation.get("model") or {},
        "Settings": evaluation.get("settings") or {},
        "Environment": evaluation.get("environment") or {},
    }
    body = "".join(
        f"<div><h3>{title}</h3>{markup.pairs(block)}</div>"
        for title, block in blocks.items()
        if block
    )
    limits = "".join(f"<li>{text(limit)}</li>" for limit in evaluation.get("limits") or [])
    listed = ""
    if skipped:
        rows = [[f"<code>{text(s.get('path'))}</code>", text(s.get("reason"))] for s in skipped]
        num = max(len(rows), int(markup.number(data.get("num_skipped")) or 0))
        more = num - min(len(rows), MOST_SKIPPED)
        note = f'<p class="key">and {more} more</p>' if more > 0 else ""
        table = markup.table("Skipped files", ["File", "Reason"], rows[:MOST_SKIPPED])
        title = f"{num} skipped file{'s' * (num > 1)}"
        listed = f"<details><summary>{title}</summary>{table}{note}</details>"
    asked = f'<h3>Not tested</h3><ul class="limits">{limits}</ul>' if limits else ""
    return Section(
        anchor="records",
        title="Limits and records",
        lead="What these numbers do not cover, and what it takes to get them again.",
        body=f'{asked}<div class="records">{body}</div>{listed}',
        from_data=False,
    )
