"""Load a case folder as nodes of the scene, and update them after a re-run.

The boxes that a model placed in a whole head, as locked regions of interest in the slice views.
"""

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import numpy as np
import slicer
import vtk

from SegWithUCore.case.case_file import CaseDescription, PlacedBox, read_description
from SegWithUCore.util.errors import InputError

from ..i18n import _
from .case_images import CaseImages, Volume
from .case_nodes import BOX, MASK, SEGMENTATION, CaseNodes, find_cases, find_replaceable, new_case_nodes, remove_node
from .map_display import put_maps
from .read_case import read_case_images
from .review_nodes import keep_original, keep_runner_up, put_regions, read_case_regions
from .segmentation import fill_segmentation, labels_image, segment_id
from .steps import pause

COLOUR = (240 / 255, 228 / 255, 66 / 255)
"""As in the preview."""


def put_boxes(nodes: CaseNodes, boxes: Sequence[PlacedBox], ijk_to_ras: vtk.vtkMatrix4x4) -> None:
    """Outline the boxes in the slice views; those of an earlier result of the run go.

    Args:
        ijk_to_ras: of the case's grid, without parent transforms.
    """
    for node in nodes.boxes:
        remove_node(node)
    nodes.hub.RemoveNodeReferenceIDs(BOX)
    for index, box in enumerate(boxes):
        title = _("{input} {side} box").format(input=nodes.label, side=box.side)
        node = nodes.hub.GetScene().AddNewNodeByClass("vtkMRMLMarkupsROINode", title)
        matrix, size = placed(box, slicer.util.arrayFromVTKMatrix(ijk_to_ras))
        node.SetSize(*size)
        node.SetCenter(*matrix[:3, 3])
        node.SetAndObserveObjectToNodeMatrix(slicer.util.vtkMatrixFromArray(matrix))
        node.SetLocked(True)
        pause()
        node.CreateDefaultDisplayNodes()
        display = node.GetDisplayNode()
        with slicer.util.NodeModify(display):
            display.SetVisibility3D(False)
            display.SetFillVisibility(False)
            display.SetHandlesInteractive(False)
            display.SetPropertiesLabelVisibility(False)
            display.SetUseGlyphScale(False)
            display.SetGlyphSize(0.01)  # of the dot in the middle
            display.SetSelectedColor(*COLOUR)
        nodes.hub.SetNthNodeReferenceID(BOX, index, node.GetID())
        pause()


def placed(box: PlacedBox, ijk_to_ras: np.ndarray) -> tuple[np.ndarray, list[float]]:
    """Return where a box lies: its axes and centre (4 x 4, right-handed), and its edges in mm."""
    spacing = np.linalg.norm(ijk_to_ras[:3, :3], axis=0)
    matrix = np.eye(4)
    matrix[:3, :3] = ijk_to_ras[:3, :3] / spacing
    if np.linalg.det(matrix[:3, :3]) < 0:
        matrix[:3, 2] *= -1  # the box is the same
    middle = np.add(box.index_ijk, np.subtract(box.size_ijk, 1) / 2)
    matrix[:3, 3] = ijk_to_ras[:3, :3] @ middle + ijk_to_ras[:3, 3]
    return matrix, (spacing * box.size_ijk).tolist()


def load_case(
    case_folder: Path,
    input_node: "slicer.vtkMRMLScalarVolumeNode | None",
    channels: Sequence["slicer.vtkMRMLScalarVolumeNode"] = (),
    scene: "slicer.vtkMRMLScene | None" = None,
    lasting: bool = False,
    mask: "slicer.vtkMRMLSegmentationNode | None" = None,
) -> CaseNodes:
    """Load a case folder, or update the nodes of the same inputs, model, place and mask in place.

    A segmentation that was edited or judged since is left alone: the case then gets nodes of its own, named with its
    time. Nothing is shown and no view is changed; the files may be deleted afterwards.

    Args:
        input_node: the volume that the case was made from; None to load a case without its image.
        channels: the further channels of the input.
        scene: needed only without an input; by default Slicer's.
        lasting: the folder is permanent, so that a review may be kept in it.
        mask: the segmentation of the scene that was judged.

    Raises:
        InputError: the folder is incomplete, or does not fit the input. The scene is then as it was.
    """
    scene = scene or (slicer.mrmlScene if input_node is None else input_node.GetScene())
    case = read_description(case_folder)
    images = read_case_images(case_folder, case, input_node)
    regions = read_case_regions(case_folder, None if images.regions is None else images.region_boxes)
    pause()
    inputs = [] if input_node is None else [input_node, *channels]
    nodes = find_replaceable(scene, inputs, case, mask)
    nodes = nodes or new_case_nodes(scene, inputs, _label(scene, case, inputs))
    nodes.remember(MASK, mask)
    nodes.set_case(case, case_folder if lasting else None)
    put_maps(nodes, images)
    _put_segmentation(nodes, case, images)
    pause()
    put_boxes(nodes, case.boxes, images.stored_ijk_to_ras)
    put_regions(nodes, regions, images.regions, images.region_boxes)
    pause()
    keep_original(nodes)
    if not lasting:  # else it is read when a contour is scrolled
        with suppress(InputError):  # of an earlier version
            keep_runner_up(nodes, case_folder)
    follow_parent_transform(nodes)
    put_in_folder(nodes)
    return nodes


