import json

import pytest

from pliant.data.rig import RigSettings
from pliant.data.rig.settings import stream
from pliant.errors import UserError


def test_settings_survive_json() -> None:
    settings = RigSettings(subjects=5, difficulty=0.25, attacks=("replay",))
    loaded = json.loads(json.dumps(settings.to_json()))
    assert RigSettings(**loaded) == settings


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"subjects": 2}, "subjects is 2; give a whole number from 3 to 9999"),
        ({"size": 16}, "size is 16; give a whole number from 32 to 1024"),
        ({"frames": 1.5}, "frames is 1.5"),
        ({"difficulty": 1.2}, "difficulty is 1.2; give a number from 0 to 1"),
        ({"difficulty": float("nan")}, "difficulty is nan"),
        ({"attacks": ("print",)}, "choose each at most once from print_flat, print_bent"),
        ({"attacks": ("mask", "mask")}, "choose each at most once"),
    ],
)
def test_refusals(change: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        RigSettings(**change)


def test_stream_depends_on_its_key_alone() -> None:
    assert stream(1, 2, 3).random() == stream(1, 2, 3).random()
    assert stream(1, 2, 3).random() != stream(1, 3, 2).random()
