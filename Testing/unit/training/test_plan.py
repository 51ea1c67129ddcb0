"""`segwithu plan`: its rules on known data sets, what it finds wrong, and its splits."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hippocampi import write_hippocampi

from SegWithUCore.cli.__main__ import main
from SegWithUCore.util.errors import InputError, UsageError
from SegWithULab.training.case_reading import read_reference
from SegWithULab.training.dataset import Case, find_cases
from SegWithULab.training.plan import PlanOptions, patients_by_name, plan, roles, taps_of
from SegWithULab.training.recipe import read_recipe
from SegWithULab.training.recipe_check import check_recipe
from SegWithULab.training.survey import CaseMetadata, Survey, survey

NAMES = {1: "anterior hippocampus", 2: "posterior hippocampus"}


def facts(
    size: tuple[int, int, int], spacing: tuple[float, float, float], name: str = "a", low: float = 0
) -> CaseMetadata:
    values = np.linspace(low, 300, 100)
    files = Case(name, (Path(f"{name}.nii.gz"),), Path(f"{name}_label.nii.gz"))
    return CaseMetadata(files, size, spacing, "RAS", {1: 50}, (values,), (low,), True, (name,))


def planned(*cases: CaseMetadata) -> dict[str, object]:
    recipe = plan(Survey(list(cases), names={1: "liver"}), PlanOptions("liver"))[0]
    return {**recipe["input"], **recipe["backbone"], **recipe["backbone_training"]}


def test_the_shipped_recipe_is_what_is_planned_for_its_cases(full_data_folder: Path) -> None:
    table = full_data_folder / "hippocampus" / "split.csv"
    found = survey(find_cases(f"{table}:train"))
    recipe = plan(found, PlanOptions("hippocampus", labels=NAMES))[0]
    assert recipe["input"]["window"] == [48, 64, 48]
    assert recipe["input"]["spacing_mm"] == [1, 1, 1]
    assert recipe["input"]["orientation"] == "RAS"
    assert recipe["backbone"] == {"kind": "dynunet", "filters": [16, 32, 64, 128]}
    assert recipe["head"]["taps"] == ["upsamples.0.conv_block", "upsamples.1.conv_block", "output_block"]
    assert recipe["backbone_training"]["mirror"]


@pytest.mark.parametrize("value", [0, 2])
def test_a_name_for_a_value_that_is_not_there_is_refused(value: int) -> None:
    with pytest.raises(UsageError) as error:
        plan(Survey([facts((64, 64, 64), (1, 1, 1))]), PlanOptions("liver", labels={value: "liver"}))
    assert error.value.code == "wrong-usage"


def test_a_label_value_of_two_names_is_a_warning(tmp_path: Path) -> None:
    labels = np.zeros((4, 5, 6), np.uint8)
    labels[1:3, 1:3, 1:4] = 1
    cases = []
    for number, name in enumerate(("liver", "liver", "spleen")):
        image, reference = tmp_path / f"{number}.nrrd", tmp_path / f"{number}.seg.nrrd"
        sitk.WriteImage(sitk.GetImageFromArray(labels * 3.0 + np.roll(np.arange(6), 2 * number)), str(image))
        part = sitk.GetImageFromArray(labels)
        for field, text in {"ID": "S0", "Name": name, "LabelValue": "1", "Layer": "0"}.items():
            part.SetMetaData(f"Segment0_{field}", text)
        sitk.WriteImage(part, str(reference))
        cases.append(Case(str(number), (image,), reference))
    assert survey(cases[:2]).warnings == []
    (warning,) = survey(cases).warnings
    assert str(cases[2].reference) in warning and "spleen" in warning and "liver" in warning


def test_thick_slices_are_never_halved_and_shrink_last() -> None:
    thick = planned(facts((256, 256, 12), (1.5, 1.5, 10), "a"), facts((256, 256, 10), (1.4, 1.4, 10), "b"))
    assert thick["flat_levels"] == 3
    window = thick["window"]
    assert isinstance(window, list)
    assert window[2] == 12
    assert window[0] == window[1] < 180
    assert window[0] % 16 == 0


def test_a_ct_gets_fixed_intensities_and_large_images_a_bounded_window() -> None:
    ct = planned(facts((512, 512, 300), (0.8, 0.8, 1.0), "a", -1024))
    assert ct["modality"] == "CT"
    how = ct["normalisation"]
    assert isinstance(how, dict)
    assert how["kind"] == "fixed"
    assert -1024 < how["low"] < how["mean"] < how["high"] < 301
    window = ct["window"]
    assert isinstance(window, list)
    assert np.prod(window) <= 1.3 * (1 << 18)
    filters = ct["filters"]
    assert isinstance(filters, list)
    assert all(size % 2 ** (len(filters) - 1) == 0 for size in window)


@pytest.mark.parametrize("levels", [3, 4, 5])
def test_planned_taps_lie_in_the_decoder(levels: int) -> None:
    assert taps_of(levels)[-1] == "output_block"
    assert len(taps_of(levels)) == min(3, levels - 1)


def test_patients_are_told_by_name_only_where_groups_are_small() -> None:
    frames = [f"patient{p:03}_frame{f:02}" for p in range(30) for f in (1, 9)]
    assert set(patients_by_name(frames).values()) == {f"patient{p:03}" for p in range(30)}
    numbered = [f"heart_{n:03}" for n in range(30)]
    assert patients_by_name(numbered) == {name: name for name in numbered}
    assert patients_by_name(["x12a", "x12b"], "x([0-9]+)") == {"x12a": "12", "x12b": "12"}
    for wrong in ("(", "nothing", "(z)"):
        with pytest.raises(UsageError, match="--patient-pattern"):
            patients_by_name(["x12a"], wrong)


def test_no_patient_gets_two_roles_and_every_role_has_one() -> None:
    patients = {f"p{p}_{f}": f"p{p}" for p in range(12) for f in range(3)}
    drawn = roles(patients)
    by_patient = {
        patient: {drawn[case] for case in patients if patients[case] == patient} for patient in patients.values()
    }
    assert all(len(found) == 1 for found in by_patient.values())
    assert set(drawn.values()) == {"train", "select", "calibration", "test"}
    assert roles(patients) == drawn
    with pytest.raises(InputError, match="9 of 10 needed patients"):
        roles({f"p{p}": f"p{p}" for p in range(9)})


@pytest.fixture
def nnunet_folder(data_folder: Path, tmp_path: Path) -> Path:
    """Twelve cases in nnU-Net's naming, one of them under two names."""
    folder, source = tmp_path / "Dataset004_Hippocampus", tmp_path / "source"
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
    names = sorted(write_hippocampi(data_folder, source, 12))
    for name in [*names, "twin"]:
        origin = names[0] if name == "twin" else name
        shutil.copy(source / "images" / f"{origin}.nii.gz", folder / "imagesTr" / f"{name}_0000.nii.gz")
        shutil.copy(source / "labels" / f"{origin}.nii.gz", folder / "labelsTr" / f"{name}.nii.gz")
    description = {"channel_names": {"0": "T1"}, "labels": {"background": 0, "Anterior": 1, "Posterior": 2}}
    (folder / "dataset.json").write_text(json.dumps(description), encoding="utf-8")
    return folder


