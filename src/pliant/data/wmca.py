"""WMCA: 72 people in colour, depth, infrared and thermal; seven kinds of attack.

George, Mostaani, Geissenbuhler, Nikisins, Anjos, Marcel. "Biometric Face Presentation Attack
Detection with Multi-Channel Convolutional Neural Network", IEEE TIFS 2020.
https://arxiv.org/abs/1909.08848. Research only.

    WMCA_Grandtest.txt      CSV with a header: number, client, video, group, label
    <dd.mm.yy>/<client>_<session>_<presenter>_<type>_<pai>/{color,depth,infrared,thermal}/*.jpg

**Label `attack`, or else bona fide; type 0 is bona fide.** Type and pai together give the species
(SPECIES); both have meaning only so. Checked in the released lists: the grandtest list, the names,
the groups train, dev and eval (test is taken too), that the list holds these pairs and no other,
and which pairs belong together: each of the seven leave-one-out lists (p2@1 to p2@7, in the lists
of CASIA's FAS data sets) tests one species. From memory: the species' names, by the paper's totals
(glasses 75, fake head 122, print 200, replay 348, rigid mask 137, flexible mask 379, paper mask
71), and the folders' words; `rgb` and `ir` are taken too.

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
_PAIS: tuple[tuple[str | None, dict[int, tuple[int, ...]]], ...] = (
    (None, {0: (0, 1, 2)}),
    ("glasses", {1: (1, 4, 5, 6, 7, 15, 16)}),
    ("rigid mask", {1: (2, 13, 14), 2: (12, 13, 14, 15, 16, 17)}),
    ("fake head", {2: (1, 2, 3, 4, 5, 6, 7)}),
    ("paper mask", {2: (8, 9, 10, 11)}),
    ("flexible mask", {2: (18, *range(75, 100))}),
    ("print", {3: (1, 2, 3, 4, 6, 7, 8, 9, 11, 12, 13, 14)}),
    ("replay", {3: (5, 10, 15), 4: tuple(range(1, 19))}),
)
SPECIES = {
    (kind, pai): species for species, types in _PAIS for kind, pais in types.items() for pai in pais
}
"""By type and pai in the name; None: bona fide."""
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
    if not found or group.lower() not in GROUPS:
        raise UserError(
            f"{where}: needed: number,client,date/client_session_presenter_type_pai,group,label, "
            f"with a group of {', '.join(GROUPS)}"
        )
    kind = int(found[4]), int(found[5])
    if kind not in SPECIES:
        raise UserError(
            f"{where}: type {found[4]} with pai {found[5]} is no attack of WMCA whose species is "
            "known"
        )
    species = SPECIES[kind]
    live = truth.lower() != "attack"
    if live != (species is None):
        raise UserError(f"{where}: the label says {truth!r}, the name {species or 'bona fide'}")
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
