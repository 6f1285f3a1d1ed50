"""Write the tables of the pages from benchmarks/results: python docs/make_tables.py [--check].

Each table stands between `<!-- table: NAME -->` and `<!-- end: NAME -->`; what is between is
replaced. With --check nothing is written, and exit 1 says that a table is out of date.
"""

import csv
import math
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
EMPTY = "_No results yet._"

Row = dict[str, str]


def read(name: str) -> list[Row]:
    """The rows of a result file; none if it is not there yet."""
    path = RESULTS / name
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def grouped(rows: Sequence[Row], keys: Sequence[str]) -> dict[tuple[str, ...], list[Row]]:
    """Rows that agree on `keys`, in the order of their first appearance."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    return groups


def spread(rows: Sequence[Row], column: str, *, digits: int, scale: float = 1.0) -> str:
    """Mean ± sample standard deviation over the rows that have a value; their mean alone if one."""
    values = [float(row[column]) * scale for row in rows if row.get(column)]
    if not values:
        return "-"
    mean = f"{statistics.mean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.{digits}f}"


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, the first column left, the others right."""
    if not rows:
        return EMPTY
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def replaced(text: str, name: str, table: str) -> str:
    """The text with the table put between the markers of `name`."""
    start, end = f"<!-- table: {name} -->", f"<!-- end: {name} -->"
    before, rest = text.split(start)
    _, after = rest.split(end)
    return f"{before}{start}\n{table}\n{end}{after}"


def tiers(part: str, measure: str, *, scale: float, digits: int) -> str:
    """Every tier of the adaptive network and every rival trained alone, cheapest first."""
    rows = [row for row in read("tiers.csv") if row["part"] == part]
    lines = []
    groups = grouped(rows, ("network", "tier"))
    for (network, tier), runs in sorted(groups.items(), key=lambda g: int(g[1][0]["macs"])):
        if network.startswith("pta, "):
            continue  # other ways to sample: `samplers` shows them
        name = f"**PTA, {tier}**" if network == "pta" else network
        line = [name, f"{int(runs[0]['macs']) / 1e6:.1f}", str(len(runs))]
        line.append(spread(runs, "value", digits=digits, scale=scale))
        if part == "nuaa":
            line += [spread(runs, c, digits=1, scale=100) for c in ("apcer_max", "bpcer")]
        lines.append(line)
    rates = ["APCER (max), %", "BPCER, %"] if part == "nuaa" else []
    return markdown(["network", "MMACs", "runs", measure, *rates], lines)


def samplers() -> str:
    """Every way to sample configurations: quality of each tier, and the compute it took."""
    lines = []
    names = ("low", "mid", "high", "max")
    for part, digits, scale in (("nuaa", 3, 1.0), ("cifar", 1, 100.0)):
        rows = [r for r in read("tiers.csv") if r["part"] == part and r["network"][:3] == "pta"]
        for (network,), runs in grouped(rows, ("network",)).items():
            cells = [
                spread([r for r in runs if r["tier"] == tier], "value", digits=digits, scale=scale)
                for tier in names
            ]
            first = list({(r["fold"], r["seed"]): r for r in runs}.values())
            macs = spread(first, "total_macs", digits=0, scale=1e-9)
            how = network.removeprefix("pta").removeprefix(", ") or "one preset a step"
            lines.append([f"{part}: {how}", str(len(first)), *cells, macs])
    return markdown(["data: sampling", "runs", *names, "forward GMACs"], lines)


def light_start() -> str:
    """What a light branch misses of its heavy one, by way of starting."""
    rows = read("light_start.csv")
    lines = []
    for (start, fit), found in grouped(rows, ("start", "fitted_to")).items():
        name = f"{start}, to {fit} photos" if fit != "0" else start
        lines.append([name, *(f"{float(row['mean']):.2f}" for row in found)])
    return markdown(["start", "t = 1", "t = 2", "t = 3"], lines)


def training_time() -> str:
    """Training seconds of all tiers at once against the rivals, and of one step."""
    lines = []
    for part in ("nuaa", "cifar"):
        rows = [row for row in read("tiers.csv") if row["part"] == part]
        for network, runs in grouped(rows, ("network",)).items():
            first = {(r["fold"], r["seed"]): r for r in runs}.values()
            seconds = spread(list(first), "seconds", digits=0)
            macs = spread(list(first), "total_macs", digits=0, scale=1e-9)
            steps = next(iter(first))["steps"]
            lines.append([f"{part}: {network[0]}", str(len(first)), steps, seconds, macs])
    lines += [
        [f"a step: {row['measure']}", "1", row["steps"], row["value"], "-"]
        for row in read("tiers.csv")
        if row["network"] == "ratio"
    ]
    return markdown(["training", "runs", "steps", "seconds (or ratio)", "forward GMACs"], lines)