def test_a_plan_of_an_nnunet_folder_can_be_trained(
    nnunet_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "plans" / "hippo"
    assert main(["plan", str(nnunet_folder), "--output", str(target), "--hours", "0.5", "--threads", "1"]) == 0
    said = capsys.readouterr()
    first = sorted((nnunet_folder / "labelsTr").iterdir())[0].name.removesuffix(".nii.gz")
    assert f"{first} and twin hold the same image" in said.err
    assert f"segwithu train {target / 'split.csv'} --recipe {target / 'recipe.json'} " in said.out
    recipe = read_recipe(target / "recipe.json")
    check_recipe(recipe, "recipe.json")
    assert [label.name for label in recipe.labels] == ["background", "Anterior", "Posterior"]
    assert recipe.input.channels == ("T1",)
    by_role = {
        role: find_cases(f"{target / 'split.csv'}:{role}") for role in ("train", "select", "calibration", "test")
    }
    assert sum(map(len, by_role.values())) == 13
    twins = [role for role, cases in by_role.items() for case in cases if case.name in (first, "twin")]
    assert len(set(twins)) == 1  # one image, one role
    reasons = (target / "plan.md").read_text(encoding="utf-8")
    assert all(word in reasons for word in ("window", "because", "Drawn by patient", "hold the same image"))
    assert main(["plan", str(nnunet_folder), "--output", str(target)]) == 1
    assert "exists: choose another folder, or pass --overwrite" in capsys.readouterr().err


def test_cases_that_cannot_be_used_are_all_named_before_anything_is_written(
    nnunet_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = sorted((nnunet_folder / "labelsTr").iterdir())
    labels[1].write_bytes(labels[1].read_bytes()[:200])
    image = sitk.ReadImage(str(labels[2]))
    image.SetSpacing((2, 1, 1))
    sitk.WriteImage(image, str(labels[2]))
    target = tmp_path / "plan"
    assert main(["plan", str(nnunet_folder), "--output", str(target)]) == 1
    said = capsys.readouterr().err
    assert str(labels[1]) in said
    assert str(labels[2]) in said
    assert "2 of 13 cases cannot be used" in said
    assert not target.exists()


def test_a_cropped_segmentation_of_slicer_is_read_on_the_grid_of_its_image(data_folder: Path, tmp_path: Path) -> None:
    source = data_folder / "hippocampus"
    name = sorted((source / "labels").glob("*.nii.gz"))[0].name.removesuffix(".nii.gz")
    image = sitk.ReadImage(str(source / "images" / f"{name}.nii.gz"))
    labels = sitk.Cast(sitk.ReadImage(str(source / "labels" / f"{name}.nii.gz")), sitk.sitkUInt8)
    whole = sitk.GetArrayFromImage(labels)
    z, y, x = (slice(int(i.min()), int(i.max()) + 1) for i in np.nonzero(whole))
    part = labels[x, y, z]
    for number, (value, structure) in enumerate(NAMES.items()):
        fields = {"ID": f"S{number}", "Name": structure, "LabelValue": str(value), "Layer": "0"}
        for field, text in fields.items():
            part.SetMetaData(f"Segment{number}_{field}", text)
    path = tmp_path / f"{name}.seg.nrrd"
    sitk.WriteImage(part, str(path))
    read = read_reference(path, image, source / "images" / f"{name}.nii.gz")
    assert np.array_equal(sitk.GetArrayFromImage(read), whole)
    part.SetOrigin([value + 0.4 for value in part.GetOrigin()])
    sitk.WriteImage(part, str(path))
    with pytest.raises(InputError) as error:
        read_reference(path, image, source / "images" / f"{name}.nii.gz")
    assert error.value.code == "another-place"
