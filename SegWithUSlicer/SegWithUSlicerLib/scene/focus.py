"""Show a region: outline it in the slice views and in 3D, and bring all views to it.

One hidden segmentation node that is never saved. It only adds: layers, layout, window/level and the user's own nodes
are not touched.
"""

import math
from collections.abc import Iterable, Iterator

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import numpy_to_vtk

from SegWithUCore.regions.region import Region

from ..i18n import _
from .case_nodes import CaseNodes, add_hidden_node
from .map_display import COLOUR_MAPS
from .observers import Observations
from .review_nodes import RegionMask, box_in_world, region_mask, world_of
from .slice_views import jump_to

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
        """Number of active observers; 0 after `release`."""
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
        """Mark any voxels of the input's grid."""
        colour = distinct_colour(self._colours_in_use())
        node = self.node
        if node is None:
            node = self._make(_segmentation_of(found, colour))
        else:
            # Exchanged as a whole: Slicer's tree has no item for a hidden node and complains of segments that join it.
            node.SetAndObserveSegmentation(_segmentation_of(found, colour))
        node.GetDisplayNode().SetVisibility(True)
        self.region_id = None
        self._follow()

    def hide(self) -> None:
        """Mark nothing, until the next `show`."""
        self.region_id = None
        node = self.node
        if node is not None:
            node.GetDisplayNode().SetVisibility(False)

    def release(self) -> None:
        """Take the node out of the scene and leave no observer."""
        self._observations.clear()
        node, self._node, self.region_id = self.node, None, None
        if node is not None:
            node.GetScene().RemoveNode(node)

    def _make(self, segmentation: "slicer.vtkSegmentation") -> "slicer.vtkMRMLSegmentationNode":
        scene = self.nodes.hub.GetScene()
        node = add_hidden_node(scene, "vtkMRMLSegmentationNode", _("Region"), saved=False)
        node.SetAndObserveSegmentation(segmentation)
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
        return node

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
    """Return the candidate most distinct from all colours in use; with none in use, the first.

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


MARGIN = 0.1
"""Part of the region's extent that is left free around it at each side."""
CLOSEST_MM = 30.0
"""Smallest field of view for a framed region: a handful of voxels without surroundings is of no use."""
_ZOOM_ATTRIBUTE = "SegWithU.UserZoom"
_SAME_ZOOM = 1e-4


def focus_on(
    nodes: CaseNodes, region: Region, keep_zoom: bool = True, *, in_3d: bool = True, voxels: RegionMask | None = None
) -> None:
    """Show a region in all views of the scene that the run lies in, by the rules above.

    Args:
        keep_zoom: leave the zoom alone unless the region does not fit; otherwise frame the region.
        in_3d: also bring it into the 3D views.
        voxels: what must fit; by default the region's own.
            Where the user has deleted the label volume the views only jump.
    """
    scene = nodes.hub.GetScene()
    peak = world_of(nodes, region.peak_ras_mm)
    jump_to(peak, scene)
    found = voxels or region_mask(nodes, region.id)
    if found is not None:
        corners = box_in_world(nodes, found)
        for view in _nodes(scene, "vtkMRMLSliceNode"):
            _fit(view, peak, corners, keep_zoom)
    if in_3d:
        centre = world_of(nodes, region.centre_ras_mm)
        for camera in _nodes(scene, "vtkMRMLCameraNode"):
            _bring_into_sight(camera, np.array(centre))


def restore_zoom(scene: "slicer.vtkMRMLScene") -> None:
    """Give every view that still has our zoom the one that the user had; for the end of a review."""
    for view in _nodes(scene, "vtkMRMLSliceNode"):
        _zoom(view, _users_zoom(view))


