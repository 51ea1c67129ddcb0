"""Show a region: outline it in the slice views and in 3D, and bring all views to it.

One hidden segmentation node that is never saved. It only adds: layers, layout, window/level and the user's own nodes
are not touched.
"""

import numpy as np
import slicer

from SegWithUCore.regions.region import Region

from ..i18n import _
from .case_nodes import CaseNodes, add_hidden_node
from .observers import Observations, nodes_of
from .review_nodes import RegionMask, region_mask, world_of
from .segmentation import oriented_image
from .slice_views import jump_to
from .steps import pause

SEGMENT = "region"
OUTLINE_THICKNESS = 3
OPACITY_3D = 0.7
COLOUR = (1.0, 0.0, 1.0)
"""Saturated, so that it stands out from greys, and in none of the overlays' colour maps."""


class RegionHighlight:
    """Marks one region of a run at a time, and follows the run's parent transform. Call `release` when done.

    Example:
        highlight = RegionHighlight(nodes)
        highlight.show(regions_of(nodes)[0].id)
    """

    def __init__(self, nodes: CaseNodes) -> None:
        self.nodes = nodes
        self._node: slicer.vtkMRMLSegmentationNode | None = None
        self._observations = Observations()

    @property
    def node(self) -> "slicer.vtkMRMLSegmentationNode | None":
        """The node that draws the region; None before the first `show`, after `release`, and when it was deleted."""
        alive = self._node is not None and self._node.GetScene() is not None
        return self._node if alive else None

    def show(self, region_id: int) -> bool:
        """Mark this region and no other. Returns False, and marks nothing, if its voxels were deleted.

        Raises:
            KeyError: there is no such region.
        """
        found = region_mask(self.nodes, region_id)
        if found is None:
            self.hide()
            return False
        node = self.node
        if node is None:
            node = self._make(_segmentation_of(found))
        else:
            # Exchanged as a whole: Slicer's tree has no item for a hidden node and complains of segments that join it.
            node.SetAndObserveSegmentation(_segmentation_of(found))
        node.GetDisplayNode().SetVisibility(True)
        self._follow()
        return True

    def hide(self) -> None:
        """Mark nothing, until the next `show`."""
        node = self.node
        if node is not None:
            node.GetDisplayNode().SetVisibility(False)

    def release(self) -> None:
        """Take the node out of the scene and leave no observer."""
        self._observations.clear()
        node, self._node = self.node, None
        if node is not None:
            node.GetScene().RemoveNode(node)

    def _make(self, segmentation: "slicer.vtkSegmentation") -> "slicer.vtkMRMLSegmentationNode":
        scene = self.nodes.hub.GetScene()
        node = add_hidden_node(scene, "vtkMRMLSegmentationNode", _("Region"), saved=False)
        pause()
        node.SetAndObserveSegmentation(segmentation)
        node.CreateDefaultDisplayNodes()
        display = node.GetDisplayNode()
        with slicer.util.NodeModify(display):
            display.SetSaveWithScene(False)
            display.SetVisibility2DFill(False)
            display.SetVisibility2DOutline(True)
            display.SetOpacity2DOutline(1.0)
            display.SetSliceIntersectionThickness(OUTLINE_THICKNESS)
            display.SetVisibility3D(True)
            display.SetOpacity3D(OPACITY_3D)
        self._node = node
        self._observations.clear()
        self._observations.add(scene, scene.StartCloseEvent, self._scene_closing)
        if self.nodes.reference is not None:
            moved = slicer.vtkMRMLTransformableNode.TransformModifiedEvent
            self._observations.add(self.nodes.reference, moved, self._follow)
        return node

    def _follow(self, *_event: object) -> None:
        reference, node = self.nodes.reference, self.node
        if reference is not None and node is not None and reference.GetTransformNodeID() != node.GetTransformNodeID():
            node.SetAndObserveTransformNodeID(reference.GetTransformNodeID())

    def _scene_closing(self, _scene: object, _event: str) -> None:
        self._observations.clear()
        self._node = None


def _segmentation_of(found: RegionMask) -> "slicer.vtkSegmentation":
    converter = slicer.vtkSegmentationConverter
    voxels = oriented_image(found.mask.astype(np.uint8), found.offset_ijk, found.ijk_to_ras)
    segment = slicer.vtkSegment()
    segment.SetName(_("Region"))
    segment.SetColor(*COLOUR)
    segment.AddRepresentation(converter.GetSegmentationBinaryLabelmapRepresentationName(), voxels)
    segmentation = slicer.vtkSegmentation()
    segmentation.SetSourceRepresentationName(converter.GetSegmentationBinaryLabelmapRepresentationName())
    segmentation.AddSegment(segment, SEGMENT)
    # Made here, so that drawing does not: the 3D views would otherwise show nothing.
    segmentation.CreateRepresentation(converter.GetSegmentationClosedSurfaceRepresentationName())
    return segmentation


def focus_on(nodes: CaseNodes, region: Region) -> None:
    """Bring a region into the middle of all views of the scene; zoom, direction and layout stay as they are."""
    scene = nodes.hub.GetScene()
    jump_to(world_of(nodes, region.peak_ras_mm), scene)
    centre = np.array(world_of(nodes, region.centre_ras_mm))
    for camera in nodes_of(scene, "vtkMRMLCameraNode"):
        shift = centre - camera.GetFocalPoint()
        camera.SetPosition(*(camera.GetPosition() + shift))
        camera.SetFocalPoint(*centre)
        camera.ResetClippingRange()
