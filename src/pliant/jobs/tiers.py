"""`pliant tiers RUN`: what every tier costs on this device, and which one fits a budget.

A search finds the best of all configurations under the budget; `--name` makes it a tier of the run.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from pliant.errors import UserError

if TYPE_CHECKING:
    from pliant.train.run_folder import Run

BUDGETS = {"ms": "latency_ms", "macs": "macs", "bytes": "size_bytes"}
"""Unit of a budget -> column of the cost table."""
PLOT_WIDTH, PLOT_HEIGHT = 56, 8
"""Characters of the terminal's plot."""


def tiers(
    run: Annotated[Path, Positional, arg(metavar="RUN")],
    *,
    budget_ms: float | None = None,
    budget_macs: float | None = None,
    budget_bytes: float | None = None,
    search: Path | None = None,
    name: str | None = None,
    plot: Path | None = None,
    runs: int = 30,
    threads: int = 1,
) -> dict[str, Any]:
    """Measure what every tier of a run costs on this device; with a budget, pick one.

    Args:
        run: A run folder of `pliant train`.
        budget_ms: Most milliseconds for one image (median, batch 1).
        budget_macs: Most multiply-accumulates for one image.
        budget_bytes: Most bytes of weights, float32.
        search: Data whose dev split ranks all 3^16 configurations under the budget, not the named
            tiers alone: that of the training, or other data with a dev split.
        name: Makes what the search found a tier of the run, with a threshold of its own.
        plot: Where to write quality against latency (SVG or PNG); None: no file.
        runs: Timed passes per tier; the tiers take turns.
        threads: CPU threads of torch while timing.

    Raises:
        UserError: if no tier fits, or more than one budget is given.
    """
    given = {"ms": budget_ms, "macs": budget_macs, "bytes": budget_bytes}
    budget = {unit: value for unit, value in given.items() if value is not None}
    if len(budget) > 1:
        raise UserError("give one budget: --budget-ms, --budget-macs or --budget-bytes")
    if search is not None and not budget:
        raise UserError("--search needs a budget: --budget-ms, --budget-macs or --budget-bytes")
    if name is not None and search is None:
        raise UserError("--name names what a search found; give --search and a budget too")
    if plot is not None and plot.exists():
        raise UserError(f"{plot} exists already; give --plot another name, or remove it")
    if plot is not None:
        from pliant.pad.svg import check_suffix

        check_suffix(plot)

    from pliant.train.run_folder import RunFolder

    opened = RunFolder.open(run, several_modalities=True)
    if opened.pipenet is not None and search is not None:
        raise UserError(f"{run} is a PipeNet: it has one configuration, so there is no --search")
    quality, measure = dev_quality(run)
    rows = cost_rows(opened, runs=runs, threads=threads)
    for row in rows:
        row["quality"] = quality.get(row["tier"])
    result: dict[str, Any] = {
        "run": run,
        "input_px": opened.preprocessing.size,
        "quality": measure,
        "tiers": rows,
    }
    if budget:
        ((unit, value),) = budget.items()
        result |= {"budget": {unit: value}, "picked": pick(rows, unit, value)}
        if search is not None:
            from pliant.jobs.search import add_tier
            from pliant.jobs.search import search as search_all

            found = search_all(opened, search, unit, value, threads=threads)
            result["search"] = found
            if name is not None:
                best = opened.model.configuration_of(found["best"]["configuration"])
                result["added"] = add_tier(opened, name, best, search)
    if plot is not None:
        result["plot"] = draw(rows, measure, plot)
    return result


def cost_rows(run: "Run", *, runs: int, threads: int) -> list[dict[str, Any]]:
    """One row per tier, cheapest first: configuration, params, macs, size_bytes, latency_ms.

    Timed are the extracted plain networks, in torch's inference mode, one image at a time; the
    tiers take turns, so that a busy moment hits all of them.
    """
    import torch

    from pliant.metrics.latency import measure_latency

    image = torch.zeros(run.input_shape)

    def passing(net: torch.nn.Module) -> Any:
        def once() -> None:
            with torch.inference_mode():
                net(image)

        return once

    calls = {name: passing(run.model.extract(name).cpu().eval()) for name in run.tiers}
    measured = measure_latency(calls, runs=runs, threads=threads)
    rows = [
        {
            "tier": name,
            "configuration": str(tier.configuration),
            "params": tier.params,
            "macs": tier.macs,
            "size_bytes": tier.size_bytes,
            "latency_ms": {
                "median": measured[name].median_ms,
                "p90": measured[name].p90_ms,
                "threads": threads,
                "runs": runs,
            },
        }
        for name, tier in run.tiers.items()
    ]
    return sorted(rows, key=lambda row: row["macs"])


def pick(rows: Sequence[Mapping[str, Any]], unit: str, budget: float) -> str:
    """The best tier within the budget: by dev quality where all have one, else the costliest.

    Raises:
        UserError: if even the cheapest costs more.
    """
    fitting = [row for row in rows if spent(row, unit) <= budget]
    if not fitting:
        cheapest = min(rows, key=lambda row: spent(row, unit))
        raise UserError(
            f"no tier fits {budget:g} {unit}; the cheapest, {cheapest['tier']}, "
            f"takes {spent(cheapest, unit):.3g}"
        )
    if all(row.get("quality") is not None for row in fitting):
        return max(fitting, key=lambda row: (row["quality"], -spent(row, unit)))["tier"]
    return max(fitting, key=lambda row: row["macs"])["tier"]