def _fit(view: "slicer.vtkMRMLSliceNode", peak: tuple[float, ...], corners: np.ndarray, keep_zoom: bool) -> None:
    """Centre and zoom one view that has jumped to the peak.

    Args:
        corners: of the region's box in world RAS mm, 8 x 3.
    """
    to_slice = vtk.vtkMatrix4x4()
    vtk.vtkMatrix4x4.Invert(view.GetSliceToRAS(), to_slice)
    # Along the view's x and y, from the peak, which the jump has put at the origin of the slice.
    low, high = (
        edge(np.array([to_slice.MultiplyPoint([*corner, 1.0])[:2] for corner in corners]), axis=0)
        for edge in (np.min, np.max)
    )
    size = np.array(view.GetFieldOfView()[:2])
    user = _users_zoom(view)
    fits_around_peak = bool(np.all(2 * (1 + MARGIN) * np.maximum(-low, high) <= size * user))
    needed = float(np.max((1 + 2 * MARGIN) * (high - low) / size))
    if not keep_zoom:
        _zoom(view, max(needed, CLOSEST_MM / float(size.min())), user)
    elif needed <= user:
        _zoom(view, user)
    else:
        _zoom(view, needed, user)
    if not fits_around_peak or not keep_zoom:
        across = (low + high) / 2
        x, y = (np.array([view.GetSliceToRAS().GetElement(row, column) for row in range(3)]) for column in (0, 1))
        view.JumpSliceByCentering(*(np.array(peak) + across[0] * x + across[1] * y))


def _zoom(view: "slicer.vtkMRMLSliceNode", factor: float, user: float | None = None) -> None:
    """Scale a view's field of view; remember the user's, given as a factor too, unless it is what the view gets."""
    x, y, z = view.GetFieldOfView()
    if not math.isclose(factor, 1.0, rel_tol=_SAME_ZOOM):
        view.SetFieldOfView(x * factor, y * factor, z)
    if user is None or math.isclose(user, factor, rel_tol=_SAME_ZOOM):
        view.RemoveAttribute(_ZOOM_ATTRIBUTE)
    else:
        view.SetAttribute(_ZOOM_ATTRIBUTE, " ".join(repr(part) for part in (user / factor, *_measures(view))))


def _users_zoom(view: "slicer.vtkMRMLSliceNode") -> float:
    """Return the zoom factor that restores the user's field of view."""
    stored = view.GetAttribute(_ZOOM_ATTRIBUTE)
    if stored is None:
        return 1.0
    user, *ours = (float(part) for part in stored.split())
    now = _measures(view)
    return user if any(math.isclose(a, b, rel_tol=_SAME_ZOOM) for a, b in zip(now, ours, strict=True)) else 1.0


def _measures(view: "slicer.vtkMRMLSliceNode") -> tuple[float, float, float]:
    """Return width and height in mm and mm per pixel: a view of another size keeps one of them, a zoom none."""
    x, y, _z = view.GetFieldOfView()
    return x, y, x / max(view.GetDimensions()[0], 1)


def _bring_into_sight(camera: "slicer.vtkMRMLCameraNode", centre: np.ndarray) -> None:
    """Move a camera sideways to `centre`, unless the centre is within the middle half of its view."""
    position, focus = np.array(camera.GetPosition()), np.array(camera.GetFocalPoint())
    forward = focus - position
    distance = float(np.linalg.norm(forward))
    if not distance:
        return
    forward = forward / distance
    depth = float(np.dot(centre - position, forward))
    across = float(np.linalg.norm(centre - position - depth * forward))
    if camera.GetParallelProjection():
        reach = camera.GetParallelScale()
    else:
        reach = depth * math.tan(math.radians(camera.GetViewAngle() / 2))
    if depth > 0 and across <= reach / 2:
        return
    camera.SetFocalPoint(*centre)
    camera.SetPosition(*(centre - forward * distance))
    camera.ResetClippingRange()


def _nodes(scene: "slicer.vtkMRMLScene", kind: str) -> Iterator["slicer.vtkMRMLNode"]:
    for index in range(scene.GetNumberOfNodesByClass(kind)):
        yield scene.GetNthNodeByClass(index, kind)
