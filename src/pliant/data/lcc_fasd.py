"""LCC-FASD: 18,827 photos from the web and from phones; attacks of unrecorded kinds.

Timoshenko, Simonchik, Shutov, Zhelezneva, Grishkin. "Large Crowdcollected Facial Anti-Spoofing
Dataset", CSIT 2019. Research only.

    LCC_FASD_{training,development}/{real,spoof}/*
    LCC_FASD_evaluation/{real*,spoof*}       flat: the class is how the name begins

**The folder, or the name, says live or attack.** Checked in released code: all of the above; copies
with real/ and spoof/ folders in the evaluation part exist too and are read. The set names neither
subjects nor kinds of attack, so the three parts are taken as they are.
"""

from pathlib import Path

from pliant.data.manifest import Sample, Skipped
from pliant.data.reading import Folders, Reading, finish, natural, need

PARTS = {
    "train": "LCC_FASD_training",
    "dev": "LCC_FASD_development",
    "test": "LCC_FASD_evaluation",
}
CLASSES = {"real": True, "spoof": False}


def read_lcc_fasd(root: Path) -> Reading:
    """The photos.

    Args:
        root: The folder with the three parts.

    Raises:
        UserError: if no photo is there.
    """
    root = need(root, *PARTS.values(), name="lcc_fasd")
    folders, skipped, samples = Folders(), list[Skipped](), list[Sample]()
    for split, part in PARTS.items():
        listed: list[tuple[str, bool | None]] = []
        listed += [(f"{part}/{word}/", live) for word, live in CLASSES.items()]
        if split == "test":
            listed.append((f"{part}/", None))
        for folder, known in listed:
            for file in sorted(folders.images(str(root / folder)), key=natural):
                live = known
                if live is None:
                    live = next((v for k, v in CLASSES.items() if file.lower().startswith(k)), None)
                if live is None:
                    reason = "its name begins with neither real nor spoof"
                    skipped.append(Skipped(root / folder / file, reason))
                    continue
                name = f"{folder}{file}"
                samples.append(Sample(path=root / name, name=name, bona_fide=live, split=split))
    return finish("lcc_fasd", root, samples, skipped, ["the set names no subjects"])
