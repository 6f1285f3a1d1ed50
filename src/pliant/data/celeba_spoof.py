"""CelebA-Spoof: 625,537 photos of 10,177 people, ten kinds of attack, no dev split.

Zhang, Yin, Li, Yin, Yan, Shao, Liu. "CelebA-Spoof: Large-Scale Face Anti-Spoofing Dataset with Rich
Annotations", ECCV 2020. https://arxiv.org/abs/2007.12342. Non-commercial research.

    Data/{train,test}/<subject>/{live,spoof}/<6 digits>.{jpg,png}, and <6 digits>_BB.txt beside each
    metas/intra_test/{train,test}_label.json
    metas/protocol1/{train,test}_label.json
    metas/protocol2/test_on_{low,middle,high}_quality_device/{train,test}_label.json

A label file is {"Data/train/4980/spoof/000003.jpg": [44 integers]}: 0-39 attributes of CelebA,
40 spoof type (0 live), 41 illumination, 42 environment, 43 label. **43: 0 live, 1 attack.**

Checked in released files and code: all of the above but the next sentence. From memory: protocol 1
holds out media inside each family of attacks, protocol 2 the quality of the capturing device (three
runs).

Quirks: some `_BB.txt` are empty, negative or under 3 px; boxes are read with the image (boxes.py)
and such an image is then skipped with the reason. A stray `Data/train-2` is ignored. The public
part lacks 63,962 photos, and what is listed but not there is skipped.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from pliant.data.manifest import Sample, Skipped
from pliant.data.reading import (
    DEV_SHARE,
    Folders,
    Reading,
    check_protocol,
    finish,
    keep_existing,
    need,
    relative,
)
from pliant.errors import UserError

LISTS = {
    "intra": "metas/intra_test",
    "1": "metas/protocol1",
    "2.low": "metas/protocol2/test_on_low_quality_device",
    "2.middle": "metas/protocol2/test_on_middle_quality_device",
    "2.high": "metas/protocol2/test_on_high_quality_device",
}
LIVE = {0: True, 1: False}
"""Value 43."""
SPECIES = (
    None, "photo", "poster", "A4 print", "face mask", "upper body mask", "region mask",
    "PC replay", "pad replay", "phone replay", "3D mask",
)  # fmt: skip
"""Value 40."""
ILLUMINATION = (None, "normal light", "strong light", "back light", "dark")
"""Value 41."""
ENVIRONMENT = (None, "indoor", "outdoor")
"""Value 42."""


def read_celeba_spoof(
    root: Path, *, protocol: str = "intra", dev_share: float = DEV_SHARE
) -> Reading:
    """The photos of a protocol; `session` holds illumination and environment, known of attacks.

    Args:
        root: The folder with Data/ and metas/.
        protocol: `intra`, `1`, or `2.low`, `2.middle`, `2.high` (the device that is tested on).
        dev_share: Share of the training photos that becomes dev, by subject.

    Raises:
        UserError: if a label file is missing or malformed, or no photo is there.
    """
    check_protocol(protocol, list(LISTS), "celeba_spoof")
    root = need(root, "metas", name="celeba_spoof")
    listed: list[Sample] = []
    skipped: list[Skipped] = []
    for split in ("train", "test"):
        path = root / LISTS[protocol] / f"{split}_label.json"
        device = protocol.removeprefix("2.") if protocol.startswith("2.") else None
        for name, values in _labels(path).items():
            sample = _sample(root, name, values, split, f"{path}, entry {name[:80]!r}")
            if isinstance(sample, Skipped):
                skipped.append(sample)
            elif device and split == "test":
                listed.append(replace(sample, device=f"{device} quality"))
            else:
                listed.append(sample)
    samples, missing = keep_existing(listed, Folders())
    notes = ["boxes are the set's own, which differ from the detectors' in size"]
    if (root / "Data/train-2").exists():
        notes.append("the stray folder Data/train-2 is ignored")
    skipped += missing
    return finish("celeba_spoof", root, samples, skipped, notes, dev_share=dev_share)


def _labels(path: Path) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as file:
            labels = json.load(file)
    except FileNotFoundError:
        raise UserError(f"no such label file: {path}") from None
    except json.JSONDecodeError as error:
        raise UserError(f"{path}, line {error.lineno}: not JSON ({error.msg})") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not text in UTF-8 (byte {error.start})") from None
    if not isinstance(labels, dict):
        raise UserError(f"{path} must hold one object: path -> list of 44 integers")
    return labels


def _sample(root: Path, name: str, values: Any, split: str, where: str) -> Sample | Skipped:
    parts = relative(name, where).split("/")
    if len(parts) != 5 or parts[0] != "Data" or parts[3] not in ("live", "spoof"):
        raise UserError(f"{where}: needed: Data/<part>/<subject>/live or spoof/<photo>")
    if (
        not isinstance(values, list)
        or len(values) != 44
        or not all(isinstance(v, int) for v in values[40:])
    ):
        raise UserError(f"{where}: needed: a list of 44 integers")
    kind, light, place, truth = values[40:]
    if truth not in LIVE:
        raise UserError(f"{where}: value 43 is {truth}; allowed: 0 (live), 1 (attack)")
    path = root / name
    if parts[1] == "train-2":
        return Skipped(path, "it lies in the stray folder Data/train-2")
    live = LIVE[truth]
    if live != (parts[3] == "live"):
        return Skipped(path, "its label (value 43) is not that of its folder")
    if not 0 <= kind < len(SPECIES) or live != (kind == 0):
        return Skipped(path, "its spoof type (value 40) does not fit its label")
    session = [
        names[value]
        for names, value in ((ILLUMINATION, light), (ENVIRONMENT, place))
        if 0 < value < len(names)
    ]
    return Sample(
        path=path,
        name=name,
        bona_fide=live,
        pai_species=SPECIES[kind],
        subject=parts[2],
        session=", ".join(map(str, session)) or None,
        split=split,
        box_rule="celeba_spoof",
    )
