"""Replay-Attack: 50 people before one webcam; prints and replays, held by hand or fixed; video.

Chingovska, Anjos, Marcel. "On the Effectiveness of Local Binary Patterns in Face Anti-spoofing",
BIOSIG 2012. Research only.

    {train,devel,test}/real/clientNNN_sessionNN_webcam_authenticate_{controlled,adverse}_N.mov
    {train,devel,test}/attack/{fixed,hand}/
        attack_{print,mobile,highdef}_clientNNN_sessionNN_<device>_{photo,video}_<light>.mov

Live and attack videos: 60 and 300, 60 and 300, 80 and 400. Checked in released code: all of the
above; also `face-locations/<same path>.face` with lines `frame x y w h`, which are not used: their
boxes are of another rule than the detectors', and a crop scale would mean something else.
"""

import re
from pathlib import Path

from pliant.data.frames import FRAMES, clip_samples
from pliant.data.manifest import Sample, Skipped
from pliant.data.reading import Folders, Reading, check_protocol, finish, natural, need

SPLITS = {"train": "train", "dev": "devel", "test": "test"}
PROTOCOLS = ("grandtest", "print", "mobile", "highdef")
FOLDERS = ("real", "attack/fixed", "attack/hand")
LIVE = re.compile(r"(client\d+)_session\d+_webcam_authenticate_(controlled|adverse)_\d+\.\w+")
ATTACK = re.compile(
    r"attack_(print|mobile|highdef)_(client\d+)_session\d+_\w+_(photo|video)_(controlled|adverse)\.\w+"
)


def read_replay_attack(root: Path, *, protocol: str = "grandtest", frames: str = FRAMES) -> Reading:
    """The frames of the videos; an attack's species is device and content, as `mobile video`.

    Args:
        root: The folder with train/, devel/ and test/.
        protocol: `grandtest` (all), or the attacks of one device: `print`, `mobile`, `highdef`.
        frames: Of each video; see frames.picks.

    Raises:
        UserError: if no video is there.
    """
    check_protocol(protocol, PROTOCOLS, "replay_attack")
    root = need(root, *SPLITS.values(), name="replay_attack")
    folders, skipped, samples = Folders(), list[Skipped](), list[Sample]()
    for split, word in SPLITS.items():
        for part in FOLDERS:
            folder = f"{word}/{part}"
            for file in sorted(folders.names(str(root / folder)), key=natural):
                clip = _clip(root, folder, file, split)
                if isinstance(clip, Skipped):
                    skipped.append(clip)
                elif clip.bona_fide or protocol in ("grandtest", str(clip.pai_species).split()[0]):
                    samples += clip_samples(clip, frames)
    return finish("replay_attack", root, samples, skipped)


def _clip(root: Path, folder: str, file: str, split: str) -> Sample | Skipped:
    path = root / folder / file
    live = folder.endswith("/real")
    found = (LIVE if live else ATTACK).fullmatch(file)
    if not found:
        return Skipped(path, f"its name is not that of a video in {folder.split('/', 1)[1]}/")
    if live:
        (subject, light), species = found.groups(), None
    else:
        medium, subject, content, light = found.groups()
        species = f"{medium} {content}"
    return Sample(
        path=path,
        name=f"{folder}/{file}",
        bona_fide=live,
        pai_species=species,
        subject=subject,
        session=light,
        device="webcam",
        split=split,
    )
