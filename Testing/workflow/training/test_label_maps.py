"""Training from label maps alone through the command line, up to a calibrated model."""

import csv
import json
from pathlib import Path

import pytest
import SimpleITK as sitk
from training_runs import tiny_recipe

from SegWithUCore.cli.__main__ import main
from SegWithUCore.models.bundle import read_bundle

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("threads_and_signals_as_before")]


def test_label_maps_become_a_calibrated_model(data_folder: Path, tmp_path: Path) -> None:
    names = sorted(path.name for path in (data_folder / "hippocampus" / "labels").glob("*.nii.gz"))[:6]
    roles = ["train", "train", "train", "select", "held_out", "held_out"]
    (tmp_path / "labels").mkdir()  # and no images
    for name in names:
        (tmp_path / "labels" / name).write_bytes((data_folder / "hippocampus" / "labels" / name).read_bytes())
    rows = [f"{name.removesuffix('.nii.gz')},{role}" for name, role in zip(names, roles, strict=True)]
    table, recipe, run = tmp_path / "split.csv", tmp_path / "recipe.json", tmp_path / "run"
    table.write_text("\n".join(["case,role", *rows]) + "\n", encoding="utf-8")
    blocks = tiny_recipe(backbone_training={"epochs": 2}, head_training={"epochs": 2, "cross_fit": 2})
    blocks["head_training"] |= {"cross_fit_epochs": 1}
    blocks["synthesis"] = {"classes": {"1": [1], "2": [2]}}
    recipe.write_text(json.dumps(blocks), encoding="utf-8")
    cases = ["--cases", f"{table}:train", "--select", f"{table}:select", "--threads", "1"]
    assert main(["train-backbone", "--run", str(run), "--recipe", str(recipe), *cases]) == 0
    assert main(["train-head", "--run", str(run), *cases]) == 0
    drawn = ["synthesise", "--recipe", str(recipe), "--count", "3", "--threads", "1"]
    assert main([*drawn, "--cases", f"{table}:held_out", "--output", str(tmp_path / "drawn")]) == 0
    with (tmp_path / "drawn" / "split.csv").open(newline="", encoding="utf-8") as file:
        made = list(csv.DictReader(file))
    assert len(made) == 6 and len({row["patient"] for row in made}) == 2
    model = tmp_path / "model"
    arguments = ["calibrate", "--run", str(run), "--output", str(model), "--no-graphs", "--threads", "1"]
    assert main([*arguments, "--cases", f"{tmp_path / 'drawn' / 'split.csv'}:synthesised"]) == 0
    bundle = read_bundle(model)
    assert bundle.calibration is not None
    assert bundle.ood_reference is not None and bundle.ood_reference["cases"] == 3
    image = sitk.ReadImage(str(tmp_path / "drawn" / "images" / f"{made[0]['case']}.nii.gz"))
    assert image.GetSize() == sitk.ReadImage(str(tmp_path / "labels" / names[4])).GetSize()


def test_train_refuses_a_recipe_of_label_maps(data_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Its last stages would take the label maps for images."""
    recipe = tmp_path / "recipe.json"
    recipe.write_text(json.dumps(tiny_recipe() | {"synthesis": {"classes": {"1": [1], "2": [2]}}}), encoding="utf-8")
    output = tmp_path / "model"
    assert main(["train", str(data_folder / "hippocampus"), "--recipe", str(recipe), "--output", str(output)]) == 2
    assert "contradicting-options" in capsys.readouterr().err
    assert not output.exists()
