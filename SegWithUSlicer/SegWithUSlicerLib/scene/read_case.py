"""Read the volumes of a case folder in steps, checked before any node of the scene is touched.

Of a large image only the first map is read, the one that is shown; the others are read when they are chosen.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import slicer
import vtk

from SegWithUCore.case.case_file import SEGMENTATION_FILE, CaseDescription, MapInfo
from SegWithUCore.case.region_files import REGION_LABELS_FILE, REGIONS_FILE, check_region_files
from SegWithUCore.util.errors import InputError

from ..i18n import _
from .case_images import (
    CaseImages,
    Extremes,
    LabelBoxes,
    Look,
    MapVolume,
    Volume,
    array_of,
    empty_image,
    image_from,
)
from .steps import Steps

LATER_ABOVE_VOXELS = 1 << 24
"""Above so many voxels (256 x 256 x 256) maps are read when they are chosen: of 512 x 512 x 600 each takes 630 MB."""
# Only a window from the case is the same for every patient; a map without one is shown from its own lowest value
# to this percentile.
_FALLBACK_PERCENTILE = 99.9
_FALLBACK_VOXELS = 1 << 24
# Corner positions may differ by this share of the smallest voxel edge: NIfTI keeps geometry in float32.
_GRID_TOLERANCE = 0.05


def read_case_steps(
    case_folder: Path, case: CaseDescription, input_node: "slicer.vtkMRMLVolumeNode | None"
) -> Steps[CaseImages]:
    """Read segmentation, label volume of regions, if any, and maps.

    With an input, its exact geometry replaces the rounded one of the files.

    Raises:
        InputError: a file is missing or unreadable, or lies on another grid than the input or the segmentation; or
            the segmentation holds a label that the case does not name.
    """
    boxes = LabelBoxes()
    labels = yield from _read(case_folder / SEGMENTATION_FILE, boxes.look)
    reference = labels if input_node is None else geometry_of(input_node)
    _same_grid(labels, reference, case_folder / SEGMENTATION_FILE)
    _check_labels(boxes, case)
    images = CaseImages(labels, boxes.boxes)
    puts_off = labels.image.GetNumberOfPoints() > LATER_ABOVE_VOXELS
    yield from _read_regions(case_folder, case, images, reference)
    for name, info in case.maps.items():
        if puts_off and images.maps:
            _check_file(case_folder / info.file, reference)
            images.later[name] = case_folder / info.file
            continue
        images.maps[name] = yield from read_map_steps(case_folder / info.file, info, reference)
    return images


def read_map_steps(path: Path, info: MapInfo, reference: Volume) -> Steps[MapVolume]:
    """Read one map, which must lie on the grid of `reference`, whose exact geometry it gets.

    Raises:
        InputError: the file is missing or unreadable, or lies on another grid.
    """
    extremes = Extremes(info.not_assessed)
    volume = yield from _read(path, extremes.look)
    if volume.image.GetScalarType() != vtk.VTK_FLOAT:
        volume.image = image_from(volume.array.astype(np.float32))
    _same_grid(volume, reference, path)
    low, high = extremes.ends or (0.0, 1.0)
    window = info.window or (low, _fallback(volume.array, info, high))
    # Half-way down to the value that marks voxels as not assessed, so that rounding cannot let them through.
    below = info.not_assessed if info.not_assessed < low else low - 1.0
    return MapVolume(info, volume, window, floor=(below + low) / 2, top=high)


def case_bytes(case: CaseDescription, voxels: int) -> float:
    """Estimate how much there is to do in `read_case_steps` and for the segmentation, as they count it."""
    labels = 2 if case.raw.get("regions") is None else 4
    maps = 4 if voxels > LATER_ABOVE_VOXELS else 4 * len(case.maps)
    return float(voxels * (labels + maps))


def geometry_of(node: "slicer.vtkMRMLVolumeNode") -> Volume:
    """Return the voxels of a node and where they lie.

    Raises:
        InputError: it holds no image.
    """
    if node.GetImageData() is None:
        raise InputError(_("{volume} holds no image: choose another input.").format(volume=node.GetName()))
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return Volume(node.GetImageData(), matrix)


def _read_regions(case_folder: Path, case: CaseDescription, images: CaseImages, reference: Volume) -> "Steps[None]":
    if not (case_folder / REGIONS_FILE).is_file():
        return
    check_region_files(case_folder, case.raw)
    boxes = LabelBoxes()
    images.regions = yield from _read(case_folder / REGION_LABELS_FILE, boxes.look)
    _same_grid(images.regions, reference, case_folder / REGION_LABELS_FILE)
    images.region_boxes = boxes.boxes


def _read(path: Path, look: Look) -> Steps[Volume]:
    """Read a volume into memory that VTK owns; no node and no storage node of the scene ever points at the file.

    A private temporary folder goes away, and Slicer must offer to save the nodes instead.
    """
    from SegWithUCore.io.image_file import voxel_pieces
    from SegWithUCore.io.volume import read_header, read_stored

    _is_there(path)
    try:
        header = read_header(path)
        stored = header.source
        if stored.is_scaled or not stored.number.isnative or header.grid is None:  # no file of ours
            import SimpleITK as sitk

            image = image_from(sitk.GetArrayViewFromImage(read_stored(stored)))
            look(array_of(image), 0)
        else:
            image = empty_image(stored.shape, stored.number)
            array, seen = array_of(image), 0
            for done in voxel_pieces(stored, array.reshape(-1).view(np.uint8).data):
                planes = slice(seen, done // array[:1].nbytes)
                if planes.start < planes.stop:
                    look(array[planes], planes.start)
                    yield float(array[planes].nbytes)
                seen = planes.stop
    except (InputError, MemoryError, OSError) as error:
        raise _damaged(path, error) from error
    return Volume(image, _ijk_to_ras(stored.spacing, stored.origin, stored.direction))


def _is_there(path: Path) -> None:
    if not path.is_file():
        raise InputError(_("{path} is missing: the case folder is not whole.").format(path=path))


def _damaged(path: Path, error: Exception) -> Exception:
    if isinstance(error, MemoryError):
        text = _("{path} does not fit into memory: close other data, or segment a region of interest.")
        return InputError(text.format(path=path))
    return InputError(_("{path} cannot be read: the case folder is damaged.").format(path=path))


def _check_file(path: Path, reference: Volume) -> None:
    """Check what is read later as far as its header tells."""
    from SegWithUCore.io.volume import read_header

    _is_there(path)
    try:
        stored = read_header(path).source
    except (InputError, OSError) as error:
        raise _damaged(path, error) from error
    image = vtk.vtkImageData()
    image.SetDimensions(stored.size[:3])
    _same_grid(Volume(image, _ijk_to_ras(stored.spacing, stored.origin, stored.direction)), reference, path)


def _ijk_to_ras(spacing: Sequence[float], origin: Sequence[float], direction: Sequence[float]) -> vtk.vtkMatrix4x4:
    to_lps = np.eye(4)
    to_lps[:3, :3] = np.array(direction).reshape(3, 3) * np.array(spacing)
    to_lps[:3, 3] = origin
    matrix = vtk.vtkMatrix4x4()
    for row, values in enumerate(np.diag([-1.0, -1.0, 1.0, 1.0]) @ to_lps):
        for column, value in enumerate(values):
            matrix.SetElement(row, column, value)
    return matrix


def _check_labels(boxes: LabelBoxes, case: CaseDescription) -> None:
    unknown = sorted(set(boxes.boxes) - {structure.value for structure in case.structures})
    if unknown:
        raise InputError(
            _("The segmentation holds label {value:g}, which the case does not name: segment the case again.").format(
                value=unknown[0]
            )
        )


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
    if shift > _GRID_TOLERANCE * min(reference.spacing_kji):
        raise InputError(
            _("{path} lies {shift:.2f} mm off its image: choose the image this case was made from.").format(
                path=path, shift=shift
            )
        )
    volume.ijk_to_ras = reference.ijk_to_ras


def _corner(volume: Volume, ijk: tuple[int, int, int]) -> tuple[float, ...]:
    return volume.ijk_to_ras.MultiplyPoint([*ijk, 1.0])[:3]


def _fallback(values: np.ndarray, info: MapInfo, highest: float) -> float:
    """Return the upper end of a window that the case does not name; of a large map from every so many voxels."""
    some = values.reshape(-1)[:: 1 + values.size // _FALLBACK_VOXELS]
    some = some[some > info.not_assessed]
    return float(np.percentile(some, _FALLBACK_PERCENTILE)) if some.size else highest
