"""`pliant distill` from files to a finished run: online, over one network, of a teacher."""

import json
import shutil
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from pliant.adaptive.network import AdaptiveNetwork
from pliant.data.augment import Augment
from pliant.data.crops import CropDataset
from pliant.data.source import open_source
from pliant.distill.families import OFFLINE
from pliant.distill.ffl import FFL
from pliant.distill.fitnets import FitNets
from pliant.distill.online import ONLINE
from pliant.errors import UserError
from pliant.jobs.distill import distill, summary
from pliant.jobs.distill_methods import Methods, inside, scheduled
from pliant.jobs.distill_open import open_predictors
from pliant.jobs.evaluate import evaluate
from pliant.jobs.samples import split_as_trained
from pliant.jobs.train import train
from pliant.runtime.crop import Preprocessing
from pliant.runtime.files import sha256_file
from pliant.train.module import TrainModule
from pliant.train.run_folder import RunFolder
from pliant.train.settings import Machine, NetworkSettings, TrainSettings

RECIPE = TrainSettings(epochs=2, batch_size=8, lr=0.05, calibration_images=16)
SMALL = {
    "task": "classify",
    "settings": RECIPE,
    "preprocessing": Preprocessing(size=16),
    "machine": Machine(accelerator="cpu"),
}
FFL_OF_TWO = {
    "method": "ffl",
    "students": ("resnet20,mobilenet_v2",),
    "taps": ("layer3,features.17",),  # the last map of a MobileNetV2 makes a large fusion module
    **SMALL,
}
NARROW = NetworkSettings(width=0.1)


def _photo(path: Path, light: float, random: np.random.Generator) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = random.normal(light, 25, (40, 40, 3)).clip(0, 255).astype(np.uint8)
    assert cv2.imwrite(str(path), image)


