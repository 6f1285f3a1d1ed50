"""Plain networks, one architecture per file; state-dict keys as torchvision names them.

What bears the name of its own file is imported from there:
`from pliant.models.mobilenet_v2 import mobilenet_v2`.
"""

import importlib

_WHERE = {
    "InvertedResidual": "mobilenet_v2",
    "MobileNetV2": "mobilenet_v2",
    "SameConv2d": "mobilenet_v2",
    "load_mobilenet_v2": "mobilenet_v2",
    "read_state": "checkpoint",
}
__all__ = sorted(_WHERE)


def __getattr__(name: str) -> object:
    if name in _WHERE:
        return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
