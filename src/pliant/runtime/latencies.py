"""Latencies that this device has shown, remembered between starts.

One small JSON file per bundle and device, in the user's cache folder. Its name is a hash of what
latency depends on: the bundle, the version of ONNX Runtime, the processor and the threads; so with
another of them nothing is found, and everything is measured anew. A damaged file counts as none.
"""

import hashlib
import json
import math
import os
import platform
import re
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pliant.runtime.fields import path_of
from pliant.runtime.files import write_atomic

FORMAT = 2
MAX_BYTES = 100_000
"""Of such a file; a larger one is none of ours."""


def cache_folder() -> Path:
    """XDG_CACHE_HOME, or LOCALAPPDATA on Windows, or ~/.cache; then `pliant/latency`."""
    named = os.environ.get("LOCALAPPDATA" if sys.platform == "win32" else "XDG_CACHE_HOME")
    # the XDG specification: a relative path is to be ignored
    root = Path(named) if named and Path(named).is_absolute() else Path("~/.cache").expanduser()
    return root / "pliant" / "latency"


def device_key(bundle_sha256: str, threads: int) -> dict[str, Any]:
    """What latency depends on, as far as it can be told without measuring."""
    import onnxruntime

    return {
        "bundle": bundle_sha256,
        "onnxruntime": onnxruntime.__version__,
        "processor": processor_name(),
        "cores": os.cpu_count(),
        "threads": threads,
    }


def processor_name() -> str:
    """As the system calls it; at least the architecture."""
    with suppress(OSError):  # no Linux: the next line answers
        found = re.search(
            r"^(?:model name|Hardware|Model)\s*:\s*(.+)$",
            Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace"),
            re.MULTILINE,
        )
        if found:
            return found[1].strip()
    return platform.processor() or platform.machine()


def remembered(
    key: Mapping[str, Any], tiers: Iterable[str], folder: Path | str | None = None, *, runs: int = 1
) -> dict[str, float] | None:
    """Milliseconds of each tier; None where they must be measured.

    Args:
        key: As `device_key` returns it.
        tiers: Names; a file with other ones does not count.
        folder: Where the files lie; None: `cache_folder()`.
        runs: From how many timed calls of each tier they must come, at least.
    """
    try:
        with open(latency_file(key, folder), "rb") as file:
            record = json.loads(file.read(MAX_BYTES))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or record.get("format") != FORMAT or record.get("key") != key:
        return None
    ms, counted = record.get("ms"), record.get("runs")
    if isinstance(counted, bool) or not isinstance(counted, int) or counted < runs:
        return None
    if not isinstance(ms, dict) or set(ms) != set(tiers) or not all(map(_is_time, ms.values())):
        return None
    return {name: float(value) for name, value in ms.items()}


def remember(
    key: Mapping[str, Any],
    ms: Mapping[str, float],
    folder: Path | str | None = None,
    *,
    runs: int = 1,
) -> None:
    """Keeps what was measured. A device without a writable folder measures at every start."""
    path = latency_file(key, folder)
    record = {"format": FORMAT, "key": dict(key), "runs": runs, "ms": dict(ms)}
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json.dumps(record, indent=1))


def forget(key: Mapping[str, Any], folder: Path | str | None = None) -> None:
    """The next start measures."""
    with suppress(OSError):
        latency_file(key, folder).unlink(missing_ok=True)


def latency_file(key: Mapping[str, Any], folder: Path | str | None = None) -> Path:
    """Where latencies of this bundle on this device are remembered.

    Raises:
        UserError: if the folder is named by no path.
    """
    digest = hashlib.sha256(json.dumps(dict(key), sort_keys=True).encode()).hexdigest()
    place = cache_folder() if folder is None else path_of(folder, "a cache folder")
    return place / f"{digest[:32]}.json"


def _is_time(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) and value > 0
