"""The volumes of a case folder, read and checked before any node of the scene is touched."""

import gzip
import math
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

from SegWithUCore.case.case_file import SEGMENTATION_FILE, CaseDescription, MapInfo
from SegWithUCore.case.region_files import REGION_LABELS_FILE, REGIONS_FILE, check_region_files
from SegWithUCore.errors import InputError

from ..i18n import _


def near(labels_kji: np.ndarray, spacing_kji_mm: Sequence[float], distance_mm: float) -> np.ndarray:
    """Mark the voxels of any structure and those whose centre is at most `distance_mm` from one.

    The inside of a structure counts as near, however deep: an uncertain core must not be hidden.

    Args:
        labels_kji: label volume, 0 is background; axes k, j, i.
        spacing_kji_mm: voxel size in the same axis order.

    Returns:
        Boolean array of the same shape. Exact to the rounding of float32.
    """
    import SimpleITK as sitk

    result = np.zeros(labels_kji.shape, dtype=bool)
    labelled = labelled_box(labels_kji != 0)
    if labelled is None:
        return result
    margin = [math.floor(distance_mm / step) for step in spacing_kji_mm]
    box = tuple(
        slice(max(0, side.start - extra), side.stop + extra) for side, extra in zip(labelled, margin, strict=True)
    )
    inside = labels_kji[box] != 0
    image = sitk.GetImageFromArray(inside.astype(np.uint8))
    image.SetSpacing([float(step) for step in reversed(spacing_kji_mm)])
    squared = sitk.SignedMaurerDistanceMap(image, squaredDistance=True, useImageSpacing=True)
    limit = distance_mm * distance_mm * (1 + 1e-6)
    # Without any background there are no distances.
    result[box] = inside | (sitk.GetArrayViewFromImage(squared) <= limit)
    return result


def masked_copy(values_kji: np.ndarray, near_kji: np.ndarray, masked_value: float) -> np.ndarray:
    """Copy a map to float32, with `masked_value` wherever `near_kji` is False."""
    return np.where(near_kji, values_kji, np.float32(masked_value)).astype(np.float32, copy=False)


def labelled_box(mask_kji: np.ndarray) -> tuple[slice, ...] | None:
    """Return the smallest box around all True voxels, a slice per axis; None if there are none."""
    box = []
    for axis in range(mask_kji.ndim):
        hit = np.flatnonzero(mask_kji.any(axis=tuple(other for other in range(mask_kji.ndim) if other != axis)))
        if not len(hit):
            return None
        box.append(slice(int(hit[0]), int(hit[-1]) + 1))
    return tuple(box)


# Only a window from the case is the same for every patient; a map without one is shown from its own lowest value
# to this percentile.
_FALLBACK_PERCENTILE = 99.9
# Corner positions may differ by this share of the smallest voxel edge: NIfTI keeps geometry in float32.
_GRID_TOLERANCE = 0.05
_NIFTI_HEADER = 348


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
    """A map to be shown: window and floor in the map's unit; `near` is the masked copy, if asked for.

    `floor` lies between the value of voxels that were not assessed and every value that was.
    """

    info: MapInfo
    volume: Volume
    window: tuple[float, float]
    floor: float
    top: float
    near: Volume | None = None


@dataclass
class CaseImages:
    """All volumes of one case folder."""

    labels: Volume
    maps: dict[str, MapVolume] = field(default_factory=dict)
    regions: Volume | None = None


def read_case_images(
    case_folder: Path, case: CaseDescription, input_node: "slicer.vtkMRMLVolumeNode | None", near_mm: float | None
) -> CaseImages:
    """Read segmentation, maps and the label volume of regions, if any.

    With an input, its exact geometry replaces the rounded one of the files.

    Args:
        near_mm: make the masked copies for "only near the segmentation" with this distance; None for none.

    Raises:
        InputError: a file is missing or unreadable, or lies on another grid than the input or the segmentation; or
            the segmentation holds a label that the case does not name.
    """
    labels = _read(case_folder / SEGMENTATION_FILE)
    reference = labels if input_node is None else _geometry_of(input_node)
    _same_grid(labels, reference, case_folder / SEGMENTATION_FILE)
    _check_labels(labels.array, case)
    images = CaseImages(labels)
    mask = None
    if near_mm is not None and case.maps:
        mask = near(labels.array, _spacing_kji(reference), near_mm)
    for name, info in case.maps.items():
        volume = _as_float32(_read(case_folder / info.file))
        _same_grid(volume, reference, case_folder / info.file)
        images.maps[name] = _map_volume(info, volume, mask)
    if (case_folder / REGIONS_FILE).is_file():
        check_region_files(case_folder, case.raw)
        images.regions = _read(case_folder / REGION_LABELS_FILE)
        _same_grid(images.regions, reference, case_folder / REGION_LABELS_FILE)
    return images


def array_of(image: vtk.vtkImageData) -> np.ndarray:
    """Return the voxels of an image, not copied; axes k, j, i."""
    return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(image.GetDimensions()[::-1])


