"""A reference counts by its place: turned onto its image whatever the order of its voxels, refused anywhere else."""

import ast
import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from phantoms import rotation
from product_sources import CORE, SOURCES, tree_of
from repository import PACKAGES
from segwithu_command import MODEL, write

from SegWithUCore.models.bundle import read_bundle
from SegWithUCore.util.errors import InputError
from SegWithULab.training.case_reading import Case, read_assessed, read_case, read_images
from SegWithULab.training.dataset import prepare
from SegWithULab.training.run_record import voxel_hashes
from SegWithULab.training.survey import survey

SIZE, SPACING = (7, 9, 6), (0.8, 1.0, 1.5)
ORDERS = list(itertools.permutations(range(3)))
FLIPS = list(itertools.product([False, True], repeat=3))
Change = Callable[[sitk.Image], sitk.Image]

READERS = {"read_file", "read_image", "read_volume", "read_labels", "read_segments", "read_reference", "read_stored"}
READERS |= {"ReadImage", "ImageFileReader"}
"""What opens a volume without asking where another lies."""
CALLERS = {
    "case/case_files.py": "volumes of a finished case",
    "case/case_image.py": "the image of a finished case",
    "case/segmentation_file.py": "a reviewer's version of a segmentation",
    "export/dicom.py": "a reviewer's version of a segmentation",
    "inference/given_mask.py": "a mask made elsewhere, refused unless it is on the grid of its image",
    "inference/placement.py": "the template of a head in a bundle",
    "review/corrections.py": "a reviewer's version of a segmentation",
    "review/merge.py": "a reviewer's version of a segmentation",
    "training/case_reading.py": "every case with a reference",
    "training/survey.py": "names of segments, by the header of a reference that case_reading has read",
}
"""All outside of `io`; those of cases with references, and of their images, must be `training/case_reading.py`."""


def grid_image(array: np.ndarray, oblique: bool = True) -> sitk.Image:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(SPACING)
    image.SetOrigin((-20.0, 31.0, 7.5))
    if oblique:
        image.SetDirection(rotation((10, -20, 30)).ravel().tolist())
    return image


def stored(image: sitk.Image, order: tuple[int, ...], flips: tuple[bool, ...]) -> sitk.Image:
    """The same voxels at the same places, in another order."""
    return sitk.Flip(sitk.PermuteAxes(image, list(order)), list(flips))


def moved(image: sitk.Image) -> sitk.Image:
    found = sitk.Image(image)
    found.SetOrigin([value + step for value, step in zip(image.GetOrigin(), (50, 0, 0), strict=True)])
    return found


def spaced(image: sitk.Image) -> sitk.Image:
    found = sitk.Image(image)
    found.SetSpacing([2 * value for value in image.GetSpacing()])
    return found


def turned_a_little(image: sitk.Image) -> sitk.Image:
    found = sitk.Image(image)
    found.SetDirection((np.reshape(image.GetDirection(), (3, 3)) @ rotation((0, 0, 3))).ravel().tolist())
    return found


