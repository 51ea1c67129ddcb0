"""A region where two structures compete goes to one of them, in one step and with honest figures."""

from dataclasses import replace

import numpy as np
import pytest
import slicer
import vtk
from loaded_case import LoadedCase, loaded_case, paint
from review_cases import a_region
from scipy.ndimage import binary_dilation
from written_case import NAMES

from SegWithUCore.regions.region import Competition, Kind
from SegWithUSlicerLib.review.corrections import relabel, relabellings
from SegWithUSlicerLib.review.edits import EditWatch, read_labels
from SegWithUSlicerLib.scene.review_nodes import RegionMask

FRONT, BACK = NAMES[1], NAMES[2]
REGION = replace(
    a_region(1),
    kind=Kind.CONFUSION,
    structure=FRONT,
    competing=(
        Competition("background", FRONT, 0.4),
        Competition(BACK, FRONT, 0.3),
        Competition(FRONT, BACK, 0.3),
    ),
)


def _between(case: LoadedCase) -> RegionMask:
    """The voxels around the face that both structures share."""
    labels = case.disk.labels
    mask = binary_dilation(labels == 1, iterations=2) & binary_dilation(labels == 2, iterations=2)
    low, high = np.argwhere(mask).min(0), np.argwhere(mask).max(0) + 1
    matrix = vtk.vtkMatrix4x4()
    case.volume.GetIJKToRASMatrix(matrix)
    k, j, i = (int(part) for part in low)
    return RegionMask(mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))], (i, j, k), matrix)


def _whole(case: LoadedCase, found: RegionMask) -> np.ndarray:
    whole = np.zeros(case.disk.labels.shape, bool)
    box = tuple(slice(at, at + size) for at, size in zip(found.offset_ijk[::-1], found.mask.shape, strict=True))
    whole[box] = found.mask
    return whole


KINDS = [{}, {"oblique": True, "transformed": True}]


@pytest.mark.parametrize("layers", ["shared", "separate"])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: "+".join(kind) or "plain")
def test_all_of_a_region_goes_to_one_structure_and_the_background_stays(tmp_path, data_folder, kind, layers):
    case = loaded_case(tmp_path, data_folder, **kind)
    if layers == "separate":
        case.nodes.segmentation.GetSegmentation().SeparateSegmentLabelmap("SegWithU_2")
    found = _between(case)
    ways = relabellings(case.nodes, REGION, found)
    assert {way.structure for way in ways} == {FRONT, BACK}
    watch = EditWatch(case.nodes, lambda: None)
    before = read_labels(case.nodes)
    whole = _whole(case, found)
    for way in ways:
        labels = read_labels(case.nodes)
        expected = np.where(whole & (labels == way.other), way.value, labels)
        relabel(case.nodes, found, way)
        assert np.array_equal(read_labels(case.nodes), expected)
    changed = watch.check()
    assert changed is not None and changed.structures == {1, 2}
    assert np.array_equal(read_labels(case.nodes) == 0, before == 0)
    segmentation = case.nodes.segmentation.GetSegmentation()
    assert segmentation.GetNumberOfSegments() == 2
    watch.release()


def test_figures_say_what_changes_and_what_of_it_the_model_expects_to_be_right(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder)
    found = _between(case)
    whole, labels, error = _whole(case, found), case.disk.labels, case.disk.error
    ways = {way.value: way for way in relabellings(case.nodes, REGION, found)}
    for value, other in ((1, 2), (2, 1)):
        there = whole & (labels == other)
        assert ways[value].changed_mm3 == pytest.approx(there.sum())
        assert ways[value].expected_right_mm3 == pytest.approx(error[there].sum(), rel=1e-4)
    first, second = relabellings(case.nodes, REGION, found)
    assert first.expected_right_mm3 >= second.expected_right_mm3
    relabel(case.nodes, found, ways[1])
    back = {way.value: way for way in relabellings(case.nodes, REGION, found)}
    assert (back[1].changed_mm3, back[1].expected_right_mm3) == (0, 0)
    moved, stayed = whole & (labels == 2), whole & (labels == 1)
    assert back[2].changed_mm3 == pytest.approx((moved | stayed).sum())
    # What goes back to the model's own contour is right unless the model erred.
    right = (1 - error[moved]).sum() + error[stayed].sum()
    assert back[2].expected_right_mm3 == pytest.approx(right, rel=1e-4)


