"""How the voxels look that a run would see, in a few numbers: so that the worker can compare without the voxels."""

import itertools

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from SegWithUCore.inference.image_features import ImageFeatures, image_features

from .scene.volume_export import Roi

_EDGE_MM = 1e-3
"""A voxel centre this close to a face of the region counts as on it, whatever the rounding."""


def look_of(volume: "slicer.vtkMRMLScalarVolumeNode", box: Roi | None) -> ImageFeatures | None:
    """Features of the part of a volume inside a region, None where it holds no scalar image or nothing is inside.

    Args:
        box: as `read_roi` gives it, in the volume's own frame; None for the whole volume.
    """
    image = volume.GetImageData()
    if image is None or image.GetNumberOfPoints() == 0 or image.GetNumberOfScalarComponents() != 1:
        return None
    i, j, k = image.GetDimensions()
    array = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(k, j, i)
    part = array if box is None else array[_slices(volume, box, (i, j, k))]
    return image_features(part) if part.size else None


def _slices(
    volume: "slicer.vtkMRMLScalarVolumeNode", box: Roi, size_ijk: tuple[int, int, int]
) -> tuple[slice, slice, slice]:
    """Where the box lies in the array (k, j, i).

    As in the engine, the left, posterior and inferior faces belong to the region and the others do not.
    """
    matrix = vtk.vtkMatrix4x4()
    volume.GetRASToIJKMatrix(matrix)
    centre, half = np.asarray(box[:3]) - _EDGE_MM, np.asarray(box[3:]) / 2
    corners = [centre + half * signs for signs in itertools.product((-1, 1), repeat=3)]
    indices = np.asarray([matrix.MultiplyPoint([*corner, 1.0])[:3] for corner in corners])
    low = np.clip(np.ceil(indices.min(0)), 0, size_ijk).astype(int)
    high = np.clip(np.floor(indices.max(0)) + 1, 0, size_ijk).astype(int)
    i, j, k = (slice(start, end) for start, end in zip(low.tolist(), high.tolist(), strict=True))
    return k, j, i
