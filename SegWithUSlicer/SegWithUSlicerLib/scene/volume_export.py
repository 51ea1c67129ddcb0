"""Export the input volume to a file, and read the region of interest in the volume's own frame.

The engine works on the volume's own grid. Nothing is hardened and nothing resampled: a linear parent transform is
only passed to the engine, so that the network sees the patient upright. A non-linear parent transform (such as the
one under which Slicer loads irregular DICOM series) is not an error: the network then sees the own grid as it is,
and the results, which observe the same parent transform, are still drawn at the right position.
"""

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import slicer
import vtk

from SegWithUCore.util.errors import InputError, OutputError

from ..i18n import _
from .case_images import image_from, matrix_of
from .observers import nodes_of
from .segmentation import is_edited

Matrix = tuple[tuple[float, ...], ...]
Roi = tuple[float, float, float, float, float, float]


@dataclass(frozen=True)
class ExportedVolume:
    """Properties of an exported volume that engine and panel need.

    Attributes:
        path: the file written.
        node_id, name: the volume it came from.
        own_to_world_ras: 4 x 4, row by row: from the volume's own RAS millimetres to the world's, through all
            linear parent transforms; the identity where `parent_is_linear` is False.
        roi_ras: region of interest in the volume's own RAS frame: centre R, A, S and edge lengths; None for all.
        modified: the voxels' modification time, to notice later that they changed (`is_unchanged`).
    """

    path: Path
    node_id: str
    name: str
    own_to_world_ras: Matrix
    parent_is_linear: bool
    roi_ras: Roi | None
    modified: int


def export_volume(
    volume: "slicer.vtkMRMLScalarVolumeNode", path: Path, roi: "slicer.vtkMRMLMarkupsROINode | None" = None
) -> ExportedVolume:
    """Write the volume on its own grid as uncompressed NRRD.

    The file holds voxels and geometry only: no names, no DICOM identifiers. The whole volume is written also when
    there is a region of interest, because results live on the input's grid.

    Args:
        path: ends in ".nrrd"; the folder exists.

    Raises:
        InputError: the volume is empty or has several values a voxel, or the region lies outside it.
        OutputError: the file cannot be written.
    """
    if _is_frame(volume):
        text = _("{volume} is a frame of a sequence: clone it in the module Data, and choose the copy.")
        raise InputError(text.format(volume=volume.GetName()))
    image = _scalar_image(volume)
    region = None if roi is None else read_roi(roi, volume)
    _write_nrrd(image, volume, path)
    to_world, linear = own_to_world(volume)
    return ExportedVolume(Path(path), volume.GetID(), volume.GetName(), to_world, linear, region, image.GetMTime())


def file_name(text: str) -> str:
    """Return what of a name can be that of a file."""
    return re.sub(r"[^\w]+", " ", text).strip()


def segment_names(mask: "slicer.vtkMRMLSegmentationNode") -> dict[str, str]:
    """Return the names of the segments by ID, as `export_mask` names files."""
    segmentation = mask.GetSegmentation()
    ids = segmentation.GetSegmentIDs()
    return {each: file_name(segmentation.GetSegment(each).GetName()) or each for each in ids}


def export_mask(
    mask: "slicer.vtkMRMLSegmentationNode", volume: "slicer.vtkMRMLScalarVolumeNode", parent: Path
) -> dict[Path, str]:
    """Write each segment to a file of its name, on the grid of a volume, in a folder that is named as the mask.

    Args:
        parent: of the folder, to be made.

    Returns:
        What folder and files hold, for messages; the folder first.

    Raises:
        InputError: it lies under another transform than the volume, or two segments have one name.
        OutputError: a file cannot be written.
    """
    if mask.GetTransformNodeID() != volume.GetTransformNodeID():
        text = _("{mask} and {volume} lie under different transforms: put both under the same one.")
        raise InputError(text.format(mask=mask.GetName(), volume=volume.GetName()))
    folder = parent / (file_name(mask.GetName() + (_(", corrected") if is_edited(mask) else ""))[:80] or "mask")
    folder.mkdir(parents=True)
    found = {folder: mask.GetName()}
    for identifier, name in segment_names(mask).items():
        path = folder / f"{name}.nrrd"
        if path in found:
            message = _("{mask} has two segments named {name}: rename one.").format(mask=mask.GetName(), name=name)
            raise InputError(message)
        array = slicer.util.arrayFromSegmentBinaryLabelmap(mask, identifier, volume)
        if array is not None:
            _write_nrrd(image_from(array.astype(np.uint8)), volume, path)
            found[path] = f"{mask.GetName()} ({name})"
    return found


