"""The segmentation node of a case: fill it, and notice that somebody has edited or judged it since."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import numpy_to_vtk

from SegWithUCore.case.case_file import Structure
from SegWithUCore.errors import InputError
from SegWithUCore.imaging.nrrd import read_nrrd_header
from SegWithUCore.imaging.stored_voxels import check_voxels
from SegWithUCore.input_files import regular_file

from .case_images import Volume, array_of, labelled_box

CONTENT_ATTRIBUTE = "SegWithU.Content"
JUDGED_ATTRIBUTE = "SegWithU.Judged"
# Slicer's own lists; a code that is not in them is still written to DICOM as it is.
_TERMINOLOGY = "Segmentation category and type - 3D Slicer General Anatomy list"
_REGIONS = "Anatomic codes - DICOM master list"


def segment_id(value: int) -> str:
    """Return the segment ID for a label value; the same in every run, so that a re-run finds it."""
    return f"SegWithU_{value}"


def fill_segmentation(
    node: "slicer.vtkMRMLSegmentationNode", structures: Sequence[Structure], labels: Volume, *, anew: bool = False
) -> None:
    """Make the node hold exactly these structures, in label order, each also when it is empty; one step for observers.

    Segments that were there before keep their colour and display; a 3D surface that was shown is made again.
    The content's hash is kept for `was_touched`.

    Args:
        anew: what was there before is of another image or model, and no segment is kept.
    """
    ordered = sorted(structures, key=lambda structure: structure.value)
    segmentation = node.GetSegmentation()
    surface = slicer.vtkSegmentationConverter.GetSegmentationClosedSurfaceRepresentationName()
    had_surface = segmentation.ContainsRepresentation(surface)
    image = _shared_labelmap(labels, max((structure.value for structure in ordered), default=0))
    was_modifying = node.StartModify()
    try:
        node.SetSourceRepresentationToBinaryLabelmap()
        segmentation.RemoveRepresentation(surface)
        _remove_other_segments(segmentation, [] if anew else [segment_id(structure.value) for structure in ordered])
        for structure in ordered:
            _put_segment(segmentation, structure, image)
        segmentation.ReorderSegments([segment_id(structure.value) for structure in ordered])
        if had_surface:
            node.CreateClosedSurfaceRepresentation()
        node.SetAttribute(CONTENT_ATTRIBUTE, content_hash(node))
        node.RemoveAttribute(JUDGED_ATTRIBUTE)
    finally:
        node.EndModify(was_modifying)
    node.Modified()


def was_touched(node: "slicer.vtkMRMLSegmentationNode") -> bool:
    """Check whether a segment was edited, renamed, added, removed, or given a status since the node was filled."""
    if node.GetAttribute(JUDGED_ATTRIBUTE) or node.GetAttribute(CONTENT_ATTRIBUTE) != content_hash(node):
        return True
    logic = slicer.vtkSlicerSegmentationsModuleLogic
    segmentation = node.GetSegmentation()
    return any(
        logic.GetSegmentStatus(segmentation.GetNthSegment(index)) != logic.NotStarted
        for index in range(segmentation.GetNumberOfSegments())
    )


def mark_judged(node: "slicer.vtkMRMLSegmentationNode") -> None:
    """Say that a verdict was given on this segmentation: a re-run must not replace it."""
    node.SetAttribute(JUDGED_ATTRIBUTE, "1")


def segment_array(segment: "slicer.vtkSegment") -> tuple[np.ndarray, "slicer.vtkOrientedImageData | None"]:
    """Return the segment's voxels as booleans (axes k, j, i) and their image; None without a label map."""
    name = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()
    image = segment.GetRepresentation(name)
    if image is None or image.GetPointData().GetScalars() is None or image.GetNumberOfPoints() == 0:
        return np.zeros((0, 0, 0), dtype=bool), image
    return array_of(image) == segment.GetLabelValue(), image


