"""What holds for every offline method: settings, the task, the untouched teacher, refusals."""

import copy
import dataclasses
import json
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from torch import nn

import pliant.distill
from pliant.adaptive.network import pta_mobilenet_v2
from pliant.distill.families import OFFLINE
from pliant.distill.kd import KD
from pliant.distill.offline import OfflineTask, evaluating
from pliant.errors import UserError
from pliant.runtime.crop import Preprocessing
from pliant.train.module import TrainModule
from pliant.train.settings import TrainSettings

TAPS = {
    "fitnets": (("stage2.0",), ("stage2",)),
    "attention_transfer": (("stage1", "stage2"), ("stage1", "stage2")),
    "fsp": (("stage1", "stage2"), ("stage1", "stage2")),
    "rkd": (("stage2",), ("stage2",)),
    "similarity": (("stage2",), ("stage2",)),
    "cross_triplet": (("stage2",), ("stage2",)),
}
EQUAL_CHANNELS = {"fsp"}


class Net(nn.Module):
    def __init__(self, width: int, classes: int = 3) -> None:
        super().__init__()
        self.stage1 = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(inplace=True)
        )
        self.stage2 = nn.Sequential(
            nn.Conv2d(width, width, 3, stride=2, padding=1), nn.BatchNorm2d(width), nn.Tanh()
        )
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Linear(width, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.dropout(self.stage2(self.stage1(x)).mean((2, 3))))


def networks(name: str, classes: int = 3) -> tuple[Net, Net]:
    torch.manual_seed(0)
    teacher = Net(6, classes)
    return Net(6 if name in EQUAL_CHANNELS else 4), teacher


def settings(name: str, **given: object):
    student_taps, teacher_taps = TAPS.get(name, ((), ()))
    if student_taps:
        given = {"student_taps": student_taps, "teacher_taps": teacher_taps, **given}
    return OFFLINE[name](**given)


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    return torch.randn(8, 3, 6, 6, generator=generator), torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])


