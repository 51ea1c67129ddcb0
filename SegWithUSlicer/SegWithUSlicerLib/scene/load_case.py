"""Load a case folder as nodes of the scene, and update them after a re-run."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import slicer
import vtk

from SegWithUCore.case.case_file import CaseDescription, read_description

from ..i18n import _
from .case_images import Volume
from .case_nodes import SEGMENTATION, CaseNodes, find_cases, find_replaceable, new_case_nodes
from .map_display import put_maps
from .read_case import case_bytes, read_case_steps
from .review_nodes import keep_original, put_regions, read_case_regions
from .segmentation import PreparedLabels, fill_segmentation, prepare_labels_steps
from .steps import Steps, finish


@dataclass(frozen=True)
class LoadOptions:
    """How a case is loaded.

    Attributes:
        channels: the further channels of the input.
        scene: needed only without an input; by default Slicer's.
        lasting: the folder stays where it is, so that a review may be kept in it.
    """

    channels: Sequence["slicer.vtkMRMLScalarVolumeNode"] = ()
    scene: "slicer.vtkMRMLScene | None" = None
    lasting: bool = False


def load_case(case_folder: Path, input_node: "slicer.vtkMRMLScalarVolumeNode | None", **options: Any) -> CaseNodes:
    """Load a case folder, or update the nodes of the same inputs, model and place in place.

    A segmentation that was edited or judged since is left alone: the case then gets nodes of its own, named with its
    time. Nothing is shown and no view is changed; the files may be deleted afterwards.

    Args:
        input_node: the volume that the case was made from; None to load a case without its image.
        options: of `LoadOptions`, by name.

    Raises:
        InputError: the folder is not whole, or does not fit the input. The scene is then as it was.
    """
    return finish(load_case_steps(case_folder, input_node, LoadOptions(**options)))


def load_case_steps(
    case_folder: Path,
    input_node: "slicer.vtkMRMLScalarVolumeNode | None",
    options: LoadOptions | None = None,
) -> Steps[CaseNodes]:
    """Do what `load_case` does in steps; see `work_of_case` for how much they are.

    Only the last step touches the scene: given up before it, everything is as it was.
    """
    wanted = options or LoadOptions()
    scene = wanted.scene or (slicer.mrmlScene if input_node is None else input_node.GetScene())
    folder = Path(case_folder)
    case = read_description(folder)
    images = yield from read_case_steps(folder, case, input_node)
    regions = read_case_regions(folder, None if images.regions is None else images.region_boxes)
    prepared = yield from prepare_labels_steps(case.structures, images.labels, images.boxes)
    inputs = [] if input_node is None else [input_node, *wanted.channels]
    nodes = find_replaceable(scene, inputs, case) or new_case_nodes(scene, inputs, _label(scene, case, inputs))
    nodes.set_case(case, folder if wanted.lasting else None)
    put_maps(nodes, images)
    _put_segmentation(scene, nodes, case, (images.labels, prepared), input_node)
    put_regions(nodes, regions, images.regions, images.region_boxes)
    keep_original(nodes)
    follow_parent_transform(nodes)
    put_in_folder(nodes)
    return nodes


def work_of_case(case_folder: Path, input_node: "slicer.vtkMRMLScalarVolumeNode | None") -> float:
    """Estimate how much `load_case_steps` has to do, in the unit of its steps."""
    image = None if input_node is None else input_node.GetImageData()
    voxels = 0 if image is None else image.GetNumberOfPoints()
    return case_bytes(read_description(Path(case_folder)), voxels)


def follow_parent_transform(nodes: CaseNodes) -> None:
    """Place the results under the transform that the input is under now; without an input they stay."""
    if not nodes.inputs:
        return
    transform_id = nodes.inputs[0].GetTransformNodeID()
    for node in nodes.spatial:
        if node.GetTransformNodeID() != transform_id:
            node.SetAndObserveTransformNodeID(transform_id)


def _label(scene: "slicer.vtkMRMLScene", case: CaseDescription, inputs: Sequence["slicer.vtkMRMLNode"]) -> str:
    """Return the prefix of a new run's node names: the input, and the run's time if the input has results already."""
    if not inputs:
        return case.name
    name = str(inputs[0].GetName())
    earlier = {nodes.label for nodes in find_cases(scene, inputs[0])}
    if not earlier:
        return name
    timed = f"{name} {_time_of(case)}"
    return timed if timed not in earlier else f"{timed} ({len(earlier) + 1})"


def _time_of(case: CaseDescription) -> str:
    try:
        time = datetime.fromisoformat(case.created).astimezone()
    except ValueError:
        time = datetime.now().astimezone()
    return time.strftime("%Y-%m-%d %H:%M:%S")


def _put_segmentation(
    scene: "slicer.vtkMRMLScene",
    nodes: CaseNodes,
    case: CaseDescription,
    labelled: tuple[Volume, PreparedLabels],
    input_node: "slicer.vtkMRMLScalarVolumeNode | None",
) -> None:
    node, (labels, prepared) = nodes.segmentation, labelled
    if node is None:
        node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", _("{input} segmentation").format(input=nodes.label))
        nodes.remember(SEGMENTATION, node)
    if node.GetSegmentation().GetNumberOfSegments() == 0:
        node.CreateDefaultDisplayNodes()
        # Outlines only: a fill would mix with the colours of the map and make them unreadable.
        node.GetDisplayNode().SetVisibility2DFill(False)
    # All results have nodes by now. Before the reference geometry, which is taken relative to the transform.
    follow_parent_transform(nodes)
    reference = input_node or next(iter(nodes.maps.values()), None) or _volume_node(labels)
    node.SetReferenceImageGeometryParameterFromVolumeNode(reference)
    fill_segmentation(node, case.structures, prepared)


def _volume_node(volume: Volume) -> "slicer.vtkMRMLScalarVolumeNode":
    node = slicer.vtkMRMLScalarVolumeNode()
    node.SetAndObserveImageData(volume.image)
    matrix = vtk.vtkMatrix4x4()
    matrix.DeepCopy(volume.ijk_to_ras)
    node.SetIJKToRASMatrix(matrix)
    return node


_FOLDER_ATTRIBUTE = "SegWithU.Run"


def put_in_folder(nodes: CaseNodes) -> int:
    """Gather the run's nodes in one folder beside the input and return the folder's item id.

    Items that no plugin has made (outside the application) are made here. A folder that the user renamed or moved
    is used as it is; one that he deleted is made again.
    """
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(nodes.hub.GetScene())
    folder = _folder(hierarchy, nodes)
    for node in nodes.results:
        item = hierarchy.GetItemByDataNode(node)
        if item == hierarchy.GetInvalidItemID():
            hierarchy.CreateItem(folder, node)
        elif hierarchy.GetItemParent(item) != folder:
            hierarchy.SetItemParent(item, folder)
    return folder


def remove_folder(nodes: CaseNodes) -> None:
    """Remove the run's folder, if nothing else is in it; the nodes stay."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(nodes.hub.GetScene())
    found = _own_folder(hierarchy, nodes)
    if found is None:
        return
    own = [hierarchy.GetItemByDataNode(node) for node in nodes.results]
    inside = vtk.vtkIdList()
    hierarchy.GetItemChildren(found, inside)
    if {inside.GetId(index) for index in range(inside.GetNumberOfIds())} <= set(own):
        for item in own:
            hierarchy.SetItemParent(item, hierarchy.GetSceneItemID())
        hierarchy.RemoveItem(found)


def _own_folder(hierarchy: "slicer.vtkMRMLSubjectHierarchyNode", nodes: CaseNodes) -> int | None:
    """Return our subject hierarchy folder that holds a part of the run."""
    invalid = hierarchy.GetInvalidItemID()
    for node in nodes.results:
        item = hierarchy.GetItemByDataNode(node)
        parent = invalid if item == invalid else hierarchy.GetItemParent(item)
        if parent != invalid and hierarchy.GetItemAttribute(parent, _FOLDER_ATTRIBUTE):
            return int(parent)
    return None


def _folder(hierarchy: "slicer.vtkMRMLSubjectHierarchyNode", nodes: CaseNodes) -> int:
    invalid = hierarchy.GetInvalidItemID()
    found = _own_folder(hierarchy, nodes)
    if found is not None:
        return found
    beside = hierarchy.GetSceneItemID()
    if nodes.inputs:
        item = hierarchy.GetItemByDataNode(nodes.inputs[0])
        beside = beside if item == invalid else hierarchy.GetItemParent(item)
    folder = hierarchy.CreateFolderItem(beside, _("{input} with uncertainty").format(input=nodes.label))
    hierarchy.SetItemAttribute(folder, _FOLDER_ATTRIBUTE, "1")
    return folder
