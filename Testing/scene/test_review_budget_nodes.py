"""The budget of a review on real MRML: sentence and charts, with a reference of the user's beside them."""

import numpy as np
import pytest
import vtk
from loaded_case import LoadedCase, add_transform, loaded_case, paint

from SegWithUCore.review.session import ReviewOptions
from SegWithUCore.util.errors import InputError
from SegWithUSlicerLib.review.budget import Budget
from SegWithUSlicerLib.review.edits import read_labels
from SegWithUSlicerLib.review.reference import reference_labels
from SegWithUSlicerLib.review.session import ReviewSession
from SegWithUSlicerLib.scene.case_images import array_of, image_from
from SegWithUSlicerLib.scene.review_nodes import region_labels, regions_of


@pytest.fixture
def case(tmp_path, data_folder) -> LoadedCase:
    return loaded_case(tmp_path, data_folder, regions=True)


@pytest.fixture
def budget(case, tmp_path):
    session = ReviewSession(case.nodes, "Ana", tmp_path / "settings", ReviewOptions())
    yield Budget(session)
    session.close()


def label_map(case: LoadedCase, labels: np.ndarray, name: str = "Reference"):
    node = case.scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", name)
    node.SetAndObserveImageData(image_from(labels))
    matrix = vtk.vtkMatrix4x4()
    case.volume.GetIJKToRASMatrix(matrix)
    node.SetIJKToRASMatrix(matrix)
    return node


def wrong_reference(case: LoadedCase) -> np.ndarray:
    """The model's labels with the second structure read as the first: errors whose places are known."""
    reference = case.disk.labels.copy()
    reference[reference == 2] = 1
    return reference


def column(chart, key: str) -> list[float]:
    for index in range(chart.GetNumberOfPlotSeriesNodes()):
        series = chart.GetNthPlotSeriesNode(index)
        if series.GetYColumnName().split()[1] == key:
            values = series.GetTableNode().GetTable().GetColumnByName(series.GetYColumnName())
            return [values.GetValue(row) for row in range(values.GetNumberOfValues())]
    raise AssertionError(key)


def test_the_sentence_says_what_n_regions_buy(case, budget):
    regions = regions_of(case.nodes)
    total = budget.session.total_mm3
    assert len(regions) > 2
    assert budget.sentence(0).startswith("0 regions cover 0 %")
    covered = sum(region.expected_wrong_mm3 for region in regions[:2])
    assert budget.sentence(2).startswith(f"2 regions cover {int(100 * covered / total)} %")
    assert budget.sentence(10_000).startswith(f"{len(regions)} regions cover")


def test_the_chart_rises_to_what_all_regions_hold(case, budget):
    chart, risk = budget.show(2)
    share = column(chart, "expected")
    assert share[0] == 0
    assert sorted(share) == share
    held = sum(region.expected_wrong_mm3 for region in regions_of(case.nodes))
    assert share[-1] == pytest.approx(min(1, held / budget.session.total_mm3))
    assert risk.GetNumberOfPlotSeriesNodes() == 1


def test_a_reference_puts_the_true_curve_beside_the_expected(case, budget):
    reference = label_map(case, wrong_reference(case))
    chart, risk = budget.show(3, reference)
    wrong = case.disk.labels != wrong_reference(case)
    labels = region_labels(case.nodes, wrong.shape)
    first = budget.expected.ids[0]
    assert column(chart, "true")[1] == pytest.approx((wrong & (labels == first)).sum() / wrong.sum())
    assert risk.GetNumberOfPlotSeriesNodes() == 2
    said = budget.reference_sentence(3, reference)
    assert "Reference" in said
    assert "AURC" in said


def test_segments_are_matched_with_structures_by_name_whatever_their_case(case, budget):
    node = case.scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "By hand")
    node.GetSegmentation().DeepCopy(case.nodes.segmentation.GetSegmentation())
    for identifier in node.GetSegmentation().GetSegmentIDs():
        segment = node.GetSegmentation().GetSegment(identifier)
        segment.SetName(segment.GetName().upper())
    np.testing.assert_array_equal(reference_labels(case.nodes, node), case.disk.labels)


def test_a_label_map_on_another_grid_is_read_at_the_voxels_of_the_input(case):
    half = case.disk.labels[1:, 2:, 3:]
    node = label_map(case, half)
    matrix = vtk.vtkMatrix4x4()
    case.volume.GetIJKToRASMatrix(matrix)
    for row, part in enumerate(matrix.MultiplyPoint([3, 2, 1, 1])[:3]):
        matrix.SetElement(row, 3, part)
    node.SetIJKToRASMatrix(matrix)
    read = reference_labels(case.nodes, node)
    np.testing.assert_array_equal(read[1:, 2:, 3:], half)
    assert not read[0].any()


def test_a_reference_without_these_structures_is_told_by_name(case):
    with pytest.raises(InputError, match=r"Reference holds none of these structures: anterior hippocampus"):
        reference_labels(case.nodes, label_map(case, np.full_like(case.disk.labels, 77)))


def test_a_reference_under_another_transform_is_refused(case):
    node = label_map(case, case.disk.labels)
    node.SetAndObserveTransformNodeID(add_transform(case.scene).GetID())
    with pytest.raises(InputError, match="another transform"):
        reference_labels(case.nodes, node)


def test_the_truth_is_that_of_the_models_own_segmentation_also_after_an_edit(case, budget):
    reference = label_map(case, wrong_reference(case))
    before = budget.reference_sentence(2, reference)
    paint(case, 2, case.voxel(1))
    assert (read_labels(case.nodes) != case.disk.labels).any()
    assert budget.reference_sentence(2, reference) == before


def test_an_edited_reference_gives_a_new_curve(case, budget):
    labels = wrong_reference(case)
    reference = label_map(case, labels)
    before = budget.reference_sentence(2, reference)
    array_of(reference.GetImageData())[:] = case.disk.labels
    reference.GetImageData().Modified()
    assert budget.reference_sentence(2, reference) != before