def follow_parent_transform(nodes: CaseNodes) -> None:
    """Place the results under the transform that the input is under now; without an input they stay."""
    if not nodes.inputs:
        return
    transform_id = nodes.inputs[0].GetTransformNodeID()
    for node in nodes.spatial:
        if node.GetTransformNodeID() != transform_id:
            node.SetAndObserveTransformNodeID(transform_id)


def _label(scene: "slicer.vtkMRMLScene", case: CaseDescription, inputs: Sequence["slicer.vtkMRMLNode"]) -> str:
    """Return the prefix of a new run's node names: the input and what was judged, with the time if it is taken."""
    if not inputs:
        return case.name
    name, judged = str(inputs[0].GetName()), case.raw.get("judged")
    if judged is not None:
        name = _("{input} judged: {mask}").format(input=name, mask=judged.get("file") or "")
    earlier = {nodes.label for nodes in find_cases(scene, inputs[0])}
    if name not in earlier:
        return name
    timed = f"{name} {_time_of(case)}"
    return timed if timed not in earlier else f"{timed} ({len(earlier) + 1})"


def _time_of(case: CaseDescription) -> str:
    try:
        time = datetime.fromisoformat(case.created).astimezone()
    except ValueError:
        time = datetime.now().astimezone()
    return time.strftime("%Y-%m-%d %H:%M:%S")


def _put_segmentation(nodes: CaseNodes, case: CaseDescription, images: CaseImages) -> None:
    node = nodes.segmentation
    if node is None:
        title = nodes.label if "judged" in case.raw else _("{input} segmentation").format(input=nodes.label)
        node = nodes.hub.GetScene().AddNewNodeByClass("vtkMRMLSegmentationNode", title)
        nodes.remember(SEGMENTATION, node)
    is_new = node.GetSegmentation().GetNumberOfSegments() == 0
    if is_new:
        node.CreateDefaultDisplayNodes()
        # Outlines only: a fill would mix with the colours of the map and make them unreadable.
        node.GetDisplayNode().SetVisibility2DFill(False)
    pause()
    # All results have nodes by now. Before the reference geometry, which is taken relative to the transform.
    follow_parent_transform(nodes)
    reference = next(iter([*nodes.inputs, *nodes.maps.values()]), None) or _volume_node(images.labels)
    node.SetReferenceImageGeometryParameterFromVolumeNode(reference)
    fill_segmentation(node, case.structures, labels_image(case.structures, images.labels, images.boxes))
    for structure in case.structures if is_new else ():  # later the user's choice stays
        identifier, display = segment_id(structure.value), node.GetDisplayNode()
        display.SetSegmentOpacity3D(identifier, structure.opacity_3d)
        display.SetSegmentVisibility3D(identifier, structure.opacity_3d > 0)


def _volume_node(volume: Volume) -> "slicer.vtkMRMLScalarVolumeNode":
    node = slicer.vtkMRMLScalarVolumeNode()
    node.SetAndObserveImageData(volume.image)
    node.SetIJKToRASMatrix(volume.ijk_to_ras)
    return node


_FOLDER_ATTRIBUTE = "SegWithU.Run"


def put_in_folder(nodes: CaseNodes) -> None:
    """Gather the run's nodes in one folder next to the input.

    Items that no plugin has made (outside the application) are made here. A folder that the user renamed or moved
    is used as it is; one that the user deleted is made again.
    """
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(nodes.hub.GetScene())
    invalid, folder = hierarchy.GetInvalidItemID(), _own_folder(hierarchy, nodes)
    if folder is None:
        beside = hierarchy.GetItemByDataNode(nodes.inputs[0]) if nodes.inputs else invalid
        parent = hierarchy.GetSceneItemID() if beside == invalid else hierarchy.GetItemParent(beside)
        folder = hierarchy.CreateFolderItem(parent, _("{input} with uncertainty").format(input=nodes.label))
        hierarchy.SetItemAttribute(folder, _FOLDER_ATTRIBUTE, "1")
    for node in nodes.results:
        item = hierarchy.GetItemByDataNode(node)
        if item == invalid:
            hierarchy.CreateItem(folder, node)
        elif hierarchy.GetItemParent(item) != folder:
            hierarchy.SetItemParent(item, folder)


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
