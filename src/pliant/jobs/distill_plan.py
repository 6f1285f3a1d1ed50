"""What a distillation is told, refused where it makes no sense, before any image is read."""

import difflib
from collections import Counter
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pliant.distill.online import ONLINE
from pliant.errors import UserError
from pliant.jobs.distill_methods import LEAST, Methods
from pliant.runtime.crop import Preprocessing
from pliant.train.network import ADAPTIVE_BLOCKS, MODELS, known, named
from pliant.train.pipenet import PIPENET
from pliant.train.settings import TrainSettings

if TYPE_CHECKING:
    from pliant.train.run_folder import Run

ADAPTIVE = "pta_mobilenet_v2"
BEST = "best"
UNUSED = (
    *("sampler", "sample_weights", "distill_weight", "distill_temperature"),
    *("label_smoothing", "tiers"),
)
"""Settings of the recipe that a distillation has no use for."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Who teaches whom, by names."""

    method: str
    """Its name."""
    settings: Any
    """Its settings."""
    students: tuple[str, ...]
    """Models, by name."""
    peers: tuple[str, ...] = ()
    """Configurations of the one adaptive student; (): networks teach each other."""
    share_upto: str | None = None
    """Last child that equal students share."""
    taps: tuple[str, ...] = ()
    """Paths of the students' last feature maps; (): found."""
    keep: str = BEST
    """Which student becomes the run."""

    @property
    def online(self) -> bool:
        """Whether there is no teacher."""
        return self.method in ONLINE

    @property
    def num_networks(self) -> int:
        """How many are trained in every step."""
        return len(self.peers or self.students)

    @property
    def labels(self) -> tuple[str, ...]:
        """What the students are called: their models' names, numbered where two are equal."""
        counts, seen = Counter(self.students), Counter[str]()
        found = []
        for name in self.students:
            seen[name] += 1
            found.append(f"{name}-{seen[name]}" if counts[name] > 1 else name)
        return tuple(found)


def plan(
    method: str,
    methods: Methods,
    *,
    students: tuple[str, ...],
    peers: tuple[str, ...],
    share_upto: str | None,
    taps: tuple[str, ...],
    keep: str,
    teacher: Path | None,
) -> Plan:
    """The plan.

    Raises:
        UserError: if a name is unknown, or the parts do not fit together.
    """
    made = Plan(
        method=method,
        settings=methods.of(method),
        students=_words(students),
        peers=_words(peers),
        share_upto=share_upto,
        taps=_words(taps),
        keep=keep,
    )
    for name in made.students:
        known(name, MODELS, "student")
        if name == PIPENET:
            raise UserError("a PipeNet is no student here; train it with pliant train")
    if made.online:
        _check_online(made, teacher)
    else:
        _check_offline(made, teacher)
    if keep != BEST and (made.peers or keep not in made.labels):
        near = difflib.get_close_matches(keep, made.labels, n=1)
        hint = f'; did you mean "{near[0]}"?' if near else ";"
        allowed = ", ".join([BEST] if made.peers else [BEST, *made.labels])
        raise UserError(f'unknown student to --keep "{keep}"{hint} ({allowed})')
    return made


def _words(given: tuple[str, ...]) -> tuple[str, ...]:
    """`a,b c` is three words."""
    return tuple(w.strip() for entry in given for w in entry.split(",") if w.strip())


def _check_online(plan: Plan, teacher: Path | None) -> None:
    method = plan.method
    if teacher is not None:
        raise UserError(f"{method} has no teacher; leave --teacher out, or give --method kd")
    if plan.peers:
        if plan.students != (ADAPTIVE,):
            raise UserError(
                f"--peers are configurations of one network: give --students {ADAPTIVE}"
            )
        named(plan.peers, ADAPTIVE_BLOCKS)
        if plan.share_upto:
            raise UserError("the --peers of one network share all they can; leave --share-upto out")
    elif ADAPTIVE in plan.students:
        raise UserError(
            f"{ADAPTIVE} holds many configurations: give it alone, with --peers low,high"
        )
    least = LEAST.get(method, 2)
    if plan.num_networks < least or (method == "oskd" and plan.num_networks > 1):
        wanted = "one student" if method == "oskd" else f"{least} students or more"
        raise UserError(f"{method} needs {wanted}, got {plan.num_networks}")
    if method == "one" and not plan.share_upto:
        raise UserError("one needs branches on a shared trunk; give --share-upto layer2")
    if plan.share_upto and (
        len(set(plan.students)) > 1 or not plan.students[0].startswith("resnet")
    ):
        raise UserError(
            f"--share-upto needs students of one resnet, such as resnet20,resnet20; got "
            f"{','.join(plan.students)}"
        )
    if plan.taps and (plan.share_upto or len(plan.taps) not in (1, plan.num_networks)):
        raise UserError(
            "--taps are one path for each student, or one for all, and none with --share-upto"
        )
    if len(set(plan.taps)) > 1 and plan.peers:
        raise UserError("the --peers of one network have one tap")


def _check_offline(plan: Plan, teacher: Path | None) -> None:
    method = plan.method
    if len(plan.students) != 1:
        raise UserError(f"{method} teaches one student, got {len(plan.students)}")
    if teacher is None:
        raise UserError(f"{method} needs a teacher; give --teacher RUN")
    if plan.students == (ADAPTIVE,):
        raise UserError(
            f"{method} teaches a network of one configuration, such as mobilenet_v2; for "
            f"{ADAPTIVE} take an online method with --peers low,high"
        )
    for flag, given in (("peers", plan.peers), ("share-upto", plan.share_upto)):
        if given:
            raise UserError(
                f"--{flag} is of the online methods ({', '.join(ONLINE)}); leave it out"
            )
    if plan.taps:
        flag = method.replace("_", "-")
        raise UserError(f"leave --taps out; {method} has --{flag}.student-taps where it needs any")


def check_recipe(settings: TrainSettings) -> None:
    """Refuses settings of `pliant train` that would do nothing.

    Raises:
        UserError: naming them.
    """
    usual = TrainSettings()
    for name in UNUSED:
        if getattr(settings, name) != getattr(usual, name):
            flag = name.replace("_", "-")
            instead = "--peers" if name == "tiers" else "the method's own settings"
            raise UserError(f"--{flag} is of no use here; leave it out and take {instead}")


def check_teacher(
    run: "Run", task: str, preprocessing: Preprocessing, classes: tuple[str, ...] | None = None
) -> None:
    """Refuses a teacher that does not see or say what the student is to.

    Args:
        run: The opened teacher.
        task: `pad` or `classify`.
        preprocessing: The student's input.
        classes: The student's; None: not known yet.

    Raises:
        UserError: naming what differs.
    """
    if run.task != task:
        raise UserError(f"the teacher {run.path} was trained for {run.task}, not for {task}")
    different = [
        f"{f.name}: {getattr(run.preprocessing, f.name)} and {getattr(preprocessing, f.name)}"
        for f in fields(Preprocessing)
        if getattr(run.preprocessing, f.name) != getattr(preprocessing, f.name)
    ]
    if different:
        raise UserError(
            f"teacher and student must see the same input, but differ in {'; '.join(different)}; "
            "give the flags that the teacher was trained with"
        )
    if classes is not None and run.classes != classes:
        raise UserError(
            f"teacher and student must know the same classes; the teacher {run.path} knows "
            f"{', '.join(run.classes)}, the data has {', '.join(classes)}"
        )
