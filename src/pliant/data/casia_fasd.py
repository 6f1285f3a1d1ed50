"""CASIA-FASD: 50 people, three cameras; warped and cut photos, and replays; video, no dev split.

Zhang, Yan, Liu, Lei, Yi, Li. "A Face Antispoofing Database with Diverse Attacks", ICB 2012.
Research only.

    {train,test}_release/<n>/{1,2,HR_1: live; 3,4,HR_2: warped photo; 5,6,HR_3: cut photo;
                              7,8,HR_4: replay}.avi

Checked in released code: all of the above. From memory: of each pair the odd number was taken with
the low-quality camera and the even one with the normal one, HR_ with the high-quality one; and the
protocols per quality and per attack.

Quirk: person 1 of training is not person 1 of test; the subject is named `train 1` or `test 1`.
"""

from pathlib import Path

from pliant.data.frames import FRAMES, clip_samples
from pliant.data.manifest import Sample, Skipped
from pliant.data.reading import DEV_SHARE, Folders, Reading, check_protocol, finish, natural, need

KINDS = (None, "warped photo", "cut photo", "replay")
FILES = {
    stem: (kind, device)
    for k, kind in enumerate(KINDS)
    for stem, device in (
        (str(2 * k + 1), "low"),
        (str(2 * k + 2), "normal"),
        (f"HR_{k + 1}", "high"),
    )
}
"""Stem of a video -> species and camera."""
PROTOCOLS = ("overall", "low", "normal", "high", "warped", "cut", "replay")


def read_casia_fasd(
    root: Path, *, protocol: str = "overall", frames: str = FRAMES, dev_share: float = DEV_SHARE
) -> Reading:
    """The frames of the videos.

    Args:
        root: The folder with train_release/ and test_release/.
        protocol: `overall`; one camera: `low`, `normal`, `high`; or one attack: `warped`, `cut`,
            `replay`.
        frames: Of each video; see frames.picks.
        dev_share: Share of the training frames that becomes dev, by subject.

    Raises:
        UserError: if no video is there.
    """
    check_protocol(protocol, PROTOCOLS, "casia_fasd")
    root = need(root, "train_release", "test_release", name="casia_fasd")
    folders, skipped, samples = Folders(), list[Skipped](), list[Sample]()
    for split in ("train", "test"):
        for person in sorted(folders.names(str(root / f"{split}_release")), key=natural):
            folder = f"{split}_release/{person}"
            for file in sorted(folders.names(str(root / folder)), key=natural):
                stem = file.rpartition(".")[0]
                if stem not in FILES:
                    skipped.append(Skipped(root / folder / file, "its name is no video's"))
                    continue
                kind, device = FILES[stem]
                if not _belongs(kind, device, protocol):
                    continue
                clip = Sample(
                    path=root / folder / file,
                    name=f"{folder}/{file}",
                    bona_fide=kind is None,
                    pai_species=kind,
                    subject=f"{split} {person}",
                    device=f"{device} quality",
                    split=split,
                )
                samples += clip_samples(clip, frames)
    return finish("casia_fasd", root, samples, skipped, dev_share=dev_share)


def _belongs(kind: str | None, device: str, protocol: str) -> bool:
    if protocol in ("low", "normal", "high"):
        return device == protocol
    return protocol == "overall" or kind is None or kind.startswith(protocol)
