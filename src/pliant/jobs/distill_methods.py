"""The settings of every distillation method in one record: flags such as `--ffl.temperature 3`."""

from dataclasses import dataclass, field, fields, replace
from typing import Any

from pliant.distill.adjusted_kd import AdjustedKD
from pliant.distill.attention_transfer import AttentionTransfer
from pliant.distill.bss import BSS
from pliant.distill.cross_triplet import CrossTriplet
from pliant.distill.dml import DML
from pliant.distill.families import OFFLINE
from pliant.distill.ffl import FFL
from pliant.distill.fitnets import FitNets
from pliant.distill.fsp import FSP
from pliant.distill.kd import KD
from pliant.distill.kdcl import KDCL
from pliant.distill.okddip import OKDDip
from pliant.distill.one import ONE
from pliant.distill.online import ONLINE
from pliant.distill.oskd import OSKD
from pliant.distill.rkd import RKD
from pliant.distill.similarity import SimilarityPreserving
from pliant.errors import UserError
from pliant.train.network import known

LEAST = {"oskd": 1, "okddip": 3}
"""Networks that an online method needs; the others need two."""


@dataclass(frozen=True, kw_only=True)
class Methods:
    """One field per method, by its name; those of the method that runs count."""

    dml: DML = field(default_factory=DML)
    """Deep mutual learning."""
    one: ONE = field(default_factory=ONE)
    """Branches and their gated ensemble."""
    kdcl: KDCL = field(default_factory=KDCL)
    """One target of all logits."""
    okddip: OKDDip = field(default_factory=OKDDip)
    """Diverse peers and a leader; the last student leads."""
    oskd: OSKD = field(default_factory=OSKD)
    """A network by itself."""
    ffl: FFL = field(default_factory=FFL)
    """Ensemble, fused classifier, networks."""
    kd: KD = field(default_factory=KD)
    """The teacher's softened probabilities."""
    adjusted_kd: AdjustedKD = field(default_factory=AdjustedKD)
    """The same, corrected where it is wrong."""
    fitnets: FitNets = field(default_factory=FitNets)
    """Middle layers through a regressor."""
    attention_transfer: AttentionTransfer = field(default_factory=AttentionTransfer)
    """Where the teacher looks."""
    fsp: FSP = field(default_factory=FSP)
    """How features flow between layers."""
    rkd: RKD = field(default_factory=RKD)
    """Distances and angles between images."""
    similarity: SimilarityPreserving = field(default_factory=SimilarityPreserving)
    """Which images are alike."""
    bss: BSS = field(default_factory=BSS)
    """Images pushed to the decision boundary."""
    cross_triplet: CrossTriplet = field(default_factory=CrossTriplet)
    """A student of half-hidden images."""

    def of(self, method: str) -> Any:
        """The settings of one method.

        Raises:
            UserError: if there is no such method, with the nearest name; if another method's
                settings were given.
        """
        known(method, {**ONLINE, **OFFLINE}, "method")
        usual = Methods()
        for name in (one.name for one in fields(self)):
            if name != method and getattr(self, name) != getattr(usual, name):
                flag = name.replace("_", "-")
                raise UserError(
                    f"--{flag}.* are settings of another method than {method}; leave them out, or "
                    f"give --method {name}"
                )
        return getattr(self, method)


def scheduled(settings: Any, *, total_steps: int) -> Any:
    """BSS's weights fall over the run's steps, unless other ones were given."""
    if isinstance(settings, BSS) and settings.total_steps == BSS().total_steps:
        return replace(settings, total_steps=total_steps)
    return settings


def inside(settings: Any) -> Any:
    """The settings with the student's taps as paths in the adaptive network that holds it."""
    taps = tuple(f"net.{tap}" for tap in getattr(settings, "student_taps", ()))
    return replace(settings, student_taps=taps) if taps else settings
