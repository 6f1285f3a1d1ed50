"""What a reader of a published data set gives back, and the checks that all of them share.

A reader turns one layout into samples; labels become `bona_fide` and `pai_species` there and
nowhere else. It opens lists and lists folders, but no image: what the files hold is looked at when
faces are cut out. What it leaves out is counted with the reason.
"""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pliant.data.folder import ENDINGS
from pliant.data.manifest import Sample, Skipped
from pliant.data.split import split_by_subject
from pliant.errors import UserError

SPLITS = ("train", "dev", "test")
MODALITIES = {"depth_path": "depth", "ir_path": "infrared"}
"""Fields of a sample that name further images, and their words."""
DEV_SHARE = 0.2
"""Share of the training images that becomes dev where a set ships none."""
SEED = 0
"""Of that choice, so that every run of every reader makes the same."""
MOST_NAMED = 5
"""Names in one note."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """The samples of a data set, and what has to be said of them."""

    name: str
    """The reader's name."""
    root: Path
    """Where the data set lies."""
    samples: list[Sample]
    """With `split` filled in."""
    skipped: list[Skipped]
    """What was left out, and why."""
    notes: list[str]
    """Sentences that a user should read: confounds, overlaps, attacks unseen in training."""


def finish(
    name: str,
    root: Path,
    samples: list[Sample],
    skipped: Sequence[Skipped],
    notes: Sequence[str] = (),
    *,
    dev_share: float | None = None,
) -> Reading:
    """The reading of what a reader collected: checked, with a dev split.

    Args:
        name: The reader's.
        root: The data set's folder.
        samples: All of them, with their splits.
        skipped: What was left out.
        notes: What the reader has to say.
        dev_share: Share of the training images that becomes dev, by subject; None where the set
            ships a dev split.

    Raises:
        UserError: if there are no samples.
    """
    if not samples:
        reasons = Counter(skip.reason for skip in skipped).most_common(MOST_NAMED)
        said = "; ".join(f"{count} x {reason}" for reason, count in reasons) or "nothing is listed"
        raise UserError(f"{root} gives not one sample of {name} ({said})")
    said = list(notes)
    if overlap := subject_overlap(samples):
        named = ", ".join(list(overlap)[:MOST_NAMED])
        said.append(
            f"{len(overlap)} subjects are on more than one side of the split ({named}"
            f"{' ...' * (len(overlap) > MOST_NAMED)}); training refuses that"
        )
    elif dev_share is not None:
        samples, note = _carve_dev(samples, dev_share)
        said.append(note)
    said += [*_confounds(samples), *_unseen(samples)]
    return Reading(name=name, root=root, samples=samples, skipped=list(skipped), notes=said)


def subject_overlap(samples: Sequence[Sample]) -> dict[str, list[str]]:
    """Subjects on more than one side, and on which."""
    sides: dict[str, set[str]] = defaultdict(set)
    for sample in samples:
        if sample.subject and sample.split:
            sides[sample.subject].add(sample.split)
    return {who: sorted(where) for who, where in sorted(sides.items()) if len(where) > 1}


def _carve_dev(samples: list[Sample], share: float) -> tuple[list[Sample], str]:
    """Some subjects of training become dev; what cannot be divided stays, which is said."""
    try:
        split = split_by_subject(samples, seed=SEED, dev_share=share)
    except UserError as error:
        return samples, f"the set ships no dev split, and none could be made: {error}"
    count = len({sample.subject for sample in split.dev})
    note = (
        f"the set ships no dev split: {len(split.dev)} training images of {count} subjects became "
        f"dev (by subject, seed {SEED})"
    )
    return [*split.train, *split.dev, *split.test], note


def _confounds(samples: Sequence[Sample]) -> Iterator[str]:
    """Where the device alone tells bona fide from attack, a model can learn the device."""
    for split in SPLITS:
        devices: dict[bool, set[str | None]] = {True: set(), False: set()}
        for sample in samples:
            if sample.split == split and sample.bona_fide is not None:
                devices[sample.bona_fide].add(sample.device)
        live, attack = devices[True], devices[False]
        if live and attack and None not in live | attack and not live & attack:
            yield (
                f"confound in {split}: bona fide and attack samples were taken with different "
                f"devices ({_few(live)}; {_few(attack)}), so a model can learn the device instead"
            )


def _unseen(samples: Sequence[Sample]) -> Iterator[str]:
    """Attacks that training never sees make a harder test, which its numbers should say."""
    species: dict[str | None, set[str | None]] = defaultdict(set)
    for sample in samples:
        if sample.bona_fide is False and sample.pai_species:
            species[sample.split].add(sample.pai_species)
    if not species["train"]:
        return
    for split in ("dev", "test"):
        if unseen := species[split] - species["train"]:
            yield f"{split} has attacks that training does not: {_few(unseen)}"