def _json(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Class folders: twelve bright and twelve dark photos."""
    root = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(0)
    for name, light in (("day", 170), ("night", 60)):
        for k in range(12):
            _photo(root / name / f"{k}.png", light, random)
    return root


@pytest.fixture(scope="module")
def faces(tmp_path_factory) -> Path:
    """Live and spoofed photos of four subjects, two of them dev, with boxes."""
    root = tmp_path_factory.mktemp("faces")
    random = np.random.default_rng(0)
    lines = ["path,subject,bona_fide,pai_species,split,box_x,box_y,box_w,box_h"]
    for number in range(4):
        for k in range(8):
            live = k < 4
            name = f"s{number}/{k}.png"
            _photo(root / name, 150 if live else 90, random)
            split, species = ("train", "train", "dev", "dev")[number], "" if live else "print"
            lines.append(f"{name},s{number},{str(live).lower()},{species},{split},6,6,28,28")
    (root / "manifest.csv").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture(scope="module")
def ffl(photos, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("ffl") / "run"
    assert distill(photos, out, network=NARROW, **FFL_OF_TWO) == out
    return out


@pytest.fixture(scope="module")
def teacher(photos, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("teacher") / "run"
    return train(photos, out, model="resnet20", **SMALL)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "run"


def test_two_networks_leave_a_run_and_a_run_each(ffl, photos, tmp_path):
    result = _json(ffl / "distillation.json")
    assert set(result["students"]) == {"resnet20", "mobilenet_v2"}
    assert set(result["predictors"]) == {"network_1", "network_2", "ensemble", "fused"}
    kept = result["students"][result["kept"]]
    assert kept["dev"]["accuracy"] == max(s["dev"]["accuracy"] for s in result["students"].values())
    assert result["images"] == 2 * 16
    assert result["gradient_evaluations"] == 2 * result["images"]
    for path, name in (
        (ffl, kept["model"]),
        (ffl / "students" / "resnet20", "resnet20"),
        (ffl / "students" / "mobilenet_v2", "mobilenet_v2"),
    ):
        run = RunFolder.open(path)
        assert run.settings["model"] == name
        assert run.classes == ("day", "night")
        assert list(run.tiers) == ["plain"]
    assert (ffl / "report.html").exists()
    assert not (ffl / "checkpoints").exists()
    judged = evaluate(ffl, photos, tmp_path / "judged", runs=1)
    assert judged["data"]["role"] == "dev"


def test_the_record_of_an_online_run(ffl):
    record = _json(ffl / "settings.json")["distill"]
    assert record["method"] == "ffl"
    assert record["settings"]["fusion_decay"] == 0.1
    assert record["students"] == ["resnet20", "mobilenet_v2"]
    assert record["networks_per_step"] == 2
    tiers = [_json(ffl / "students" / n / "tiers.json")["tiers"][0] for n in record["students"]]
    own = load_file(ffl / "method.safetensors")
    assert {name.split(".")[0] for name in own} == {"fusion"}
    assert record["forward_macs_per_image"] > sum(tier["macs"] for tier in tiers)
    rows = (ffl / "metrics.csv").read_text().splitlines()
    assert "dev_accuracy_fused" in rows[0]
    assert int(rows[1].split(",")[7]) == 8 * record["forward_macs_per_image"]


def test_a_student_is_what_the_predictor_was(ffl):
    """The dev accuracy of network_1 in training is that of the run folder's network."""
    result = _json(ffl / "distillation.json")
    for student in result["students"].values():
        assert student["dev"] == result["predictors"][student["predictor"]]


def test_the_fused_classifier_opens_again(ffl, photos):
    task = open_predictors(ffl)
    dev = _json(ffl / "settings.json")["data"]["num_dev"]
    source = open_source(photos, "classify", progress=False)
    judged = split_as_trained(source.samples, _json(ffl / "settings.json")["data"]).dev
    assert len(judged) == dev
    crops = CropDataset(judged, size=16, crop_scale=1.5, classes=("day", "night"))
    images = torch.stack([item["image"] for item in crops]).float() / 127.5 - 1
    targets = torch.tensor(crops.targets)
    with torch.inference_mode():
        found = task.predictors(images)
    stored = _json(ffl / "distillation.json")["predictors"]
    for name, logits in found.items():
        right = (logits.argmax(1) == targets).double().mean().item()
        assert right == pytest.approx(stored[name]["accuracy"]), name


def test_the_summary_names_the_predictors(ffl, capsys):
    from rich.console import Console

    for part in summary(ffl):
        Console(width=100).print(part)
    said = capsys.readouterr().out
    assert all(w in said for w in ("network_1", "ensemble", "fused", "resnet20", "(kept)"))


def test_a_killed_run_goes_on_to_the_same_result(ffl, photos, out, monkeypatch):
    step = TrainModule.training_step

    def killed_in_epoch_2(self, batch, batch_idx):
        if self.current_epoch == 1:
            raise KeyboardInterrupt
        return step(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(TrainModule, "training_step", killed_in_epoch_2)
        with pytest.raises(KeyboardInterrupt, match="after epoch 1 of 2"):
            distill(photos, out, network=NARROW, **FFL_OF_TWO)
    with pytest.raises(UserError, match="unfinished run"):
        distill(photos, out, network=NARROW, **FFL_OF_TWO)
    other = Methods(ffl=FFL(temperature=2.0))
    with pytest.raises(UserError, match=r"distill.settings.temperature: 3.0 -> 2"):
        distill(photos, out, network=NARROW, resume=True, methods=other, **FFL_OF_TWO)
    distill(photos, out, network=NARROW, resume=True, **FFL_OF_TWO)
    same = ("model.safetensors", "method.safetensors", "distillation.json", "settings.json")
    for name in (*same, "students/resnet20/model.safetensors"):
        assert (out / name).read_bytes() == (ffl / name).read_bytes(), name


def test_an_ending_that_was_cut_off_can_be_resumed(photos, out, monkeypatch):
    how = {**SMALL, "settings": replace(RECIPE, epochs=1)}
    how |= {"method": "dml", "students": ("resnet20", "resnet20")}
    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "finish", _full_at(RunFolder.finish, out))
        with pytest.raises(OSError, match="No space left"):
            distill(photos, out, **how)
    assert _json(out / "state.json")["status"] == "failed"
    distill(photos, out, resume=True, **how)
    assert not (out / "method.safetensors").exists()  # DML learns nothing besides
    RunFolder.open(out)


def _full_at(finish: Callable, out: Path) -> Callable:
    def full(self: RunFolder) -> None:
        if self.path == out:
            raise OSError(28, "No space left on device")
        finish(self)

    return full


def test_equal_students_on_a_trunk(photos, out):
    how = {**SMALL, "settings": replace(RECIPE, epochs=1)}
    distill(photos, out, method="one", students=("resnet20,resnet20",), share_upto="layer2",
            keep="resnet20-2", **how)  # fmt: skip
    result = _json(out / "distillation.json")
    assert result["kept"] == "resnet20-2"
    assert set(result["predictors"]) == {"network_1", "network_2", "ensemble", "gated"}
    one, two = (load_file(out / f"students/resnet20-{k}/model.safetensors") for k in (1, 2))
    assert torch.equal(one["net.layer1.0.conv1.weight"], two["net.layer1.0.conv1.weight"])
    assert not torch.equal(one["net.layer3.0.conv1.weight"], two["net.layer3.0.conv1.weight"])
    kept = load_file(out / "model.safetensors")
    assert all(torch.equal(kept[name], two[name]) for name in kept)


def test_configurations_of_one_network(faces, out):
    distill(
        faces, out, method="ffl", students=("pta_mobilenet_v2",), peers=("low,high",),
        settings=replace(RECIPE, epochs=1), preprocessing=Preprocessing(size=32), network=NARROW,
        taps=("features.17",), augment=Augment(simulate=(), recompress=0.0),
        machine=SMALL["machine"],
    )  # fmt: skip
    run = RunFolder.open(out)
    assert isinstance(run.model, AdaptiveNetwork)
    assert list(run.tiers) == ["low", "high"]
    assert all(tier.threshold is not None for tier in run.tiers.values())
    result = _json(out / "distillation.json")
    assert set(result["predictors"]) == {"network_1", "network_2", "ensemble", "fused"}
    stored = {t["tier"]: t["dev"]["auc"] for t in _json(out / "tiers.json")["tiers"]}
    assert result["predictors"]["network_1"]["auc"] == pytest.approx(stored["low"])
    assert result["predictors"]["network_2"]["auc"] == pytest.approx(stored["high"])
    assert not (out / "students").exists()
    images = torch.randn(2, 3, 32, 32)
    with torch.inference_mode(), run.model.use("low"):
        again = open_predictors(out).predictors(images)
        torch.testing.assert_close(again["network_1"], run.model(images))
    assert _json(out / "settings.json")["training"]["tiers"] == ["low", "high"]


def test_a_student_of_a_teacher(photos, teacher, out):
    before = sha256_file(teacher / "model.safetensors")
    how = {**SMALL, "settings": replace(RECIPE, epochs=1, ema=0.5), "network": NARROW}
    taps = FitNets(student_taps=("features.17",), teacher_taps=("layer3",), weight=1.0)
    distill(
        photos, out, method="fitnets", students=("mobilenet_v2",), teacher=teacher,
        methods=Methods(fitnets=taps), **how,
    )  # fmt: skip
    assert sha256_file(teacher / "model.safetensors") == before
    run = RunFolder.open(out)
    assert run.settings["model"] == "mobilenet_v2"
    record = run.settings["distill"]
    assert record["teacher"]["sha256"] == before
    assert record["teacher"]["tier"] == "plain"
    assert record["networks_per_step"] == 1
    macs = run.tiers["plain"].macs, RunFolder.open(teacher).tiers["plain"].macs
    assert record["forward_macs_per_image"] == sum(macs)
    result = _json(out / "distillation.json")
    assert set(result["predictors"]) == {"network_1", "teacher"}
    own = _json(teacher / "tiers.json")["tiers"][0]["dev"]
    assert result["predictors"]["teacher"] == own
    assert not [n for n in load_file(out / "model.safetensors") if "regressor" in n]


def _with(**change) -> dict:
    return {**FFL_OF_TWO, **change}


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        (_with(method="fll"), 'unknown method "fll"; did you mean "ffl"'),
        (_with(students=("resnet20,resnet2",)), 'unknown student "resnet2"; did you mean "resnet'),
        (_with(students=("resnet20",)), "ffl needs 2 students or more, got 1"),
        (_with(method="okddip"), "okddip needs 3 students or more, got 2"),
        (_with(method="oskd"), "oskd needs one student, got 2"),
        (_with(method="one"), "one needs branches on a shared trunk; give --share-upto"),
        (_with(share_upto="layer2"), "--share-upto needs students of one resnet"),
        (_with(students=("resnet20,pta_mobilenet_v2",)), "holds many configurations"),
        (_with(peers=("low", "high")), "--peers are configurations of one network"),
        (_with(students=("pipenet,resnet20",)), "a PipeNet is no student here"),
        (_with(keep="resnet2"), 'unknown student to --keep "resnet2"; did you mean "resnet20"'),
        (_with(methods=Methods(kd=OFFLINE["kd"](weight=0.5))), r"--kd\.\* are settings of another"),
        (_with(teacher=Path("nowhere")), "ffl has no teacher"),
        (_with(method="kd"), "kd teaches one student, got 2"),
        (_with(method="kd", students=("resnet20",)), "kd needs a teacher; give --teacher"),
        (
            _with(method="kd", students=("resnet20",), taps=(), teacher=Path("nowhere")),
            "nowhere is no run folder",
        ),
        (
            _with(method="kd", students=("pta_mobilenet_v2",), teacher=Path("nowhere")),
            "teaches a network of one configuration",
        ),
        (_with(settings=replace(RECIPE, label_smoothing=0.1)), "--label-smoothing is of no use"),
        (_with(students=("resnet20,resnet32",), network=NARROW), "shape a MobileNetV2"),
        (_with(taps=("a,b,c",)), "--taps are one path for each student"),
        (
            _with(method="kd", students=("resnet20",), teacher=Path("nowhere")),
            "leave --taps out; kd has --kd.student-taps",
        ),
    ],
)
def test_bad_words_are_refused_before_data_is_read(tmp_path, out, how, sentence):
    with pytest.raises(UserError, match=sentence):
        distill(tmp_path / "nowhere", out, **how)
    assert not out.exists()


