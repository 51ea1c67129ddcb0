"""The region that is being looked at, outlined in the slice views and as a surface in 3D.

One hidden segmentation node that is never saved. It only adds: layers, layout, window/level and the user's own nodes
are not touched.
"""

from collections.abc import Iterable

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import numpy_to_vtk

from ..i18n import _
from .case_nodes import CaseNodes, hidden_node
from .map_display import COLOUR_MAPS
from .observers import Observations
from .review_nodes import RegionMask, region_mask

SEGMENT = "region"
OUTLINE_THICKNESS = 3
OPACITY_3D = 0.7
# Saturated, so that they stand out from greys; which one is taken depends on what else is on the screen. No pure green:
# with red-green blindness it looks like the yellow end of the overlays' colour maps.
CANDIDATES = ((1.0, 0.0, 1.0), (0.0, 1.0, 1.0), (0.3, 0.5, 1.0), (1.0, 0.45, 0.0), (1.0, 1.0, 0.0))
_SAMPLES = 17


class RegionHighlight:
    """Marks one region of a run at a time, and follows the run's parent transform. Call `release` when done.

    Example:
        highlight = RegionHighlight(nodes)
        highlight.show(regions_of(nodes)[0].id)
    """

    def __init__(self, nodes: CaseNodes) -> None:
        self.nodes = nodes
        self.region_id: int | None = None
        self._node: slicer.vtkMRMLSegmentationNode | None = None
        self._observations = Observations()

    @property
    def node(self) -> "slicer.vtkMRMLSegmentationNode | None":
        """The node that draws the region; None before the first `show`, after `release`, and when it was deleted."""
        alive = self._node is not None and self._node.GetScene() is not None
        return self._node if alive else None

    @property
    def observer_count(self) -> int:
        """Observers that are standing now; 0 after `release`."""
        return len(self._observations)

    def show(self, region_id: int) -> bool:
        """Mark this region, and no other; False, and nothing is marked, where its voxels are gone.

        Raises:
            KeyError: there is no such region.
        """
        found = region_mask(self.nodes, region_id)
        if found is None:
            self.hide()
            return False
        self.show_mask(found)
        self.region_id = region_id
        return True

    def show_mask(self, found: RegionMask) -> None:
        """Mark any voxels of the input's grid: for a place of the blind sample, which must look like a region."""
        colour = distinct_colour(self._colours_in_use())
        if self.node is None:
            self._make(_segmentation_of(found, colour))
        else:
            # Exchanged as a whole: Slicer's tree has no item for a hidden node and complains of segments that join it.
            self._node.SetAndObserveSegmentation(_segmentation_of(found, colour))
        self._node.GetDisplayNode().SetVisibility(True)
        self.region_id = None
        self._follow()

    def hide(self) -> None:
        """Mark nothing, until the next `show`."""
        self.region_id = None
        if self.node is not None:
            self._node.GetDisplayNode().SetVisibility(False)

    def release(self) -> None:
        """Take the node out of the scene and leave no observer."""
        self._observations.clear()
        node, self._node, self.region_id = self.node, None, None
        if node is not None:
            node.GetScene().RemoveNode(node)

    def _make(self, segmentation: "slicer.vtkSegmentation") -> None:
        scene = self.nodes.hub.GetScene()
        node = hidden_node(scene, "vtkMRMLSegmentationNode", _("Region"), saved=False)
        node.SetAndObserveSegmentation(segmentation)
        scene.AddNode(node)
        node.CreateDefaultDisplayNodes()
        display = node.GetDisplayNode()
        was_modifying = display.StartModify()
        display.SetSaveWithScene(False)
        display.SetVisibility2DFill(False)
        display.SetVisibility2DOutline(True)
        display.SetOpacity2DOutline(1.0)
        display.SetSliceIntersectionThickness(OUTLINE_THICKNESS)
        display.SetVisibility3D(True)
        display.SetOpacity3D(OPACITY_3D)
        display.EndModify(was_modifying)
        self._node = node
        self._observations.clear()
        self._observations.add(scene, scene.StartCloseEvent, self._scene_closing)
        if self.nodes.reference is not None:
            moved = slicer.vtkMRMLTransformableNode.TransformModifiedEvent
            self._observations.add(self.nodes.reference, moved, self._reference_moved)

    def _follow(self) -> None:
        reference, node = self.nodes.reference, self.node
        if reference is not None and node is not None and reference.GetTransformNodeID() != node.GetTransformNodeID():
            node.SetAndObserveTransformNodeID(reference.GetTransformNodeID())

    def _colours_in_use(self) -> list[tuple[float, float, float]]:
        return [*_structure_colours(self.nodes), *_map_colours(self.nodes.hub.GetScene())]

    def _reference_moved(self, _node: object, _event: str) -> None:
        self._follow()

    def _scene_closing(self, _scene: object, _event: str) -> None:
        self._observations.clear()
        self._node, self.region_id = None, None


