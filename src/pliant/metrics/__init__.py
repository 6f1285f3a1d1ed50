"""Pure measures: accuracy and calibration of a classifier, latency, size.

`accuracy` is a function in the module of its name, and is imported from there.
"""

import importlib

_WHERE = {
    "Latency": "latency",
    "classification_metrics": "accuracy",
    "expected_calibration_error": "accuracy",
    "measure_latency": "latency",
    "negative_log_likelihood": "accuracy",
    "size_bytes": "size",
}
__all__ = sorted(_WHERE)


def __getattr__(name: str) -> object:
    if name in _WHERE:
        return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
