"""OULU-NPU: 55 people, six phones, three sessions, two printers and two displays; video.

Boulkenafet, Komulainen, Li, Feng, Hadid. "OULU-NPU: A Mobile Face Presentation Attack Database with
Real-World Variations", FG 2017. Research only.

    {Train,Dev,Test}_files/<phone 1-6>_<session 1-3>_<user 01-55>_<file 1-5>.avi    1080x1920
    the same stem .txt: frame,xl,yl,xr,yr (centres of the eyes)
    Protocols/Protocol_{1,2}/{Train,Dev,Test}.txt
    Protocols/Protocol_{3,4}/{Train,Dev,Test}_{1..6}.txt
    lines +1,1_1_01_1        **plus: live, minus: attack** (only the sign is read)

File 1 live, 2 and 3 prints, 4 and 5 replays. Protocol 1 tests an unseen session, 2 unseen printer
and display, 3 an unseen phone, 4 all three. Users are disjoint (20, 15, 20). Checked in released
protocols and code: all of the above.

Quirks: a line whose sign contradicts its file number is refused. The box is derived from the eyes;
a frame whose eyes are not annotated is skipped with that reason (boxes.py).
"""

import re
from pathlib import Path

from pliant.data.frames import FRAMES, clip_samples
from pliant.data.manifest import Sample
from pliant.data.reading import (
    Folders,
    Reading,
    check_protocol,
    finish,
    keep_existing,
    need,
    rows,
)
from pliant.errors import UserError

PROTOCOLS = ("1", "2", *(f"{p}.{k}" for p in "34" for k in "123456"))
SPECIES = {"1": None, "2": "print 1", "3": "print 2", "4": "replay 1", "5": "replay 2"}
"""By the file number."""
SPLITS = {"train": "Train", "dev": "Dev", "test": "Test"}


def read_oulu_npu(root: Path, *, protocol: str = "1", frames: str = FRAMES) -> Reading:
    """The frames of a protocol's videos.

    Args:
        root: The folder with Protocols/ and {Train,Dev,Test}_files/.
        protocol: `1`, `2`, `3.1` to `3.6`, `4.1` to `4.6`.
        frames: Of each video; see frames.picks.

    Raises:
        UserError: if a protocol is missing or malformed, or no video is there.
    """
    check_protocol(protocol, PROTOCOLS, "oulu_npu")
    root = need(root, "Protocols", name="oulu_npu")
    clips = []
    for split, word in SPLITS.items():
        number, _, fold = protocol.partition(".")
        file = f"{word}_{fold}.txt" if fold else f"{word}.txt"
        path = root / f"Protocols/Protocol_{number}/{file}"
        clips += [
            _clip(root, sign, stem, split, where)
            for where, (sign, stem) in rows(path, "+1,name", ",")
        ]
    clips, skipped = keep_existing(clips, Folders())
    samples = [sample for clip in clips for sample in clip_samples(clip, frames)]
    return finish("oulu_npu", root, samples, skipped)


def _clip(root: Path, sign: str, stem: str, split: str, where: str) -> Sample:
    found = re.fullmatch(r"([1-6])_([1-3])_(\d\d)_([1-5])", stem)
    if not re.fullmatch(r"[+-]\d", sign) or not found:
        raise UserError(f"{where}: needed: +1 or -1, and phone_session_user_file, as +1,1_1_01_1")
    phone, session, user, file = found.groups()
    live = sign[0] == "+"
    if live != (SPECIES[file] is None):
        raise UserError(
            f"{where}: the sign says {'live' if live else 'attack'}, file number {file} says "
            f"{SPECIES[file] or 'live'}"
        )
    name = f"{SPLITS[split]}_files/{stem}.avi"
    return Sample(
        path=root / name,
        name=name,
        bona_fide=live,
        pai_species=SPECIES[file],
        subject=user,
        session=session,
        device=f"phone {phone}",
        split=split,
        box_rule="eyes",
    )
