"""What a run is compared with: a segmentation or label map of the scene."""

import numpy as np
import pytest
import vtk
from loaded_case import LoadedCase, add_transform, loaded_case

from SegWithUCore.util.errors import InputError
from SegWithUSlicerLib.review.calibration_plots import reference_labels
from SegWithUSlicerLib.scene.case_images import image_from


@pytest.fixture
def case(tmp_path, data_folder) -> LoadedCase:
    return loaded_case(tmp_path, data_folder, regions=True)


def label_map(case: LoadedCase, labels: np.ndarray, name: str = "Reference"):
    node = case.scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", name)
    node.SetAndObserveImageData(image_from(labels))
    matrix = vtk.vtkMatrix4x4()
    case.volume.GetIJKToRASMatrix(matrix)
    node.SetIJKToRASMatrix(matrix)
    return node


def test_segments_are_matched_with_structures_by_name_whatever_their_case(case):
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
