"""environment.json: what the run computed on, and with which versions."""

import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from pliant import __version__

PACKAGES = ("torch", "lightning", "numpy", "opencv-python-headless", "safetensors", "torchmetrics")


def environment() -> dict[str, Any]:
    """Versions, operating system, processor, threads, accelerators. No names of people or hosts."""
    return {
        "pliant": __version__,
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "system": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "cpu": _processor(),
        "cpu_count": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "accelerators": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.lower().startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