def state(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def same_state(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def modes(model: nn.Module) -> list[bool]:
    return [module.training for module in model.modules()]


def test_names_are_those_of_the_files():
    files = {p.stem for p in Path(pliant.distill.__file__).parent.glob("*.py")}
    assert set(OFFLINE) <= files
    assert {method.__module__.split(".")[-1] for method in OFFLINE.values()} == set(OFFLINE)
    assert pliant.distill.OFFLINE is OFFLINE
    assert pliant.distill.OfflineTask is OfflineTask


@pytest.mark.parametrize("name", OFFLINE)
def test_settings_survive_json(name):
    made = settings(name)
    again = OFFLINE[name](**json.loads(json.dumps(dataclasses.asdict(made))))
    assert again == made
    OFFLINE[name]()  # all have defaults
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.weight = 2


@pytest.mark.parametrize("name", OFFLINE)
def test_a_step_teaches_the_student_and_leaves_the_teacher(name, batch):
    images, targets = batch
    student, teacher = networks(name)
    teacher.stage2.eval()  # a mixture of modes, to be found again
    before, mode, keys = state(teacher), modes(teacher), list(student.state_dict())
    student_before, student_mode = state(student), modes(student)
    task = settings(name).build(student, teacher, images)
    assert same_state(state(student), student_before), "building trains nothing"
    assert modes(student) == student_mode

    losses = task(images, targets, 0)
    losses["loss"].backward()
    assert all(torch.isfinite(value) and value.ndim == 0 for value in losses.values())
    assert set(losses) > {"loss", "ce"}
    assert same_state(state(teacher), before)
    assert modes(teacher) == mode
    assert all(p.grad is None and p.requires_grad for p in teacher.parameters())
    assert not [m for net in (student, teacher) for m in net.modules() if m._forward_hooks]

    assert list(student.state_dict()) == keys
    assert all(p.grad is not None for p in task.parameters()), "some parameters get no gradient"
    assert task.model is task.student is student
    assert task.teacher is teacher
    mine = {id(p) for p in task.parameters()}
    assert not mine & {id(p) for p in teacher.parameters()}
    assert not [k for k in task.state_dict() if "teacher" in k]
    assert task.configurations(0) == []


@pytest.mark.parametrize("name", OFFLINE)
def test_the_loss_goes_down(name, batch):
    images, targets = batch
    student, teacher = networks(name)
    student.dropout.p = 0.0
    fixed = {"mining": "all"} if name == "cross_triplet" else {}  # mined sets change as it learns
    task = settings(name, **fixed).build(student, teacher, images)
    optimiser = torch.optim.Adam(task.parameters(), lr=3e-3)
    values = []
    for _ in range(25):
        optimiser.zero_grad()
        loss = task(images, targets, 0)["loss"]
        loss.backward()
        optimiser.step()
        values.append(float(loss.detach()))
    assert sum(values[-3:]) < 0.95 * sum(values[:3])


@pytest.mark.parametrize("name", OFFLINE)
def test_same_seed_same_bits_and_no_seed_changed(name, batch):
    images, targets = batch
    results = []
    for _ in range(2):
        student, teacher = networks(name)
        task = settings(name).build(student, teacher, images).eval()
        seed = torch.get_rng_state()
        results.append(task(images, targets, 5))
        assert torch.equal(torch.get_rng_state(), seed)
    assert results[0].keys() == results[1].keys()
    assert all(torch.equal(results[0][k], results[1][k]) for k in results[0])


@pytest.mark.parametrize("name", OFFLINE)
def test_other_numbers(name, batch):
    images, targets = batch
    student, teacher = networks(name)
    task = settings(name).build(student, teacher, images).double()
    assert next(teacher.parameters()).dtype == torch.float64, "the teacher comes along"
    assert task(images.double(), targets, 0)["loss"].dtype == torch.float64
    task.float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = task(images, targets, 0)
    losses["loss"].backward()
    assert losses["loss"].isfinite()


@pytest.mark.parametrize("name", OFFLINE)
def test_state_round_trip_and_copies(name, batch):
    images, targets = batch
    task = settings(name).build(*networks(name), images).eval()
    other = settings(name).build(*networks(name), images).eval()
    for parameter in other.parameters():
        nn.init.zeros_(parameter)
    other.load_state_dict(task.state_dict())
    assert torch.equal(other(images, targets, 0)["loss"], task(images, targets, 0)["loss"])
    twin = copy.deepcopy(task)
    assert torch.equal(twin(images, targets, 0)["loss"], task(images, targets, 0)["loss"])


@pytest.mark.parametrize("name", OFFLINE)
def test_other_classes_are_refused(name, batch):
    student, teacher = networks(name, classes=5)
    with pytest.raises(UserError, match="the student Net has 3, the teacher Net 5"):
        settings(name).build(student, teacher, batch[0])


@pytest.mark.parametrize("name", OFFLINE)
def test_a_broken_teacher_is_refused(name, batch):
    images, targets = batch
    student, teacher = networks(name)
    task = settings(name).build(student, teacher, images)
    teacher.head.bias.data[1] = float("nan")
    with pytest.raises(UserError, match="teacher Net puts out NaN or infinity in its logits"):
        settings(name).build(student, teacher, images)
    with pytest.raises(UserError, match="NaN"):
        task(images, targets, 1)


@pytest.mark.parametrize("name", OFFLINE)
def test_one_network_twice_is_refused(name, batch):
    student, _ = networks(name)
    with pytest.raises(UserError, match="the same network"):
        settings(name).build(student, student, batch[0])


@pytest.mark.parametrize("name", TAPS)
@pytest.mark.parametrize("side", ["student_taps", "teacher_taps"])
def test_a_wrong_tap_is_refused_with_the_nearest(name, side, batch):
    count = len(TAPS[name][0])
    wrong = settings(name, **{side: ("stag2",) * count})
    with pytest.raises(UserError, match='no module "stag2" to tap; did you mean "stage'):
        wrong.build(*networks(name), batch[0])


@pytest.mark.parametrize("name", TAPS)
def test_taps_come_in_pairs(name):
    with pytest.raises(UserError, match="pairs the student's taps with the teacher's, got 2 and 1"):
        OFFLINE[name](student_taps=("a", "b"), teacher_taps=("a",))


@pytest.mark.parametrize("name", ["fitnets", "attention_transfer", "fsp", "similarity"])
def test_no_taps_is_refused(name, batch):
    with pytest.raises(UserError, match="needs at least"):
        OFFLINE[name]().build(*networks(name), batch[0])


@pytest.mark.parametrize("name", ["rkd", "cross_triplet"])
def test_without_taps_the_logits_are_the_embedding(name, batch):
    images, targets = batch
    losses = OFFLINE[name]().build(*networks(name), images)(images, targets, 0)
    assert losses["loss"].isfinite()
    with pytest.raises(UserError, match="takes one embedding of each"):
        OFFLINE[name](student_taps=("a", "b"), teacher_taps=("a", "b"))


class Hidden(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.nan_to_num()


def test_a_nan_at_a_tap_is_refused(batch):
    student, teacher = networks("similarity")
    teacher.stage2.append(nn.BatchNorm2d(6)).append(Hidden())
    teacher.stage2[3].running_mean[0] = float("nan")
    task = settings("similarity", teacher_taps=("stage2.3",))
    with pytest.raises(UserError, match=r"NaN or infinity in stage2\.3"):
        task.build(student, teacher, batch[0])


class Two(nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x, x


@pytest.mark.parametrize(
    ("network", "got"),
    [
        (Two(), "tuple"),
        (nn.Flatten(0), r"\(864,\)"),
        (nn.Sequential(nn.Flatten(), nn.Linear(108, 1)), r"\(8, 1\)"),
    ],
)
def test_what_is_no_classifier_is_refused(network, got, batch):
    student, _ = networks("kd")
    with pytest.raises(UserError, match=f"must return logits of shape.*got {got}"):
        KD().build(student, network, batch[0])
    with pytest.raises(UserError, match=f"must return logits of shape.*got {got}"):
        KD().build(network, student, batch[0])


def test_an_adaptive_network_may_be_student_and_teacher():
    torch.manual_seed(0)
    student, teacher = (pta_mobilenet_v2(width=0.35, num_classes=2) for _ in range(2))
    images, targets = torch.randn(2, 3, 32, 32), torch.tensor([0, 1])
    task = KD().build(student, teacher, images)
    assert task.configurations(0) == [student.configuration]
    assert task(images, targets, 0)["loss"].isfinite()


@pytest.mark.filterwarnings("ignore")  # Lightning says what is of no concern here
def test_lightning_trains_the_student_alone():
    torch.manual_seed(0)
    student, teacher = (pta_mobilenet_v2(width=0.35, num_classes=2) for _ in range(2))
    before, own_before = state(teacher), state(student)
    taps = {"student_taps": ("net.features.18",), "teacher_taps": ("net.features.18",)}
    task = OFFLINE["fitnets"](**taps).build(student, teacher, torch.randn(2, 3, 32, 32))
    module = TrainModule(
        task, TrainSettings(epochs=1, batch_size=2), preprocessing=Preprocessing(), tiers={}
    )
    images = torch.randint(256, (2, 3, 32, 32), dtype=torch.uint8)
    samples = [{"image": image, "target": target} for target, image in enumerate(images)]
    trainer = pl.Trainer(
        max_steps=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, torch.utils.data.DataLoader(samples, batch_size=2))
    assert same_state(state(teacher), before)
    assert not same_state(state(student), own_before)
    assert list(student.state_dict()) == list(own_before)
    assert not [k for k in module.state_dict() if "teacher" in k]


def test_modes_come_back_after_an_error():
    net = nn.Sequential(nn.Dropout(), nn.BatchNorm2d(2).eval())
    with evaluating(net):
        assert modes(net) == [False, False, False]
    assert modes(net) == [True, True, False]
    with pytest.raises(ValueError, match="not enough"), evaluating(net):
        raise ValueError("not enough")
    assert modes(net) == [True, True, False]
