"""What the README promises: its code runs, its commands parse, its links lead somewhere."""

import importlib
import importlib.util
import re
import shlex
import shutil
from pathlib import Path

import pytest

from pliant import cli

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
SHELL = "".join(re.findall(r"```bash\n(.*?)```", README, flags=re.DOTALL))
LINES = [line.split("#")[0] for line in SHELL.splitlines() if line.startswith("pliant ")]


def test_the_python_code_runs(untrained, tmp_path: Path, monkeypatch, capsys):
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    shutil.copytree(untrained(("attack", "bona_fide")), tmp_path / "pliant-demo" / "run")
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})
    assert capsys.readouterr().out.startswith("low LLLL")
    assert len([line for line in code.splitlines() if line.strip()]) <= 12


@pytest.mark.parametrize("line", LINES)
def test_every_command_parses(line: str):
    _, verb, *words = shlex.split(line)
    job = importlib.import_module(f"pliant.jobs.{verb}")
    if hasattr(job, "VERBS"):
        verb, *words = words
    assert callable(cli._parse(getattr(job, verb.replace("-", "_")), verb, words))


def test_all_verbs_are_shown():
    assert {line.split()[1] for line in LINES} | {"demo"} == set(cli.VERBS)


@pytest.mark.parametrize("page", PAGES, ids=[p.name for p in PAGES])
def test_links_lead_to_files(page: Path):
    targets = re.findall(r"\]\(([^)#\s]+)\)", page.read_text(encoding="utf-8"))
    local = [t for t in targets if "://" not in t]
    assert [t for t in local if not (page.parent / t).exists()] == []


def test_pictures_are_small_and_have_words():
    pictures = re.findall(r"!\[([^\]]*)\]\(([^)]+)\)", README)
    assert len(pictures) == 2, "the idea, and the page"
    for words, target in pictures:
        assert len(words) > 20
        assert (ROOT / target).stat().st_size < 200_000


def test_tables_are_up_to_date():
    spec = importlib.util.spec_from_file_location("make_tables", ROOT / "docs" / "make_tables.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.main(["--check"]) == 0
    row = [{"a": "1"}, {"a": "3"}]
    assert module.spread(row, "a", digits=1) == "2.0 ± 1.4"
    assert module.markdown(["x", "y"], [["1", "2"]]).splitlines()[1] == "| --- | ---: |"
