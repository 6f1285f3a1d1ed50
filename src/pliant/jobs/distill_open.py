"""Opens what `pliant distill` left of several networks: every predictor, fused or gated ones too.

predictors = open_predictors(Path("runs/pair"))
predictors(images)["fused"]   # logits, (B, K)
"""

from pathlib import Path
from typing import cast

import torch

from pliant.distill.online import ONLINE, OnlineTask
from pliant.distill.peers import Configurations
from pliant.errors import UserError
from pliant.jobs.distill_plan import Plan
from pliant.jobs.distill_publish import OWN, STUDENTS
from pliant.jobs.distill_task import peers_of
from pliant.models.checkpoint import check_keys, check_values, read_state
from pliant.train.run_folder import RunFolder


def open_predictors(run: Path) -> OnlineTask:
    """The task of a finished online run, in eval mode; its `predictors` answers images by name.

    Args:
        run: What `pliant distill` left.

    Raises:
        UserError: if it is no finished run of an online method.
    """
    opened = RunFolder.open(run)
    record = opened.settings.get("distill")
    if record is None or record["method"] not in ONLINE:
        raise UserError(f"{run} was not made by an online method of pliant distill")
    settings = ONLINE[record["method"]](**record["settings"])
    plan = Plan(
        method=record["method"],
        settings=settings,
        students=tuple(record["students"]),
        peers=tuple(record["peers"]),
        share_upto=record["share_upto"],
        taps=tuple(record["taps"]),
    )
    places = [run / STUDENTS / label for label in plan.labels]
    alone = not places[0].exists()
    students = [opened.model] if alone else [RunFolder.open(place).model for place in places]
    with torch.random.fork_rng():
        peers = peers_of(plan, students, torch.zeros(2, *opened.input_shape[1:]))
        task = settings.build(peers, total_steps=1)
    if isinstance(peers, Configurations):
        peers.selected = tuple(
            name.partition("=")[0] for name in plan.peers
        )  # with the statistics of the tiers
    own = read_state(run / OWN) if (run / OWN).exists() else {}
    wanted = {name: t for name, t in task.state_dict().items() if not name.startswith("peers.")}
    check_keys(own, wanted, source=str(run / OWN))
    check_values(own, wanted, source=str(run / OWN))
    with torch.no_grad():
        for name, tensor in own.items():
            wanted[name].copy_(tensor)  # in place: the networks' own weights are not touched
    return cast(OnlineTask, task.eval())
