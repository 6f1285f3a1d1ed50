"""A device's install: `pip install pliant` with no extra. `.ci/run` makes one and names it."""

import os
import subprocess

import pytest

VENV = os.environ.get("PLIANT_BASE_VENV")
pytestmark = pytest.mark.skipif(
    not VENV, reason="PLIANT_BASE_VENV names no venv with the base install (.ci/run makes one)"
)

CODE = """
import importlib.util
import sys

for name in ("torch", "lightning", "scipy", "matplotlib", "tyro", "rich", "onnx"):
    assert importlib.util.find_spec(name) is None, name
import numpy as np
from pliant.runtime import AuditLog, Bundle, Footage, Paced, Pacer
bundle = Bundle.open(sys.argv[1])
image = np.random.default_rng(0).integers(0, 256, (60, 60, 3), np.uint8)
for name in ("low", "high"):
    bundle.use(name)
    print(bundle.predict(image, box=(10, 10, 30, 30)).score)
"""


def python(*words: str) -> subprocess.CompletedProcess[str]:
    command = [f"{VENV}/bin/python", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_it_opens_a_bundle_and_predicts(bundle_file):
    done = python("-c", CODE, str(bundle_file))
    assert done.returncode == 0, done.stderr
    scores = [float(line) for line in done.stdout.split()]
    assert len(scores) == 2
    assert all(0 < score < 1 for score in scores)


def test_its_command_line_names_the_one_line_that_is_missing(bundle_file):
    done = python("-m", "pliant.cli", "predict", str(bundle_file), "face.jpg")
    assert done.returncode == 2
    assert "pip install 'pliant[cli]'" in done.stderr
