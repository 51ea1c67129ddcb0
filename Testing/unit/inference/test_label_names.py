"""Labels of FreeSurfer, SynthSeg and nnU-Net mean to a model what these programs say, and nothing is guessed."""

import csv
import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from repository import ROOT

from SegWithUCore.case.case_image import voxel_hash
from SegWithUCore.cli.arguments import named_labels
from SegWithUCore.inference.given_mask import ALL, GivenMask, MaskedImage, MaskFile, label_table, read_mask
from SegWithUCore.io.grid import VoxelGrid
from SegWithUCore.io.volume import read_file
from SegWithUCore.models.bundle import read_bundle
from SegWithUCore.models.input_spec import Label, named_classes
from SegWithUCore.util.errors import InputError, UsageError

BRAIN = read_bundle(ROOT / "Resources" / "Models" / "brain").labels
HIPPOCAMPI = [
    Label(n, name, (9, 9, 9))
    for n, name in enumerate(
        (
            "background",
            *(f"{side} {part} hippocampus" for side in ("left", "right") for part in ("anterior", "posterior")),
        )
    )
]
VALUES = (0, 17, 53, 5, 4, 1012, 3, 251, 24)  # hippocampi, ventricle and its horn, gyrus, cortex, corpus callosum, CSF


def _mask(folder: Path, values: tuple[int, ...] = VALUES, name: str = "aseg.mgz") -> Path:
    """Write one voxel of each value, along a line."""
    path, kind = folder / name, nibabel.MGHImage if name.endswith("mgz") else nibabel.Nifti1Image
    nibabel.save(kind(np.array(values, np.int32).reshape(-1, 1, 1), np.eye(4)), path)
    return path


def _read(path: Path, structures: list[Label], names: dict[str, str] | None = None) -> GivenMask:
    image = read_file(path)
    place = MaskedImage(path, VoxelGrid.of(image), voxel_hash(sitk.Cast(image, sitk.sitkFloat32)))
    return read_mask(MaskFile(path, names or {}), place, structures)


def _drawn(mask: GivenMask) -> list[str]:
    """Return the structure of each voxel along the line, "-" where it is not judged."""
    unjudged = np.zeros(mask.indices.shape, bool) if mask.unjudged is None else mask.unjudged
    pairs = zip(mask.indices.ravel(), unjudged.ravel(), strict=True)
    return ["-" if out else mask.labels[index].name for index, out in pairs]


WHOLE = ["background", "left hippocampus", "right hippocampus", *["left lateral ventricle"] * 2,
         *["left cerebral cortex"] * 2, "-"]  # fmt: skip


def test_freesurfers_own_file_is_judged_as_it_stands(tmp_path: Path) -> None:
    mask = _read(_mask(tmp_path), list(BRAIN))
    assert _drawn(mask) == [*WHOLE, "-"], "its fluid is not that around the brain"
    assert (mask.left_out, set(mask.unclear)) == ((), {"251", "24"})


def test_the_same_values_in_another_file_are_so_only_if_the_user_says_it(tmp_path: Path) -> None:
    path = _mask(tmp_path, name="aseg.nii.gz")
    with pytest.raises(InputError) as caught:
        _read(path, list(BRAIN))
    assert caught.value.code == "unknown-label"
    assert _drawn(_read(path, list(BRAIN), named_labels(["freesurfer"]))) == [*WHOLE, "-"]
    assert _drawn(_read(path, list(BRAIN), named_labels(["SynthSeg"]))) == [*WHOLE, "cerebrospinal fluid"]


def test_what_another_structure_is_counts_against_a_model_of_few(tmp_path: Path) -> None:
    mask = _read(_mask(tmp_path), HIPPOCAMPI)
    expected = ["background", "left hippocampus", "right hippocampus", *["background"] * 4, "-", "-"]
    assert _drawn(mask) == expected
    assert mask.label_of.tolist() == [0, 1, 1, 2, 2]


def test_a_side_without_a_voxel_is_empty_and_not_missing(tmp_path: Path) -> None:
    mask = _read(_mask(tmp_path, (0, 17, 2)), list(BRAIN))
    assert "right hippocampus" in [label.name for label in mask.labels]