def half(image: sitk.Image) -> sitk.Image:
    return image[:, :, : SIZE[2] // 2]


def double(image: sitk.Image) -> sitk.Image:
    return sitk.JoinSeries([image, image])


def flat(image: sitk.Image) -> sitk.Image:
    return image[:, :, 2]


@pytest.fixture
def case(tmp_path: Path) -> Case:
    """An image and a reference without any symmetry."""
    random = np.random.default_rng(4)
    write(grid_image(random.normal(size=SIZE[::-1]).astype(np.float32)), tmp_path / "images" / "a.nii.gz")
    write(grid_image(random.integers(0, 3, SIZE[::-1]).astype(np.uint8)), tmp_path / "labels" / "a.nrrd")
    return Case("a", (tmp_path / "images" / "a.nii.gz",), tmp_path / "labels" / "a.nrrd")


def changed(case: Case, change: Change, name: str = "b.nrrd") -> Case:
    """The case with another reference beside its own."""
    path = case.reference.with_name(name)
    write(change(sitk.ReadImage(str(case.reference))), path)
    return Case(case.name, case.channels, path)


def labels(case: Case) -> np.ndarray:
    return sitk.GetArrayFromImage(read_case(case).reference)


def segmented(image: sitk.Image) -> sitk.Image:
    """As Slicer saves it."""
    found = sitk.Image(image)
    for number in range(2):
        for field, text in {"ID": f"S{number}", "LabelValue": str(number + 1), "Layer": "0"}.items():
            found.SetMetaData(f"Segment{number}_{field}", text)
    return found


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
@pytest.mark.parametrize("order", ORDERS)
def test_a_reference_at_the_images_place_is_turned_onto_it(order: tuple[int, ...], suffix: str, case: Case) -> None:
    expected, image = labels(case), read_images(case)[0]
    for flips in FLIPS:
        other = changed(case, lambda image, flips=flips: stored(image, order, flips), f"b{suffix}")
        read = read_case(other)
        assert np.array_equal(sitk.GetArrayFromImage(read.reference), expected), flips
        assert read.reference.GetDirection() == image.GetDirection() and read.reference.GetSize() == SIZE


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_a_segmentation_of_slicer_in_another_order_is_turned_too(order: tuple[int, ...], case: Case) -> None:
    expected = labels(case)
    for flips in FLIPS[::3]:
        path = case.reference.with_name("b.seg.nrrd")
        whole = sitk.ReadImage(str(case.reference))
        sitk.WriteImage(segmented(stored(whole, order, flips)), str(path))
        assert np.array_equal(labels(Case("a", case.channels, path)), expected)


def test_labelled_voxels_outside_of_the_image_are_refused(case: Case) -> None:
    whole = segmented(sitk.ReadImage(str(case.reference)))
    for shift in (2, 70, 0.4):
        part = sitk.Image(whole)
        part.SetOrigin(whole.TransformContinuousIndexToPhysicalPoint((float(shift), 0.0, 0.0)))
        path = case.reference.with_name("b.seg.nrrd")
        sitk.WriteImage(part, str(path))
        with pytest.raises(InputError) as error:
            read_case(Case("a", case.channels, path))
        assert error.value.code == "another-place" and str(path) in str(error.value)


def test_segments_that_overlap_are_refused(case: Case) -> None:
    whole = stored(sitk.ReadImage(str(case.reference)), (2, 0, 1), (True, False, False))
    path = case.reference.with_name("b.seg.nrrd")
    sitk.WriteImage(segmented(sitk.Compose([whole, whole])), str(path))
    with pytest.raises(InputError) as error:
        read_case(Case("a", case.channels, path))
    assert error.value.code == "overlapping-segments" and str(path) in str(error.value)


@pytest.mark.parametrize("change", [moved, spaced, half, turned_a_little])
def test_a_reference_elsewhere_is_refused_by_name(change: Change, case: Case) -> None:
    bundle = read_bundle(MODEL)
    other = changed(case, change)
    for read in (
        read_case,
        lambda one: read_assessed(one, bundle),
        lambda one: prepare(one, bundle.input, [0, 1, 2]),
        lambda one: survey([one]),
    ):
        with pytest.raises(InputError) as error:
            read(other)
        assert error.value.code == "other-grid" and str(other.reference) in str(error.value)


@pytest.mark.parametrize("change", [double, flat])
def test_a_reference_that_is_no_volume_is_refused(change: Change, case: Case) -> None:
    other = changed(case, change, "b.nii.gz")
    with pytest.raises(InputError, match="D "):
        read_case(other)


def test_an_axis_of_one_behind_a_reference_is_dropped(case: Case) -> None:
    assert np.array_equal(labels(changed(case, lambda image: sitk.JoinSeries([image]), "b.nii.gz")), labels(case))


@pytest.mark.parametrize("name", ["b.nrrd", "b.seg.nrrd"])
@pytest.mark.parametrize(("value", "code"), [(0.5, "label-values"), (40_000.0, "label-values")])
def test_values_that_are_no_labels_are_refused(value: float, code: str, name: str, case: Case) -> None:
    other = changed(case, lambda image: sitk.Cast(image, sitk.sitkFloat32) * value, name)
    with pytest.raises(InputError) as error:
        read_case(other)
    assert error.value.code == code and str(other.reference) in str(error.value)


@pytest.mark.parametrize("change", [moved, spaced, half, lambda image: stored(image, (0, 1, 2), (True, False, False))])
def test_channels_on_other_grids_are_refused_as_by_segment(change: Change, case: Case) -> None:
    second = case.channels[0].with_name("a_0001.nrrd")
    write(change(sitk.ReadImage(str(case.channels[0]))), second)
    both = Case("a", (case.channels[0], second), case.reference)
    for read in (read_images, read_case, lambda one: voxel_hashes([one])):
        with pytest.raises(InputError) as error:
            read(both)
        assert error.value.code == "other-grid" and str(second) in str(error.value)


def test_the_hash_of_a_case_does_not_depend_on_its_reference(case: Case) -> None:
    """Else a training case would not be known again."""
    turned = changed(case, lambda image: stored(image, (2, 0, 1), (True, False, True)))
    bundle = read_bundle(MODEL)
    assert voxel_hashes([case]) == voxel_hashes([turned]) == voxel_hashes([changed(case, moved, "c.nrrd")])
    assert voxel_hashes([case]) == [prepare(turned, bundle.input, [0, 1, 2]).voxels_sha256]


def test_what_training_gets_does_not_depend_on_the_order_of_a_reference(case: Case) -> None:
    bundle = read_bundle(MODEL)
    turned = changed(case, lambda image: stored(image, (1, 2, 0), (False, True, True)))
    first, second = (prepare(one, bundle.input, [0, 1, 2]).labels for one in (case, turned))
    assert np.array_equal(first, second)
    known, other = (read_assessed(one, bundle).truth for one in (case, turned))
    assert np.array_equal(known, other)
    assert survey([case]).cases[0].label_voxels == survey([turned]).cases[0].label_voxels


def test_one_place_reads_cases_with_references() -> None:
    """A new caller of a low-level reader asks where a reference lies by `case_reading`, or is listed here with why."""
    callers = set()
    for path in SOURCES:
        engine = path.relative_to(PACKAGES).parts[0] in ("SegWithUCore", "SegWithULab")
        if not engine or path.is_relative_to(CORE / "io"):
            continue
        names = {
            node.id if isinstance(node, ast.Name) else node.attr
            for node in ast.walk(tree_of(path))
            if isinstance(node, ast.Name | ast.Attribute)
        }
        if names & READERS:
            callers.add("/".join(path.relative_to(PACKAGES).parts[1:]))
    assert callers == set(CALLERS)
    assert not [name for name in callers if name.startswith(("calibration/", "evaluation/"))]
