"""Rules of the house that no linter knows."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "src" / "pliant").rglob("*.py"))
names = [str(path.relative_to(ROOT)) for path in SOURCES]


@pytest.mark.parametrize("path", SOURCES, ids=names)
def test_file_is_short_and_says_what_it_is(path: Path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 400, "one file, one idea: at most 400 lines"
    tree = ast.parse(text)
    assert ast.get_docstring(tree), "every source file starts with a docstring"
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert all(alias.name != "*" for alias in node.names), "nothing starred"
            assert not node.level, "absolute imports only"


@pytest.mark.parametrize("word", ["TODO", "FIXME", "import pickle", "NotImplementedError"])
def test_nothing_unfinished(word: str):
    assert [p.name for p in SOURCES if word in p.read_text(encoding="utf-8")] == []


def test_no_folder_of_leftovers():
    forbidden = {"utils", "common", "core", "base", "helpers", "misc"}
    assert [p for p in SOURCES if p.stem in forbidden or p.parent.name in forbidden] == []


def _modules_after(statement: str) -> set[str]:
    code = f"import sys; {statement}; print('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {line.split(".")[0] for line in done.stdout.splitlines()}


@pytest.mark.parametrize("module", ["pliant", "pliant.runtime", "pliant.cli", "pliant.errors"])
def test_light_imports_stay_light(module: str):
    heavy = {"torch", "lightning", "torchmetrics", "matplotlib", "scipy", "onnxruntime", "tyro"}
    assert _modules_after(f"import {module}") & heavy == set()


def test_the_whole_run_time_needs_no_torch():
    modules = [f"pliant.runtime.{p.stem}" for p in (ROOT / "src/pliant/runtime").glob("*.py")]
    statement = "import " + ", ".join(m.removesuffix(".__init__") for m in modules)
    assert _modules_after(statement) & {"torch", "lightning", "scipy", "rich"} == set()


def test_every_folder_has_a_page():
    folders = [p.parent.name for p in SOURCES if p.name == "__init__.py"]
    pages = {p.stem for p in (ROOT / "docs").glob("*.md")}
    assert {f for f in folders if f not in ("pliant", "rig")} <= pages


def test_every_public_name_in_an_init_exists():
    for path in SOURCES:
        if path.name == "__init__.py":
            dotted = ".".join(path.parent.relative_to(ROOT / "src").parts)
            module = importlib.import_module(dotted)
            for name in getattr(module, "__all__", []):
                assert hasattr(module, name), f"{dotted} lists {name} but does not have it"


def test_version_is_said_once():
    import tomllib

    import pliant

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == pliant.__version__
    assert f"version: {pliant.__version__}" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


def test_constraints_pin_plain_versions():
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in pins if line and not line.startswith("#")]
    assert "torch==2.13.0" in pins
    assert all("==" in line and "+" not in line and "/" not in line for line in pins)