def test_both_sides_are_one_structure_of_a_model_without_sides(tmp_path: Path) -> None:
    structures = [Label(n, name, (9, 9, 9)) for n, name in enumerate(("background", "hippocampus", "right amygdala"))]
    mask = _read(_mask(tmp_path, (0, 17, 53, 18, 54)), structures)
    assert _drawn(mask) == ["background", "hippocampus", "hippocampus", "background", "right amygdala"]


def test_values_that_mean_something_else_to_the_model_are_refused(tmp_path: Path) -> None:
    structures = [
        Label(n, name, (9, 9, 9)) for n, name in ((0, "background"), (1, "left kidney"), (10, "left thalamus"))
    ]
    path = _mask(tmp_path, (0, 1, 10))
    with pytest.raises(InputError) as caught:
        _read(path, structures)
    assert caught.value.code == "unknown-label"
    assert _drawn(_read(path, structures, named_labels(["freesurfer"]))) == ["background", "-", "left thalamus"]
    assert _drawn(_read(path, structures, {"1": "left kidney", "10": "left thalamus"}))[1] == "left kidney"


def test_unknown_values_are_left_out_by_consent_alone(tmp_path: Path) -> None:
    path = _mask(tmp_path, (0, 17, 9999))
    with pytest.raises(InputError) as caught:
        _read(path, list(BRAIN))
    assert caught.value.code == "unknown-label"
    assert "9999" in str(caught.value)
    assert _drawn(_read(path, list(BRAIN), {ALL: "freesurfer"})) == ["background", "left hippocampus", "-"]


def test_values_of_no_structure_of_the_model_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        _read(_mask(tmp_path, (0, 4, 43)), HIPPOCAMPI)
    assert caught.value.code == "unknown-label"


@pytest.mark.parametrize("program", ["freesurfer", "synthseg"])
def test_tables_name_structures_of_the_shipped_model(program: str) -> None:
    with label_table(program).open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    labels = [int(row["label"]) for row in rows]
    assert len(labels) == len(set(labels)) > 100
    names = [label.name for label in BRAIN]
    assert all(len(named_classes(row["structure"], names)) == 1 for row in rows if row["structure"])
    of_value = {row["label"]: row["structure"] for row in rows}
    assert all(of_value[str(label.value)] in ("", label.name) for label in BRAIN[1:])


def test_a_reference_needs_a_structure_for_each_label_that_may_be_one(tmp_path: Path) -> None:
    from SegWithULab.training.case_reading import Case, read_named

    path = _mask(tmp_path, (0, 17, 251))
    image = sitk.Cast(read_file(path), sitk.sitkFloat32)
    with pytest.raises(InputError) as caught:
        read_named(Case("a", (path,), path, labels={ALL: "freesurfer"}), image, BRAIN)
    assert caught.value.code == "unknown-label" and "251" in str(caught.value)
    whole = _mask(tmp_path, (0, 17, 53), "whole.mgz")
    assert read_named(Case("a", (whole,), whole, labels={ALL: "freesurfer"}), image, BRAIN).indices.any()


def test_an_empty_cell_of_a_users_table_is_not_judged(tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    table.write_text("label,structure\n17,left hippocampus\n4,\n", encoding="utf-8")
    mask = _read(_mask(tmp_path, (0, 17, 4, 43)), list(BRAIN), named_labels([str(table)]))
    assert _drawn(mask) == ["background", "left hippocampus", "-", "background"]
    assert (mask.left_out, mask.unclear) == (("43",), ("4",))


@pytest.mark.parametrize(
    "labels", [{"background": 0, "left hippocampus": 17}, {"0": "background", "17": "left hippocampus"}]
)
def test_labels_of_an_nnunet_data_set(labels: dict[str, object], tmp_path: Path) -> None:
    path = tmp_path / "dataset.json"
    path.write_text(json.dumps({"labels": labels}), encoding="utf-8")
    assert named_labels([str(path)]) == {"17": "left hippocampus"}


@pytest.mark.parametrize("content", [{}, {"labels": {"whole tumour": [1, 2]}}, {"labels": ["liver"]}])
def test_labels_of_several_values_are_refused(content: object, tmp_path: Path) -> None:
    path = tmp_path / "dataset.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(InputError) as caught:
        named_labels([str(path)])
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("entries", [["notaprogram"], ["17="], ["17=a", "17=b"], ["../freesurfer"], ["*=freesurfer"]])
def test_entries_that_say_nothing_are_refused(entries: list[str]) -> None:
    with pytest.raises(UsageError):
        named_labels(entries)
