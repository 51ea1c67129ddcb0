"""Bringing a region into view: slices and crosshair to its peak, the user's zoom kept unless the region does not fit.

Rules, for each slice view by itself:

- The peak comes to the middle. Where the region would then reach over the edge, the middle of the region does, with the
  slice still through the peak.
- Where it reaches over the edge even so, the view zooms out to the smallest field of view that holds it with a margin.
  What the user had is remembered on the view's node and comes back as soon as a region fits into it again. A view that
  the user has zoomed since is his again, and nothing is remembered.
- Without `keep_zoom` each view frames each region; the user's zoom is remembered in the same way.
- 3D views keep direction and distance; they move sideways, to the region's centre, only if that is out of sight.

Layout, layers, window/level and the linking of views are never touched.
"""

import math
from collections.abc import Iterator

import numpy as np
import slicer
import vtk

from SegWithUCore.regions.region import Region

from .jump import jump_to
from .scene.case_nodes import CaseNodes
from .scene.review_nodes import RegionMask, box_in_world, region_mask, world_of

MARGIN = 0.1
"""Part of the region's extent that is left free around it at each side."""
CLOSEST_MM = 30.0
"""Smallest field of view that framing a region leads to: a handful of voxels without surroundings tells nothing."""
_ZOOM_ATTRIBUTE = "SegWithU.UserZoom"
_SAME_ZOOM = 1e-4


def look_at(
    nodes: CaseNodes, region: Region, keep_zoom: bool = True, *, in_3d: bool = True, voxels: RegionMask | None = None
) -> None:
    """Show a region in all views of the scene that the run lies in, by the rules above.

    Args:
        keep_zoom: leave the zoom alone unless the region does not fit; otherwise frame the region.
        in_3d: also bring it into sight in the 3D views.
        voxels: what must fit, for a place that is in no label volume (blind sample); by default the region's own.
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
    """By what factor the field of view must change to be the user's: 1 where it is."""
    told = view.GetAttribute(_ZOOM_ATTRIBUTE)
    if told is None:
        return 1.0
    user, *ours = (float(part) for part in told.split())
    now = _measures(view)
    return user if any(math.isclose(a, b, rel_tol=_SAME_ZOOM) for a, b in zip(now, ours, strict=True)) else 1.0


def _measures(view: "slicer.vtkMRMLSliceNode") -> tuple[float, float, float]:
    """Width and height in mm and mm a pixel: a view of another size keeps at least one of them, a zoom none."""
    x, y, _z = view.GetFieldOfView()
    return x, y, x / max(view.GetDimensions()[0], 1)


def _bring_into_sight(camera: "slicer.vtkMRMLCameraNode", centre: np.ndarray) -> None:
    """Move a camera sideways so that it looks at `centre`, unless the centre is within half of what it sees."""
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
