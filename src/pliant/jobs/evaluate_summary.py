"""What `pliant evaluate` prints: the tiers' table, a PipeNet's modalities, what got no response."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table


def summary(result: Mapping[str, Any]) -> list:
    """The tiers' table for the terminal, and where the rest is."""
    pad = result["task"] == "pad"
    names = ("APCER worst", "BPCER", "ACER", "EER", "AUC") if pad else ("accuracy", "NLL", "ECE")
    data = result["data"]
    table = Table(
        *("tier", "MMACs", "ms", *names),
        title=f"{data['name']}: {data['role']}, {data['counts']['images']} images",
    )
    for row in result["tiers"]:
        m = row["metrics"]
        cells = (
            [_percent(m["apcer_ap"], "rate"), _percent(m["bpcer"], "rate"),
             _percent(m["acer"], "value"), _percent(m["eer"], "value"), f"{m['auc']['value']:.4f}"]
            if pad
            else [_percent(m["accuracy"], "rate"), f"{m['nll']:.3f}", f"{m['ece']:.3f}"]
        )  # fmt: skip
        latency = f"{row['latency_ms']['median']:.2f}"
        table.add_row(row["tier"], f"{row['macs'] / 1e6:.1f}", latency, *cells)
    tables = [table]
    if result.get("subsets"):
        tables.append(_subsets(result))
    said = [data["split_note"], f"Subject overlap: {data['subject_overlap']}."]
    said += _silent(result)
    return [*tables, *filter(None, said), f"Report: {result['report']}"]


def _subsets(result: Mapping[str, Any]) -> Table:
    """A PipeNet's modalities, each subset at its own threshold."""
    vote = result["settings"]["vote"]
    head = ("modalities", "APCER worst", "BPCER", "ACER", "95 %", "AUC", "no response")
    table = Table(*head, title=f"modalities, vote {vote}, thresholds fitted on dev")
    for row in result["subsets"]:
        m, name = row["metrics"], "+".join(row["modalities"])
        silent = str(row["nonresponse"]["num"])
        if m is None:
            table.add_row(name, *["-"] * 5, silent)
            continue
        acer = m["acer"] or {}
        low, high = acer.get("low"), acer.get("high")
        ends = "-" if low is None or high is None else f"{100 * low:.1f} to {100 * high:.1f}"
        table.add_row(
            name, _percent(m["apcer_ap"], "rate"), _percent(m["bpcer"], "rate"),
            _percent(m["acer"], "value"), ends, f"{m['auc']['value']:.4f}", silent,
        )  # fmt: skip
    return table


def _silent(result: Mapping[str, Any]) -> list[str]:
    """A sentence on presentations without a response, if there are any."""
    record = result["tiers"][0].get("nonresponse") or {}
    if not record.get("num"):
        return []
    reasons = ", ".join(f"{n} x {reason}" for reason, n in record["reasons"].items())
    return [f"No response to {record['num']} presentations, which no rate counts: {reasons}."]


def _percent(measure: Mapping[str, Any] | None, key: str) -> str:
    return "-" if measure is None else f"{100 * measure[key]:.1f} %"
