"""`segwithu plan` on six layouts of data sets, and the recipe templates."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import SimpleITK as sitk
from repository import ROOT
from toy_data_set import write_ball, write_data_set

from SegWithUCore.cli.__main__ import main
from SegWithULab.training.dataset import find_cases
from SegWithULab.training.recipe import read_recipe
from SegWithULab.training.recipe_check import check_recipe

NAMES = [f"case{number:02}" for number in range(10)]


def folders(folder: Path) -> Path:
    """`images/` and `labels/`, no table."""
    for number, name in enumerate(NAMES):
        write_ball(folder, name, number)
    return folder


def table(folder: Path) -> Path:
    """A split table with roles."""
    return write_data_set(folder)


def german_table(folder: Path) -> Path:
    """A table of a German spreadsheet: semicolons, a patient a row, the folders as columns."""
    folders(folder / "files")
    roles = ["train"] * 6 + ["select", "calibration", "test", "test"]
    rows = [f"{n};{r};p{i};files/images;files/labels" for i, (n, r) in enumerate(zip(NAMES, roles, strict=True))]
    path = folder / "Fälle.csv"
    path.write_text("\r\n".join(["case;role;patient;images;labels", *rows]), encoding="latin-1")
    return path


def nnunet(folder: Path) -> Path:
    """An nnU-Net data set folder of its second version."""
    return _nnunet(folder, 1, {"channel_names": {"0": "T1"}, "labels": {"background": 0, "ball": 1}})


def nnunet_of_several_channels(folder: Path) -> Path:
    """One of its first version, with two channels."""
    return _nnunet(folder, 2, {"modality": {"0": "T1", "1": "FLAIR"}, "labels": {"0": "background", "1": "ball"}})


def _nnunet(folder: Path, channels: int, description: dict[str, object]) -> Path:
    folders(folder / "made")
    for part, source in (("imagesTr", "images"), ("labelsTr", "labels")):
        (folder / part).mkdir()
        for name in NAMES:
            for number in range(channels if part == "imagesTr" else 1):
                suffix = f"_{number:04}" if part == "imagesTr" else ""
                shutil.copy(folder / "made" / source / f"{name}.nii.gz", folder / part / f"{name}{suffix}.nii.gz")
    (folder / "dataset.json").write_text(json.dumps(description), encoding="utf-8")
    return folder


def segmentations_of_slicer(folder: Path) -> Path:
    """References that Slicer saved."""
    folders(folder)
    for path in (folder / "labels").glob("*.nii.gz"):
        labels = sitk.ReadImage(str(path))
        for field, text in {"ID": "S0", "Name": "ball", "LabelValue": "1", "Layer": "0"}.items():
            labels.SetMetaData(f"Segment0_{field}", text)
        sitk.WriteImage(labels, str(path).replace(".nii.gz", ".seg.nrrd"))
        path.unlink()
    return folder


@pytest.mark.parametrize(
    ("layout", "structure", "channels"),
    [
        (folders, "structure 1", 1),
        (table, "structure 1", 1),
        (german_table, "structure 1", 1),
        (nnunet, "ball", 1),
        (nnunet_of_several_channels, "ball", 2),
        (segmentations_of_slicer, "ball", 1),
    ],
    ids=lambda value: value.__name__ if callable(value) else None,
)
def test_a_layout_is_planned(layout: Callable[[Path], Path], structure: str, channels: int, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    data, target = layout(tmp_path / "data"), tmp_path / "plan"
    assert main(["plan", str(data), "--output", str(target), "--name", "balls", "--threads", "1"]) == 0
    recipe = read_recipe(target / "recipe.json")
    check_recipe(recipe, "recipe.json")
    assert [label.name for label in recipe.labels] == ["background", structure]
    assert len(recipe.input.channels) == channels
    drawn = target / "split.csv"
    assert drawn.is_file() == (layout not in (table, german_table))
    if drawn.is_file():
        assert sum(len(find_cases(f"{drawn}:{role}")) for role in ("train", "select", "calibration", "test")) == 10


def test_a_coarser_grid_may_be_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = folders(tmp_path / "data")
    options = ["plan", str(data), "--output", str(tmp_path / "plan"), "--threads", "1", "--spacing"]
    assert main([*options, "2,2,2"]) == 0
    assert read_recipe(tmp_path / "plan" / "recipe.json").input.spacing_mm == (2, 2, 2)
    assert "| spacing | 2 x 2 x 2 mm | your choice |" in (tmp_path / "plan" / "plan.md").read_text(encoding="utf-8")
    with pytest.raises(SystemExit):
        main([*options, "2,0,2"])
    assert "--spacing" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["ct", "mr", "several_channels", "one_structure"])
def test_a_template_is_a_whole_recipe(name: str) -> None:
    path = ROOT / "Resources" / "Recipes" / "templates" / f"{name}.json"
    recipe = read_recipe(path)
    check_recipe(recipe, str(path))
    assert recipe.head["variant"] == "context"
    assert (path.parent / json.loads(path.read_text(encoding="utf-8"))["$schema"]).is_file()
    assert f"`{path.name}`" in (path.parent / "README.md").read_text(encoding="utf-8")