def _write_nrrd(image: vtk.vtkImageData, volume: "slicer.vtkMRMLScalarVolumeNode", path: Path) -> None:
    """Write voxels on the own grid of a volume."""
    writer = slicer.vtkTeemNRRDWriter()
    writer.SetInputData(image)
    writer.SetIJKToRASMatrix(matrix_of(volume))
    writer.SetUseCompression(0)
    writer.SetFileName(str(path))
    writer.Write()
    if writer.GetWriteError() or not Path(path).is_file():
        text = _("A copy of {volume} cannot be written: free some space, or choose another temporary folder in Slicer.")
        raise OutputError(text.format(volume=volume.GetName()))


def is_unchanged(exported: ExportedVolume, scene: "slicer.vtkMRMLScene | None" = None) -> bool:
    """Check whether the exported volume is still in the scene with the voxels and parent transforms it had then."""
    volume = (scene or slicer.mrmlScene).GetNodeByID(exported.node_id)
    if volume is None or volume.GetImageData() is None or volume.GetImageData().GetMTime() != exported.modified:
        return False
    return own_to_world(volume) == (exported.own_to_world_ras, exported.parent_is_linear)


def own_to_world(volume: "slicer.vtkMRMLTransformableNode") -> tuple[Matrix, bool]:
    """Return the concatenated parent transforms, RAS to RAS, and whether they are linear (else the identity)."""
    matrix = vtk.vtkMatrix4x4()
    parent = volume.GetParentTransformNode()
    linear = parent is None or bool(parent.IsTransformToWorldLinear())
    if parent is not None and linear:
        parent.GetMatrixTransformToWorld(matrix)
    return tuple(map(tuple, slicer.util.arrayFromVTKMatrix(matrix).tolist())), linear


def read_roi(roi: "slicer.vtkMRMLMarkupsROINode", volume: "slicer.vtkMRMLScalarVolumeNode") -> Roi:
    """Read the region in the form that the engine needs: R, A, S of the centre and dR, dA, dS edge lengths, in mm.

    The frame is the volume's own (without parent transforms). A region that is rotated against it gives the
    upright box around the region.

    Raises:
        InputError: the box and the volume have nothing in common.
    """
    to_node = roi.GetObjectToNodeMatrix()
    half = [length / 2 for length in roi.GetSize()]
    corners = []
    for signs in itertools.product((-1, 1), repeat=3):
        corner = to_node.MultiplyPoint([*(sign * size for sign, size in zip(signs, half, strict=True)), 1.0])[:3]
        world, own = [0.0] * 3, [0.0] * 3
        roi.TransformPointToWorld(corner, world)
        volume.TransformPointFromWorld(world, own)
        corners.append(own)
    low, high = np.min(corners, axis=0), np.max(corners, axis=0)
    volume_low, volume_high = _own_bounds(volume)
    if np.any(high <= volume_low) or np.any(low >= volume_high):
        text = _("The region of interest {roi} lies outside {volume}: move it onto the image.")
        raise InputError(text.format(roi=roi.GetName(), volume=volume.GetName()))
    r, a, s, dr, da, ds = (float(part) for part in (*(low + high) / 2, *(high - low)))
    return r, a, s, dr, da, ds


