"""The model's own segmentation, kept beside the one that the reviewer edits.

A hidden copy, made when the run is loaded and so before the first edit: thin outlines in lightened colours, shown on
demand. It is saved with the scene.
"""

import slicer

from .i18n import _
from .scene.case_nodes import CaseNodes, hidden_node
from .scene.segmentation import was_touched

OUTLINE_OPACITY = 0.8
OUTLINE_THICKNESS = 1
_TOWARDS_WHITE = 0.5


def keep_original(nodes: CaseNodes) -> None:
    """Copy the segmentation as it is now, in place of an earlier copy: to be called as soon as it was filled."""
    source = nodes.segmentation
    copy = slicer.vtkSegmentation()
    copy.DeepCopy(source.GetSegmentation())
    copy.RemoveRepresentation(slicer.vtkSegmentationConverter.GetSegmentationClosedSurfaceRepresentationName())
    for identifier in copy.GetSegmentIDs():
        segment = copy.GetSegment(identifier)
        segment.SetColor(*(part + (1 - part) * _TOWARDS_WHITE for part in segment.GetColor()))
    node = nodes.original
    if node is not None:
        # Exchanged as a whole: Slicer's tree has no item for a hidden node and complains of segments that join it.
        node.SetAndObserveSegmentation(copy)
    else:
        scene = source.GetScene()
        title = _("{input} segmentation (model's own)").format(input=nodes.label)
        node = hidden_node(scene, "vtkMRMLSegmentationNode", title)
        node.SetAndObserveSegmentation(copy)
        scene.AddNode(node)
        _prepare_display(node)
        nodes.set_original(node)
    node.SetAndObserveTransformNodeID(source.GetTransformNodeID())


def make_sure_of_original(nodes: CaseNodes) -> bool:
    """Make the copy where it is missing (a scene of an earlier version, a deleted node); False where it is too late.

    It is too late once the segmentation was edited or judged.
    """
    if nodes.original is None and nodes.segmentation is not None and not was_touched(nodes.segmentation):
        keep_original(nodes)
    return nodes.original is not None


def restore_original(nodes: CaseNodes) -> bool:
    """Make the segmentation what the model made it, in the colours that it has now; False where there is no copy."""
    node = nodes.segmentation
    if nodes.original is None or node is None:
        return False
    restored, now = slicer.vtkSegmentation(), node.GetSegmentation()
    restored.DeepCopy(nodes.original.GetSegmentation())
    colours = {structure.name: structure.color for structure in nodes.case.structures}
    for identifier in restored.GetSegmentIDs():
        segment, shown = restored.GetSegment(identifier), now.GetSegment(identifier)
        colour = [part / 255 for part in colours.get(segment.GetName(), (255, 255, 255))]
        segment.SetColor(*(colour if shown is None else shown.GetColor()))
    was_modifying = node.StartModify()
    now.DeepCopy(restored)
    node.EndModify(was_modifying)
    return True


def show_original(nodes: CaseNodes, visible: bool) -> bool:
    """Draw the model's own outlines in the slice views, or hide them; False where there is no copy."""
    if nodes.original is None:
        return False
    nodes.original.CreateDefaultDisplayNodes()
    nodes.original.GetDisplayNode().SetVisibility(visible)
    return True


def _prepare_display(node: "slicer.vtkMRMLSegmentationNode") -> None:
    node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    was_modifying = display.StartModify()
    display.SetVisibility(False)
    display.SetVisibility2DFill(False)
    display.SetVisibility2DOutline(True)
    display.SetVisibility3D(False)
    display.SetOpacity2DOutline(OUTLINE_OPACITY)
    display.SetSliceIntersectionThickness(OUTLINE_THICKNESS)
    display.EndModify(was_modifying)
