"""Distillation: networks that teach each other, one paper per file.

Offline, a trained teacher that does not change teaches a student: `OFFLINE` lists those methods,
each a class of settings whose `build(student, teacher, example)` makes the task. Online, networks
that are trained together teach each other. Every task is an `nn.Module`, (images, targets, step)
-> dict of losses with key `loss`, and takes any `nn.Module` as student or teacher.

    taps      features of any network by module path
    offline   the task that the offline methods share
    families  the methods by name

The losses are plain functions in the modules of their methods: `from pliant.distill.kd import
kd_loss`.
"""

import importlib

_WHERE = {"OFFLINE": "families", "OfflineTask": "offline", "record": "taps"}
__all__ = sorted(_WHERE)


def __getattr__(name: str) -> object:
    if name in _WHERE:
        return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
