"""What `pliant pad ...` prints: tables for the terminal."""

from collections.abc import Mapping
from typing import Any


def evaluate_summary(result: Mapping[str, Any]) -> list:
    """The error rates with their intervals, then what should be known about them."""
    from rich.table import Table

    tier, data = result["tiers"][0], result["data"]
    metrics, nonresponse = tier["metrics"], tier["nonresponse"]
    counts = data["counts"]
    table = Table(
        "measure", "value", "95 %", "over subjects",
        title=f"{data['name']}: {counts['bona_fide']} bona fide, {counts['attack']} attacks",
    )  # fmt: skip
    for name, rate in (metrics["apcer"] or {}).items():
        table.add_row(f"APCER {name}", *_cells(rate))
    rows = {
        "APCER worst species": metrics["apcer_ap"],
        "BPCER": metrics["bpcer"],
        "ACER (worst species)": metrics["acer"],
        "HTER": metrics["hter"],
        "EER": metrics["eer"],
        "BPCER10": metrics["bpcer10"],
        "BPCER20": metrics["bpcer20"],
        "BPCER100": metrics["bpcer100"],
        "APCER at BPCER 1 %": metrics["apcer_at_bpcer1"],
        "BPNRR": nonresponse["bpnrr"],
    }
    rows |= {f"APNRR {name}": r for name, r in nonresponse["apnrr"].items() if r and r["rate"] > 0}
    for name, record in rows.items():
        if record is not None:
            unproven = "" if record.get("supported", True) else " (too few data)"
            table.add_row(f"{name}{unproven}", *_cells(record))
    whole = tier["full_system"]
    if whole is not None:
        for name, rate in whole["iapar"].items():
            table.add_row(f"IAPAR {name}", *_cells(rate))
        table.add_row("IAPAR worst species", *_cells(whole["iapar_worst"]))
        table.add_row("FRR of the full system", *_cells(whole["frr"]))
        table.add_row("RIAPAR", *_cells(whole["riapar"]))
    table.add_row("AUC", f"{metrics['auc']['value']:.4f}", "", _span(metrics["auc"], "", 1, 4))
    threshold = tier["threshold"]
    said = (
        [] if threshold is None else [f"threshold {threshold['value']:.4f} ({threshold['policy']})"]
    )
    flagged = [
        f"{column} = {value}: {', '.join(entry['flagged'])}"
        for column, values in ((tier["slices"] or {}).get("columns") or {}).items()
        for value, entry in values.items()
        if entry["flagged"]
    ]
    said += [f"differs from the whole: {line}" for line in flagged]
    return [table, *said, *metrics["notes"], *result["limits"], f"Report: {result['report']}"]


def _cells(record: Mapping[str, Any]) -> tuple[str, str, str]:
    """Value, Clopper-Pearson interval and interval over subjects."""
    if "rate" in record:
        return _percent(record["rate"]), _span(record), _span(record, "cluster_")
    return _percent(record["value"]), "", _span(record)


def _span(record: Mapping[str, Any], prefix: str = "", scale: float = 100, places: int = 1) -> str:
    low, high = record.get(f"{prefix}low"), record.get(f"{prefix}high")
    return (
        ""
        if low is None or high is None
        else f"{scale * low:.{places}f} to {scale * high:.{places}f}"
    )


def _percent(rate: float) -> str:
    return f"{100 * rate:.2f} %"


def compare_summary(result: Mapping[str, Any]) -> list:
    """Both systems' measures and the difference with its interval."""
    from rich.table import Table

    table = Table("measure", "A", "B", "B - A", "95 %", title=f"{result['n']} presentations")
    for name, d in result["differences"].items():
        if "nrr" in name and not d["a"] and not d["b"]:
            continue
        own = ["-" if d[side] is None else f"{100 * d[side]:.2f}" for side in "ab"]
        span = _span(d, places=2) + " *" * d["differs"]
        table.add_row(name, *own, f"{100 * d['difference']:+.2f}", span)
    said = [f"A: {result['a']}, B: {result['b']}; all in %; * the interval excludes 0"]
    for kind, test in (result["mcnemar"] or {}).items():
        said.append(
            f"McNemar, {kind.replace('_', ' ')}: A alone errs {test['only_a_errs']} times, B alone "
            f"{test['only_b_errs']} times, p = {test['p']:.3g}"
        )
    left = result["only_a_no_response"], result["only_b_no_response"], result["both_no_response"]
    if any(left):
        said.append(f"no response: A alone {left[0]}, B alone {left[1]}, both {left[2]}")
    return [table, *said, *result["notes"]]


