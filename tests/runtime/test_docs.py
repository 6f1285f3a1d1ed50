"""The examples in docs/runtime.md run as they stand, on a small bundle, a photo and a video."""

import re
from pathlib import Path

import cv2
import numpy as np

PAGE = Path(__file__).parents[2] / "docs" / "runtime.md"


def test_the_examples_run(tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "cache"))
    tiny.zip(tmp_path / "face.pliant")
    cv2.imwrite("photo.jpg", np.full((200, 200, 3), 90, np.uint8))
    writer = cv2.VideoWriter("door.mp4", cv2.VideoWriter.fourcc(*"mp4v"), 20, (160, 120))
    for _ in range(10):
        writer.write(np.full((120, 160, 3), 90, np.uint8))
    writer.release()
    examples = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(examples) == 3
    names = {}
    for text in examples:
        exec(text.replace("budget_ms=20", "budget_ms=2000"), names)  # a busy machine tests too
    said = capsys.readouterr().out
    assert said.count("undecided(no face found)") == 1 + 2  # the photo, and every fifth frame
    assert "at its last frame" in said
    assert said.endswith("2\n")
