"""The volumes of a case in memory: images with their geometry, and what is looked up in their voxels."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import vtk
from vtk.util.numpy_support import get_vtk_array_type, numpy_to_vtk, vtk_to_numpy

from SegWithUCore.case.case_file import MapInfo

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

    @property
    def spacing_kji(self) -> list[float]:
        """Edges of a voxel in mm along k, j, i."""
        columns = [[self.ijk_to_ras.GetElement(row, column) for row in range(3)] for column in (2, 1, 0)]
        return [float(np.linalg.norm(column)) for column in columns]


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
        later: files of maps that were not read yet, by name.
    """

    labels: Volume
    boxes: Mapping[int, Box]
    maps: dict[str, MapVolume] = field(default_factory=dict)
    regions: Volume | None = None
    region_boxes: Mapping[int, Box] = field(default_factory=dict)
    later: dict[str, Path] = field(default_factory=dict)


def array_of(image: vtk.vtkImageData) -> np.ndarray:
    """Return the voxels of an image, not copied; axes k, j, i."""
    return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(image.GetDimensions()[::-1])


def image_from(array_kji: np.ndarray) -> vtk.vtkImageData:
    """Make an image that owns a copy of the array."""
    image = vtk.vtkImageData()
    image.SetDimensions(array_kji.shape[::-1])
    image.GetPointData().SetScalars(numpy_to_vtk(np.ascontiguousarray(array_kji).ravel(), deep=True))
    return image


def empty_image(shape_kji: Sequence[int], dtype: np.dtype) -> vtk.vtkImageData:
    """Make an image whose voxels are still to be filled, through `array_of`."""
    image = vtk.vtkImageData()
    image.SetDimensions(tuple(shape_kji)[::-1])
    image.AllocateScalars(get_vtk_array_type(dtype), 1)
    return image


def labelled_box(mask_kji: np.ndarray) -> Box | None:
    """Return the smallest box around all True voxels, a slice per axis; None if there are none."""
    box = []
    for axis in range(mask_kji.ndim):
        hit = np.flatnonzero(mask_kji.any(axis=tuple(other for other in range(mask_kji.ndim) if other != axis)))
        if not len(hit):
            return None
        box.append(slice(int(hit[0]), int(hit[-1]) + 1))
    return tuple(box)


def union(boxes: Sequence[Box]) -> Box | None:
    """Return the smallest box around all boxes; None of none."""
    if not boxes:
        return None
    return tuple(
        slice(min(side.start for side in sides), max(side.stop for side in sides)) for sides in zip(*boxes, strict=True)
    )


def shifted(box: Box, offset_kji: Sequence[int]) -> Box:
    """Return the box as it lies in what begins `offset_kji` further."""
    return tuple(slice(side.start - by, side.stop - by) for side, by in zip(box, offset_kji, strict=True))


class LabelBoxes:
    """The smallest box around each label but 0, found while a label volume is read plane by plane."""

    def __init__(self) -> None:
        self.boxes: dict[int, Box] = {}

    def look(self, planes: np.ndarray, first: int) -> None:
        """Take in the next planes (k, j, i), of which the first is number `first`."""
        inside = labelled_box(planes != 0)
        if inside is None:
            return
        part, corner = planes[inside], (first + inside[0].start, inside[1].start, inside[2].start)
        for label in _labels_in(part):
            box = labelled_box(part == label)
            assert box is not None
            found = shifted(box, [-start for start in corner])
            known = self.boxes.get(label)
            self.boxes[label] = found if known is None else union([known, found]) or found


def _labels_in(part: np.ndarray) -> list[int]:
    is_small = part.dtype == np.uint8
    found = np.flatnonzero(np.bincount(part.ravel(), minlength=1)) if is_small else np.unique(part)
    return [int(label) for label in found if label]


class Extremes:
    """Lowest and highest value above that of voxels that were not assessed, found while a map is read."""

    def __init__(self, not_assessed: float) -> None:
        self._not_assessed = not_assessed
        self._low, self._high = np.inf, -np.inf

    def look(self, planes: np.ndarray, _first: int = 0) -> None:
        """Take in the next planes."""
        low = planes.min()
        # Without the copy that a selection makes, where all of it was assessed.
        assessed = planes if low > self._not_assessed else planes[planes > self._not_assessed]
        if assessed.size:
            self._low = min(self._low, float(assessed.min() if assessed is not planes else low))
            self._high = max(self._high, float(assessed.max()))

    @property
    def ends(self) -> tuple[float, float] | None:
        """Lowest and highest value; None if nothing was assessed."""
        return None if self._low > self._high else (self._low, self._high)


Look = Callable[[np.ndarray, int], None]
"""Looks at planes (k, j, i) and the number of the first."""
