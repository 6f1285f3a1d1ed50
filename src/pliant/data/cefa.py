"""CASIA-SURF CeFA: three ethnicities in colour, depth and infrared; prints, replays and 3D masks.

Liu, Tan, Wan, Escalera, Guo, Li. "CASIA-SURF CeFA: A Benchmark for Multi-modal Cross-ethnicity Face
Anti-spoofing", WACV 2021. https://arxiv.org/abs/2003.05136. Research only.

Challenge (CVPR 2020), protocol 4 alone; **1 live, 0 attack**:

    phase1/train/<clip>/{profile,depth,ir}/0001.jpg    phase1/dev, phase2/test: <6 digits>/...
    4@{1,2,3}_train.txt      train/1_186_3_1_4/profile/0001.jpg 0     one line a frame
    4@k_{dev,test}_ref.txt   dev/003000 0       one line a clip (4@k_*_res.txt: without the label)

Academic release; **0 live, 1 attack**, the other way round:

    Ethnicity/{AF,CA,EA}/AF-120/<clip>/{color,depth,ir}/  Mask/{3D-Mask,Silicone-Mask}/<id>/<clip>/
    protocol/CASIA_CeFA@p{1.1,1.3,1.5,2.1,2.2,3,4.1,4.3,4.5}_{image,video}_{train,dev,test}.txt
    CASIA_CeFA/Ethnicity/AF/AF-120/1_120_1_1_1/color 0      or .../color/0001.jpg 0, of image lists

A clip is `ethnicity_id_device_session_pai` (ethnicity 1 African, 2 Central Asian, 3 East Asian;
device 1 rssdk, 2 mp4, 3 bag, 4 MOV; session 1 indoor, 2 outdoor, 3 random; pai 1 live, 2 cloth,
3 photo, 4 screen); a mask is `1_id_dress_glasses_device_session_light` (3D) or
`2_id_1_glasses_device_session_light` (silicone), device 1 Camera, 2 D435i; light 1 none, 2 back,
3 along, 4 side.

Checked in released lists and code: all of the above. From memory: 4@k_test_ref.txt is named as
dev's is. The academic lists begin with the data set's folder; lines without it are taken too.

Quirks: in the challenge every live clip of training comes from device 1 and every attack from
device 3, so the device gives the label away; the reading says so. A label that contradicts the
clip's name is refused. Protocol 3 trains on one modality and tests on the others: choose there.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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

CHALLENGE = {"1": True, "0": False}
ACADEMIC = {"0": True, "1": False}
SUB_PROTOCOLS = ("1.1", "1.3", "1.5", "2.1", "2.2", "3", "4.1", "4.3", "4.5")
PROTOCOLS = (
    *(f"challenge.{k}" for k in "123"),
    *(f"{name}.{unit}" for name in SUB_PROTOCOLS for unit in ("image", "video")),
)
FOLDER = "CASIA_CeFA/"
"""What the lines of the academic lists begin with: the folder that is the root."""
ETHNICITY = {"1": "AF", "2": "CA", "3": "EA"}
DEVICE = {"1": "1 (rssdk)", "2": "2 (mp4)", "3": "3 (bag)", "4": "4 (MOV)"}
MASK_DEVICE = {"1": "Camera", "2": "D435i"}
"""Of masks, whose devices are counted by themselves."""
SESSION = {"1": "indoor", "2": "outdoor", "3": "random"}
PAI = {"1": None, "2": "cloth print", "3": "photo print", "4": "screen replay"}
LIGHT = {"1": "no light", "2": "back light", "3": "light along", "4": "side light"}
MASK = {"1": "3D mask", "2": "silicone mask"}


def read_cefa(root: Path, *, protocol: str = "challenge.1", frames: str = FRAMES) -> Reading:
    """The frames of a protocol, with depth and infrared.

    Args:
        root: The folder with phase1/ and the lists, or with Ethnicity/, Mask/ and protocol/.
        protocol: `challenge.1` to `challenge.3`, or the academic `1.1.image` ... `4.5.video`.
        frames: Of each clip where a list names clips; see frames.picks.

    Raises:
        UserError: if a list is missing or malformed, its labels contradict the clips' names, or no
            image is there.
    """
    check_protocol(protocol, PROTOCOLS, "cefa")
    lists = [f"4@{k}_train.txt" for k in "123"]
    root = need(root, "protocol", *lists, name="cefa")
    folders, skipped = Folders(), list[Skipped]()
    challenge = protocol.startswith("challenge.")
    listed: list[Sample] = []
    for split in SPLITS:
        if challenge:
            lines = _challenge(root, protocol[-1], split, skipped)
        else:
            lines = _academic(root, protocol, split)
        word = "profile" if challenge else "color"
        for where, name, live in lines:
            listed += _frames(root, name, live, split, where, word, frames, folders)
    samples, missing = keep_existing(listed, folders)
    notes = []
    if protocol.startswith("3."):
        notes.append("protocol 3 trains on one modality and tests on the others: choose there")
    return finish("cefa", root, samples, [*skipped, *missing], notes)


def _challenge(
    root: Path, k: str, split: str, skipped: list[Skipped]
) -> Iterator[tuple[str, str, bool]]:
    phase = "phase2" if split == "test" else "phase1"
    path = root / f"4@{k}_{'train' if split == 'train' else f'{split}_ref'}.txt"
    blind = root / f"4@{k}_{split}_res.txt"
    if split != "train" and not path.is_file():
        reason = f"{blind.name} has no labels ({path.name} is missing)"
        for where, (name, *_) in rows(blind, "path"):
            skipped.append(Skipped(root / phase / relative(name, where), reason))
        return
    for where, (name, truth) in rows(path, "path label"):
        yield where, f"{phase}/{relative(name, where)}", label(truth, CHALLENGE, where)


def _academic(root: Path, protocol: str, split: str) -> Iterator[tuple[str, str, bool]]:
    name, unit = protocol.rsplit(".", 1)
    path = root / "protocol" / f"CASIA_CeFA@p{name}_{unit}_{split}.txt"
    for where, (given, truth) in rows(path, "path label"):
        inside = relative(given, where).removeprefix(FOLDER)
        yield where, inside, label(truth, ACADEMIC, where)


def _frames(
    root: Path,
    name: str,
    live: bool,
    split: str,
    where: str,
    word: str,
    frames: str,
    folders: Folders,
) -> Iterator[Sample]:
    """The frame that a line names, or some frames of the clip that it names."""
    if f"/{word}/" in name:
        clip, _, image = name.rpartition(f"/{word}/")
        images = [image]
    else:
        clip = name.removesuffix(f"/{word}")
        images = pick_some(folders.images(str(root / clip / word)), frames) or ["no images"]
    about = _about(clip.rsplit("/", 1)[-1], live, where)
    for image in images:
        yield Sample(
            path=root / clip / word / image,
            depth_path=root / clip / "depth" / image,
            ir_path=root / clip / "ir" / image,
            name=f"{clip}/{word}/{image}",
            bona_fide=live,
            clip=clip,
            split=split,
            box_rule="content",
            **about,
        )


def _about(clip: str, live: bool, where: str) -> dict[str, Any]:
    """What a clip's name says; nothing for the challenge's six digits."""
    if re.fullmatch(r"\d{6}", clip):
        return {}
    fields = clip.split("_")
    try:
        if len(fields) == 5:
            ethnicity, who, device, session, pai = fields
            species, camera = PAI[pai], DEVICE[device]
            subject, when = f"{ETHNICITY[ethnicity]}-{who}", SESSION[session]
        else:
            kind, who, _, _, device, session, light = fields
            species, camera = MASK[kind], MASK_DEVICE[device]
            subject, when = f"{species} {who}", f"{SESSION[session]}, {LIGHT[light]}"
    except (KeyError, ValueError):
        raise UserError(
            f"{where}: {clip[:80]!r} is no clip's name; needed: ethnicity_id_device_session_pai or "
            "a mask's kind_id_dress_glasses_device_session_light"
        ) from None
    if live != (species is None):
        raise UserError(
            f"{where}: the label says {'live' if live else 'attack'}, the clip's name "
            f"{species or 'live'}; the challenge's lists and the academic ones have opposite "
            "labels: give the protocol that they belong to"
        )
    return {"pai_species": species, "subject": subject, "session": when, "device": camera}
