"""`pliant distill --method ffl --students resnet20,mobilenet_v2 --data PATH --out RUN`.

Networks that teach each other, configurations of one adaptive network that do, or a student of a
trained run: one training on the data, the steps and the run folder of `pliant train`.
"""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import arg

from pliant.data.augment import Augment
from pliant.jobs.distill_methods import Methods, scheduled
from pliant.jobs.train import report_on_dev
from pliant.jobs.train import summary as summary_of_tiers
from pliant.runtime.crop import Preprocessing
from pliant.runtime.files import sha256_file
from pliant.train.settings import Machine, NetworkSettings, TrainSettings

if TYPE_CHECKING:
    from pliant.jobs.distill_plan import Plan
    from pliant.jobs.samples import Prepared
    from pliant.train.run_folder import Run


def distill(
    data: Path,
    out: Path,
    *,
    method: str,
    students: tuple[str, ...],
    peers: tuple[str, ...] = (),
    share_upto: str | None = None,
    taps: tuple[str, ...] = (),
    teacher: Path | None = None,
    teacher_tier: str | None = None,
    keep: str = "best",
    task: Literal["pad", "classify"] = "pad",
    init: Path | None = None,
    resume: bool = False,
    policy: str = "min_acer",
    dev_share: float = 0.25,
    detector: Path | None = None,
    settings: Annotated[TrainSettings, arg(name="")] = TrainSettings(),  # noqa: B008
    methods: Annotated[Methods, arg(name="")] = Methods(),  # noqa: B008
    preprocessing: Annotated[Preprocessing, arg(name="")] = Preprocessing(),  # noqa: B008
    network: Annotated[NetworkSettings, arg(name="")] = NetworkSettings(),  # noqa: B008
    augment: Augment = Augment(),  # noqa: B008
    machine: Annotated[Machine, arg(name="")] = Machine(),  # noqa: B008
) -> Path:
    """Train networks that teach each other, or a student of a trained run; a run folder comes back.

    Args:
        data: A manifest CSV, or a folder: live/ and spoof/<species>/, or class folders.
        out: The run folder, new.
        method: Without a teacher: dml, one, kdcl, okddip, oskd, ffl. Of a teacher: kd, adjusted_kd,
            fitnets, attention_transfer, fsp, rkd, similarity, bss, cross_triplet.
        students: Models by name, such as resnet20,mobilenet_v2; the same one may stand there twice.
        peers: Configurations of the one student pta_mobilenet_v2 that teach each other, such as
            low,high; they become the run's tiers.
        share_upto: Equal resnets share all up to this child, such as layer2.
        taps: Paths of the students' last feature maps for ffl and okddip; found where not given.
        teacher: A run folder, for the methods that have a teacher.
        teacher_tier: Which of its tiers teaches; None: the best on dev, of equals the costliest.
        keep: Which student becomes the run; best: by the dev split, of equals the cheapest.
        task: Anti-spoofing (`pad`), or any class folders (`classify`).
        init: Weights for MobileNetV2 students to start from (safetensors); None: random.
        resume: Go on with an unfinished run in `out`; at most one epoch is lost.
        policy: How each tier's threshold is fitted on dev: min_acer, eer, apcer<=x, bpcer<=x.
        dev_share: Share of the training subjects that becomes dev where the data names no dev.
        detector: A YuNet ONNX file for photos without face boxes; None: OpenCV's cascade.
        settings: The recipe.
        methods: The settings of the methods; those of another one than `method` are refused.
        preprocessing: The networks' input; a teacher's must be the same.
        network: The shape of MobileNetV2 students.
        augment: How training crops are varied.
        machine: Where to compute.

    Raises:
        UserError: if names are unknown, the parts do not fit together, a teacher knows other
            classes or puts out NaN, the data cannot be used, or `out` is taken.
        KeyboardInterrupt: on Ctrl-C; the run can be resumed.
    """
    from pliant.jobs.distill_plan import check_recipe, check_teacher, plan
    from pliant.jobs.samples import prepare
    from pliant.jobs.train import check_support_on_dev, check_words
    from pliant.train.fit import is_first_process
    from pliant.train.run_folder import RunFolder

    if not resume and is_first_process():
        RunFolder.check_free(out)
    made = plan(
        method, methods, students=students, peers=peers, share_upto=share_upto, taps=taps,
        keep=keep, teacher=teacher,
    )  # fmt: skip
    check_recipe(settings)
    check_words(made.students, init, policy, detector, settings, network, machine)
    taught = RunFolder.open(teacher) if teacher is not None else None
    if taught is not None:
        check_teacher(taught, task, preprocessing)
        teacher_tier = tier_of(taught, teacher_tier)
    prepared = prepare(
        data,
        task,
        detector=detector,
        dev_share=dev_share,
        seed=settings.seed,
        simulate=augment.simulate if settings.augmentation and task == "pad" else (),
        crop_scale=preprocessing.crop_scale,
    )
    check_support_on_dev(prepared, policy)
    distill_prepared(
        prepared, out, plan=made, teacher=taught, teacher_tier=teacher_tier, init=init,
        settings=settings, preprocessing=preprocessing, network=network, augment=augment,
        machine=machine, policy=policy, resume=resume,
    )  # fmt: skip
    report_on_dev(prepared, out, policy=policy)
    return out


