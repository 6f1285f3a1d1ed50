"""NUAA Photograph Imposter Database, subjects 1-9 as square face crops, by its manifest.

Tan, Li, Liu, Jiang. "Face Liveness Detection from a Single Image with Sparse Low Rank Bilinear
Discriminative Model", ECCV 2010. Research use only. Print attacks alone; 15 subjects in all.
The boxes are YuNet's; subjects 1-6 are train and 7-9 dev, in the manifest.
"""

from dataclasses import replace
from pathlib import Path

from pliant.data.manifest import Sample, read_manifest
from pliant.errors import UserError

SPECIES = {"print"}


def nuaa(root: Path | str) -> list[Sample]:
    """The samples of root/manifest.csv, each with a face box and the device `nuaa-webcam`.

    Raises:
        UserError: if the manifest is missing, or is another data set's.
    """
    samples = read_manifest(Path(root) / "manifest.csv")
    species = {sample.pai_species for sample in samples if sample.bona_fide is False}
    if species != SPECIES or any(sample.box is None for sample in samples):
        raise UserError(f"{root} is not NUAA: it needs print attacks alone, and a box for each row")
    return [replace(sample, device="nuaa-webcam") for sample in samples]
