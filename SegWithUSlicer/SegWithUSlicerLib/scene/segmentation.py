"""The segmentation node of a case: fill it, and notice that somebody has edited or judged it since."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import slicer
import vtk

from SegWithUCore.case.case_file import Structure
from SegWithUCore.io.image_file import check_voxels
from SegWithUCore.io.nrrd import read_nrrd_header
from SegWithUCore.models.input_spec import Label, terminology_tag
from SegWithUCore.util.errors import InputError
from SegWithUCore.util.input_files import regular_file

from .case_images import Box, Volume, array_of, boxes_of_labels, image_from, union
from .steps import pause

CONTENT_ATTRIBUTE = "SegWithU.Content"
JUDGED_ATTRIBUTE = "SegWithU.Judged"


def labelmap_name() -> str:
    """Return the name of the representation that holds label maps."""
    return str(slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName())


def segment_id(value: int) -> str:
    """Return the segment ID for a label value; the same in every run, so that a re-run finds it."""
    return f"SegWithU_{value}"


def labels_image(
    structures: Sequence[Structure], labels: Volume, boxes: Mapping[int, Box]
) -> "slicer.vtkOrientedImageData":
    """Cut a label map to the box that holds all labels, in the type that Slicer's segments use.

    Surfaces and edits of a small organ in a large volume then take the size of the organ, not of the CT.

    Args:
        boxes: of each label that occurs, on the whole grid.
    """
    whole = union(list(boxes.values())) or (slice(0, 1),) * 3
    highest = max((structure.value for structure in structures), default=0)
    voxels = labels.array[whole].astype(np.uint8 if highest < 256 else np.int16)
    return oriented_image(voxels, [side.start for side in whole[::-1]], labels.ijk_to_ras)


def oriented_image(
    voxels_kji: np.ndarray, first_ijk: Sequence[int], ijk_to_ras: vtk.vtkMatrix4x4
) -> "slicer.vtkOrientedImageData":
    """Make an image, as segments have it, of voxels that begin at an index of a grid; it owns a copy of them."""
    sides = zip(first_ijk, voxels_kji.shape[::-1], strict=True)
    image = slicer.vtkOrientedImageData()
    image.SetExtent([edge for first, size in sides for edge in (first, first + size - 1)])
    image.GetPointData().SetScalars(image_from(voxels_kji).GetPointData().GetScalars())
    image.SetImageToWorldMatrix(ijk_to_ras)
    return image


def fill_segmentation(
    node: "slicer.vtkMRMLSegmentationNode", structures: Sequence[Structure], image: "slicer.vtkOrientedImageData"
) -> None:
    """Make the node hold exactly these structures, in this order, each also when it is empty; one step for observers.

    Segments that were there before keep their colour and display; a 3D surface that was shown is made again.
    The content's hash is kept for `was_touched`.

    Args:
        image: see `labels_image`.
    """
    segmentation = node.GetSegmentation()
    with slicer.util.NodeModify(node):
        wanted = [segment_id(structure.value) for structure in structures]
        for identifier in segmentation.GetSegmentIDs():
            if identifier not in wanted:
                segmentation.RemoveSegment(identifier)
        put_labels(node, structures, image)
        segmentation.ReorderSegments(wanted)
        node.SetAttribute(CONTENT_ATTRIBUTE, content_hash(node))
        node.RemoveAttribute(JUDGED_ATTRIBUTE)
        pause()
    node.Modified()


def put_labels(
    node: "slicer.vtkMRMLSegmentationNode", structures: Sequence[Structure], image: "slicer.vtkOrientedImageData"
) -> None:
    """Draw these structures anew, in one step for observers; other segments stay.

    Args:
        image: see `labels_image`.
    """
    segmentation = node.GetSegmentation()
    surface = slicer.vtkSegmentationConverter.GetSegmentationClosedSurfaceRepresentationName()
    had_surface = segmentation.ContainsRepresentation(surface)
    with slicer.util.NodeModify(node):
        node.SetSourceRepresentationToBinaryLabelmap()
        segmentation.RemoveRepresentation(surface)
        for structure in structures:
            _put_segment(segmentation, structure, image)
            pause()
        if had_surface:
            node.CreateClosedSurfaceRepresentation()


def is_edited(node: "slicer.vtkMRMLSegmentationNode") -> bool:
    """Check whether a segmentation of ours has other voxels, names or segments than it was filled with."""
    return node.GetAttribute(CONTENT_ATTRIBUTE) not in (None, content_hash(node))


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
    """Mark that a verdict was given on this segmentation: a re-run must not replace it."""
    node.SetAttribute(JUDGED_ATTRIBUTE, "1")


def labelmap_of(segment: "slicer.vtkSegment") -> "slicer.vtkOrientedImageData | None":
    """Return the segment's label map; None without one, or an empty one."""
    image = segment.GetRepresentation(labelmap_name())
    if image is None or image.GetPointData().GetScalars() is None or image.GetNumberOfPoints() == 0:
        return None
    return image


