"""What the run time needs, and what it must never ask for."""

import subprocess
import sys

import pytest

CODE = """
import sys

FORBIDDEN = set(sys.argv[2:])

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in FORBIDDEN:
            raise ImportError(name + " is not there")

sys.meta_path.insert(0, Blocker())
import socket

def refuse(*_, **__):
    raise AssertionError("the run time opened a socket")

socket.socket.connect = refuse
import numpy as np
from pliant.runtime import Bundle
bundle = Bundle.open(sys.argv[1])
image = np.full((60, 60, 3), 128, np.uint8)
for name in ("low", "high", "HL"):
    bundle.use(name)
    assert bundle.predict(image, box=(10, 10, 30, 30)).score is not None
assert bundle.predict(image).verdict.startswith("undecided(")
assert bundle.predict([image, image]).num_frames == 0
assert not FORBIDDEN & {name.split(".")[0] for name in sys.modules}
"""
FORBIDDEN = """
    torch lightning torchmetrics safetensors scipy matplotlib rich tyro onnx google cryptography
    jaxtyping torchvision pytest
"""


def test_a_bundle_runs_on_numpy_opencv_and_onnxruntime_alone(bundle_file):
    command = [sys.executable, "-c", CODE, str(bundle_file), *FORBIDDEN.split()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def test_every_public_name_is_found():
    import pliant.runtime

    for name in pliant.runtime.__all__:
        assert getattr(pliant.runtime, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'Bundel'"):
        pliant.runtime.Bundel  # noqa: B018
