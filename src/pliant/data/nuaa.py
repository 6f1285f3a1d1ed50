r"""NUAA Photograph Imposter Database: 15 people, printed photos before webcams; two layouts.

Tan, Li, Liu, Jiang. "Face Liveness Detection from a Single Image with Sparse Low Rank Bilinear
Discriminative Model", ECCV 2010. Research use only. Print attacks alone.

As released; names of folders and lists are checked in code, the lines are from memory:

    [raw/]{ClientRaw,ImposterRaw}/<subject>/<subject>_<glasses>_<position>_<session>_<n>.jpg
    [raw/]{client,imposter}_{train,test}_raw.txt         lines 0001\0001_00_00_01_0.jpg

**Client is live, imposter an attack.** From memory: subjects of the released test list are in its
training list too. The protocol `disjoint` skips their test images; `official` keeps them, and then
training refuses.

With a manifest.csv: subjects 1-9 as square face crops with YuNet's boxes; 1-6 are train, 7-9 dev.
"""

import re
from dataclasses import replace
from pathlib import Path

from pliant.data.manifest import Sample, Skipped, read_manifest
from pliant.data.reading import (
    DEV_SHARE,
    Folders,
    Reading,
    check_protocol,
    finish,
    keep_existing,
    need,
    relative,
    rows,
)
from pliant.errors import UserError

SPECIES = {"print"}
PROTOCOLS = ("disjoint", "official")
LISTS = {"client": ("ClientRaw", True), "imposter": ("ImposterRaw", False)}


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


def read_nuaa(root: Path, *, protocol: str = "disjoint", dev_share: float = DEV_SHARE) -> Reading:
    """The photos of either layout.

    Args:
        root: The folder with raw/, with ClientRaw/, or with a manifest.csv.
        protocol: `disjoint` or `official`, of the layout as released.
        dev_share: Share of the training photos that becomes dev, by subject; the manifest has one.

    Raises:
        UserError: if a list is missing or malformed, or no photo is there.
    """
    check_protocol(protocol, PROTOCOLS, "nuaa")
    root = need(root, "manifest.csv", "raw/ClientRaw", "ClientRaw", name="nuaa")
    if (root / "manifest.csv").is_file():
        return finish("nuaa", root, nuaa(root), [])
    place = "raw/" if (root / "raw/ClientRaw").is_dir() else ""
    listed = []
    for split in ("train", "test"):
        for word, (folder, live) in LISTS.items():
            path = root / f"{place}{word}_{split}_raw.txt"
            for where, (name,) in rows(path, "subject/image"):
                found = f"{place}{folder}/{relative(name, where)}"
                listed.append(_sample(root, found, live, split, where))
    samples, skipped = keep_existing(listed, Folders())
    if protocol == "disjoint":
        known = {sample.subject for sample in samples if sample.split == "train"}
        seen = [s for s in samples if s.split == "test" and s.subject in known]
        skipped += [Skipped(s.path, "its subject is in the training list too") for s in seen]
        samples = [s for s in samples if s.split == "train" or s.subject not in known]
    return finish("nuaa", root, samples, skipped, dev_share=dev_share)


def _sample(root: Path, name: str, live: bool, split: str, where: str) -> Sample:
    found = re.fullmatch(r"(\d{4})_\d\d_\d\d_(\d\d)_\d+\.jpg", name.rsplit("/", 1)[-1])
    if not found:
        raise UserError(f"{where}: needed: such as 0001/0001_00_00_01_0.jpg, got {name[:80]!r}")
    return Sample(
        path=root / name,
        name=name,
        bona_fide=live,
        pai_species=None if live else "print",
        subject=found[1],
        session=found[2],
        device="nuaa-webcam",
        split=split,
    )
