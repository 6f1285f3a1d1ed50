"""What `pliant train` trains on: samples read, checked, and split by subject."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pliant.data.augment import Augment
from pliant.data.captures import DevCrops
from pliant.data.crops import CropDataset, load_or_skip
from pliant.data.manifest import Sample
from pliant.data.modal import ModalCrops
from pliant.data.source import open_source
from pliant.data.split import Split, check_subjects, split_by_subject
from pliant.errors import UserError
from pliant.runtime.crop import Preprocessing

PAD_CLASSES = ("attack", "bona_fide")
"""Names of the two logits of anti-spoofing."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """The samples that a run uses, and what has to be said of them."""

    task: str
    """`pad` or `classify`."""
    train: list[Sample]
    """Gradients and batch-norm statistics come from these."""
    dev: list[Sample]
    """The best epoch and the thresholds come from these."""
    classes: tuple[str, ...]
    """Names of the logits, in order."""
    skipped: list[dict[str, str]]
    """`path` and `reason` of what could not be used."""
    record: dict[str, Any]
    """For settings.json."""
    modalities: tuple[str, ...] = ()
    """What a PipeNet sees; (): the network sees colour alone."""

    @property
    def num_classes(self) -> int | None:
        """None for anti-spoofing, which is judged by AUC and not by accuracy."""
        return None if self.task == "pad" else len(self.classes)

    @property
    def channels(self) -> int:
        """Of a crop."""
        return 3 * max(1, len(self.modalities))

    def crops(
        self,
        samples: Sequence[Sample],
        preprocessing: Preprocessing,
        *,
        size: int | None = None,
        scale: float | None = None,
    ) -> CropDataset:
        """Crops as the network wants them, or of another `size` and `scale`."""
        how: dict[str, Any] = {
            "size": size or preprocessing.size,
            "crop_scale": scale or preprocessing.crop_scale,
            "border": preprocessing.border,
            "classes": None if self.task == "pad" else self.classes,
        }
        if self.modalities:
            return ModalCrops(samples, modalities=self.modalities, **how)
        return CropDataset(samples, **how)

    def dev_crops(
        self, preprocessing: Preprocessing, augment: Augment | None, seed: int
    ) -> DevCrops:
        """The dev crops, with simulated captures where attacks are simulated for training too."""
        wide = None
        if self.task == "pad" and augment is not None and augment.simulate:
            size = augment.canvas_px(preprocessing.size)
            scale = augment.canvas_scale(preprocessing.crop_scale, preprocessing.size)
            wide = self.crops(self.dev, preprocessing, size=size, scale=scale)
        plain = self.crops(self.dev, preprocessing)
        return DevCrops(plain, wide, settings=augment or Augment(), seed=seed)


def prepare(
    data: Path,
    task: str,
    *,
    detector: Path | None,
    dev_share: float,
    seed: int,
    simulate: Sequence[str] = (),
    crop_scale: float = 1.5,
) -> Prepared:
    """Reads the data, checks every image of train and dev, splits off dev where there is none.

    Args:
        data: A manifest CSV, or a folder.
        task: `pad` or `classify`.
        detector: A YuNet ONNX file for photos without face boxes; None: OpenCV's cascade.
        dev_share: Share of the subjects that becomes dev where the data names no dev.
        seed: Of that split.
        simulate: Attacks that training will simulate; with any, live photos alone are enough.
        crop_scale: The network's; see `open_source`.

    Raises:
        UserError: if the data is missing, empty or leaks subjects, has one class or no dev side, or
            too many images are unreadable.
    """
    source = open_source(data, task, detector=detector, crop_scale=crop_scale)
    check_subjects(source.samples)
    used = [sample for sample in source.samples if sample.split != "test"]
    if not used:
        raise UserError(
            f"all {len(source.samples)} samples of {data} are marked test, which training never "
            "looks at; mark some train or dev, or leave the split out"
        )
    kept, skipped = load_or_skip(used)
    split = split_by_subject(kept, seed=seed, dev_share=dev_share, live_only=bool(simulate))
    if not split.dev:
        raise UserError(f"{data} has no dev split; mark dev samples, or give --dev-share above 0")
    classes = PAD_CLASSES if task == "pad" else _class_names(split)
    notes = [*source.notes, *split.notes]
    if task == "pad" and all(sample.bona_fide for sample in kept):
        notes.append(
            f"the data holds no attacks: those of training and dev are simulated "
            f"({', '.join(simulate)}), so nothing is known of real ones"
        )
    all_skipped = [*source.skipped, *skipped]
    if all_skipped:
        notes.append(f"{len(all_skipped)} images could not be used; skipped.csv lists them")
    say(f"data: {source.name}, {len(split.train)} images to train on, {len(split.dev)} for dev")
    say(*notes)
    return Prepared(
        task=task,
        train=split.train,
        dev=split.dev,
        classes=classes,
        skipped=[{"path": str(skip.path), "reason": skip.reason} for skip in all_skipped],
        record={
            "name": source.name,
            "sha256": source.sha256,
            "synthetic": is_synthetic(source.samples),
            "num_train": len(split.train),
            "num_dev": len(split.dev),
            "num_test": len(source.samples) - len(used),
            "train_subjects": sorted({s.subject for s in split.train if s.subject}),
            "dev_subjects": sorted({s.subject for s in split.dev if s.subject}),
            "split": {"seed": seed, "dev_share": dev_share, "live_only": bool(simulate)},
            "notes": notes,
        },
    )


def split_as_trained(samples: Sequence[Sample], trained: Mapping[str, Any]) -> Split:
    """The training's own train and dev samples, of the same data once more.

    Args:
        samples: Of the data of the training.
        trained: The `data` block of the run's settings.json.
    """
    kept = [sample for sample in samples if sample.split != "test"]
    if names := set(trained["dev_subjects"]):
        dev = [sample for sample in kept if sample.subject in names]
        train = [sample for sample in kept if sample.subject not in names]
        return Split(train=train, dev=dev, test=[], notes=[])
    how = trained["split"]
    return split_by_subject(
        load_or_skip(kept)[0],
        seed=how["seed"],
        dev_share=how["dev_share"],
        live_only=how["live_only"],
    )


def is_synthetic(samples: Sequence[Sample]) -> bool:
    """Whether any sample comes from the rig: its manifests name it as the device."""
    return any("synthetic" in (sample.device or "") for sample in samples)


def _class_names(split: Split) -> tuple[str, ...]:
    names = {str(sample.label) for sample in split.train}
    strange = sorted({str(sample.label) for sample in split.dev} - names)
    if strange:
        raise UserError(f'class "{strange[0]}" occurs in dev but not in the training data')
    return tuple(sorted(names))


def say(*sentences: str) -> None:
    """One line each, on stderr, from the first process of a distributed run alone."""
    from pliant.train.fit import is_first_process

    if is_first_process():
        print(*sentences, sep="\n", end="\n" if sentences else "", file=sys.stderr)