def transfer() -> str:
    """What each ingredient does on unseen subjects, another camera and simulated replays."""
    lines = []
    tests = ("nuaa", "camera", "replay")
    for (variant, tier), rows in grouped(read("transfer.csv"), ("variant", "tier")).items():
        if variant not in SHOWN:
            continue
        line = [f"{variant}: {tier}"]
        for test in tests:
            runs = [row for row in rows if row["test"] == test]
            errors = "/".join(spread(runs, c, digits=0, scale=100) for c in ("apcer_max", "bpcer"))
            line.append(f"{spread(runs, 'auc', digits=3)} ({errors})")
        lines.append(line)
    return markdown(["variant: tier", *tests], lines)


def switch() -> str:
    """One row per size and tier, on one thread: ours beside a static file and a fed choice."""
    lines = []
    for (size, _, tier), rows in grouped(
        [row for row in read("switch.csv") if row["threads"] == "1"], ("size", "threads", "tier")
    ).items():
        ways = {row["way"]: row for row in rows}
        if "ours" not in ways:  # the peers: another network, so no ratio
            lines += [
                [f"{way}, {size} px", row["ms"], "", "", "", row["file_mb"]]
                for way, row in ways.items()
            ]
            continue
        ours = ways["ours"]
        lines.append(
            [
                f"{tier}, {size} px",
                ours["ms"],
                ours["ratio"],
                ways["input"]["ratio"],
                f"{float(ours['switch_ms']):.0f}",
                ours["file_mb"],
            ]
        )
    header = ["tier, input", "ms", "/ static", "flags fed / static", "switch, ms", "MB"]
    return markdown(header, lines)


def int8() -> str:
    """One row per tier: what 8 bits change on the dev split, and what they save."""
    lines = []
    for row in read("int8.csv"):
        rates = [
            f"{100 * float(row[f'{rate}_{when}']):.1f}"
            for rate in ("apcer", "bpcer")
            for when in ("before", "after")
        ]
        pair = f"{row['fp32_ms']} / {row['int8_ms']}"
        lines.append([row["tier"], *rates, row["mean_abs_score"], row["alone_mb"], pair])
    header = ["tier", "APCER, %", "in 8 bits", "BPCER, %", "in 8 bits", "score moved by"]
    return markdown([*header, "alone, MB", "ms, fp32 / 8 bits"], lines)


def mobile() -> str:
    """One row per run time and network: what sharing saves, and what it costs."""
    lines = []
    for (runtime, version, network, side), rows in grouped(
        read("mobile.csv"), ("runtime", "version", "network", "side")
    ).items():
        first = rows[0]
        sizes = [f"{int(first[c]) / 1e6:.1f}" for c in ("shared_bytes", "separate_bytes")]
        ratios = [float(row["shared_ms"]) / float(row["separate_ms"]) for row in rows]
        lines.append(
            [
                f"{runtime} {version}, {network}, {side} px",
                *sizes,
                f"{min(ratios):.2f} to {max(ratios):.2f}",
                f"{max(float(row['max_abs_logits']) for row in rows):.0e}",
            ]
        )
    header = [
        "run time, network",
        "MB, one file",
        "MB, four files",
        "ms / separate",
        "logits off by",
    ]
    return markdown(header, lines)


T_975 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
"""0.975 quantiles of Student's t for 1 to 9 degrees of freedom."""


def more(pairs: Sequence[tuple[float, float]], *, digits: int) -> str:
    """Mean of first minus second, with its 95 % t interval; alone if there is one pair."""
    values = [one - other for one, other in pairs]
    if not values:
        return "-"
    mean = f"{statistics.mean(values):+.{digits}f}"
    if len(values) == 1:
        return mean
    half = T_975[len(values) - 2] * statistics.stdev(values) / math.sqrt(len(values))
    return f"{mean} ± {half:.{digits}f}"


def points(rows: Sequence[Row], predictors: Sequence[str]) -> dict[str, float]:
    """Test accuracy in percent by seed, the mean over `predictors`."""
    seeds = grouped([row for row in rows if row["predictor"] in predictors], ("seed",))
    return {
        seed: 100 * statistics.mean(float(row["test"]) for row in found)
        for (seed,), found in seeds.items()
    }


TOGETHER = {"ffl": "fused", "ffl, apart": "fused", "one": "gated"}
"""What a method deploys of all its networks; the others the mean of their logits."""


