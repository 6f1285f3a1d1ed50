"""Samples: where they come from, how they are split, cut and varied; and the synthetic rig.

What bears the name of its own file is imported from there: `from pliant.data.nuaa import nuaa`.
"""

from importlib import import_module

_HOME = {
    "CropDataset": "crops",
    "Sample": "manifest",
    "Skipped": "manifest",
    "Source": "source",
    "Split": "split",
    "check_subjects": "split",
    "load_or_skip": "crops",
    "open_source": "source",
    "read_folder": "folder",
    "read_manifest": "manifest",
    "split_by_subject": "split",
    "write_manifest": "manifest",
    "Augment": "augment",
    "simulate_print": "simulate",
    "simulate_replay": "simulate",
    "RigSettings": "rig",
    "render": "rig",
    "write_rig": "rig",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
