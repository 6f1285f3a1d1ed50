"""Networks whose blocks hold several branches: choose, after training, which of them run.

`cost` and `choose` are functions in the modules of their names, and are imported from there.
"""

import importlib

_WHERE = {
    "AdaptiveNetwork": "network",
    "Choice": "choose",
    "Configuration": "configuration",
    "Cost": "cost",
    "CostTable": "cost",
    "PRESETS": "configuration",
    "PTABlock": "block",
    "SAMPLERS": "sampling",
    "StaleCalibrationWarning": "statistics",
    "Tier": "network",
    "calibrate": "calibration",
    "cost_tables": "cost",
    "count_macs": "cost",
    "latency": "cost",
    "latency_table": "cost",
    "load_start": "start",
    "load_tiers": "calibration",
    "make_adaptive": "network",
    "merge_branches": "block",
    "prediction_error": "cost",
    "pta_mobilenet_v2": "network",
    "start_light": "start",
    "tier_state": "calibration",
}
__all__ = sorted(_WHERE)


def __getattr__(name: str) -> object:
    if name in _WHERE:
        return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
