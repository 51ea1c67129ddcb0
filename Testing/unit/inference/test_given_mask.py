"""What a mask holds is judged, named as left out, or refused; never left out without a word."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from repository import ROOT

from SegWithUCore.case.case_image import voxel_hash
from SegWithUCore.case.segmentation_file import IMAGE_KEY
from SegWithUCore.inference.given_mask import GivenMask, MaskedImage, MaskFile, read_mask
from SegWithUCore.io.grid import VoxelGrid
from SegWithUCore.io.volume import read_image
from SegWithUCore.models.bundle import OPACITY_3D, read_bundle
from SegWithUCore.models.input_spec import Label, proposed_structures, without_side
from SegWithUCore.util.errors import InputError

ANTERIOR, POSTERIOR = "anterior hippocampus", "posterior hippocampus"
STRUCTURES = [Label(n, name, (9, 9, 9)) for n, name in enumerate(("background", ANTERIOR, POSTERIOR))]


@pytest.fixture
def image(data_folder: Path) -> MaskedImage:
    path = data_folder / "hippocampus" / "images" / "hippocampus_319.nii.gz"
    read = read_image(path)
    return MaskedImage(path, VoxelGrid.of(read), voxel_hash(read))


@pytest.fixture
def labels(data_folder: Path) -> sitk.Image:
    path = data_folder / "hippocampus" / "labels" / "hippocampus_319.nii.gz"
    return sitk.Cast(sitk.ReadImage(str(path)), sitk.sitkUInt8)


def segment(number: int, name: str, value: object, layer: int = 0) -> dict[str, str]:
    fields = {"ID": f"S{number}", "Name": name, "LabelValue": value, "Layer": layer}
    return {f"Segment{number}_{key}": str(each) for key, each in fields.items()}


BOTH = {**segment(0, ANTERIOR, 1), **segment(1, POSTERIOR, 2)}


def write(labels: sitk.Image, path: Path, fields: dict[str, str] | None = None) -> Path:
    stored = sitk.Image(labels)
    for key, value in (fields or {}).items():
        stored.SetMetaData(key, value)
    sitk.WriteImage(stored, str(path))
    return path


def given(path: Path, image: MaskedImage, structures: list[Label] = STRUCTURES) -> GivenMask:
    return read_mask(MaskFile(path), image, structures)


def codes_of(path: Path, image: MaskedImage) -> str:
    with pytest.raises(InputError) as error:
        given(path, image)
    assert str(path) in str(error.value)
    return error.value.code


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        (segment(0, ANTERIOR, 1), "unknown-label"),
        ({**segment(0, ANTERIOR, 1, layer=5), **segment(1, POSTERIOR, 2)}, "damaged-file"),
        ({**segment(0, ANTERIOR, "1.0"), **segment(1, POSTERIOR, 2)}, "label-values"),
        ({**segment(0, ANTERIOR, "-1"), **segment(1, POSTERIOR, 2)}, "label-values"),
        ({**segment(0, ANTERIOR, 0), **segment(1, POSTERIOR, 2)}, "label-values"),
        ({**BOTH, IMAGE_KEY: "0" * 64}, "other-image"),
    ],
    ids=["a value without a segment", "no such layer", "1.0", "-1", "0", "of another image"],
)
def test_a_segmentation_of_slicer_that_would_lose_voxels_is_refused(
    fields: dict[str, str], code: str, image: MaskedImage, labels: sitk.Image, tmp_path: Path
) -> None:
    assert codes_of(write(labels, tmp_path / "mask.seg.nrrd", fields), image) == code


def test_segments_count_whatever_their_numbers(image: MaskedImage, labels: sitk.Image, tmp_path: Path) -> None:
    fields = {**segment(0, ANTERIOR, 1), **segment(2, POSTERIOR, 2), IMAGE_KEY: image.voxels_sha256}
    found = given(write(labels, tmp_path / "mask.seg.nrrd", fields), image)
    assert np.array_equal(found.indices, sitk.GetArrayFromImage(labels))


def test_layers_that_nobody_names_are_refused(image: MaskedImage, labels: sitk.Image, tmp_path: Path) -> None:
    assert codes_of(write(sitk.Compose([labels, labels]), tmp_path / "mask.nrrd"), image) == "unknown-label"


def _link(path: Path) -> None:
    path.symlink_to("../.git/annex/objects/x")


@pytest.mark.parametrize("make", [_link, os.mkfifo], ids=["a link to nothing", "a pipe"])
def test_a_folder_with_a_mask_that_cannot_be_opened_is_refused(
    make: Callable[[Path], None], image: MaskedImage, labels: sitk.Image, tmp_path: Path
) -> None:
    write(labels == 1, tmp_path / f"{ANTERIOR}.nii.gz")
    make(tmp_path / f"{POSTERIOR}.nii.gz")
    assert codes_of(tmp_path, image) == "entries-not-openable"


@pytest.mark.parametrize("place", [f".{POSTERIOR}.nii.gz", f"more/{POSTERIOR}.nii.gz"])
def test_masks_that_are_hidden_or_in_subfolders_are_named(
    place: str, image: MaskedImage, labels: sitk.Image, tmp_path: Path
) -> None:
    write(labels == 1, tmp_path / f"{ANTERIOR}.nii.gz")
    (tmp_path / place).parent.mkdir(exist_ok=True)
    write(labels == 2, tmp_path / place)
    (tmp_path / f"._{ANTERIOR}.nii.gz").write_bytes(b"resource fork")
    found = given(tmp_path, image)
    assert found.left_out == (Path(place).parts[0],)
    assert [label.name for label in found.labels] == ["background", ANTERIOR]


def test_axes_in_another_order_are_the_same_mask(image: MaskedImage, labels: sitk.Image, tmp_path: Path) -> None:
    turned = sitk.Flip(sitk.PermuteAxes(labels, [2, 0, 1]), [True, False, False])
    for name, fields in (("mask.nii.gz", None), ("mask.seg.nrrd", BOTH)):
        found = given(write(turned, tmp_path / name, fields), image)
        assert np.array_equal(found.indices, sitk.GetArrayFromImage(labels)), name


def test_a_structure_that_a_label_map_lacks_is_not_judged_but_its_other_side_is_empty(
    image: MaskedImage, labels: sitk.Image, tmp_path: Path
) -> None:
    names = ("background", "left caudate", "right caudate", "fluid")
    structures = [Label(n, name, (9, 9, 9)) for n, name in enumerate(names)]
    found = given(write(labels == 1, tmp_path / "mask.nii.gz"), image, structures)
    assert [label.name for label in found.labels] == ["background", "left caudate", "right caudate"]
    assert found.label_of.tolist() == [0, 1, 2, 0]


BRAIN = read_bundle(ROOT / "Resources" / "Models" / "brain")


@pytest.mark.parametrize(
    ("segment", "meant"),
    [
        ("Left Hippocampus", "left hippocampus"),
        ("hippocampus_L", "left hippocampus"),
        ("R-Hippocampus", "right hippocampus"),
        ("Thalamus (right)", "right thalamus"),
        ("Right-Cerebral-White-Matter", "right cerebral white matter"),
        ("Brain-Stem", "brainstem"),
        ("caudate", "left caudate + right caudate"),
        ("tumour", ""),
        ("Segment_1", ""),
    ],
)
def test_names_of_segments_suggest_structures(segment: str, meant: str) -> None:
    names = [label.name for label in BRAIN.labels[1:]]
    assert " + ".join(proposed_structures(segment, names)) == meant


def test_what_3d_views_show_transparent_or_not_are_structures_of_the_model() -> None:
    assert BRAIN.display is not None
    shown = BRAIN.display[OPACITY_3D]
    assert shown and set(shown) <= {without_side(label.name) for label in BRAIN.labels}
    assert shown["cerebrospinal fluid"] == 0 < shown["cerebral cortex"] < 1
