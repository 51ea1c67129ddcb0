"""Read the edited segmentation, and what has changed since the last check.

Everything is on the input's grid (axes k, j, i), whatever Slicer has made of the segmentation meanwhile: an edit
may extend the label map over what the model labelled, put segments into layers of their own, or sample finer.

Where segments overlap, the one further down in the segmentation's list wins, as in Slicer's own export. Segments that
are no structure of the case, because the reviewer added them, are not read.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import slicer
import vtk

from SegWithUCore.review.log_format import Edited
from SegWithUCore.util.errors import InputError

from ..i18n import _
from ..scene.case_images import array_of, labelled_box
from ..scene.case_nodes import CaseNodes
from ..scene.observers import Observations
from ..scene.review_nodes import region_labels
from ..scene.segmentation import segment_id

Box = tuple[slice, slice, slice]
"""A part of a grid, as slices along k, j, i."""
# In voxels: closer than this two grids are the same. Files keep geometry in text, transforms multiply it.
_SAME_GRID = 1e-3


@dataclass(frozen=True)
class Change:
    """The difference from the last check, cut to its box.

    Attributes:
        box: slices along k, j, i on the input's grid.
        before, after: label values in the box; axes k, j, i.
    """

    box: Box
    before: np.ndarray
    after: np.ndarray

    @property
    def changed(self) -> np.ndarray:
        """Which voxels of the box differ."""
        return self.before != self.after

    @property
    def structures(self) -> frozenset[int]:
        """Label values that lost or won voxels, the background (0) left out."""
        changed = self.changed
        values = np.union1d(self.before[changed], self.after[changed])
        return frozenset(int(value) for value in values if value)


def whole_box(shape: tuple[int, int, int]) -> Box:
    """Return the box that holds a whole grid of this shape."""
    k, j, i = shape
    return slice(0, k), slice(0, j), slice(0, i)


def read_labels(nodes: CaseNodes, box: Box | None = None, *, original: bool = False) -> np.ndarray:
    """Read the label values of the segmentation as it is now; axes k, j, i.

    Args:
        box: which part of the input's grid, by default all of it.
        original: the model's own segmentation instead (all 0 where there is no copy).

    Returns:
        The smallest unsigned type that holds the case's labels; zeros if the segmentation was deleted.

    Raises:
        InputError: input and maps were deleted, so that there is no grid any more.
    """
    grid, ijk_to_ras = grid_of(nodes)
    box = box or whole_box(grid)
    values = {segment_id(structure.value): structure.value for structure in nodes.case.structures}
    node = nodes.original if original else nodes.segmentation
    return labels_on_grid(None if node is None else node.GetSegmentation(), values, box, ijk_to_ras)


def labels_on_grid(
    segmentation: "slicer.vtkSegmentation | None", values: Mapping[str, int], box: Box, ijk_to_ras: vtk.vtkMatrix4x4
) -> np.ndarray:
    """Sample segments as label values at the voxels of a box; axes k, j, i.

    Args:
        segmentation: None gives zeros.
        values: label value by segment id; other segments are not read.
        box: slices along k, j, i of the grid that `ijk_to_ras` describes.
    """
    labels = np.zeros(
        [side.stop - side.start for side in box], dtype=np.min_scalar_type(max(values.values(), default=0))
    )
    if segmentation is not None:
        for image, table in _layers(segmentation, values):
            _write_layer(labels, box, ijk_to_ras, image, table)
    return labels


def edited_event(nodes: CaseNodes, change: Change, box: Box | None, region: int | None) -> Edited:
    """Return how the segmentation differs from the model's after an edit.

    Args:
        box: outside of it nothing differs.
        region: id of the region at hand.
    """
    names = {structure.value: structure.name for structure in nodes.case.structures}
    changed = ", ".join(names[value] for value in sorted(change.structures) if value in names)
    shape, matrix = grid_of(nodes)
    differs = read_labels(nodes, box) != read_labels(nodes, box, original=True)
    inside = int(np.count_nonzero(region_labels(nodes, shape)[box or ...][differs]))
    count = int(np.count_nonzero(differs))
    return Edited(region, changed, inside, count - inside, round(count * abs(matrix.Determinant()), 3))


class EditWatch:
    """Notices edits of a run's segmentation. Call `release` when done.

    Args:
        on_edit: called, without arguments, after each event that may be an edit, also many times a stroke: wait until
            it is quiet, then `check`. A segment that is renamed or gets a status calls too; `check` then finds nothing.
    """

    def __init__(self, nodes: CaseNodes, on_edit: Callable[[], None]) -> None:
        self.nodes = nodes
        self._on_edit = on_edit
        self._observations = Observations()
        self._stamp: tuple[object, ...] = ()
        self._box: Box | None = None
        self._labels = np.zeros((0, 0, 0), dtype=np.uint8)
        node = nodes.segmentation
        if node is not None:
            # The node passes on what happens to its vtkSegmentation, also when that was exchanged.
            for event in _EDIT_EVENTS:
                self._observations.add(node, event, self._edited)
        self.check()

    @property
    def box(self) -> Box | None:
        """The part of the grid that holds all that is labelled now, was at an earlier check, or was by the model."""
        return _union(self._box, _labelled_part(self.nodes, self.nodes.original))

    def check(self) -> Change | None:
        """Return what has changed since the last check (at first, since construction); None for nothing."""
        stamp = _stamp(self.nodes)
        if stamp == self._stamp:
            return None
        self._stamp = stamp
        box = _labelled_part(self.nodes, self.nodes.segmentation)
        union = _union(self._box, box)
        if union is None:
            return None
        before = _padded(self._labels, self._box, union)
        after = read_labels(self.nodes, union)
        self._box, self._labels = union, after
        differs = labelled_box(before != after)
        if differs is None:
            return None
        k, j, i = (
            slice(start.start + side.start, start.start + side.stop) for start, side in zip(union, differs, strict=True)
        )
        return Change((k, j, i), before[differs].copy(), after[differs].copy())

    def release(self) -> None:
        """Leave no observer."""
        self._observations.clear()

    def _edited(self, _node: object, _event: str) -> None:
        self._on_edit()


_EDIT_EVENTS = (
    slicer.vtkSegmentation.SourceRepresentationModified,
    slicer.vtkSegmentation.SegmentAdded,
    slicer.vtkSegmentation.SegmentRemoved,
    # Undo, and effects that put another image into the segment.
    slicer.vtkSegmentation.SegmentModified,
    slicer.vtkSegmentation.SegmentsOrderModified,
    slicer.vtkMRMLSegmentationNode.SegmentationChangedEvent,
)


def grid_of(nodes: CaseNodes) -> tuple[tuple[int, int, int], vtk.vtkMatrix4x4]:
    """Return the number of voxels along k, j, i and the matrix to RAS of the input's own space."""
    for volume in [*nodes.inputs, *nodes.maps.values()]:
        if volume.GetImageData() is not None:
            matrix = vtk.vtkMatrix4x4()
            volume.GetIJKToRASMatrix(matrix)
            i, j, k = volume.GetImageData().GetDimensions()
            return (k, j, i), matrix
    raise InputError(_("The image and all maps of {run} were deleted: load the case again.").format(run=nodes.label))


