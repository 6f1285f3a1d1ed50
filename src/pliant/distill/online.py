"""The online methods by name: networks that are trained together and teach each other.

Each is a class of settings; `build(peers, total_steps=...)` makes its task. Sub-networks come as
`Networks`, `SharedTrunk` or `Configurations`; OSKD takes one of them, OKDDip three and more, ONE
a shared trunk, the others two and more of any kind.
"""

from typing import Protocol

from jaxtyping import Float, Int
from torch import Tensor, nn

from pliant.adaptive.configuration import Configuration
from pliant.distill.dml import DML
from pliant.distill.ffl import FFL
from pliant.distill.kdcl import KDCL
from pliant.distill.okddip import OKDDip
from pliant.distill.one import ONE
from pliant.distill.oskd import OSKD

ONLINE = {
    "dml": DML,
    "one": ONE,
    "kdcl": KDCL,
    "okddip": OKDDip,
    "oskd": OSKD,
    "ffl": FFL,
}


class OnlineTask(Protocol):
    """What every online task offers a training loop, beside being an `nn.Module`."""

    decay_scales: dict[str, float]
    """Weight decay of the task's own parts, by their path in the task, in units of the rest's."""

    @property
    def model(self) -> nn.Module:
        """What is trained and kept."""
        ...

    def configurations(self, step: int) -> list[Configuration]:
        """Those of an adaptive network that a step runs; else none."""
        ...

    def __call__(
        self, images: Float[Tensor, "B D S1 S2"], targets: Int[Tensor, " B"], step: int
    ) -> dict[str, Tensor]:
        """Losses of a step: `loss` and its parts."""
        ...

    def predictors(self, images: Float[Tensor, "B D S1 S2"]) -> dict[str, Tensor]:
        """Logits by predictor."""
        ...

    def extract(self, what: str) -> nn.Module:
        """A plain copy of one predictor."""
        ...