def distinct_colour(in_use: Iterable[tuple[float, float, float]]) -> tuple[float, float, float]:
    """The candidate that the eye can tell best from all colours in use; with none in use, the first.

    Measured as distance in CIELAB to the nearest colour: a structure may have any colour, and a fixed one would vanish
    beside a structure of the same colour. All overlay colour maps count, so that the mark keeps its colour when
    another map is chosen; bright magenta is farthest from them, and taken unless a structure comes near it.
    """
    taken = np.array([_lab(colour) for colour in in_use])
    if not len(taken):
        return CANDIDATES[0]

    def distance(candidate: tuple[float, float, float]) -> float:
        return float(np.linalg.norm(taken - _lab(candidate), axis=1).min())

    return max(CANDIDATES, key=distance)


def _lab(colour: tuple[float, float, float]) -> np.ndarray:
    lab = [0.0] * 3
    vtk.vtkMath.RGBToLab(colour, lab)
    return np.array(lab)


def _structure_colours(nodes: CaseNodes) -> list[tuple[float, float, float]]:
    node = nodes.segmentation
    if node is None:
        return []
    segmentation = node.GetSegmentation()
    return [segmentation.GetNthSegment(index).GetColor() for index in range(segmentation.GetNumberOfSegments())]


def _map_colours(scene: "slicer.vtkMRMLScene") -> list[tuple[float, float, float]]:
    colours = []
    for identifier in COLOUR_MAPS.values():
        table = scene.GetNodeByID(identifier)
        count = 0 if table is None else table.GetNumberOfColors()
        for entry in np.linspace(0, count - 1, _SAMPLES).astype(int) if count else []:
            colour = [0.0] * 4
            table.GetColor(int(entry), colour)
            colours.append((colour[0], colour[1], colour[2]))
    return colours


def _segmentation_of(found: RegionMask, colour: tuple[float, float, float]) -> "slicer.vtkSegmentation":
    converter = slicer.vtkSegmentationConverter
    segment = slicer.vtkSegment()
    segment.SetName(_("Region"))
    segment.SetColor(*colour)
    segment.AddRepresentation(converter.GetSegmentationBinaryLabelmapRepresentationName(), _image_of(found))
    segmentation = slicer.vtkSegmentation()
    segmentation.SetSourceRepresentationName(converter.GetSegmentationBinaryLabelmapRepresentationName())
    segmentation.AddSegment(segment, SEGMENT)
    # Made here, so that drawing does not: the 3D views would otherwise show nothing.
    segmentation.CreateRepresentation(converter.GetSegmentationClosedSurfaceRepresentationName())
    return segmentation


def _image_of(found: RegionMask) -> "slicer.vtkOrientedImageData":
    image = slicer.vtkOrientedImageData()
    i, j, k = found.offset_ijk
    depth, height, width = found.mask.shape
    image.SetExtent(i, i + width - 1, j, j + height - 1, k, k + depth - 1)
    voxels = np.ascontiguousarray(found.mask, dtype=np.uint8).ravel()
    image.GetPointData().SetScalars(numpy_to_vtk(voxels, deep=True))
    image.SetImageToWorldMatrix(found.ijk_to_ras)
    return image
