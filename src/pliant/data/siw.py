"""SiW (Spoof in the Wild): 165 people, prints and replays; video, no dev split.

Liu, Jourabloo, Liu. "Learning Deep Models for Face Anti-Spoofing: Binary or Auxiliary Supervision",
CVPR 2018. https://arxiv.org/abs/1803.11097. Research only.

    {Train,Test}/{live,spoof}/<sss>/<sss>-<sensor>-<type>-<medium>-<session>.{mov,mp4}

**Type 1 live, 2 print, 3 replay.** Protocol 1 all; 2.1 to 2.4 leave one medium of replay out;
3.1 and 3.2 train on one of print and replay and test on the other. Checked in released code: all of
the above. From memory: that protocol 2 uses replays alone, that 3.1 trains on prints, that protocol
1 takes the first 60 frames of the training videos (`frames="first60"` does, in every split).

Quirks: the shipped `.face` boxes are judged poor, so faces are searched. A name whose type
contradicts its folder is skipped with that reason.
"""

import re
from pathlib import Path

from pliant.data.frames import FRAMES, clip_samples
from pliant.data.manifest import Sample, Skipped
from pliant.data.reading import DEV_SHARE, Folders, Reading, check_protocol, finish, natural, need

PROTOCOLS = ("1", "2.1", "2.2", "2.3", "2.4", "3.1", "3.2")
KINDS = {"1": "live", "2": "print", "3": "replay"}
ENDINGS = (".mov", ".mp4", ".avi")


def read_siw(
    root: Path, *, protocol: str = "1", frames: str = FRAMES, dev_share: float = DEV_SHARE
) -> Reading:
    """The frames of a protocol's videos; an attack's species is kind and medium, as `replay 2`.

    Args:
        root: The folder with Train/ and Test/.
        protocol: `1`; `2.1` to `2.4` (the medium that is tested on); `3.1`, `3.2`.
        frames: Of each video; see frames.picks.
        dev_share: Share of the training frames that becomes dev, by subject.

    Raises:
        UserError: if no video is there.
    """
    check_protocol(protocol, PROTOCOLS, "siw")
    root = need(root, "Train", "Test", name="siw")
    folders, skipped, samples = Folders(), list[Skipped](), list[Sample]()
    for split, word in (("train", "Train"), ("test", "Test")):
        for part in ("live", "spoof"):
            for subject in sorted(folders.names(str(root / word / part)), key=natural):
                folder = f"{word}/{part}/{subject}"
                for file in sorted(folders.names(str(root / folder)), key=natural):
                    if not file.lower().endswith(ENDINGS):
                        continue  # .face files
                    clip = _clip(root, folder, file, split, part)
                    if isinstance(clip, Skipped):
                        skipped.append(clip)
                    elif _belongs(clip, protocol):
                        samples += clip_samples(clip, frames)
    return finish("siw", root, samples, skipped, dev_share=dev_share)


def _clip(root: Path, folder: str, file: str, split: str, part: str) -> Sample | Skipped:
    path = root / folder / file
    found = re.fullmatch(r"(\d+)-(\d+)-([123])-(\d+)-(\d+)\.\w+", file)
    if not found:
        return Skipped(path, "its name is not subject-sensor-type-medium-session")
    subject, sensor, kind, medium, session = found.groups()
    if (kind == "1") != (part == "live") or subject != folder.rsplit("/", 1)[-1]:
        return Skipped(path, "its name contradicts its folder")
    return Sample(
        path=path,
        name=f"{folder}/{file}",
        bona_fide=kind == "1",
        pai_species=None if kind == "1" else f"{KINDS[kind]} {medium}",
        subject=subject,
        session=session,
        device=f"sensor {sensor}",
        split=split,
    )


def _belongs(clip: Sample, protocol: str) -> bool:
    """Whether a protocol uses a video on its side of the split."""
    if clip.pai_species is None or protocol == "1":
        return True
    kind, medium = clip.pai_species.split()
    testing = clip.split == "test"
    if protocol.startswith("2."):
        return kind == "replay" and (medium == protocol[-1]) == testing
    return (kind == "replay") == (testing == (protocol == "3.1"))
