"""The structures of a case: centred in the slice views, and in 3D."""

import numpy as np
import slicer
import vtk

from .observers import nodes_of
from .segmentation import segment_array, segment_id
from .slice_views import jump_to


def centre_of_structure(node: "slicer.vtkMRMLSegmentationNode", value: int) -> tuple[float, float, float] | None:
    """Return the centroid of a structure in world RAS mm, through all parent transforms; None if it is empty."""
    segment = node.GetSegmentation().GetSegment(segment_id(value))
    if segment is None:
        return None
    mask, image = segment_array(segment)
    if image is None or not mask.any():
        return None
    matrix, world = vtk.vtkMatrix4x4(), [0.0] * 3
    image.GetImageToWorldMatrix(matrix)
    k, j, i = (
        np.average(np.arange(size), weights=mask.sum(axis=tuple(other for other in range(3) if other != axis)))
        for axis, size in enumerate(mask.shape)
    )
    i0, _i1, j0, _j1, k0, _k1 = image.GetExtent()
    node.TransformPointToWorld(matrix.MultiplyPoint([i + i0, j + j0, k + k0, 1.0])[:3], world)
    r, a, s = world
    return r, a, s


def show_structure(node: "slicer.vtkMRMLSegmentationNode", value: int) -> bool:
    """Make a structure visible and centre all slice views on its centroid; False, and nothing moves, if it is empty."""
    node.CreateDefaultDisplayNodes()
    node.GetDisplayNode().SetVisibility(True)
    node.GetDisplayNode().SetSegmentVisibility(segment_id(value), True)
    centre = centre_of_structure(node, value)
    if centre is None:
        return False
    jump_to(centre, node.GetScene())
    return True


def show_in_3d(node: "slicer.vtkMRMLSegmentationNode", visible: bool = True) -> None:
    """Show the closed surfaces of all structures in the 3D views, or hide them; they are made at the first call."""
    surface = slicer.vtkSegmentationConverter.GetSegmentationClosedSurfaceRepresentationName()
    if visible and not node.GetSegmentation().ContainsRepresentation(surface):
        node.CreateClosedSurfaceRepresentation()
    node.CreateDefaultDisplayNodes()
    node.GetDisplayNode().SetPreferredDisplayRepresentationName3D(surface)
    node.GetDisplayNode().SetVisibility3D(visible)
    if visible:
        _look_at(node)


def _look_at(node: "slicer.vtkMRMLSegmentationNode") -> None:
    """Centre a segmentation in all 3D views and fit it to them; the direction of view stays."""
    bounds = [0.0] * 6
    node.GetRASBounds(bounds)
    low, high = np.array(bounds[::2]), np.array(bounds[1::2])
    radius = float(np.linalg.norm(high - low)) / 2
    if radius <= 0:  # all structures are empty
        return
    for camera in nodes_of(node.GetScene(), "vtkMRMLCameraNode"):
        forward = np.array(camera.GetFocalPoint()) - np.array(camera.GetPosition())
        forward = forward / (np.linalg.norm(forward) or 1.0)
        camera.SetFocalPoint(*(low + high) / 2)
        camera.SetPosition(*((low + high) / 2 - forward * radius / np.sin(np.radians(camera.GetViewAngle() / 2))))
        camera.SetParallelScale(radius)
        camera.ResetClippingRange()
