"""Read the volumes of a case folder in steps, checked before any node of the scene is touched."""

from pathlib import Path

import numpy as np
import slicer
import vtk

from SegWithUCore.case.case_file import SEGMENTATION_FILE, CaseDescription, MapInfo
from SegWithUCore.case.region_files import REGION_LABELS_FILE, REGIONS_FILE, check_region_files
from SegWithUCore.util.errors import InputError

from ..i18n import _
from .case_images import CaseImages, MapVolume, Volume, array_of, boxes_of_labels, empty_image, ijk_to_ras, image_from
from .steps import STEP_BYTES, Steps

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
    labels = yield from _read(case_folder / SEGMENTATION_FILE)
    reference = labels if input_node is None else geometry_of(input_node)
    _same_grid(labels, reference, case_folder / SEGMENTATION_FILE)
    images = CaseImages(labels, boxes_of_labels(labels.array))
    unknown = sorted(set(images.boxes) - {structure.value for structure in case.structures})
    if unknown:
        raise InputError(_("The case does not name label {value}: segment the case again.").format(value=unknown[0]))
    if (case_folder / REGIONS_FILE).is_file():
        check_region_files(case_folder, case.raw)
        images.regions = yield from _read(case_folder / REGION_LABELS_FILE)
        _same_grid(images.regions, reference, case_folder / REGION_LABELS_FILE)
        images.region_boxes = boxes_of_labels(images.regions.array)
    for name, info in case.maps.items():
        images.maps[name] = yield from _read_map(case_folder / info.file, info, reference)
    return images


def _read_map(path: Path, info: MapInfo, reference: Volume) -> Steps[MapVolume]:
    volume = yield from _read(path)
    if volume.image.GetScalarType() != vtk.VTK_FLOAT:
        volume.image = image_from(volume.array.astype(np.float32))
    _same_grid(volume, reference, path)
    low, high = np.inf, -np.inf
    values = volume.array.reshape(-1)
    for start in range(0, values.size, STEP_BYTES):
        part = values[start : start + STEP_BYTES]
        assessed = part[part > info.not_assessed]
        if assessed.size:
            low, high = min(low, float(assessed.min())), max(high, float(assessed.max()))
        yield 0.0
    if low > high:
        low, high = 0.0, 1.0
    # Half-way down to the value that marks voxels as not assessed, so that rounding cannot let them through.
    below = info.not_assessed if info.not_assessed < low else low - 1.0
    # Only a window from the case is the same for every patient.
    return MapVolume(info, volume, info.window or (low, high), floor=(below + low) / 2, top=high)


def case_bytes(case: CaseDescription, voxels: int) -> float:
    """Estimate how much there is to do in `read_case_steps` and for the segmentation, as they count it."""
    labels = 2 if case.raw.get("regions") is None else 4
    return float(voxels * (labels + 4 * len(case.maps)))


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


def _read(path: Path) -> Steps[Volume]:
    """Read a volume into memory that VTK owns; no node and no storage node of the scene ever points at the file.

    A private temporary folder goes away, and Slicer must offer to save the nodes instead.
    """
    from SegWithUCore.io.image_file import voxel_pieces
    from SegWithUCore.io.volume import read_header, read_stored

    if not path.is_file():
        raise InputError(_("{path} is missing: the case folder is not whole.").format(path=path))
    try:
        header = read_header(path)
        stored = header.source
        if stored.is_scaled or not stored.number.isnative or header.grid is None:  # no file of ours
            import SimpleITK as sitk

            image = image_from(sitk.GetArrayViewFromImage(read_stored(stored)))
        else:
            image = empty_image(stored.shape, stored.number)
            seen = 0
            for done in voxel_pieces(stored, array_of(image).reshape(-1).view(np.uint8).data):
                yield float(done - seen)
                seen = done
    except MemoryError as error:
        text = _("{path} does not fit into memory: close other data, or segment a region of interest.")
        raise InputError(text.format(path=path)) from error
    except (InputError, OSError) as error:
        raise InputError(_("{path} cannot be read: the case folder is damaged.").format(path=path)) from error
    return Volume(image, ijk_to_ras(stored.spacing, stored.origin, stored.direction))


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
