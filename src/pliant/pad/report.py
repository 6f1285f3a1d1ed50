"""report.html: what an evaluation found, as one page that opens offline.

Everything is inside the file: no script, no link, no font. A content security policy in its head
refuses all else, and every text that comes from data is escaped (pliant.pad.markup).
"""

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

from pliant.pad import appendix, markup, modal_sections, score_sections, sections
from pliant.pad.markup import text
from pliant.pad.sections import Record, Section, is_classification, tiers_of
from pliant.pad.svg import stylesheet
from pliant.runtime.files import write_atomic

STATEMENT = "self-assessment, not a certification"
SECTIONS = (
    sections.tiers,
    sections.cost,
    sections.species,
    modal_sections.modalities,
    modal_sections.vote,
    score_sections.nonresponse,
    sections.det,
    appendix.histograms,
    appendix.agreement,
    appendix.contact_sheet,
    appendix.training,
    appendix.records,
)
"""In reading order; one whose blocks are missing is left out."""
SCORE_SECTIONS = (
    score_sections.errors,
    score_sections.det,
    appendix.histograms,
    score_sections.nonresponse,
    score_sections.full_system,
    score_sections.slices,
    score_sections.free,
    score_sections.reliability,
    score_sections.celeba,
    score_sections.durations,
    appendix.records,
)
"""The same for a score file alone, of which no model is known."""
WARNING = "warning: "
"""How a subject overlap that should not be begins."""
DISAGREE = 0.05
"""Share of different decisions from which the head of the page mentions them."""


def write_report(evaluation: dict[str, Any], folder: Path) -> Path:
    """Writes report.html into the folder; returns its path.

    Args:
        evaluation: The contents of evaluation.json; blocks may be None or missing.
        folder: An existing folder.
    """
    path = Path(folder) / "report.html"
    write_atomic(path, render(evaluation))
    return path


def render(evaluation: Record) -> str:
    """The page as text."""
    wanted = SCORE_SECTIONS if of_scores(evaluation) else SECTIONS
    shown = [section for make in wanted if (section := make(evaluation))]
    synthetic = bool((evaluation.get("data") or {}).get("synthetic"))
    files = resources.files("pliant.pad")
    template = Template((files / "report.html").read_text(encoding="utf-8"))
    style = (files / "report.css").read_text(encoding="utf-8")
    norm = "" if is_classification(evaluation) else "Words and rates follow ISO/IEC 30107-3. "
    model = str((evaluation.get("model") or {}).get("name") or "model")
    return template.substitute(
        title=text(f"{model}: pliant evaluation report"),
        style=f"{stylesheet(':root')}\n{style}",
        badge='<span class="badge">Synthetic data</span>' if synthetic else "",
        head=f"<h1>{headline(evaluation)}</h1>{_facts(evaluation)}{_about(evaluation)}",
        nav="<ul>"
        + "".join(f'<li><a href="#{s.anchor}">{s.title}</a></li>' for s in shown)
        + "</ul>",
        sections="\n".join(_section(section, synthetic=synthetic) for section in shown),
        statement=text(_capital(str(evaluation.get("statement") or STATEMENT))),
        foot=f"Made by pliant {text(evaluation.get('pliant') or '')} on "
        f"{text(str(evaluation.get('created') or 'an unknown day')[:10])}. {norm}Nobody but the "
        "maker of this report has checked its numbers.",
    )


def of_scores(evaluation: Record) -> bool:
    """Whether a score file was judged, rather than a model."""
    return evaluation.get("kind") == "scores"


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]


def _section(section: Section, *, synthetic: bool) -> str:
    tag = ' <span class="tag">synthetic data</span>' if synthetic and section.from_data else ""
    lead = f'<p class="lead">{section.lead}</p>' if section.lead else ""
    return (
        f'<section id="{section.anchor}" aria-labelledby="{section.anchor}-title">'
        f'<h2 id="{section.anchor}-title">{section.title}{tag}</h2>{lead}{section.body}</section>'
    )


