"""The volumes of a case in memory: images with their geometry, and what is looked up in their voxels."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import get_vtk_array_type, numpy_to_vtk, vtk_to_numpy

from SegWithUCore.case.case_file import MapInfo
from SegWithUCore.util.errors import InputError

from ..i18n import _

Box = tuple[slice, ...]


@dataclass
class Volume:
    """Voxels with MRML's convention: spacing 1, origin 0, all geometry in `ijk_to_ras`."""

    image: vtk.vtkImageData
    ijk_to_ras: vtk.vtkMatrix4x4

    @property
    def array(self) -> np.ndarray:
        """The voxels, not copied; axes k, j, i."""
        return array_of(self.image)


@dataclass
class MapVolume:
    """A map to be shown: window and floor in the map's unit.

    `floor` lies between the value of voxels that were not assessed and every value that was.
    """

    info: MapInfo
    volume: Volume
    window: tuple[float, float]
    floor: float
    top: float


@dataclass
class CaseImages:
    """The volumes of one case folder.

    Attributes:
        boxes: of each label, on the whole grid.
        region_boxes: the same of the regions.
        stored_ijk_to_ras: of the case's own grid, which has the same voxels, but whose axes may be turned round.
    """

    labels: Volume
    boxes: Mapping[int, Box]
    stored_ijk_to_ras: vtk.vtkMatrix4x4
    maps: dict[str, MapVolume] = field(default_factory=dict)
    regions: Volume | None = None
    region_boxes: Mapping[int, Box] = field(default_factory=dict)


def array_of(image: vtk.vtkImageData) -> np.ndarray:
    """Return the voxels of an image, not copied; axes k, j, i."""
    return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(image.GetDimensions()[::-1])


def image_from(array_kji: np.ndarray) -> vtk.vtkImageData:
    """Make an image that owns a copy of the array."""
    image = vtk.vtkImageData()
    image.SetDimensions(array_kji.shape[::-1])
    image.GetPointData().SetScalars(numpy_to_vtk(np.ascontiguousarray(array_kji).ravel(), deep=True))
    return image


def turn(volume: Volume, axes: Sequence[int]) -> None:
    """Turn axes (0, 1, 2 for i, j, k) of a volume round, in place: voxels stay where they are in the world."""
    matrix = slicer.util.arrayFromVTKMatrix(volume.ijk_to_ras)
    for axis in axes:
        matrix[:3, 3] += matrix[:3, axis] * (volume.image.GetDimensions()[axis] - 1)
        matrix[:3, axis] *= -1
    volume.array[...] = np.flip(volume.array, tuple(2 - axis for axis in axes))
    volume.ijk_to_ras = slicer.util.vtkMatrixFromArray(matrix)


def make_right_handed(volume: Volume) -> None:
    """Turn the last axis of a left-handed volume round, in place.

    Slicer 5.13 does so when it loads an image or a scene: what is put into the scene otherwise would be turned round
    when that is loaded again.
    """
    if volume.ijk_to_ras.Determinant() < 0:
        turn(volume, [2])


def empty_image(shape_kji: Sequence[int], dtype: np.dtype) -> vtk.vtkImageData:
    """Make an image whose voxels are still to be filled, through `array_of`."""
    image = vtk.vtkImageData()
    image.SetDimensions(tuple(shape_kji)[::-1])
    image.AllocateScalars(get_vtk_array_type(dtype), 1)
    return image


def union(boxes: Iterable[Box | None]) -> Box | None:
    """Return the smallest box around all boxes; None of none."""
    axes = zip(*filter(None, boxes), strict=True)
    around = [slice(min(side.start for side in sides), max(side.stop for side in sides)) for sides in axes]
    return tuple(around) or None


def shifted(box: Box, offset_kji: Sequence[int]) -> Box:
    """Return the box relative to an origin that is `offset_kji` further."""
    return tuple(slice(side.start - by, side.stop - by) for side, by in zip(box, offset_kji, strict=True))


def boxes_of_labels(labels_kji: np.ndarray) -> dict[int, Box]:
    """Return the smallest box around each label but 0.

    Raises:
        InputError: there are values that are no labels.
    """
    # A larger value is no label: the lookup needs memory for each smaller value.
    if labels_kji.dtype.kind not in "iu" or labels_kji.min(initial=0) < 0 or labels_kji.max(initial=0) > 1 << 20:
        raise InputError(_("The file holds values that are no labels: segment the case again."), code="label-values")
    # Not by SciPy, whose import alone holds the window up for a second.
    filled = np.flatnonzero(labels_kji)
    labels, numbers = np.unique(labels_kji.ravel()[filled], return_inverse=True)
    sides = []
    for size, places in zip(labels_kji.shape, np.unravel_index(filled, labels_kji.shape), strict=True):
        is_seen = np.zeros((len(labels), size), bool)
        is_seen[numbers, places] = True
        sides.append(zip(is_seen.argmax(axis=1), size - is_seen[:, ::-1].argmax(axis=1), strict=True))
    boxes = zip(*sides, strict=True)
    return {int(label): tuple(slice(int(a), int(b)) for a, b in box) for label, box in zip(labels, boxes, strict=True)}


def matrix_of(volume: "slicer.vtkMRMLVolumeNode") -> vtk.vtkMatrix4x4:
    """Return the matrix from the voxels of a volume to RAS mm of its own space, without parent transforms."""
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    return matrix


def ijk_to_ras(spacing: Sequence[float], origin: Sequence[float], direction: Sequence[float]) -> vtk.vtkMatrix4x4:
    """Return the matrix of a grid that is given as image files give it: LPS, and the direction row by row."""
    to_lps = np.eye(4)
    to_lps[:3, :3] = np.array(direction).reshape(3, 3) * np.array(spacing)
    to_lps[:3, 3] = origin
    return slicer.util.vtkMatrixFromArray(np.diag([-1.0, -1.0, 1.0, 1.0]) @ to_lps)
