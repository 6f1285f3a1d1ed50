"""The report's section on a network of several modalities, and on how frames of clips voted."""

from collections.abc import Mapping
from typing import Any

from pliant.pad import markup
from pliant.pad.markup import text
from pliant.pad.sections import Record, Section, tiers_of

RULES = {
    "mean": "the mean of the frames' scores",
    "median": "the median of the frames' scores",
    "trimmed": "the mean without the lowest and highest tenth",
    "meanstd": "the mean without what lies 3 standard deviations from the mean",
    "medstd": "the mean without what lies 3 robust deviations from the median",
}


def modalities(evaluation: Record) -> Section | None:
    """Every subset of the modalities, with its own threshold."""
    rows = evaluation.get("subsets") or []
    if not rows:
        return None
    header = [
        "Modalities",
        "Threshold<small>fitted on dev</small>",
        "APCER<small>worst species</small>",
        "BPCER",
        "ACER",
        "AUC",
        "No response",
    ]
    body = markup.table("Modalities", header, [_cells(row) for row in rows])
    unusable = (evaluation.get("modalities") or {}).get("unusable") or {}
    frames = (evaluation.get("modalities") or {}).get("frames")
    for name, reasons in unusable.items():
        said = ", ".join(f"{text(reason)} ({n})" for reason, n in reasons.items())
        body += (
            f'<p class="key">{text(name).capitalize()} cannot be used in '
            f"{sum(reasons.values())} of {text(frames)} frames: {said}.</p>"
        )
    return Section(
        anchor="modalities",
        title="Modalities",
        lead="One network; each row sees some of its modalities, the others are zeros to it, and "
        "has a threshold of its own.",
        body=body,
    )


def _cells(row: Record) -> list[str]:
    metrics = row.get("metrics") or {}
    silent = (row.get("nonresponse") or {}).get("num")
    threshold = row.get("threshold") or {}
    name = text(" + ".join(row["modalities"]))
    if row.get("reason"):
        name += f'<span class="sub">{text(row["reason"])}</span>'
    return [
        name,
        markup.decimal(threshold.get("value")),
        *(_measured(metrics.get(key)) for key in ("apcer_ap", "bpcer", "acer")),
        markup.measured(metrics.get("auc"), scale=0, as_percent=False),
        text(silent),
    ]


def _measured(record: Any) -> str:
    note = str(record.get("species") or "") if isinstance(record, Mapping) else ""
    return markup.measured(record, scale=0, note=note)


def vote(evaluation: Record) -> Section | None:
    """How frames became presentations; nothing where every presentation is one frame."""
    record = next((row.get("vote") for row in tiers_of(evaluation) if row.get("vote")), None) or {}
    frames = int(record.get("num_frames") or 0) + int(record.get("num_missing") or 0)
    if frames <= int(record.get("presentations") or 0):
        return None
    names = {
        "presentations": "Presentations",
        "num_frames": "Frames that voted",
        "num_rejected": "Of them, rejected as outliers by the first tier",
        "num_missing": "Frames that lack a modality",
    }
    rows = [[label, text(record.get(key))] for key, label in names.items()]
    rule = str(record.get("rule"))
    return Section(
        anchor="vote",
        title="Votes of frames",
        lead=f"A clip is one presentation. Its score is {text(RULES.get(rule, rule))} "
        f"(<code>{text(rule)}</code>). Frames of one clip are no independent trials.",
        body=markup.table("Votes of frames", ["", "Number"], rows),
    )
