"""No case is judged by what has seen it: found by its voxels, whatever its name, and said on the card."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from toy_data_set import write_data_set, write_recipe

from SegWithUCore.cli.__main__ import main
from SegWithUCore.models.training_record import read_record
from SegWithULab.training.run_folder import RunFolder

pytestmark = pytest.mark.usefixtures("threads_and_signals_as_before")


class Shop:
    """A run of a tiny network, and its model."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.table = write_data_set(folder / "data")
        self.recipe = write_recipe(folder / "recipe.json")
        self.run, self.model = folder / "run", folder / "model"
        assert self.train("backbone", self.run, "--recipe", str(self.recipe)) == 0
        assert self.train("head", self.run) == 0
        assert self.calibrate(self.model, "calibration") == 0

    def train(self, part: str, run: Path, *more: str, train: str = "train", select: str = "select") -> int:
        cases = ["--cases", f"{self.table}:{train}", "--select", f"{self.table}:{select}"]
        return main([f"train-{part}", "--run", str(run), *cases, "--threads", "1", *more])

    def calibrate(self, output: Path, role: str, *more: str, source: tuple[str, str] | None = None) -> int:
        option, place = source or ("--run", str(self.run))
        where = ["--add" if option == "--model" else "--cases", f"{self.table}:{role}", "--output", str(output)]
        return main(["calibrate", option, place, *where, "--no-graphs", "--threads", "1", *more])

    def evaluate(self, model: Path, role: str, *more: str) -> int:
        return main(["evaluate", "--model", str(model), "--cases", f"{self.table}:{role}", "--threads", "1", *more])


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return Shop(tmp_path_factory.mktemp("shop"))


def card(model: Path) -> str:
    return (model / "MODEL_CARD.md").read_text(encoding="utf-8")


def test_the_bundle_says_how_it_was_trained_and_with_which_voxels(shop: Shop) -> None:
    record = read_record(shop.model)
    assert record is not None
    assert record.roles is not None
    assert {role: len(hashes) for role, hashes in record.roles.items()} == {"train": 4, "select": 2, "calibration": 2}
    assert record.recipe == json.loads(json.dumps(RunFolder(shop.run).recipe().to_json()))
    backbone, head = record.trainings
    assert (backbone["part"], backbone["epochs"], backbone["planned"]) == ("backbone", 2, 2)
    assert backbone["best_epoch"] in (1, 2)
    assert head["part"] == "head"
    assert sorted(path.name for path in (shop.model / "training").iterdir()) == [
        "backbone_log.csv", "head_log.csv", "record.json",
    ]  # fmt: skip
    text = card(shop.model)
    assert f"The backbone was trained for 2 of 2 epochs; the best epoch, {backbone['best_epoch']}, is kept" in text
    assert "Voxel hashes of 4 train, 2 select, 2 calibration cases are kept" in text
    assert "Resources/Recipes" not in text
    assert "train0" not in json.dumps(record.to_json())  # names may be a patient's


def test_logs_have_no_nan(shop: Shop) -> None:
    assert "nan" not in (shop.run / "backbone_log.csv").read_text(encoding="utf-8")