def spent(row: Mapping[str, Any], unit: str) -> float:
    """What a row costs in `ms`, `macs` or `bytes`."""
    value = row[BUDGETS[unit]]
    return value["median"] if unit == "ms" else value


def dev_quality(run: Path) -> tuple[dict[str, float], str]:
    """Each tier's dev AUC (or accuracy) as training left it, and the measure's name."""
    stored = json.loads((run / "tiers.json").read_text(encoding="utf-8"))["tiers"]
    measured = {entry["tier"]: entry["dev"] for entry in stored if entry.get("dev")}
    names = {f"dev {measure}" for dev in measured.values() for measure in dev}
    return {tier: next(iter(dev.values())) for tier, dev in measured.items()}, ", ".join(names)


def draw(rows: Sequence[Mapping[str, Any]], measure: str, path: Path) -> Path:
    """Writes quality against latency."""
    from pliant.pad.plots import figure_quality_against_cost
    from pliant.pad.svg import write_figure

    return write_figure(
        figure_quality_against_cost(rows, cost="latency_ms", quality_name=measure), path
    )


def summary(result: Mapping[str, Any]) -> list:
    """The cost table, quality against latency, and the tier that was picked."""
    from rich.table import Table
    from rich.text import Text

    rows = result["tiers"]
    threads = rows[0]["latency_ms"]["threads"]
    measure = result["quality"]
    head = ("tier", "MMACs", "params M", "MB", "ms", "p90", measure or "quality", "")
    title = f"{result['input_px']} px, batch 1, {threads} thread{'s' * (threads > 1)}, torch"
    table = Table(*head, title=title)
    for row in rows:
        latency, quality = row["latency_ms"], row["quality"]
        table.add_row(
            row["tier"],
            f"{row['macs'] / 1e6:.1f}",
            f"{row['params'] / 1e6:.2f}",
            f"{row['size_bytes'] / 1e6:.2f}",
            f"{latency['median']:.2f}",
            f"{latency['p90']:.2f}",
            "-" if quality is None else f"{quality:.4f}",
            "beaten" * is_beaten(row, rows),
        )
    said: list[Any] = [table, *(f"{row['tier']} = {row['configuration']}" for row in rows)]
    if all(row["quality"] is not None for row in rows):
        said.append(Text(scatter(rows, measure), no_wrap=True))
    if "picked" in result:
        ((unit, value),) = result["budget"].items()
        said.append(f"within {value:g} {unit}: {result['picked']}")
    if "search" in result:
        found = result["search"]
        said.append(_front(found, measure))
        if found["table_error"] is not None:
            percent = found["table_error"].mean_percent
            said.append(f"predicted latencies are off by {percent:.1f} % on average")
    if "added" in result:
        added = result["added"]
        said.append(f"{added['tier']} = {added['configuration']} is a tier of {result['run']} now")
    if "plot" in result:
        said.append(f"plot: {result['plot']}")
    return said


def is_beaten(row: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether another tier is at least as good and as fast, and better in one of the two."""
    if row["quality"] is None:
        return False
    mine = (row["quality"], -row["latency_ms"]["median"])
    others = [(r["quality"], -r["latency_ms"]["median"]) for r in rows if r["quality"] is not None]
    return any(o != mine and o[0] >= mine[0] and o[1] >= mine[1] for o in others)


def scatter(rows: Sequence[Mapping[str, Any]], measure: str) -> str:
    """Quality upwards, median latency to the right; * is a tier of the Pareto front, o another."""
    ms = [row["latency_ms"]["median"] for row in rows]
    quality = [row["quality"] for row in rows]
    low, high = min(quality), max(quality)
    grid = [[" "] * PLOT_WIDTH for _ in range(PLOT_HEIGHT)]
    for row, x, y in zip(rows, ms, quality, strict=True):
        mark = ("o " if is_beaten(row, rows) else "* ") + row["tier"]
        right = round(x / max(ms) * (PLOT_WIDTH - 1))
        at = min(right, PLOT_WIDTH - len(mark))  # at the edge: to the left of its place
        line = round((high - y) / (high - low or 1) * (PLOT_HEIGHT - 1))
        grid[line][at : at + len(mark)] = mark
    lines = [f"{measure}, {high:.4f} at the top", *("│" + "".join(line).rstrip() for line in grid)]
    foot = f"{low:.4f} at the bottom; ms from 0 to {max(ms):.2f}; o: beaten by another tier"
    return "\n".join([*lines, "└" + "─" * PLOT_WIDTH, foot])


def _front(found: Mapping[str, Any], measure: str) -> Any:
    """The Pareto front that a search measured; the best within the budget is marked."""
    from rich.table import Table

    kind = found["kind"]
    title = f"front of {found['num_measured']} measured configurations"
    table = Table("configuration", kind, measure or "quality", "", title=title)
    for point in found["front"]:
        best = point["configuration"] == found["best"]["configuration"]
        cost, quality = f"{point[kind]:.4g}", f"{point['quality']:.4f}"
        table.add_row(point["configuration"], cost, quality, "best within budget" * best)
    return table