def propose_roi(
    volume: "slicer.vtkMRMLScalarVolumeNode", centre_ras: Sequence[float] | None, size_mm: Sequence[float]
) -> "slicer.vtkMRMLMarkupsROINode":
    """Add a region of interest of a model's field of view, upright in the volume's own frame.

    Args:
        centre_ras: world R, A, S, for instance of the crosshair; None for the middle of the volume.
        size_mm: edge lengths along R, A, S; cut to the volume's where they exceed it.

    The region observes the volume's parent transform, so that it stays on the anatomy.
    """
    low, high = _own_bounds(volume)
    size = np.minimum(np.asarray(size_mm, dtype=float), high - low)
    own = list((low + high) / 2)
    if centre_ras is not None:
        volume.TransformPointFromWorld([float(part) for part in centre_ras], own)
    # Inside the volume as a whole: a larger box would promise more than can be segmented.
    centre = np.clip(own, low + size / 2, high - size / 2)
    title = _("{volume} region of interest").format(volume=volume.GetName())
    roi = volume.GetScene().AddNewNodeByClass("vtkMRMLMarkupsROINode", title)
    roi.SetAndObserveTransformNodeID(volume.GetTransformNodeID())
    roi.SetSize(*size)
    roi.SetCenter(*centre)
    roi.CreateDefaultDisplayNodes()
    roi.GetDisplayNode().SetFillVisibility(False)
    # Its name in the middle of the box would cover the structure.
    roi.GetDisplayNode().SetPropertiesLabelVisibility(False)
    return roi


def _own_bounds(volume: "slicer.vtkMRMLScalarVolumeNode") -> tuple[np.ndarray, np.ndarray]:
    """Return the lowest and highest R, A, S of the voxels' outer faces, without parent transforms."""
    matrix, size = matrix_of(volume), _scalar_image(volume).GetDimensions()
    faces = [(-0.5, length - 0.5) for length in size]
    corners = [matrix.MultiplyPoint([*corner, 1.0])[:3] for corner in itertools.product(*faces)]
    return np.min(corners, axis=0), np.max(corners, axis=0)


def _scalar_image(volume: "slicer.vtkMRMLScalarVolumeNode") -> vtk.vtkImageData:
    image = volume.GetImageData()
    if image is None or image.GetNumberOfPoints() == 0:
        raise InputError(_("{volume} holds no image: choose another input.").format(volume=volume.GetName()))
    if image.GetNumberOfScalarComponents() != 1:
        text = _("{volume} holds {count} values a voxel: choose a volume with one.")
        raise InputError(text.format(volume=volume.GetName(), count=image.GetNumberOfScalarComponents()))
    return image


def unchanged_file(volume: "slicer.vtkMRMLScalarVolumeNode") -> Path | None:
    """Return the file that a volume was loaded from, if the engine reads such files; None if either was changed."""
    storage = volume.GetStorageNode()
    path = Path(storage.GetFullNameFromFileName() or "") if storage is not None else Path()
    is_read = path.name.lower().endswith((".nii", ".nii.gz", ".nrrd", ".mha"))
    return path if is_read and path.is_file() and not volume.GetModifiedSinceRead() else None


def size_ras(volume: "slicer.vtkMRMLScalarVolumeNode") -> tuple[float, float, float]:
    """Return how long the volume is along R, A and S in its own frame, in mm; zeros if it holds no image."""
    image = volume.GetImageData()
    if image is None:
        return 0.0, 0.0, 0.0
    r, a, s = np.abs(slicer.util.arrayFromVTKMatrix(matrix_of(volume))[:3, :3]) @ image.GetDimensions()
    return float(r), float(a), float(s)


def grid_of(volume: "slicer.vtkMRMLScalarVolumeNode") -> dict[str, list[float]]:
    """Return size, spacing, origin and direction as in `case.json`: LPS, as in image files."""
    lps = np.diag([-1.0, -1.0, 1.0]) @ slicer.util.arrayFromVTKMatrix(matrix_of(volume))[:3]
    spacing = np.linalg.norm(lps[:, :3], axis=0)
    image = volume.GetImageData()
    return {
        "size_ijk": [0, 0, 0] if image is None else list(image.GetDimensions()),
        "spacing_mm": spacing.tolist(),
        "origin_lps_mm": lps[:, 3].tolist(),
        "direction_lps": (lps[:, :3] / spacing).ravel().tolist(),
    }


def _is_frame(volume: "slicer.vtkMRMLScalarVolumeNode") -> bool:
    """Check whether a volume is a frame of a sequence, which would turn to another image under its result."""
    scene = volume.GetScene()
    browsers = [] if scene is None else nodes_of(scene, "vtkMRMLSequenceBrowserNode")
    return any(browser.GetSequenceNode(volume) is not None for browser in browsers)