@pytest.mark.parametrize("kind", [Kind.BOUNDARY, Kind.MISSED, Kind.EXTRA])
def test_other_regions_are_not_offered(tmp_path, data_folder, kind):
    case = loaded_case(tmp_path, data_folder)
    assert relabellings(case.nodes, replace(REGION, kind=kind), _between(case)) == ()


def test_nothing_is_offered_when_a_structure_or_the_map_is_gone(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder)
    found = _between(case)
    case.nodes.segmentation.GetSegmentation().RemoveSegment("SegWithU_2")
    assert relabellings(case.nodes, REGION, found) == ()
    case.scene.RemoveNode(case.nodes.segmentation)
    assert relabellings(case.nodes, REGION, found) == ()


def test_a_finer_segmentation_is_changed_on_its_own_grid(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder)
    found = _between(case)
    _refine(case)
    for way in relabellings(case.nodes, REGION, found):
        labels = read_labels(case.nodes)
        expected = np.where(_whole(case, found) & (labels == way.other), way.value, labels)
        relabel(case.nodes, found, way)
        assert np.array_equal(read_labels(case.nodes), expected)


def test_a_structure_that_was_emptied_can_win_a_region(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder)
    found = _between(case)
    labels = case.disk.labels
    segment = case.nodes.segmentation.GetSegmentation().GetSegment("SegWithU_1")
    case.nodes.segmentation.GetSegmentation().SeparateSegmentLabelmap("SegWithU_1")
    segment.GetRepresentation("Binary labelmap").Initialize()
    way = next(way for way in relabellings(case.nodes, REGION, found) if way.value == 1)
    relabel(case.nodes, found, way)
    expected = np.where(labels == 2, 2, 0)
    expected[_whole(case, found) & (labels == 2)] = 1
    assert np.array_equal(read_labels(case.nodes), expected)


def test_a_voxel_that_was_painted_by_hand_counts_as_unknown(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder)
    found = _between(case)
    whole = _whole(case, found)
    voxel = tuple(int(part) for part in np.argwhere(whole & (case.disk.labels == 0))[0])
    before = {way.value: way for way in relabellings(case.nodes, REGION, found)}
    paint(case, 1, voxel)
    after = {way.value: way for way in relabellings(case.nodes, REGION, found)}
    assert after[2].changed_mm3 == pytest.approx(before[2].changed_mm3 + 1)
    assert after[2].expected_right_mm3 == pytest.approx(before[2].expected_right_mm3)


def _refine(case: LoadedCase) -> None:
    """Give the segmentation three voxels for each of the input's along every axis."""
    segmentation = case.nodes.segmentation.GetSegmentation()
    coarse = segmentation.GetSegment("SegWithU_1").GetRepresentation("Binary labelmap")
    reference, fine, matrix = slicer.vtkOrientedImageData(), slicer.vtkOrientedImageData(), vtk.vtkMatrix4x4()
    coarse.GetImageToWorldMatrix(matrix)
    for column in range(3):
        for row in range(3):
            matrix.SetElement(row, column, matrix.GetElement(row, column) / 3)
    reference.SetExtent(*(3 * edge + (-1, 1)[index % 2] for index, edge in enumerate(coarse.GetExtent())))
    reference.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
    reference.SetImageToWorldMatrix(matrix)
    slicer.vtkOrientedImageDataResample.ResampleOrientedImageToReferenceOrientedImage(coarse, reference, fine)
    for identifier in ("SegWithU_1", "SegWithU_2"):
        segmentation.GetSegment(identifier).AddRepresentation("Binary labelmap", fine)