def headline(evaluation: Record) -> str:
    """The verdict as one or two sentences: the tier that errs least, then the cheapest."""
    rows = tiers_of(evaluation)
    if not rows:
        return "No tier was evaluated."
    verdict = _named if is_classification(evaluation) else _decided
    judged = [row for row in rows if verdict(row)]
    if not judged:
        verdict = _ranked
        judged = [row for row in rows if verdict(row)] or rows[:1]
    costs = {row["place"]: _macs(row) for row in rows}
    best = min(judged, key=lambda row: ((verdict(row) or (0.0,))[0], costs[row["place"]]))
    cheapest = min(rows, key=lambda row: costs[row["place"]])
    _, said, _ = verdict(best) or (0.0, "has no result", "")
    said += _in_time(best)
    said += "; it has no threshold, so it accepts and rejects nothing yet" * (verdict is _ranked)
    if of_scores(evaluation):
        return f"{_name(best)} {said}."
    if len(rows) == 1:
        return f"Tier {_name(best)} {said}."
    if best is cheapest:
        then = "No tier errs less."
        first = f"Tier {_name(best)}, the cheapest, {said}."
    else:
        first = f"Tier {_name(best)} errs least: it {said}."
        found = verdict(cheapest)
        short = f": {found[2]}{_in_time(cheapest)}" if found else ", has no threshold"
        then = f"Tier {_name(cheapest)}, the cheapest{short}."
    return f'{first} <span class="then">{then}</span>'


Verdict = tuple[float, str, str] | None
"""Share of errors, what the tier does, and the same in short."""


def _named(row: Record) -> Verdict:
    accuracy = _rate(row, "accuracy")
    if accuracy is None:
        return None
    return 1 - accuracy, f"names {_strong(accuracy)} of images rightly", _strong(accuracy)


def _decided(row: Record) -> Verdict:
    apcer, bpcer = _rate(row, "apcer_ap"), _rate(row, "bpcer")
    if apcer is None or bpcer is None:
        return None
    worst = row["metrics"]["apcer_ap"].get("species")
    of_worst = f" of its worst species ({text(worst)})" if worst else ""
    said = (
        f"accepts {_strong(apcer)} of attacks{of_worst} and rejects {_strong(bpcer)} of bona fide "
        "presentations"
    )
    return (apcer + bpcer) / 2, said, f"{_strong(apcer)} and {_strong(bpcer)}"


def _ranked(row: Record) -> Verdict:
    area = _rate(row, "auc")
    if area is None:
        return None
    said = f"AUC <b>{markup.decimal(area)}</b>"
    return 1 - area, f"ranks bona fide above attack with {said}", said


def _macs(row: Record) -> float:
    return markup.number(row.get("macs")) or 0.0


def _name(row: Record) -> str:
    return f"<b>{text(row.get('tier'))}</b>"


def _strong(rate: float | None) -> str:
    return f"<b>{markup.percent(rate)}</b>"


def _in_time(row: Record) -> str:
    record = row.get("latency_ms")
    median = markup.number(record.get("median") if isinstance(record, Mapping) else record)
    return "" if median is None else f", in {markup.milliseconds(median)}"


def _rate(row: Record, key: str) -> float | None:
    record = row["metrics"].get(key)
    record = record if isinstance(record, Mapping) else {"value": record}
    return markup.number(record.get("rate", record.get("value")))


