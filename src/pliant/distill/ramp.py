"""The ramp-up of what networks teach each other: they have little to say at first.

Laine, Aila. "Temporal Ensembling for Semi-Supervised Learning", 2017.
https://arxiv.org/abs/1610.02242 (section 2, w(t)); FFL, ONE and OKDDip use it over the first 80 of
their 300 epochs.

Departure: the weight rises with every step, where those papers' code keeps it for an epoch.
"""

import math

RAMP = 80 / 300
"""Part of the schedule that the ramp takes."""


def ramp_up(step: int, *, length: float) -> float:
    """exp(-5 (1 - s)^2), in (0, 1], where s is the part of the ramp that is behind `step`.

    Args:
        step: From 0.
        length: Steps until the full weight; 0: there from the start.
    """
    done = min(step / length, 1.0) if length > 0 else 1.0
    return math.exp(-5 * (1 - done) ** 2)
