"""CASIA-SURF: 1,000 people in colour, depth and infrared, six cut or bent prints as attacks.

Zhang, Wang, Liu, Zhao, Wan, Escalera, Shi, Wang, Li. "A Dataset and Benchmark for Large-Scale
Multi-Modal Face Anti-Spoofing", CVPR 2019. https://arxiv.org/abs/1812.00408. Research only.

Challenge (CVPR 2019), lists of `color depth ir label`, space-separated; **1 live, 0 attack**:

    train_list.txt         Training/{real_part,fake_part}/<subject>/<species>.rssdk/color/1.jpg ...
    val_private_list.txt   Val/0000/000000-color.jpg Val/0000/000000-depth.jpg ...-ir.jpg 0
    test_private_list.txt  (the *_public_list.txt have no labels: three columns)

Academic re-release, lists of `path label`; **0 live, 1 attack**, the other way round:

    Data/{Training,Val,Testing}/{real_part,fake_part}/...
    protocol/CASIA_SURF@p1_{image,video}_{train,dev,test}.txt
    CASIA_SURF/Data/Training/real_part/CLKJ_AS0005/real.rssdk/color 0           of the video lists
    CASIA_SURF/Data/Val/real_part/CLKJ_BS1632/real.rssdk/color/0015.jpg 0       of the image lists
    with /depth/ and /ir/ in the place of /color/

Checked in released lists and code: all of the above. Lines that begin with Data/, or after it, and
clips' folders in the place of their colour folders are taken too.

Quirks: train has species 4-6, val and test have 1-3, so that every attack of val and test is
unknown by design. The background is black: the box is what is not (boxes.py), and the images are
used as they lie, so the modalities stay over each other. Val and test of the challenge name no
subject. A list whose labels contradict the folders' names is refused.
"""

from collections.abc import Iterator
from pathlib import Path

from pliant.data.frames import FRAMES, pick_some
from pliant.data.manifest import Sample, Skipped
from pliant.data.reading import (
    SPLITS,
    Folders,
    Reading,
    check_protocol,
    finish,
    keep_existing,
    label,
    need,
    relative,
    rows,
)
from pliant.errors import UserError

PROTOCOLS = ("challenge", "academic.image", "academic.video")
CHALLENGE = {"1": True, "0": False}
ACADEMIC = {"0": True, "1": False}
FOLDER = "CASIA_SURF/"
"""What the lines of the academic lists begin with: the folder that is the root."""
SPECIES = {
    "01_e_s": "eyes cut, flat", "02_e_b": "eyes cut, bent",
    "03_en_s": "eyes and nose cut, flat", "04_en_b": "eyes and nose cut, bent",
    "05_enm_s": "eyes, nose and mouth cut, flat", "06_enm_b": "eyes, nose and mouth cut, bent",
}  # fmt: skip
PARTS = {"real_part": True, "fake_part": False}


def read_casia_surf(root: Path, *, protocol: str = "challenge", frames: str = FRAMES) -> Reading:
    """The images of the challenge or of the academic lists, with depth and infrared.

    Args:
        root: The folder with Training/ and the lists, or with Data/ and protocol/.
        protocol: `challenge`, `academic.image` or `academic.video`.
        frames: Of each clip of the video lists; see frames.picks.

    Raises:
        UserError: if a list is missing or malformed, its labels contradict the folders, or no
            image is there.
    """
    check_protocol(protocol, PROTOCOLS, "casia_surf")
    root = need(root, "train_list.txt", "protocol", name="casia_surf")
    folders, skipped = Folders(), list[Skipped]()
    if protocol == "challenge":
        listed = [s for split in SPLITS for s in _challenge(root, split, skipped)]
    else:
        unit = protocol.removeprefix("academic.")
        listed = [s for split in SPLITS for s in _academic(root, unit, split, frames, folders)]
    samples, missing = keep_existing(listed, folders)
    return finish("casia_surf", root, samples, [*skipped, *missing])


def _challenge(root: Path, split: str, skipped: list[Skipped]) -> Iterator[Sample]:
    word = {"train": "train", "dev": "val_private", "test": "test_private"}[split]
    path = root / f"{word}_list.txt"
    public = root / f"{word.replace('private', 'public')}_list.txt"
    if not path.is_file() and public.is_file() and public != path:
        for where, (name, _, _) in rows(public, "color depth ir"):
            reason = f"{public.name} has no labels ({path.name} is missing)"
            skipped.append(Skipped(root / relative(name, where), reason))
        return
    for where, (color, depth, ir, truth) in rows(path, "color depth ir label"):
        names = [relative(name, where) for name in (color, depth, ir)]
        yield _sample(root, names, label(truth, CHALLENGE, where), split, where)


def _academic(root: Path, unit: str, split: str, frames: str, folders: Folders) -> Iterator[Sample]:
    path = root / "protocol" / f"CASIA_SURF@p1_{unit}_{split}.txt"
    for where, (given, truth) in rows(path, "path label"):
        name = relative(given, where).removeprefix(FOLDER)
        if not name.startswith("Data/"):
            name = f"Data/{name}"
        live = label(truth, ACADEMIC, where)
        names = [name]
        if unit == "video":
            color = name if name.endswith("/color") else f"{name}/color"
            found = pick_some(folders.images(str(root / color)), frames)
            names = [f"{color}/{image}" for image in found] or [f"{color}/no images"]
        for name in names:
            if "/color/" not in name:
                raise UserError(f"{where}: {given[:80]!r} has no /color/ in it")
            others = [name.replace("/color/", f"/{kind}/") for kind in ("depth", "ir")]
            yield _sample(root, [name, *others], live, split, where)


def _sample(root: Path, names: list[str], live: bool, split: str, where: str) -> Sample:
    """From the paths of colour, depth and infrared."""
    parts = names[0].split("/")
    part = next((p for p in parts if p in PARTS), None)
    species = subject = clip = None
    if part:
        if PARTS[part] != live:
            raise UserError(
                f"{where}: the label says {'live' if live else 'attack'}, the folder {part}; the "
                "challenge's lists and the academic ones have opposite labels: give the protocol "
                "that they belong to"
            )
        subject = parts[parts.index(part) + 1]
    if "color" in parts:
        clip = "/".join(parts[: parts.index("color")])
        species = SPECIES.get(parts[parts.index("color") - 1].split(".")[0])
    return Sample(
        path=root / names[0],
        depth_path=root / names[1],
        ir_path=root / names[2],
        name=names[0],
        bona_fide=live,
        pai_species=None if live else species,
        subject=subject,
        clip=clip,
        split=split,
        box_rule="content",
    )
