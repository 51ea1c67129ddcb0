"""Read the volumes of a case folder, checked before any node of the scene is touched."""

from pathlib import Path

import numpy as np
import slicer
import vtk

from SegWithUCore.case.case_file import SEGMENTATION_FILE, CaseDescription, MapInfo
from SegWithUCore.case.case_files import changed_error, is_as_written
from SegWithUCore.case.region_files import REGION_LABELS_FILE, REGIONS_FILE
from SegWithUCore.util.errors import InputError

from ..i18n import _
from . import case_images
from .case_images import CaseImages, MapVolume, Volume, array_of, boxes_of_labels, empty_image, image_from
from .steps import pause

# Corner positions may differ by this share of the smallest voxel edge: NIfTI keeps geometry in float32.
_GRID_TOLERANCE = 0.05


def read_case_images(
    case_folder: Path, case: CaseDescription, input_node: "slicer.vtkMRMLVolumeNode | None"
) -> CaseImages:
    """Read segmentation, label volume of regions, if any, and maps.

    With an input, its exact geometry replaces the rounded one of the files, whose axes are turned round where Slicer
    has turned those of the input; without one they become right-handed.

    Raises:
        InputError: a file is missing or unreadable, or is on another grid than the input or the segmentation; or
            the segmentation holds a label that the case does not name.
    """
    labels = _read(case_folder / SEGMENTATION_FILE)
    pause()
    stored_ijk_to_ras = labels.ijk_to_ras
    if input_node is None:
        case_images.make_right_handed(labels)
    reference = labels if input_node is None else geometry_of(input_node)
    _put_on_grid(labels, reference, case_folder / SEGMENTATION_FILE)
    images = CaseImages(labels, boxes_of_labels(labels.array), stored_ijk_to_ras)
    unknown = sorted(set(images.boxes) - {structure.value for structure in case.structures})
    if unknown:
        text = _("The case does not name label {value}: segment the case again.")
        raise InputError(text.format(value=unknown[0]), code="unknown-label")
    if (case_folder / REGIONS_FILE).is_file():
        pause()
        images.regions = _read(case_folder / REGION_LABELS_FILE)
        for name in (REGIONS_FILE, REGION_LABELS_FILE) if case.raw.get("regions") is not None else ():
            if not is_as_written(case_folder, case.raw, name):
                raise changed_error(case_folder, name)
        _put_on_grid(images.regions, reference, case_folder / REGION_LABELS_FILE)
        images.region_boxes = boxes_of_labels(images.regions.array)
    for name, info in case.maps.items():
        pause()
        images.maps[name] = _read_map(case_folder / info.file, info, reference)
    return images


def _read_map(path: Path, info: MapInfo, reference: Volume) -> MapVolume:
    volume = _read(path)
    if volume.image.GetScalarType() != vtk.VTK_FLOAT:
        volume.image = image_from(volume.array.astype(np.float32))
    _put_on_grid(volume, reference, path)
    assessed = volume.array > info.not_assessed
    low = float(volume.array.min(where=assessed, initial=np.inf))
    high = float(volume.array.max(where=assessed, initial=-np.inf))
    if low > high:
        low, high = 0.0, 1.0
    # In the middle between assessed values and the value of voxels that were not assessed: safe from rounding.
    below = info.not_assessed if info.not_assessed < low else low - 1.0
    # Only a window from the case is the same for every patient.
    return MapVolume(info, volume, info.window or (low, high), floor=(below + low) / 2, top=high)


def geometry_of(node: "slicer.vtkMRMLVolumeNode") -> Volume:
    """Return the voxels of a node and their position.

    Raises:
        InputError: it holds no image.
    """
    if node.GetImageData() is None:
        raise InputError(_("{volume} holds no image: choose another input.").format(volume=node.GetName()))
    return Volume(node.GetImageData(), case_images.matrix_of(node))


def _read(path: Path) -> Volume:
    """Read a volume into memory that VTK owns; no node and no storage node of the scene ever points at the file.

    A private temporary folder goes away, and Slicer must offer to save the nodes instead.
    """
    from SegWithUCore.io.image_file import voxel_pieces
    from SegWithUCore.io.volume import read_header, read_stored

    if not path.is_file():
        text = _("{path} is missing: the case folder is incomplete.")
        raise InputError(text.format(path=path), code="missing-file")
    try:
        header = read_header(path)
        stored = header.source
        if stored.is_scaled or not stored.number.isnative or header.grid is None:  # no file of ours
            import SimpleITK as sitk

            image = image_from(sitk.GetArrayViewFromImage(read_stored(stored)))
        else:
            image = empty_image(stored.shape, stored.number)
            for _done in voxel_pieces(stored, array_of(image).reshape(-1).view(np.uint8).data):
                pass
    except MemoryError as error:
        text = _("{path} does not fit into memory: close other data, or segment a region of interest.")
        raise InputError(text.format(path=path)) from error
    except (InputError, OSError) as error:
        text = _("{path} cannot be read: the case folder is damaged.")
        raise InputError(text.format(path=path), code="damaged-file") from error
    return Volume(image, case_images.ijk_to_ras(stored.spacing, stored.origin, stored.direction))


def _put_on_grid(volume: Volume, reference: Volume, path: Path) -> None:
    size = volume.image.GetDimensions()
    axes = [slicer.util.arrayFromVTKMatrix(each.ijk_to_ras)[:3, :3] for each in (volume, reference)]
    opposite = np.flatnonzero((axes[0] * axes[1]).sum(axis=0) < 0).tolist()
    if opposite:
        case_images.turn(volume, opposite)
    shift = max(
        float(np.linalg.norm(np.subtract(_corner(volume, corner), _corner(reference, corner))))
        for corner in ((0, 0, 0), (size[0], 0, 0), (0, size[1], 0), (0, 0, size[2]))
    )
    spacing = np.linalg.norm(axes[1], axis=0)
    if size != reference.image.GetDimensions() or shift > _GRID_TOLERANCE * spacing.min():
        text = _("{path} is not on the grid of its image: choose the image that this case was made from.")
        raise InputError(text.format(path=path), code="other-grid")
    volume.ijk_to_ras = reference.ijk_to_ras


def _corner(volume: Volume, ijk: tuple[int, int, int]) -> tuple[float, ...]:
    return volume.ijk_to_ras.MultiplyPoint([*ijk, 1.0])[:3]
