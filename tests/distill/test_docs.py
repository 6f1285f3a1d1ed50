"""The page's code runs as it stands, and its tables name files that are there."""

import re
from pathlib import Path

import pytest

import pliant.distill
from pliant.distill.families import OFFLINE

PAGE = (Path(__file__).parents[2] / "docs" / "distill.md").read_text(encoding="utf-8")
FOLDER = Path(pliant.distill.__file__).parent


@pytest.mark.parametrize("code", re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL))
def test_code_runs(code: str):
    exec(compile(code, "docs/distill.md", "exec"), {})


def test_the_tables_name_every_offline_method():
    named = set(re.findall(r"`(\w+)\.py`", PAGE))
    assert set(OFFLINE) <= named
    assert named <= {path.stem for path in FOLDER.glob("*.py")}