def distill_methods(data: str) -> str:
    """A network of each method, and all of them together, beside two trained apart."""
    rows = [r for r in read("distill.csv") if (r["part"], r["data"]) == ("methods", data)]
    networks = [f"network_{k}" for k in (1, 2, 3)]
    methods = {method: found for (method,), found in grouped(rows, ("method",)).items()}
    apart = methods.get("vanilla", [])
    alone, pair = points(apart, networks), points(apart, ["ensemble"])
    lines = []
    for method, found in methods.items():
        if method == "teacher":
            continue
        single = points(found, ["leader"] if method == "okddip" else networks)
        several = points(found, [TOGETHER.get(method, "ensemble")])
        spent = float(found[0]["gmacs"]) + float(found[0]["taught_gmacs"]) / 3
        unit = float(apart[0]["gmacs"]) / 2
        line = [method, f"{spent / unit:.2f}", str(len(single))]
        for values, base in ((single, alone), (several, pair)):
            both = [seed for seed in values if seed in base]
            line.append(f"{statistics.mean(values.values()):.1f}" if values else "")
            differences = more([(values[seed], base[seed]) for seed in both], digits=1)
            line.append(differences if both and method != "vanilla" else "")
        lines.append(line)
    if "teacher" in methods:
        found = methods["teacher"]
        cost = float(found[0]["gmacs"]) / (float(apart[0]["gmacs"]) / 2)
        single = points(found, networks)
        mean = f"{statistics.mean(single.values()):.1f}"
        lines.append(["(kd's teacher)", f"{cost:.2f}", str(len(single)), mean, "", "", ""])
    header = ["method", "compute", "seeds", "a network, %", "more than alone", "together, %"]
    return markdown([*header, "more than two alone"], lines)


def distill_pta() -> str:
    """Each way to train two tiers at once: every tier, and what it has more than without."""
    rows = [row for row in read("distill.csv") if row["part"] == "pta"]
    lines = []
    shown = {"cifar": ("accuracy", 100, 1), "nuaa": ("auc", 1, 3)}
    for data, (measure, scale, digits) in shown.items():
        mine = [r for r in rows if r["data"].startswith(data)]
        for (student, method), runs in grouped(mine, ("student", "method")).items():
            line = [f"{data}: {method}", str(len({run["seed"] for run in runs}))]
            for tier in ("low", "high"):
                values, base = (
                    {
                        r["seed"]: scale * float(r["test"])
                        for r in mine
                        if (r["student"], r["method"]) == (student, which)
                        and (r["predictor"], r["measure"]) == (tier, measure)
                    }
                    for which in (method, "none")
                )
                line.append(f"{statistics.mean(values.values()):.{digits}f}")
                pairs = [(values[seed], base[seed]) for seed in values if seed in base]
                line.append("" if method == "none" else more(pairs, digits=digits))
            if data == "nuaa":
                for tier in ("low", "high"):
                    errors = [r for r in runs if (r["predictor"], r["measure"]) == (tier, "acer")]
                    line.append(spread(errors, "test", digits=1, scale=100))
            else:
                line += ["", ""]
            lines.append(line)
    header = ["data: teaching", "seeds", "low", "more", "high", "more", "ACER low, %"]
    return markdown([*header, "ACER high, %"], lines)


def distill_cost() -> str:
    """One step of every method, in units of the same networks trained apart."""
    rows = [row for row in read("distill.csv") if row["part"] == "cost"]
    lines = []
    for (method,), found in grouped(rows, ("method",)).items():
        values = {row["measure"]: float(row["value"]) for row in found}
        if "step / apart" in values:
            cells = [f"{values[k]:.2f}" for k in ("step / apart", "kept / apart", "kept / one")]
            lines.append([method, *cells, ""])
        elif "overhead" in values:
            lines.append([method, "", "", "", f"{100 * values['overhead']:+.0f}"])
    header = ["method", "time / sum apart", "memory / sum apart", "memory / one of them"]
    return markdown([*header, "loss, % of the student's step"], lines)


SHOWN = (
    "naive",
    "plain, camera + simulated attacks",
    "camera + simulated attacks",
    "the same, sandwich and distilled, 10 epochs",
    "the same, sandwich and distilled",
)
"""Variants of transfer.csv that the README shows; the file holds all."""

TABLES: dict[str, Callable[[], str]] = {
    "samplers": samplers,
    "light_start": light_start,
    "nuaa": lambda: tiers("nuaa", "AUC", scale=1, digits=3),
    "cifar": lambda: tiers("cifar", "accuracy, %", scale=100, digits=1),
    "time": training_time,
    "transfer": transfer,
    "switch": switch,
    "int8": int8,
    "mobile": mobile,
}
"""Marker name -> the function that makes its table."""

DISTILL: dict[str, Callable[[], str]] = {
    "methods": lambda: distill_methods("cifar-1000-16px"),
    "longer": lambda: distill_methods("cifar-2000-16px"),
    "pta": distill_pta,
    "cost": distill_cost,
}
"""The same for docs/distill.md."""

PAGES = {"README.md": TABLES, "docs/distill.md": DISTILL}


def main(words: Sequence[str]) -> int:
    """Rewrites the pages; with --check only compares."""
    if set(words) - {"--check"}:
        print(__doc__)
        return 2
    stale = 0
    for name, tables in PAGES.items():
        page = ROOT / name
        before = text = page.read_text(encoding="utf-8")
        for marker, make in tables.items():
            text = replaced(text, marker, make())
        if "--check" not in words:
            page.write_text(text, encoding="utf-8")
        elif text != before:
            print(f"{name}: a table is out of date; run python docs/make_tables.py")
            stale = 1
    return stale


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
