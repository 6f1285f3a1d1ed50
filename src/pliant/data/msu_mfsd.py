"""MSU-MFSD: 35 people before a laptop and a phone; prints and replays; video, no dev split.

Wen, Han, Jain. "Face Spoof Detection with Image Distortion Analysis", IEEE TIFS 2015.
Research only.

    [scene01/]real/real_clientNNN_{android,laptop}_SD_sceneNN.{mov,mp4}
    [scene01/]attack/
        attack_clientNNN_{android,laptop}_SD_{ipad_video,iphone_video,printed_photo}_sceneNN.*
    train_sub_list.txt, test_sub_list.txt: one client's number a line

Checked in released code: all of the above. A video whose client is on neither list is skipped with
that reason; a client on both is refused.
"""

import re
from pathlib import Path

from pliant.data.frames import FRAMES, clip_samples
from pliant.data.manifest import Sample, Skipped
from pliant.data.reading import DEV_SHARE, Folders, Reading, finish, natural, need, rows
from pliant.errors import UserError

SPECIES = {
    "ipad_video": "iPad replay",
    "iphone_video": "iPhone replay",
    "printed_photo": "print",
}
NAME = re.compile(
    r"(real|attack)_client(\d+)_(android|laptop)_SD_(?:(ipad_video|iphone_video|printed_photo)_)?"
    r"(scene\d+)\.(?:mov|mp4|avi)",
    re.IGNORECASE,
)


def read_msu_mfsd(root: Path, *, frames: str = FRAMES, dev_share: float = DEV_SHARE) -> Reading:
    """The frames of the videos.

    Args:
        root: The folder with the two lists.
        frames: Of each video; see frames.picks.
        dev_share: Share of the training frames that becomes dev, by subject.

    Raises:
        UserError: if a list is missing or malformed, a client is on both, or no video is there.
    """
    root = need(root, "train_sub_list.txt", name="msu_mfsd")
    sides = _sides(root)
    folders, skipped, samples = Folders(), list[Skipped](), list[Sample]()
    for place in ("", "scene01/"):
        for part in ("real", "attack"):
            for file in sorted(folders.names(str(root / f"{place}{part}")), key=natural):
                if file.lower().endswith(".face"):
                    continue
                clip = _clip(root, f"{place}{part}/{file}", sides)
                if isinstance(clip, Skipped):
                    skipped.append(clip)
                else:
                    samples += clip_samples(clip, frames)
    return finish("msu_mfsd", root, samples, skipped, dev_share=dev_share)


def _sides(root: Path) -> dict[int, str]:
    """Split of each client."""
    sides: dict[int, str] = {}
    for split in ("train", "test"):
        for where, (number,) in rows(root / f"{split}_sub_list.txt", "client"):
            if not re.fullmatch(r"\d{1,3}", number):
                raise UserError(f"{where}: {number[:80]!r} is no client's number")
            if sides.setdefault(int(number), split) != split:
                raise UserError(f"{where}: client {number} is on the training list already")
    return sides


def _clip(root: Path, name: str, sides: dict[int, str]) -> Sample | Skipped:
    found = NAME.fullmatch(name.rsplit("/", 1)[-1])
    if not found:
        return Skipped(root / name, "its name is not that of a video")
    kind, client, device, medium, scene = found.groups()
    live = kind.lower() == "real"
    if live != (medium is None) or f"{kind.lower()}/" not in f"/{name}":
        return Skipped(root / name, "its name contradicts itself or its folder")
    if int(client) not in sides:
        return Skipped(root / name, f"client {client} is on neither list")
    return Sample(
        path=root / name,
        name=name,
        bona_fide=live,
        pai_species=None if live else SPECIES[medium.lower()],
        subject=f"{int(client):03d}",
        session=scene,
        device=device.lower(),
        split=sides[int(client)],
    )