def segment_array(segment: "slicer.vtkSegment") -> tuple[np.ndarray, "slicer.vtkOrientedImageData | None"]:
    """Return the segment's voxels as booleans (axes k, j, i) and their image; None without a label map."""
    image = labelmap_of(segment)
    if image is None:
        return np.zeros((0, 0, 0), dtype=bool), image
    return array_of(image) == segment.GetLabelValue(), image


def content_hash(node: "slicer.vtkMRMLSegmentationNode") -> str:
    """Hash every segment's ID, name, voxels and position: not layers or extents; file round trips do not matter.

    Computed again only after a change: it is needed whenever results are listed.
    """
    segmentation = node.GetSegmentation()
    state = state_of(segmentation)
    if state not in _hashes:
        while len(_hashes) >= _REMEMBERED:
            _hashes.pop(next(iter(_hashes)))
        _hashes[state] = _hash_of(segmentation)
    return _hashes[state]


_hashes: dict[tuple[object, ...], str] = {}
_REMEMBERED = 16


def state_of(segmentation: "slicer.vtkSegmentation") -> tuple[object, ...]:
    """Return what changes with the content: VTK never gives out a time of change twice."""
    state: list[object] = []
    for identifier in segmentation.GetSegmentIDs():
        segment = segmentation.GetSegment(identifier)
        image = segment.GetRepresentation(labelmap_name())
        state += [identifier, segment.GetName(), segment.GetLabelValue(), 0 if image is None else image.GetMTime()]
    return tuple(state)


def _hash_of(segmentation: "slicer.vtkSegmentation") -> str:
    digest = hashlib.sha256()
    boxes: dict[object, dict[int, Box]] = {}  # segments share images
    for identifier in sorted(segmentation.GetSegmentIDs()):
        segment = segmentation.GetSegment(identifier)
        digest.update(f"{identifier}\n{segment.GetName()}\n".encode())
        image = labelmap_of(segment)
        if image is None:
            continue
        if image not in boxes:
            boxes[image] = boxes_of_labels(array_of(image))
        box = boxes[image].get(segment.GetLabelValue())
        if box is not None:
            mask = array_of(image)[box] == segment.GetLabelValue()
            digest.update(repr((mask.shape, _position(image, box))).encode())
            digest.update(np.packbits(mask).tobytes())
    return digest.hexdigest()


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
    entry = terminology_tag(Label.from_json(asdict(structure)))
    if entry is not None:
        segment.SetTerminology(entry)
    # One image for all segments, as Slicer itself keeps segments that do not overlap.
    segment.AddRepresentation(labelmap_name(), image)
    if is_new:
        segmentation.AddSegment(segment, identifier)


def _position(image: "slicer.vtkOrientedImageData", box: Sequence[slice]) -> tuple[int, ...]:
    """Return where the box begins, in voxels along the image's axes from the world's origin."""
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    first = [side.start + image.GetExtent()[2 * axis] for axis, side in zip((2, 1, 0), box, strict=True)][::-1]
    corner = np.array(matrix.MultiplyPoint([*first, 1.0])[:3])
    axes = slicer.util.arrayFromVTKMatrix(matrix)[:3, :3].T
    spacing = np.linalg.norm(axes, axis=1)
    # The odd summand keeps usual origins (halves, quarters) away from where rounding noise would tip the floor.
    return tuple(math.floor(along + 0.3717) for along in axes @ corner / spacing**2)


def is_whole_nrrd(path: Path) -> bool:
    """Check whether a file is an NRRD with its voxels inside, all of them there and undamaged."""
    try:
        regular_file(path)
        check_voxels(read_nrrd_header(path))
    except (InputError, OSError):
        return False
    return True