def _facts(evaluation: Record) -> str:
    """What a careful reader would ask next, warnings first."""
    rows, data = tiers_of(evaluation), evaluation.get("data") or {}
    warnings, facts = [], []
    if data.get("synthetic"):
        warnings.append("These data are rendered: the numbers say nothing about real people.")
    if data.get("role") == "dev" and not data.get("split_note"):
        warnings.append("Judged on the dev split that thresholds were fitted on: optimistic.")
    overlap = sections.subject_overlap(evaluation)
    if overlap.startswith(WARNING):
        warnings.append(f"Overlap with training: {text(overlap[len(WARNING) :])}.")
    notes: dict[str, list[str]] = {}
    for row in rows:
        for note in row["metrics"].get("notes") or []:
            notes.setdefault(markup.singular(note), []).append(str(row.get("tier")))
    for note, tiers in notes.items():
        of_all = len(tiers) == len(rows)
        said = (
            _capital(note) if of_all else f"Tier{'s' * (len(tiers) > 1)} {', '.join(tiers)}: {note}"
        )
        warnings.append(f"{text(said)}.")
    baseline = evaluation.get("baseline") or {}
    metrics = baseline.get("metrics") or {}
    trivial = _rate({"metrics": metrics}, "auc")
    if trivial is not None:
        beaten = [row for row in rows if (_rate(row, "auc") or 1.0) <= trivial]
        said = f"A {text(baseline.get('name') or 'trivial baseline')} alone reaches AUC "
        said += f"{markup.decimal(trivial)}"
        if beaten:
            names = ", ".join(text(row.get("tier")) for row in beaten)
            warnings.append(f"{said}, no worse than {names}: the data may give itself away.")
        else:
            facts.append(f"{said}; the tiers must be judged against that.")
    entries = [e for e in evaluation.get("agreement") or [] if markup.number(e.get("rate"))]
    if entries:
        most = max(entries, key=lambda e: e["rate"])
        said = f"{text(most['a'])} and {text(most['b'])} decide differently about "
        what = "images" if is_classification(evaluation) else "presentations"
        said += f"{markup.percent(most['rate'])} of {what}."
        (warnings if most["rate"] >= DISAGREE else facts).append(f"Tiers {said}")
    if data.get("split_note"):
        warnings.append(text(data["split_note"]))
    facts.append(f"A {text(evaluation.get('statement') or STATEMENT)}.")
    items = [f'<li class="warn">{item}</li>' for item in warnings]
    items += [f"<li>{item}</li>" for item in facts]
    return f'<ul class="facts">{"".join(items)}</ul>'


def _about(evaluation: Record) -> str:
    """Data, presentations, model and day, in one row."""
    data, model = evaluation.get("data") or {}, evaluation.get("model") or {}
    counts = data.get("counts") or {}
    entries = []
    if data.get("name"):
        role = {"test": "test split", "dev": "dev split", "all": "all of it"}
        entries.append(("Data", data["name"], role.get(str(data.get("role")), data.get("role"))))
    if counts:
        nouns = {"images": "image", "attack": "attack", "subjects": "subject"}
        shown = [
            markup.counted(value, nouns[key])
            if key in nouns
            else f"{value} {key.replace('_', ' ')}"
            for key, value in counts.items()
            if value
        ]
        seen = sections.subject_overlap(evaluation)
        small = None if seen.startswith(WARNING) else seen.removeprefix("none: ")
        entries.append(("Judged", ", ".join(shown), small))
    if model.get("name") and not of_scores(evaluation):
        size = f"{model['input_px']} px" if model.get("input_px") else None
        start = f"start: {model['start']}" if model.get("start") else None
        entries.append(("Model", model["name"], ", ".join(p for p in (size, start) if p)))
    if evaluation.get("created"):
        when = str(evaluation["created"])[:16].replace("T", " ")
        entries.append(("Evaluated", when, f"pliant {evaluation.get('pliant') or ''}"))
    skipped = int(markup.number(data.get("num_skipped")) or len(data.get("skipped") or []))
    if skipped:
        entries.append(("Skipped", markup.counted(skipped, "file"), "listed at the end"))
    items = "".join(
        f"<div><dt>{text(term)}</dt><dd>{text(value)}"
        f"{f'<small>{text(small)}</small>' if small else ''}</dd></div>"
        for term, value, small in entries
    )
    return f'<dl class="about">{items}</dl>' if items else ""