def tier_of(run: "Run", wanted: str | None) -> str:
    """The tier that teaches.

    Raises:
        UserError: if the run has no such tier, with the nearest.
    """
    from pliant.train.network import known
    from pliant.train.run_folder import RunFolder

    if wanted is not None:
        known(wanted, run.tiers, f"tier of {run.path}")
        return wanted
    entries = RunFolder.stored_tiers(run.path)
    best = max(entries, key=lambda entry: (*(entry.get("dev") or {"": 0}).values(), entry["macs"]))
    return best["tier"]


def distill_prepared(
    prepared: "Prepared",
    out: Path,
    *,
    plan: "Plan",
    settings: TrainSettings,
    preprocessing: Preprocessing,
    network: NetworkSettings,
    augment: Augment,
    teacher: "Run | None" = None,
    teacher_tier: str | None = None,
    init: Path | None = None,
    machine: Machine = Machine(),  # noqa: B008
    policy: str = "min_acer",
    resume: bool = False,
) -> Path:
    """`distill` from samples that are read and split already; see there."""
    from torch import nn

    from pliant.jobs.distill_plan import check_teacher
    from pliant.jobs.distill_publish import Ending
    from pliant.jobs.distill_task import build_module, settings_record, total_steps
    from pliant.jobs.training import augment_of, batches_of, carry_out

    teaching: nn.Module | None = None
    teacher_record: dict[str, Any] | None = None
    if teacher is not None:
        check_teacher(teacher, prepared.task, preprocessing, prepared.classes)
        assert teacher_tier is not None
        teaching = teacher.model.extract(teacher_tier).eval()
        teacher_record = {
            "model": teacher.settings["model"],
            "tier": teacher_tier,
            "sha256": sha256_file(teacher.path / "model.safetensors"),
            "data": teacher.settings["data"].get("name"),
        }
        _say_overlap(teacher, prepared)
    if plan.peers:
        settings = replace(settings, tiers=plan.peers)
    augment = augment_of(augment, prepared.task)
    batches, varied = batches_of(prepared, settings, preprocessing, augment)
    steps = total_steps(batches, machine)
    plan = replace(plan, settings=scheduled(plan.settings, total_steps=steps))
    built = build_module(
        plan, prepared, batches, varied=varied, preprocessing=preprocessing, network=network,
        init=init, teacher=teaching, machine=machine,
    )  # fmt: skip
    record = {
        "task": prepared.task,
        "classes": list(prepared.classes),
        "model": plan.students[0],
        "network": built.network,
        "preprocessing": preprocessing.to_json(),
        "training": asdict(settings) | {"policy": policy},
        "augment": asdict(augment) if settings.augmentation else None,
        "data": prepared.record,
        "start": built.start,
        "distill": settings_record(plan, teacher_record, built),
    }
    end = Ending(
        plan=plan,
        module=built.module,
        batches=batches,
        prepared=prepared,
        preprocessing=preprocessing,
        policy=policy,
        record=record,
    )
    carry_out(
        built.module, batches, prepared, out, record,
        publish=end, settings=settings, machine=machine, resume=resume,
        settled=("model", "network", "start"),  # those of the student that is kept
    )  # fmt: skip
    return out


def _say_overlap(teacher: "Run", prepared: "Prepared") -> None:
    """Notes that the teacher was, or may have been, trained on images of dev."""
    from pliant.jobs.samples import say

    before, now = teacher.settings["data"], prepared.record
    both = sorted(set(before.get("train_subjects", [])) & set(now["dev_subjects"]))
    moved = before.get("sha256") == now["sha256"] and before.get("split") != now["split"]
    if both:
        what = f"{len(both)} subjects of dev ({', '.join(both[:5])}) have names of its subjects"
    elif moved and not now["dev_subjects"]:
        what = "its --seed or --dev-share was another one, so images of dev may be among its own"
    else:
        return
    note = f"warning: what the teacher was trained on: {what}; dev may flatter it and its student"
    say(note)
    now["notes"].append(note)


def summary(out: Path) -> list:
    """What every predictor says on dev, the tiers of the run, and what to do next."""
    from rich.table import Table

    result = json.loads((out / "distillation.json").read_text(encoding="utf-8"))
    table = Table("predictor", "network", "dev", title=f"{result['method']}, dev split")
    for predictor, quality in result["predictors"].items():
        ((measure, value),) = quality.items()
        name = result["names"].get(predictor, "")
        kept = " (kept)" if name and name == result["kept"] else ""
        table.add_row(predictor, name + kept, f"{measure} {value:.4f}")
    return [table, *summary_of_tiers(out)]
