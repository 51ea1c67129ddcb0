"""The boxes that a model placed in a whole head: where they lie in the scene, and that they go with the case."""

import numpy as np
import pytest
import slicer
from loaded_case import loaded_case
from test_scene_load import KINDS
from written_case import change_case

from SegWithUSlicerLib.cases.case_switch import remove_case
from SegWithUSlicerLib.scene.load_case import load_case

BOXES = [
    {"side": "left", "index_ijk": [3, 4, 2], "size_ijk": [10, 12, 6]},
    {"side": "right", "index_ijk": [20, 4, 3], "size_ijk": [9, 12, 7]},
]


def _with_boxes(folder, data, **kind):
    case = loaded_case(folder, data, **kind)
    change_case(case.disk.folder, placement={"boxes": BOXES})
    return case, load_case(case.disk.folder, case.volume)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: "+".join(kind) or "plain")
def test_a_box_holds_its_voxels_and_no_other(tmp_path, data_folder, kind):
    case, nodes = _with_boxes(tmp_path, data_folder, **kind)
    assert [node.GetName() for node in nodes.boxes] == ["Hippocampus left box", "Hippocampus right box"]
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(case.scene)
    folder = hierarchy.GetItemParent(hierarchy.GetItemByDataNode(nodes.segmentation))
    for node, box in zip(nodes.boxes, BOXES, strict=True):
        low, size = np.array(box["index_ijk"]), np.array(box["size_ijk"])
        from_world = np.linalg.inv(slicer.util.arrayFromVTKMatrix(node.GetObjectToWorldMatrix()))
        for voxel, steps in ((low, size - 1), (low - [1, 0, 0], np.add(size, [1, -1, -1])), (low + size - 1, size - 1)):
            point = from_world @ [*case.world_of(tuple(voxel[::-1])), 1]
            # Twice the distance from the middle, in voxels: one less than there are, along each axis.
            spacing = np.array(node.GetSize()) / size
            assert np.allclose(2 * np.abs(point[:3]) / spacing, steps, atol=1e-4), (box["side"], voxel)
        assert node.GetLocked()
        assert not node.GetDisplayNode().GetVisibility3D()
        assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node)) == folder


def test_a_new_run_replaces_the_boxes_and_a_removed_case_leaves_none(tmp_path, data_folder):
    case, nodes = _with_boxes(tmp_path, data_folder)
    change_case(case.disk.folder, placement={"boxes": BOXES[:1]})
    again = load_case(case.disk.folder, case.volume)
    assert again.hub is nodes.hub
    assert case.scene.GetNumberOfNodesByClass("vtkMRMLMarkupsROINode") == 1
    remove_case(again)
    assert case.scene.GetNumberOfNodesByClass("vtkMRMLMarkupsROINode") == 0
    assert case.scene.GetNumberOfNodesByClass("vtkMRMLMarkupsDisplayNode") == 0