def _layers(
    segmentation: "slicer.vtkSegmentation", values: Mapping[str, int]
) -> Iterator[tuple["slicer.vtkOrientedImageData", dict[int, int]]]:
    """Yield images in the order in which they are to be written, each with the meaning of its labels.

    Neighbours in the list that share an image are written at once: usually that is all of them.
    """
    name = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()
    image: slicer.vtkOrientedImageData | None = None
    table: dict[int, int] = {}
    for identifier in segmentation.GetSegmentIDs():
        segment = segmentation.GetSegment(identifier)
        own = segment.GetRepresentation(name)
        if identifier not in values or own is None or not own.GetNumberOfPoints():
            continue
        if own is not image and table:
            yield image, table
            table = {}
        image = own
        table[int(segment.GetLabelValue())] = values[identifier]
    if table:
        yield image, table


def _write_layer(
    labels: np.ndarray,
    box: Box,
    ijk_to_ras: vtk.vtkMatrix4x4,
    image: "slicer.vtkOrientedImageData",
    table: Mapping[int, int],
) -> None:
    shift = grid_shift(image, ijk_to_ras)
    if shift is None:
        image, shift = _resampled(image, box, ijk_to_ras), (0, 0, 0)
    place = _extent(image, shift)
    common = [slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(place, box, strict=True)]
    if any(side.start >= side.stop for side in common) or image.GetPointData().GetScalars() is None:
        return
    part = array_of(image)[
        tuple(slice(a.start - b.start, a.stop - b.start) for a, b in zip(common, place, strict=True))
    ]
    meaning = np.zeros(max(int(part.max()), *table) + 1, dtype=labels.dtype)
    for label, value in table.items():
        meaning[label] = value
    written = meaning[part]
    target = labels[tuple(slice(a.start - b.start, a.stop - b.start) for a, b in zip(common, box, strict=True))]
    np.copyto(target, written, where=written != 0)


