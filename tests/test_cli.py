"""The command line: exit codes, one sentence per error, results on stdout."""

import errno
import importlib
import json
import re
import subprocess
import sys
import tomllib
import types
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from pliant import cli
from pliant.errors import UserError

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Answer:
    value: float
    path: Path


@pytest.fixture
def verb(monkeypatch):
    """Puts a function in the place of a job; returns the setter."""

    def put(function, **extra):
        module = types.ModuleType("pliant.jobs.tiers")
        vars(module).update(tiers=function, **extra)
        monkeypatch.setitem(sys.modules, "pliant.jobs.tiers", module)

    return put


@pytest.fixture
def parts(monkeypatch):
    """A job with verbs of its own."""
    module = types.ModuleType("pliant.jobs.bundle")

    def self_test(*, count: int = 3) -> int:
        """Test it."""
        return count

    vars(module).update(
        VERBS={"info": "shows", "self-test": "tests"},
        self_test=self_test,
        self_test_summary=lambda result: [f"tested {result}"],
        info=lambda: {"name": "x"},
    )
    monkeypatch.setitem(sys.modules, "pliant.jobs.bundle", module)


def test_a_verb_with_parts(parts, capsys):
    assert cli.main(["bundle", "self-test", "--count", "5"]) == 0
    assert capsys.readouterr().out == "tested 5\n"
    assert cli.main(["bundle", "self-test", "--json"]) == 0
    assert capsys.readouterr().out == "3\n"
    assert cli.main(["bundle", "info"]) == 0
    assert capsys.readouterr().out == "{'name': 'x'}\n"


def test_a_verb_with_parts_shows_them(parts, capsys):
    assert cli.main(["bundle"]) == 2
    assert "self-test  tests" in capsys.readouterr().out
    assert cli.main(["bundle", "--help"]) == 0
    capsys.readouterr()
    assert cli.main(["bundle", "selftest"]) == 2
    assert 'unknown verb of pliant bundle "selftest"; did you mean "self-test"?' in (
        capsys.readouterr().err
    )
    with pytest.raises(SystemExit) as stop:
        cli.main(["bundle", "self-test", "--help"])
    assert stop.value.code == 0
    assert "usage: pliant bundle self-test" in capsys.readouterr().out


def test_lines_are_not_broken_and_markup_is_text(verb, capsys):
    line = "[red]" + "x" * 200
    verb(lambda: 3, summary=lambda result: [line])
    assert cli.main(["tiers"]) == 0
    assert capsys.readouterr().out == f"{line}\n"


def test_two_kinds_of_json_are_refused(capsys):
    assert cli.main(["predict", "x", "y", "--json", "--json-lines"]) == 2
    assert "leave --json out" in capsys.readouterr().err


def test_no_verb_shows_the_overview(capsys):
    assert cli.main([]) == 2
    out = capsys.readouterr().out
    assert all(name in out for name in cli.VERBS)
    assert cli.main(["--help"]) == 0


@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_verb_has_its_function_and_summary(verb):
    job = importlib.import_module(f"pliant.jobs.{verb}")
    for part in getattr(job, "VERBS", [None]):
        name = verb if part is None else part.replace("-", "_")
        assert callable(getattr(job, name))
        assert callable(getattr(job, "summary" if part is None else f"{name}_summary"))


def test_version(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("pliant 0.")


def test_unknown_verb_gets_a_guess(capsys):
    assert cli.main(["evalute"]) == 2
    err = capsys.readouterr().err
    assert 'unknown verb "evalute"; did you mean "evaluate"?' in err
    assert len(err.strip().splitlines()) == 1


def test_result_as_json(verb, capsys):
    def tiers(run: Path, *, budget_ms: float | None = None) -> dict:
        """Costs."""
        return {
            "answer": Answer(float("nan"), run),
            "array": np.arange(2),
            "budget": budget_ms,
        }

    verb(tiers)
    assert cli.main(["tiers", "--run", "x", "--json", "--budget-ms", "8"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "answer": {"value": None, "path": "x"},
        "array": [0, 1],
        "budget": 8.0,
    }


def test_summary_is_printed(verb, capsys):
    verb(lambda: 3, summary=lambda result: [f"result {result}"])
    assert cli.main(["tiers"]) == 0
    assert capsys.readouterr().out == "result 3\n"


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (UserError("no data at x; give a folder"), 2, "no data at x; give a folder"),
        (KeyboardInterrupt(), 130, "stopped by Ctrl-C"),
        (KeyboardInterrupt("stopped after epoch 3"), 130, "stopped after epoch 3"),
        (OSError(errno.ENOSPC, "No space left on device", "m.bin"), 2, "the disk is full: m.bin"),
        (PermissionError(errno.EACCES, "Permission denied", "d"), 2, "permission denied: d"),
        (ModuleNotFoundError("no", name="torch"), 2, "pip install 'pliant[train]'"),
        (ModuleNotFoundError("no", name="tyro"), 2, "pip install 'pliant[cli]'"),
        (ModuleNotFoundError("no", name="rich.table"), 2, "pip install 'pliant[cli]'"),
        (ModuleNotFoundError("no", name="onnxscript"), 2, "pip install 'pliant[train]'"),
        (ModuleNotFoundError("no", name="cryptography"), 2, "pip install 'pliant[sign]'"),
    ],
)
def test_errors_are_one_sentence(verb, capsys, error, code, sentence):
    def tiers():
        raise error

    verb(tiers)
    assert cli.main(["tiers"]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert sentence in captured.err
    assert len(captured.err.strip().splitlines()) == 1


def test_ctrl_c_that_became_an_exit_is_still_130(verb):
    def tiers():
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            sys.exit(1)

    verb(tiers)
    assert cli.main(["tiers"]) == 130


@pytest.mark.parametrize("error", [RuntimeError("bug"), ModuleNotFoundError("x", name="nothing")])
def test_a_bug_keeps_its_traceback(verb, error):
    def tiers():
        raise error

    verb(tiers)
    with pytest.raises(type(error)):
        cli.main(["tiers"])


def test_bad_flag_exits_with_2(verb, capsys):
    def tiers(*, budget_ms: float = 1.0):
        """Costs."""

    verb(tiers)
    with pytest.raises(SystemExit) as stop:
        cli.main(["tiers", "--budgetms", "3"])
    assert stop.value.code == 2
    assert "--budget-ms" in capsys.readouterr().err


def test_a_reader_that_leaves_early_is_no_error():
    code = "import sys; from pliant import cli; sys.exit(cli.main(['tiers', '--help']))"
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert b"Traceback" not in process.stderr.read()


def test_every_named_extra_brings_its_packages():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = project["project"]["optional-dependencies"]
    for extra, packages in cli.EXTRAS.items():
        brought = {re.split(r"[>=<\[]", line)[0] for line in extras[extra]}
        assert set(packages) <= brought