@pytest.mark.parametrize("role", ["train", "select"])
def test_calibrating_on_seen_cases_is_refused_unless_allowed(
    role: str, shop: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for source in (None, ("--model", str(shop.model))):
        assert shop.calibrate(tmp_path / "new", role, source=source) == 2
        assert f"calibration cases were seen before: the image of {role}0 is that of a" in capsys.readouterr().err
        assert not (tmp_path / "new").exists()
    assert shop.calibrate(tmp_path / "new", role, "--allow-seen-cases") == 0
    count = {"train": 4, "select": 2}[role]
    assert f"{count} of {count} calibration cases were {role} cases (--allow-seen-cases)" in card(tmp_path / "new")


@pytest.mark.parametrize("role", ["train", "select", "calibration"])
def test_evaluating_on_seen_cases_is_refused(role: str, shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    before = card(shop.model)
    assert shop.evaluate(shop.model, role, "--record") == 2
    assert "test cases were seen before" in capsys.readouterr().err
    assert card(shop.model) == before


def test_what_was_measured_says_whether_the_cases_were_kept_apart(shop: Shop, tmp_path: Path) -> None:
    model = shutil.copytree(shop.model, tmp_path / "model")
    assert shop.evaluate(model, "test", "--record") == 0
    assert "None of them is a training, validation or calibration case (compared by their voxels)." in card(model)
    assert shop.evaluate(model, "test", "--record") == 0  # that they were test cases before is no reason to refuse
    assert shop.evaluate(model, "train", "--record", "--allow-seen-cases") == 0
    text = card(model)
    assert "4 of them were used for training, validation or calibration too" in text
    assert "4 of 4 test cases were train cases (--allow-seen-cases)" in text


def test_a_model_without_record_claims_nothing(shop: Shop, tmp_path: Path) -> None:
    model = shutil.copytree(shop.model, tmp_path / "model")
    shutil.rmtree(model / "training")
    assert shop.evaluate(model, "train", "--record") == 0
    text = card(model)
    assert "Whether they were used for anything else is not recorded." in text
    assert "Its train and select cases are not recorded." in text


def test_the_same_image_under_another_name_is_found(
    shop: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = shutil.copytree(shop.table.parent, tmp_path / "data")
    for part in ("images", "labels"):
        shutil.copy(other / part / "train1.nii.gz", other / part / "alias.nii.gz")
    with (other / "split.csv").open("a", encoding="utf-8") as file:
        file.write("alias,select\n")
    table = shop.table
    try:
        shop.table = other / "split.csv"
        assert shop.train("backbone", tmp_path / "run", "--recipe", str(shop.recipe)) == 2
        said = capsys.readouterr().err
        assert "1 of 3 select cases were seen before: the image of alias is that of a training case" in said
        assert "under the name train1" in said
        assert not (tmp_path / "run" / "run.json").exists()
    finally:
        shop.table = table
    run = shutil.copytree(shop.run, tmp_path / "head")
    assert shop.train("head", run, "--restart", train="select", select="test") == 2
    assert "train cases were seen before: the image of select0 is that of a validation case" in (
        capsys.readouterr().err
    )


def test_a_refused_head_on_a_model_leaves_the_folder_as_it_was(
    shop: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "r.json"
    about = json.loads(shop.recipe.read_text(encoding="utf-8"))["about"]
    recipe.write_text(json.dumps({"about": about, "backbone": {"model": str(shop.model)}}), encoding="utf-8")
    on_model = ("--recipe", str(recipe))
    assert shop.train("head", tmp_path / "run", *on_model, train="train", select="calibration") == 2
    assert "select cases were seen before" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    own = shutil.copytree(shop.run, tmp_path / "own")
    before = {path.name: path.read_bytes() for path in own.iterdir()}
    assert shop.train("head", own, *on_model, "--restart") == 1
    assert "[exists-already]" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in own.iterdir()} == before


def test_hashes_may_be_taken_out_and_the_card_says_so(shop: Shop, tmp_path: Path) -> None:
    model = shutil.copytree(shop.model, tmp_path / "model")
    path = model / "training" / "record.json"
    path.write_text(
        json.dumps(json.loads(path.read_text(encoding="utf-8")) | {"voxels_sha256": None}), encoding="utf-8"
    )
    assert shop.evaluate(model, "test", "--record") == 0
    record = read_record(model)
    assert record is not None
    assert record.roles is None
    assert "Voxel hashes of the cases were left out as the maker wished" in card(model)
    recipe = {"about": record.recipe["about"], "backbone": {"model": str(model)}} if record.recipe else {}
    (tmp_path / "head.json").write_text(json.dumps(recipe), encoding="utf-8")
    assert shop.train("head", tmp_path / "run", "--recipe", str(tmp_path / "head.json"), "--epochs", "1") == 0
    assert RunFolder(tmp_path / "run").facts()["voxels_sha256"] is None


def test_a_damaged_record_is_told(shop: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = shutil.copytree(shop.model, tmp_path / "model")
    (model / "training" / "record.json").write_text('{"format_version": 1}', encoding="utf-8")
    assert shop.evaluate(model, "test") == 1
    assert "record.json is damaged" in capsys.readouterr().err


def test_images_that_are_much_alike_are_told_of_validation_cases_too(
    shop: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = shutil.copytree(shop.table.parent, tmp_path / "data")
    (image,) = (data / "images").glob("select0*")
    values = sitk.GetArrayFromImage(read := sitk.ReadImage(str(image), sitk.sitkFloat32))
    noisy = sitk.GetImageFromArray(values + np.random.default_rng(0).normal(0, 0.08 * values.std(), values.shape))
    noisy.CopyInformation(read)
    sitk.WriteImage(sitk.Cast(noisy, sitk.sitkFloat32), str(data / "images" / image.name.replace("select0", "select1")))
    options = (
        "--run",
        str(shop.run),
        "--cases",
        f"{data}/split.csv:calibration",
        "--select",
        f"{data}/split.csv:select",
    )
    output = str(tmp_path / "model")
    assert main(["calibrate", *options, "--output", output, "--no-graphs", "--threads", "1"]) == 0
    said = capsys.readouterr().err
    assert "select0" in said and "select1" in said