def content_hash(node: "slicer.vtkMRMLSegmentationNode") -> str:
    """Hash every segment's ID, name, voxels and position: not layers or extents; file round trips do not matter."""
    digest = hashlib.sha256()
    segmentation = node.GetSegmentation()
    for identifier in sorted(segmentation.GetSegmentIDs()):
        segment = segmentation.GetSegment(identifier)
        digest.update(f"{identifier}\n{segment.GetName()}\n".encode())
        mask, image = segment_array(segment)
        box = labelled_box(mask)
        if box is None or image is None:
            continue
        part = mask[box]
        digest.update(repr((part.shape, _position(image, box))).encode())
        digest.update(np.packbits(part).tobytes())
    return digest.hexdigest()


def terminology_entry(structure: Structure) -> str | None:
    """Write the structure's codes as Slicer does in a segment's tag; None if category or type is missing."""
    if not structure.category or not structure.type:
        return None
    codes = [_code(structure.category), _code(structure.type), _code(structure.modifier)]
    return "~".join([_TERMINOLOGY, *codes, _REGIONS, "^^", "^^"])


def _code(code: Mapping[str, str] | None) -> str:
    parts = [str((code or {}).get(key) or "") for key in ("scheme", "value", "meaning")]
    return "^".join(part.replace("^", " ").replace("~", " ") for part in parts)


def _put_segment(
    segmentation: "slicer.vtkSegmentation", structure: Structure, image: "slicer.vtkOrientedImageData"
) -> None:
    identifier = segment_id(structure.value)
    segment = segmentation.GetSegment(identifier)
    is_new = segment is None
    if is_new:
        segment = slicer.vtkSegment()
        segment.SetColor(*(part / 255 for part in structure.color))
    segment.SetName(structure.name)
    segment.SetLabelValue(structure.value)
    entry = terminology_entry(structure)
    if entry is not None:
        segment.SetTerminology(entry)
    # One image for all segments, as Slicer itself keeps segments that do not overlap.
    segment.AddRepresentation(slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName(), image)
    if is_new:
        segmentation.AddSegment(segment, identifier)


def _remove_other_segments(segmentation: "slicer.vtkSegmentation", wanted: Sequence[str]) -> None:
    for identifier in segmentation.GetSegmentIDs():
        if identifier not in wanted:
            segmentation.RemoveSegment(identifier)


def _shared_labelmap(labels: Volume, highest: int) -> "slicer.vtkOrientedImageData":
    # Cut to what is labelled: surfaces and edits of a small organ in a large volume then take its size, not the CT's.
    array = labels.array
    box = labelled_box(array != 0) or tuple(slice(0, 1) for _axis in range(3))
    part = array[box].astype(np.uint8 if highest < 256 else np.int16)
    image = slicer.vtkOrientedImageData()
    k, j, i = box
    image.SetExtent(i.start, i.stop - 1, j.start, j.stop - 1, k.start, k.stop - 1)
    image.GetPointData().SetScalars(numpy_to_vtk(np.ascontiguousarray(part).ravel(), deep=True))
    image.SetImageToWorldMatrix(labels.ijk_to_ras)
    return image


def _position(image: "slicer.vtkOrientedImageData", box: Sequence[slice]) -> tuple[int, ...]:
    """Return where the box begins, in whole voxels along the image's axes from the world's origin."""
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    first = [side.start + image.GetExtent()[2 * axis] for axis, side in zip((2, 1, 0), box, strict=True)][::-1]
    corner = np.array(matrix.MultiplyPoint([*first, 1.0])[:3])
    axes = np.array([[matrix.GetElement(row, column) for row in range(3)] for column in range(3)])
    spacing = np.linalg.norm(axes, axis=1)
    # The odd summand keeps usual origins (halves, quarters) away from where rounding noise would tip the floor.
    return tuple(math.floor(along + 0.3717) for along in axes @ corner / spacing**2)


def is_whole_nrrd(path: Path) -> bool:
    """Check whether a file is an NRRD with its voxels inside, all of them there and undamaged."""
    try:
        regular_file(path)
        stored = read_nrrd_header(path)
        check_voxels(stored)
    except (InputError, OSError):
        return False
    return stored.body.file == path