def _of_teacher(teacher: Path, **change) -> dict:
    kd = {"method": "kd", "students": ("mobilenet_v2",), "teacher": teacher, "network": NARROW}
    return {**SMALL, **kd, **change}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"task": "pad"}, "was trained for classify, not for pad"),
        ({"preprocessing": Preprocessing(size=32)}, "differ in size: 16 and 32"),
        ({"teacher_tier": "plian"}, 'did you mean "plain"'),
    ],
)
def test_a_teacher_that_does_not_fit(teacher, tmp_path, out, change, sentence):
    with pytest.raises(UserError, match=sentence):
        distill(tmp_path / "nowhere", out, **_of_teacher(teacher, **change))
    assert not out.exists()


def test_a_teacher_of_other_classes(teacher, tmp_path, out):
    random = np.random.default_rng(0)
    for name in ("day", "dusk"):
        for k in range(4):
            _photo(tmp_path / "other" / name / f"{k}.png", 100, random)
    with pytest.raises(UserError, match=r"knows day, night, the data has day, dusk"):
        distill(tmp_path / "other", out, **_of_teacher(teacher))
    assert not out.exists()


def test_a_teacher_of_another_split_is_said(teacher, photos, out, capsys):
    how = _of_teacher(teacher, settings=replace(RECIPE, epochs=1, seed=1))
    distill(photos, out, **how)
    assert "warning: what the teacher was trained on: its --seed" in capsys.readouterr().err
    assert "its --seed" in _json(out / "settings.json")["data"]["notes"][-1]


