"""`segwithu train`: one command from a data set to a measured model, stopped and gone on with, refused at second 0."""

import csv
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from toy_data_set import write_data_set, write_recipe

from SegWithUCore.cli.__main__ import main
from SegWithUCore.models.bundle import read_bundle
from SegWithUCore.models.training_record import read_record
from SegWithUCore.util.errors import UsageError
from SegWithUCore.util.progress import silent
from SegWithUCore.util.strict_json import to_json
from SegWithULab.pipeline import Pipeline, TrainingJob
from SegWithULab.training.backbone import BackboneTrainer
from SegWithULab.training.plan import PlanOptions, choose_epochs
from SegWithULab.training.stages import StageCall, noted

pytestmark = pytest.mark.usefixtures("threads_and_signals_as_before")

FOLDS = {"cross_fit": 2, "cross_fit_epochs": 1, "cross_fit_scratch": True}


class Shop:
    """A data set, a recipe with folds, and the model that `train` made of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.table = write_data_set(folder / "data")
        self.recipe = write_recipe(folder / "recipe.json", head_training=FOLDS)

    def train(self, output: Path, *more: str, data: Path | None = None, recipe: Path | None = None) -> int:
        chosen = ["--recipe", str(recipe or self.recipe), "--no-graphs", "--threads", "1"]
        return main(["train", str(data or self.table), "--output", str(output), *chosen, *more])


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    made = Shop(tmp_path_factory.mktemp("shop"))
    assert made.train(made.folder / "model") == 0
    return made


def copied(shop: Shop, folder: Path) -> Path:
    """A copy of model and run; returns the model."""
    shutil.copytree(shop.folder / "model", folder / "model")
    shutil.copytree(shop.folder / "model.run", folder / "model.run")
    return folder / "model"


def test_one_command_makes_a_measured_model(shop: Shop) -> None:
    model = read_bundle(shop.folder / "model")
    assert model.calibration is not None
    assert model.metrics is not None
    assert model.metrics["cases"] == 2
    flags = model.calibration["flags"]
    assert (flags["cases"], flags["cross_validated_cases"]) == (4, 4)  # calibration and select; training out of fold
    record = read_record(shop.folder / "model")
    assert record is not None
    assert record.roles is not None
    assert {role: len(hashes) for role, hashes in record.roles.items()} == {
        "train": 4, "select": 2, "calibration": 2, "test": 2,
    }  # fmt: skip
    card = (shop.folder / "model" / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "None of them is a training, validation or calibration case" in card
    assert (shop.folder / "model.run" / "evaluation" / "report.html").is_file()


def test_the_same_command_does_nothing_twice(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    before = (shop.folder / "model" / "bundle.json").stat().st_mtime_ns
    assert shop.train(shop.folder / "model") == 0
    said = capsys.readouterr()
    assert "epoch 1/" not in said.err
    assert "dice ball: " in said.out
    assert (shop.folder / "model" / "bundle.json").stat().st_mtime_ns == before


def test_an_edited_text_reaches_the_model_without_a_training(
    shop: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = copied(shop, tmp_path)
    path = tmp_path / "model.run" / "plan" / "recipe.json"
    recipe = json.loads(path.read_text(encoding="utf-8"))
    recipe["about"]["task"] = "Balls of any kind."
    recipe["head_training"]["cross_fit"] = 0
    path.write_text(json.dumps(recipe), encoding="utf-8")
    assert shop.train(model) == 2
    assert "'folds'" in capsys.readouterr().err
    recipe["head_training"]["cross_fit"] = 2
    path.write_text(json.dumps(recipe), encoding="utf-8")
    assert shop.train(model) == 0
    assert "epoch 1/" not in capsys.readouterr().err
    assert read_bundle(model).about["task"] == "Balls of any kind."
    recipe["backbone_training"]["epochs"] = 3
    path.write_text(json.dumps(recipe), encoding="utf-8")
    assert shop.train(model) == 2
    assert "'backbone_training'" in capsys.readouterr().err


def test_corrected_references_are_measured_anew_and_trained_with_only_if_wanted(
    shop: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, data = copied(shop, tmp_path), shutil.copytree(shop.table.parent, tmp_path / "data")
    moved = json.loads((tmp_path / "model.run" / "stages.json").read_text(encoding="utf-8"))
    inputs = moved["stages"]["plan"]["inputs"]
    inputs["data"] = hashlib.sha256(to_json(str((data / "split.csv").resolve())).encode()).hexdigest()
    (tmp_path / "model.run" / "stages.json").write_text(json.dumps(moved), encoding="utf-8")
    before = read_bundle(model)
    shutil.copy(data / "labels" / "test0.nii.gz", data / "labels" / "test1.nii.gz")  # now the wrong one
    assert shop.train(model, data=data / "split.csv") == 0
    assert "epoch 1/" not in capsys.readouterr().err
    after = read_bundle(model)
    assert after.weights_sha256 == before.weights_sha256 and after.calibration == before.calibration
    assert before.metrics is not None and after.metrics is not None
    assert after.metrics["table"] != before.metrics["table"]
    shutil.copy(data / "labels" / "train0.nii.gz", data / "labels" / "train1.nii.gz")
    assert shop.train(model, data=data / "split.csv") == 2
    assert "'backbone' in" in (said := capsys.readouterr().err) and "'cases'" in said


def test_without_folds_flags_have_fewer_cases(shop: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = write_recipe(tmp_path / "recipe.json")
    step = BackboneTrainer._step

    def stopped(self: BackboneTrainer, *arguments: object) -> dict[str, float]:
        if self.next_epoch > 0:  # in the second epoch; the plan times a few steps before
            raise KeyboardInterrupt
        return step(self, *arguments)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BackboneTrainer, "_step", stopped)
        assert shop.train(tmp_path / "model", recipe=recipe) == 130
    said = capsys.readouterr().err
    assert "cancelled in stage 3 of 8 ('backbone')" in said
    assert "nan" not in said
    assert not (tmp_path / "model").exists()
    assert shop.train(tmp_path / "model", recipe=recipe) == 0
    said_after = capsys.readouterr()
    assert "epoch 1/2" not in said_after.err.split("training the head")[0]
    bundle = read_bundle(tmp_path / "model")
    assert bundle.calibration is not None
    flags = bundle.calibration["flags"]
    assert flags["cases"] > bundle.calibration["cases"]  # validation cases too
    card = (tmp_path / "model" / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert f"of {flags['cases']} cases that the network has not been trained with" in card
    assert "No cross-validation models were trained" in card


def test_what_would_fail_at_the_end_is_refused_at_the_start(
    shop: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(words: str, *more: str, **given: Path) -> None:
        output = given.pop("output", tmp_path / "new")
        assert shop.train(output, *more, **given) in (1, 2)
        assert words in capsys.readouterr().err
        assert not (tmp_path / "new").exists()

    (tmp_path / "there").mkdir()
    refused("there exists already: choose another folder, or pass --overwrite", output=tmp_path / "there")
    refused("give two folders", "--run", str(tmp_path / "new"))
    refused("--hours is -1", "--hours", "-1")
    refused("'filters'", recipe=write_recipe(tmp_path / "bad.json", backbone={"filters": [4, 8]}))
    without = tmp_path / "table"
    shutil.copytree(shop.table.parent, without)
    with shop.table.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))

    def table(name: str, changes: dict[str, str], patients: dict[str, str]) -> Path:
        lines = [f"{r['case']},{changes.get(r['case'], r['role'])},{patients.get(r['case'], r['case'])}" for r in rows]
        path = without / name
        path.write_text("\n".join(["case,role,patient", *lines]) + "\n", encoding="utf-8")
        return path

    no_calibration = table("a.csv", {"calibration0": "test", "calibration1": "test"}, {})
    refused("has no case with role 'calibration'", data=no_calibration)
    shutil.copy(without / "images" / "train0.nii.gz", without / "images" / "test1.nii.gz")
    refused("the image of test1 is that of a training case under the name train0", data=table("b.csv", {}, {}))
    shutil.copy(shop.table.parent / "images" / "test1.nii.gz", without / "images")
    one = table("c.csv", {}, {"train3": "p", "test0": "p"})
    refused("give a patient one role", data=one)


def test_roles_are_compared_in_any_order_and_hashes_may_be_left_out(shop: Shop, tmp_path: Path) -> None:
    def compared(table: Path, **chosen: Any) -> Pipeline:
        job = TrainingJob(table, tmp_path / "m", tmp_path / "run", PlanOptions("m"), **chosen)
        training = Pipeline(job, print, print)
        vars(training)["facts"] = training._compare(StageCall(False, silent))
        return training

    lines = shop.table.read_text(encoding="utf-8").splitlines()
    copy = shutil.copytree(shop.table.parent, tmp_path / "data")
    (copy / "split.csv").write_text("\n".join([lines[0], *lines[:0:-1]]), encoding="utf-8")  # test first
    shutil.copy(copy / "images" / "train0.nii.gz", copy / "images" / "test1.nii.gz")
    with pytest.raises(UsageError, match="the image of test1 is that of a training case under the name train0"):
        compared(copy / "split.csv")
    training = compared(copy / "split.csv", allow_seen_cases=True)
    assert "1 of 2 test cases were train cases" in str(vars(training)["facts"]["remarks"]["test"])
    assert set(training._hashes("test").values()) == {"test0", "test1"}


def test_hours_decide_epochs_and_folds() -> None:
    recipe = {
        "backbone_training": {"batch_size": 2, "epochs": 100},
        "head_training": {"batch_size": 2, "epochs": 24},
    }

    def chosen(hours: float) -> tuple[dict[str, Any], tuple[str, str]]:
        return choose_epochs(recipe, hours, 1.0, 100)

    few, _ = chosen(0.5)
    assert few["backbone_training"] == {"batch_size": 2, "epochs": 20}
    assert few["head_training"] == {"batch_size": 2, "epochs": 5}
    assert "too few" in chosen(0.2)[1][1] and chosen(0.2)[0]["backbone_training"]["epochs"] == 8
    assert chosen(0.01)[0]["backbone_training"]["epochs"] == 2
    many, reason = chosen(5)
    assert many["head_training"]["cross_fit"] == 3
    assert many["backbone_training"]["epochs"] == 67
    assert reason[0] == "67, 3"


def test_stages_note_what_they_found(shop: Shop) -> None:
    facts = noted(shop.folder / "model.run")
    assert list(facts) == ["plan", "cases", "backbone", "folds", "head", "calibrate", "evaluate", "model"]
    assert facts["folds"] == {"folds": 2}
    assert set(facts["evaluate"]["dice"]) == {"dice ball"}
