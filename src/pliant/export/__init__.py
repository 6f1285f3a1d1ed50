"""An adaptive model as one file for a device: every configuration, the weights once."""

from importlib import import_module

_HOME = {"AdaptiveOnnx": "onnx", "adaptive_onnx": "onnx", "static_onnx": "static"}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