def _few(words: set[str | None]) -> str:
    named = sorted(map(str, words))
    return ", ".join(named[:MOST_NAMED]) + " ..." * (len(named) > MOST_NAMED)


class Folders:
    """Names in folders, each folder listed once: no file is looked at by itself."""

    def __init__(self) -> None:
        self._names: dict[str, frozenset[str]] = {}

    def names(self, folder: str) -> frozenset[str]:
        """What a folder holds; nothing where there is none."""
        if folder not in self._names:
            try:
                self._names[folder] = frozenset(os.listdir(folder))
            except (FileNotFoundError, NotADirectoryError):
                self._names[folder] = frozenset()
        return self._names[folder]

    def has(self, path: str) -> bool:
        """Whether there is a file or folder of this path."""
        folder, name = os.path.split(path)
        return name in self.names(folder)

    def images(self, folder: str) -> list[str]:
        """Names of images in a folder, 2.jpg before 10.jpg."""
        found = [n for n in self.names(folder) if os.path.splitext(n)[1].lower() in ENDINGS]
        return sorted(found, key=natural)

    def missing(self, sample: Sample) -> str | None:
        """The reason why a sample cannot be used: a file that is not there."""
        if not self.has(str(sample.path)):
            return "no such file"
        for field, word in MODALITIES.items():
            path = getattr(sample, field)
            if path is not None and not self.has(str(path)):
                return f"its {word} image is missing"
        return None


def natural(name: str) -> list[tuple[str, int]]:
    """A key that sorts numbers in names by size."""
    return [(text, int(part or 0)) for text, part in re.findall(r"(\D*)(\d*)", name)]


def keep_existing(
    samples: Sequence[Sample], folders: Folders
) -> tuple[list[Sample], list[Skipped]]:
    """Samples whose files are all there, and the others with what is missing."""
    kept, skipped = [], []
    for sample in samples:
        reason = folders.missing(sample)
        if reason is None:
            kept.append(sample)
        else:
            skipped.append(Skipped(sample.path, reason))
    return kept, skipped


def rows(path: Path, form: str, separator: str | None = None) -> Iterator[tuple[str, list[str]]]:
    """Place and fields of each line of a list; blank lines are passed over.

    Args:
        path: A text file in UTF-8.
        form: What a line looks like, such as `path label`; it has as many words as a line fields.
        separator: Between fields; None: white space.

    Raises:
        UserError: naming the line, if it has more or fewer fields; or if the file is missing.
    """
    wanted = len(form.split(separator))
    for number, line in enumerate(_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        fields = [field.strip() for field in line.split(separator)]
        if len(fields) != wanted:
            raise UserError(f"{path}, line {number}: {line[:80]!r} is not {form!r}")
        yield f"{path}, line {number}", fields


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"no such list: {path}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not text in UTF-8 (byte {error.start})") from None


def relative(text: str, where: str) -> str:
    """A path of a list, with forward slashes, that stays in the data set.

    Raises:
        UserError: if it leads out of it.
    """
    path = text.replace("\\", "/")
    if path.startswith("/") or ".." in path.split("/") or "\0" in path or not path:
        raise UserError(f"{where}: {text[:80]!r} is no path inside the data set")
    return os.path.normpath(path).replace("\\", "/")


def label(text: str, meaning: Mapping[str, bool], where: str) -> bool:
    """Whether a label means bona fide.

    Raises:
        UserError: if it is none of those allowed.
    """
    if text not in meaning:
        allowed = ", ".join(f"{k} ({'live' if v else 'attack'})" for k, v in meaning.items())
        raise UserError(f"{where}: label {text[:20]!r}; allowed: {allowed}")
    return meaning[text]


def check_protocol(protocol: str, allowed: Sequence[str], name: str) -> None:
    """Refuses an unknown protocol.

    Raises:
        UserError: with those that exist.
    """
    if protocol not in allowed:
        raise UserError(f"{name} has no protocol {protocol!r}; allowed: {', '.join(allowed)}")


def need(root: Path, *parts: str, name: str) -> Path:
    """The folder as an absolute path, after a look at whether it is this data set.

    Args:
        root: What was given.
        *parts: Files or folders beneath it, of which one must exist.
        name: The data set's.

    Raises:
        UserError: if the folder or all of the parts are missing.
    """
    root = Path(os.path.abspath(root))
    if not root.is_dir():
        raise UserError(f"no such folder: {root}; give the root of {name}")
    if not any((root / part).exists() for part in parts):
        raise UserError(f"{root} is not laid out as {name}: it needs {' or '.join(parts)}")
    return root