def image_from(array_kji: np.ndarray) -> vtk.vtkImageData:
    """Make an image that owns a copy of the array."""
    image = vtk.vtkImageData()
    image.SetDimensions(array_kji.shape[::-1])
    image.GetPointData().SetScalars(numpy_to_vtk(np.ascontiguousarray(array_kji).ravel(), deep=True))
    return image


def _check_labels(labels: np.ndarray, case: CaseDescription) -> None:
    box = labelled_box(labels != 0)
    if box is None:
        return
    unknown = np.setdiff1d(np.unique(labels[box]), [0, *(structure.value for structure in case.structures)])
    if len(unknown):
        raise InputError(
            _("The segmentation holds label {value:g}, which the case does not name: segment the case again.").format(
                value=unknown[0]
            )
        )


def _read(path: Path) -> Volume:
    if not path.is_file():
        raise InputError(_("{path} is missing: the case folder is not whole.").format(path=path))
    # Outside the scene and without a storage node on the result: a private temporary folder goes away after
    # loading, and Slicer must offer to save the nodes instead of pointing at a file that is gone.
    node = slicer.vtkMRMLScalarVolumeNode()
    storage = slicer.vtkMRMLVolumeArchetypeStorageNode()
    storage.SetFileName(str(path))
    if not _is_whole(path) or not storage.ReadData(node) or node.GetImageData() is None:
        raise InputError(_("{path} cannot be read: the case folder is damaged.").format(path=path))
    return _geometry_of(node)


def _is_whole(path: Path) -> bool:
    """Check whether a .nii.gz is complete: ITK reads the missing end of a truncated one as zeros, without an error."""
    try:
        with gzip.open(path, "rb") as file:
            header = file.read(_NIFTI_HEADER)
        with path.open("rb") as raw:
            raw.seek(-4, os.SEEK_END)
            (unpacked,) = struct.unpack("<I", raw.read(4))
    except (OSError, EOFError):
        return False
    if len(header) < _NIFTI_HEADER:
        return False
    order = "<" if struct.unpack_from("<i", header)[0] == _NIFTI_HEADER else ">"
    dimensions = struct.unpack_from(f"{order}8h", header, 40)
    voxels = math.prod(dimensions[1 : 1 + dimensions[0]])
    (bits,), (offset,) = struct.unpack_from(f"{order}h", header, 72), struct.unpack_from(f"{order}f", header, 108)
    return unpacked == (int(offset) + voxels * bits // 8) % 2**32


def _geometry_of(node: "slicer.vtkMRMLVolumeNode") -> Volume:
    if node.GetImageData() is None:
        raise InputError(_("{volume} holds no image: choose another input.").format(volume=node.GetName()))
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return Volume(node.GetImageData(), matrix)


def _same_grid(volume: Volume, reference: Volume, path: Path) -> None:
    size, expected = volume.image.GetDimensions(), reference.image.GetDimensions()
    if size != expected:
        text = _("{path} has {size} voxels, its image {expected}: choose the image that this case was made from.")
        raise InputError(
            text.format(path=path, size=" x ".join(map(str, size)), expected=" x ".join(map(str, expected)))
        )
    shift = max(
        float(np.linalg.norm(np.subtract(_corner(volume, corner), _corner(reference, corner))))
        for corner in ((0, 0, 0), (size[0], 0, 0), (0, size[1], 0), (0, 0, size[2]))
    )
    if shift > _GRID_TOLERANCE * min(_spacing_kji(reference)):
        raise InputError(
            _("{path} lies {shift:.2f} mm off its image: choose the image this case was made from.").format(
                path=path, shift=shift
            )
        )
    volume.ijk_to_ras = reference.ijk_to_ras


def _corner(volume: Volume, ijk: tuple[int, int, int]) -> tuple[float, ...]:
    return volume.ijk_to_ras.MultiplyPoint([*ijk, 1.0])[:3]


def _spacing_kji(volume: Volume) -> list[float]:
    columns = [[volume.ijk_to_ras.GetElement(row, column) for row in range(3)] for column in (2, 1, 0)]
    return [float(np.linalg.norm(column)) for column in columns]


def _as_float32(volume: Volume) -> Volume:
    if volume.image.GetScalarType() != vtk.VTK_FLOAT:
        volume.image = image_from(volume.array.astype(np.float32))
    return volume


def _map_volume(info: MapInfo, volume: Volume, mask: np.ndarray | None) -> MapVolume:
    values = volume.array
    # Without the copy that a selection makes, where the whole grid was assessed.
    assessed = values if values.min() > info.not_assessed else values[values > info.not_assessed]
    low, high = (float(assessed.min()), float(assessed.max())) if assessed.size else (0.0, 1.0)
    window = info.window
    if window is None:
        window = (low, float(np.percentile(assessed, _FALLBACK_PERCENTILE)) if assessed.size else high)
    # Half-way down to the value that marks voxels as not assessed, so that rounding cannot let them through.
    below = info.not_assessed if info.not_assessed < low else low - 1.0
    result = MapVolume(info, volume, window, floor=(below + low) / 2, top=high)
    if mask is not None:
        result.near = Volume(image_from(masked_copy(values, mask, below)), volume.ijk_to_ras)
    return result