def threshold_summary(result: Mapping[str, Any]) -> list:
    """The value, its evidence and its file."""
    interval = result["interval"]
    span = f", 95 % {interval[0]:.4f} to {interval[1]:.4f}" if interval else ""
    return [
        f"threshold {result['value']:.6f} ({result['policy']}{span})",
        f"fitted on {result['num_bona_fide']} bona fide and {result['num_attack']} attacks of "
        f"{result['num_subjects']} named subjects",
        *result["notes"],
        f"written to {result['file']}{', signed' * result['signed']}",
    ]


def adapt_summary(result: Mapping[str, Any]) -> list:
    """Every tier before and after, then what should be known about that."""
    from rich import box
    from rich.table import Table

    first, judged = result["tiers"][0], result["judged"]
    how = (
        "on its test split"
        if judged["unit"] == "test split"
        else f"cross-fitted by {judged['unit']} in {judged['num_parts']} parts"
    )
    table = Table(
        "tier", "", "threshold", "APCER worst", "BPCER", "ACER",
        title=f"{result['data']['name']}, {how}: {first['num_bona_fide']} bona fide, "
        f"{first['num_attack']} attacks",
        caption="in %, with 95 % intervals: Clopper-Pearson, of ACER over "
        + ("subjects" if first["num_subjects"] else "presentations"),
        box=box.SIMPLE_HEAD,
    )  # fmt: skip
    for tier in result["tiers"]:
        old = tier["threshold_before"]
        rows = (("before", old, tier["before"]), ("after", tier["threshold"], tier["after"]))
        for when, threshold, rates in rows:
            found = rates or dict.fromkeys(("apcer_ap", "bpcer", "acer"))
            cells = [_with_span(found[name]) for name in ("apcer_ap", "bpcer", "acer")]
            value = "-" if threshold is None else f"{threshold['value']:.4f}"
            table.add_row(tier["tier"] if when == "before" else "", when, value, *cells)
    worse = [tier["tier"] for tier in result["tiers"] if _is_worse_on_old_dev(tier)]
    said = [*result["notes"]]
    if worse:
        said.append(
            f"on the old dev scores ACER rises for {', '.join(worse)}: the new run is for the new "
            "camera alone"
        )
    return [table, *said, f"adapted ({result['what']}): {result['out']}"]


def _with_span(record: Mapping[str, Any] | None) -> str:
    """Value and first interval, in percent; a dash where there is no value."""
    if record is None:
        return "-"
    span = _span(record, places=0).replace(" to ", ", ")
    rate = record["rate"] if "rate" in record else record["value"]
    return f"{100 * rate:.1f}" + (f" [{span}]" if span else "")


def _is_worse_on_old_dev(tier: Mapping[str, Any]) -> bool:
    old = tier["old_dev"]
    if not old or not old["before"]["acer"] or not old["after"]:
        return False
    return old["after"]["acer"]["value"] > old["before"]["acer"]["value"]


def plan_summary(result: Mapping[str, Any]) -> list:
    """A table per claim, and the sum of the checklist."""
    from rich.table import Table

    parts: list[Any] = []
    for kind, rows in result["plan"].items():
        rate = "APCER of each species" if kind == "attack" else "BPCER"
        table = Table(
            "errors allowed", "presentations", "subjects", "passes at a fifth of it", "at half",
            title=f"{rate} <= {100 * result['targets'][kind]:g} % at {result['confidence']:.0%}",
        )  # fmt: skip
        for row in rows:
            chances = [f"{row[key]:.0%}" for key in ("chance_at_fifth", "chance_at_half")]
            counts = [str(row[k]) for k in ("errors_allowed", "presentations", "subjects")]
            table.add_row(*counts, *chances)
        parts.append(table)
    parts.append(
        f"to capture, {result['errors_allowed']} errors allowed: "
        f"{result['presentations_in_all']} presentations"
    )
    if result["checklist"]:
        parts.append(f"checklist: {result['checklist']}")
    return parts


def convert_summary(result: Mapping[str, Any]) -> list:
    """What was written."""
    return [f"{result['rows']} rows written to {result['file']}"]
