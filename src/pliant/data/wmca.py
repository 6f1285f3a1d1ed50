"""WMCA: 72 people in colour, depth, infrared and thermal; seven kinds of attack.

George, Mostaani, Geissenbuhler, Nikisins, Anjos, Marcel. "Biometric Face Presentation Attack
Detection with Multi-Channel Convolutional Neural Network", IEEE TIFS 2020.
https://arxiv.org/abs/1909.08848. Research only.

    WMCA_Grandtest.txt      CSV with a header: number, client, video, group, label
    <dd.mm.yy>/<client>_<session>_<presenter>_<type>_<pai>/{color,depth,infrared,thermal}/*.jpg

**Label `attack`, or else bona fide; type 0 is bona fide.** Checked in released code: the list and
the names. From memory: the order of the types, that groups are called train, dev and eval (test
is taken too), and the folders' words; `rgb` and `ir` are taken too.

Quirks: recordings are published as HDF5; one whose frames were not extracted into folders is
skipped with that reason. Thermal images are not used. The client is the subject: who is imitated,
or before the camera. A label that contradicts the type in the name is refused.
"""

import re
from pathlib import Path

from pliant.data.frames import FRAMES, pick_some
from pliant.data.manifest import Sample, Skipped
from pliant.data.reading import Folders, Reading, finish, keep_existing, need, relative, rows
from pliant.errors import UserError

LIST = "WMCA_Grandtest.txt"
SPECIES = (
    None, "glasses", "fake head", "print", "replay", "rigid mask", "flexible mask", "paper mask",
)  # fmt: skip
"""By the type in the name."""
GROUPS = {"train": "train", "dev": "dev", "eval": "test", "test": "test"}
COLOUR, DEPTH, INFRARED = ("color", "rgb"), ("depth",), ("infrared", "ir")


def read_wmca(root: Path, *, frames: str = FRAMES) -> Reading:
    """The frames of the grandtest protocol, with depth and infrared where they lie there.

    Args:
        root: The folder with WMCA_Grandtest.txt and the recordings' folders.
        frames: Of each recording; see frames.picks.

    Raises:
        UserError: if the list is missing or malformed, or no frame is there.
    """
    root = need(root, LIST, name="wmca")
    folders, skipped, listed = Folders(), list[Skipped](), list[Sample]()
    lines = rows(root / LIST, "number,client,video,group,label", ",")
    for number, (where, fields) in enumerate(lines):
        if number == 0 and fields[3].lower() not in GROUPS:
            continue  # the header
        clip = _clip(root, fields, where)
        found = _frames(clip, folders, frames)
        if not found:
            hdf5 = any(folders.has(f"{clip.path}{end}") for end in (".hdf5", ".h5"))
            reason = "HDF5: extract its frames first" if hdf5 else "its frames are missing"
            skipped.append(Skipped(clip.path, reason))
        listed += found
    samples, missing = keep_existing(listed, folders)
    return finish("wmca", root, samples, [*skipped, *missing])


def _clip(root: Path, fields: list[str], where: str) -> Sample:
    """The recording; its path is its folder."""
    _, client, video, group, truth = fields
    video = re.sub(r"\.(hdf5|h5)$", "", relative(video, where))
    found = re.fullmatch(r"(\d+)_(\d+)_(\d+)_(\d)_(\d+).*", video.rsplit("/", 1)[-1])
    if not found or group.lower() not in GROUPS or int(found[4]) >= len(SPECIES):
        raise UserError(
            f"{where}: needed: number,client,date/client_session_presenter_type_pai,group,label, "
            f"with a type below {len(SPECIES)} and a group of {', '.join(GROUPS)}"
        )
    species = SPECIES[int(found[4])]
    live = truth.lower() != "attack"
    if live != (species is None):
        raise UserError(
            f"{where}: the label says {truth!r}, the type in the name {species or 'bona fide'}"
        )
    return Sample(
        path=root / video,
        name=video,
        bona_fide=live,
        pai_species=species,
        subject=client,
        session=found[2],
        split=GROUPS[group.lower()],
        clip=video,
    )


def _frames(clip: Sample, folders: Folders, rule: str) -> list[Sample]:
    held = folders.names(str(clip.path))

    def folder(words: tuple[str, ...]) -> str | None:
        return next((word for word in words if word in held), None)

    colour, depth, infrared = folder(COLOUR), folder(DEPTH), folder(INFRARED)
    if colour is None:
        return []
    fields = {k: v for k, v in vars(clip).items() if k not in ("path", "name")}
    return [
        Sample(
            **fields
            | {
                "path": clip.path / colour / image,
                "name": f"{clip.name}/{colour}/{image}",
                "depth_path": clip.path / depth / image if depth else None,
                "ir_path": clip.path / infrared / image if infrared else None,
            }
        )
        for image in pick_some(folders.images(str(clip.path / colour)), rule)
    ]