def test_a_teacher_of_nan(teacher, photos, tmp_path, out):
    broken = tmp_path / "broken"
    shutil.copytree(teacher, broken)
    weights = load_file(broken / "model.safetensors")
    weights["net.fc.bias"][:] = float("nan")
    save_file(weights, broken / "model.safetensors")
    with pytest.raises(UserError, match="holds values that are no finite numbers"):
        distill(photos, out, **_of_teacher(broken))
    assert not out.exists()


def test_a_taken_folder(ffl, photos):
    with pytest.raises(UserError, match="holds a finished run"):
        distill(photos, ffl, **FFL_OF_TWO)


def test_every_method_has_its_settings():
    assert [one.name for one in fields(Methods)] == [*ONLINE, *OFFLINE]
    for name, kind in {**ONLINE, **OFFLINE}.items():
        assert getattr(Methods(), name) == kind()


def test_settings_meet_the_run():
    bss = OFFLINE["bss"]
    assert scheduled(bss(), total_steps=7).total_steps == 7
    assert scheduled(bss(total_steps=5), total_steps=7).total_steps == 5
    assert scheduled(FFL(), total_steps=7) == FFL()
    assert inside(FitNets(student_taps=("a",), teacher_taps=("b",))).student_taps == ("net.a",)
    assert inside(FFL()) == FFL()
