"""The methods by name: each value is a class of settings whose `build` makes the task."""

from pliant.distill.adjusted_kd import AdjustedKD
from pliant.distill.attention_transfer import AttentionTransfer
from pliant.distill.bss import BSS
from pliant.distill.cross_triplet import CrossTriplet
from pliant.distill.fitnets import FitNets
from pliant.distill.fsp import FSP
from pliant.distill.kd import KD
from pliant.distill.rkd import RKD
from pliant.distill.similarity import SimilarityPreserving

OFFLINE = {
    "kd": KD,
    "adjusted_kd": AdjustedKD,
    "fitnets": FitNets,
    "attention_transfer": AttentionTransfer,
    "fsp": FSP,
    "rkd": RKD,
    "similarity": SimilarityPreserving,
    "bss": BSS,
    "cross_triplet": CrossTriplet,
}
"""`build(student, teacher, example)`: a teacher that is trained already and does not change."""