def grid_shift(image: "slicer.vtkOrientedImageData", ijk_to_ras: vtk.vtkMatrix4x4) -> tuple[int, int, int] | None:
    """Return the shift i, j, k from the image's indices to the grid's; None if the image has another grid."""
    to_grid, to_ras, matrix = vtk.vtkMatrix4x4(), vtk.vtkMatrix4x4(), vtk.vtkMatrix4x4()
    vtk.vtkMatrix4x4.Invert(ijk_to_ras, to_grid)
    image.GetImageToWorldMatrix(to_ras)
    vtk.vtkMatrix4x4.Multiply4x4(to_grid, to_ras, matrix)
    extent = image.GetExtent()
    # Over the whole image, because a small turn adds up.
    corners = [[extent[a], extent[2 + b], extent[4 + c]] for a in (0, 1) for b in (0, 1) for c in (0, 1)]
    moved = np.array([matrix.MultiplyPoint([*corner, 1.0])[:3] for corner in corners]) - corners
    whole = np.rint(moved[0])
    if np.abs(moved - whole).max() > _SAME_GRID:
        return None
    return int(whole[0]), int(whole[1]), int(whole[2])


def _resampled(
    image: "slicer.vtkOrientedImageData", box: Box, ijk_to_ras: vtk.vtkMatrix4x4
) -> "slicer.vtkOrientedImageData":
    """Sample the nearest label at each voxel centre of the box."""
    reference, result = slicer.vtkOrientedImageData(), slicer.vtkOrientedImageData()
    k, j, i = box
    reference.SetExtent(i.start, i.stop - 1, j.start, j.stop - 1, k.start, k.stop - 1)
    reference.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
    reference.SetImageToWorldMatrix(ijk_to_ras)
    slicer.vtkOrientedImageDataResample.ResampleOrientedImageToReferenceOrientedImage(image, reference, result)
    return result


def _extent(image: "slicer.vtkOrientedImageData", shift: tuple[int, int, int]) -> Box:
    extent = image.GetExtent()
    i, j, k = (slice(extent[2 * axis] + shift[axis], extent[2 * axis + 1] + 1 + shift[axis]) for axis in range(3))
    return k, j, i


def _images(
    node: "slicer.vtkMRMLSegmentationNode | None",
) -> Iterator[tuple[str, int, "slicer.vtkOrientedImageData"]]:
    if node is None:
        return
    name = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()
    for identifier in node.GetSegmentation().GetSegmentIDs():
        segment = node.GetSegmentation().GetSegment(identifier)
        image = segment.GetRepresentation(name)
        if image is not None and image.GetNumberOfPoints():
            yield identifier, int(segment.GetLabelValue()), image


def _stamp(nodes: CaseNodes) -> tuple[object, ...]:
    """Return a stamp that differs as soon as a voxel may have changed: VTK gives no time of change twice."""
    return tuple((identifier, label, image.GetMTime()) for identifier, label, image in _images(nodes.segmentation))


def _labelled_part(nodes: CaseNodes, node: "slicer.vtkMRMLSegmentationNode | None") -> Box | None:
    """Return a box of the grid that holds every labelled voxel; the whole grid if an image has a grid of its own."""
    grid, ijk_to_ras = grid_of(nodes)
    part: Box | None = None
    for _identifier, _label, image in _images(node):
        shift = grid_shift(image, ijk_to_ras)
        if shift is None:
            return whole_box(grid)
        sides = zip(_extent(image, shift), grid, strict=True)
        k, j, i = (slice(min(max(side.start, 0), size), max(min(side.stop, size), 0)) for side, size in sides)
        if all(side.start < side.stop for side in (k, j, i)):
            part = _union(part, (k, j, i))
    return part


def _union(first: Box | None, second: Box | None) -> Box | None:
    if first is None or second is None:
        return first or second
    k, j, i = (slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(first, second, strict=True))
    return k, j, i


def _padded(labels: np.ndarray, box: Box | None, union: Box) -> np.ndarray:
    """Pad the labels of a box with 0 to a larger one."""
    if box == union:
        return labels
    result = np.zeros([side.stop - side.start for side in union], dtype=labels.dtype)
    if box is not None:
        inner = tuple(slice(a.start - b.start, a.stop - b.start) for a, b in zip(box, union, strict=True))
        result[inner] = labels
    return result
