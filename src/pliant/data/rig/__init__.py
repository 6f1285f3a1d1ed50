"""The synthetic capture rig: procedural heads in colour, depth and infrared, attacked by physics.

    from pliant.data.rig import RigSettings, render, write_rig
    manifest = write_rig(RigSettings(subjects=40, difficulty=0.5), "synthetic-rig")

The way of a frame: head.py (shape) -> cast.py (rays) -> paint.py, light.py, backdrop.py ->
person.py (a picture at the lens), then, for an attack, mask.py, or prints.py or replay.py on a
sheet.py, and camera.py (what the sensors give). clips.py draws the chances, dataset.py writes the
files. numpy and OpenCV only.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pliant.data.rig.clips import Clip, Frame, list_clips, render_clip
    from pliant.data.rig.contact import contact_sheet
    from pliant.data.rig.dataset import DEVICE, RigSet, render, write_rig
    from pliant.data.rig.settings import ATTACKS, RigSettings

_HOME = {
    "ATTACKS": "settings",
    "DEVICE": "dataset",
    "Clip": "clips",
    "Frame": "clips",
    "RigSet": "dataset",
    "RigSettings": "settings",
    "contact_sheet": "contact",
    "list_clips": "clips",
    "render": "dataset",
    "render_clip": "clips",
    "write_rig": "dataset",
}

__all__ = [
    "ATTACKS",
    "DEVICE",
    "Clip",
    "Frame",
    "RigSet",
    "RigSettings",
    "contact_sheet",
    "list_clips",
    "render",
    "render_clip",
    "write_rig",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
