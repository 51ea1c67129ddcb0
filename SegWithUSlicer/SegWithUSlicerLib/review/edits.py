"""Read the edited segmentation, and what has changed since the last check.

Everything is on the input's grid (axes k, j, i), whatever Slicer has made of the segmentation meanwhile: an edit
may extend the label map over what the model labelled, put segments into layers of their own, or sample finer. Slicer
merges the segments itself, as in its own export: where they overlap, the one further down in the list wins. Segments
that are no structure of the case, because the reviewer added them, are not read.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import slicer
import vtk

from SegWithUCore.case.structures_table import table_entries
from SegWithUCore.review.edited_figures import edited_figures, with_figures
from SegWithUCore.review.gestures import edit_of
from SegWithUCore.review.log_format import Edited
from SegWithUCore.review.state import ReviewState
from SegWithUCore.util.errors import InputError

from ..i18n import _
from ..scene.case_images import Box, Volume, array_of, boxes_of_labels, image_from, matrix_of, shifted, union
from ..scene.case_nodes import CaseNodes
from ..scene.observers import Observations
from ..scene.review_nodes import region_labels
from ..scene.segmentation import labels_image, put_labels, segment_id, state_of
from ..scene.volume_export import grid_of as facts_of_grid


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
    shape, ijk_to_ras = grid_of(nodes)
    box = box or tuple(slice(0, size) for size in shape)
    dtype = np.min_scalar_type(max((structure.value for structure in nodes.case.structures), default=0))
    node = nodes.original if original else nodes.segmentation
    ids, values = _own_segments(nodes, node)
    if node is None or not ids.GetNumberOfValues():
        return np.zeros([side.stop - side.start for side in box], dtype)
    geometry, merged = slicer.vtkOrientedImageData(), slicer.vtkOrientedImageData()
    geometry.SetImageToWorldMatrix(ijk_to_ras)
    geometry.SetExtent([edge for side in box[::-1] for edge in (side.start, side.stop - 1)])
    node.GenerateMergedLabelmapForAllSegments(
        merged, slicer.vtkSegmentation.EXTENT_REFERENCE_GEOMETRY, geometry, ids, values
    )
    return array_of(merged).astype(dtype)


def take_mask(nodes: CaseNodes, path: Path) -> None:
    """Draw the mask of another program, a file on the grid of the image, in place of the segmentation.

    Raises:
        InputError: as `read_reviewed`, or the image was deleted. The segmentation then stays as it was.
    """
    from SegWithUCore.case.segmentation_file import read_reviewed  # slow to import: SimpleITK
    from SegWithUCore.io.grid import VoxelGrid

    volume = nodes.grid_volume
    labels, _note = read_reviewed(path, VoxelGrid.of_facts(facts_of_grid(volume)), nodes.case.raw, any_axes=True)
    whole = Volume(image_from(labels), matrix_of(volume))
    put_labels(
        nodes.segmentation, nodes.case.structures, labels_image(nodes.case.structures, whole, boxes_of_labels(labels))
    )


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
        self._state: tuple[object, ...] = ()
        self._box: Box | None = None
        self._labels = np.zeros((0, 0, 0), dtype=np.uint8)
        self._fixed: tuple[Box, tuple[np.ndarray, np.ndarray, np.ndarray]] | None = None
        node = nodes.segmentation
        if node is not None:
            # The node passes on what happens to its vtkSegmentation, also when that was exchanged.
            for event in _EDIT_EVENTS:
                self._observations.add(node, event, self._edited)
        self.check()

    def figures(self, state: ReviewState, reviewer: str) -> dict[str, Mapping[str, Any]]:
        """Return the entries of the table of structures, by name, after the work up to the last check."""
        nodes, box = self.nodes, self.box
        if box is None:
            return {}
        now, drawn, marked, q = self._volumes(box)
        values = {str(each["name"]): int(each["value"]) for each in nodes.case.raw["structures"]}
        finished = [value for name, value in values.items() if name in state.finished]
        found = edited_figures(drawn, now, q, drawn, marked, [*values.values()], state.seen_ids, finished)
        return {str(each["name"]): each for each in table_entries(with_figures(nodes.case.raw, found, reviewer))}

    def edited(self, structures: Collection[int], region: int | None) -> Edited:
        """Return how the segmentation of the last check differs from the model's.

        Args:
            structures: values of the structures that the edit changed.
            region: ID of the current region.
        """
        names = {structure.value: structure.name for structure in self.nodes.case.structures}
        changed = (names[value] for value in sorted(structures) if value in names)
        box = self.box
        assert box is not None, "nothing can have changed"
        now, drawn, marked, q = self._volumes(box)
        return edit_of(drawn, now, q, marked, abs(grid_of(self.nodes)[1].Determinant()), changed, region)

    def _volumes(self, box: Box) -> tuple[np.ndarray, ...]:
        """Return labels of the last check and of the model, regions and error probability in a box.

        Only the first change, and Slicer needs long to merge the segments of a whole brain.
        """
        nodes = self.nodes
        if self._fixed is None or self._fixed[0] != box:
            drawn, errors = read_labels(nodes, box, original=True), nodes.maps.get("error_probability")
            q = np.zeros(drawn.shape, np.float32) if errors is None else array_of(errors.GetImageData())[box]
            fixed = (drawn, region_labels(nodes, *grid_of(nodes))[box], q)
            self._fixed = (box, fixed)
        return (self._in(box), *self._fixed[1])

    def _in(self, box: Box) -> np.ndarray:
        """Return the labels of the last check in a box around theirs."""
        whole = np.zeros([side.stop - side.start for side in box], self._labels.dtype)
        if self._box is not None:
            whole[shifted(self._box, [side.start for side in box])] = self._labels
        return whole

    @property
    def box(self) -> Box | None:
        """The part of the grid that holds all labels of now, of earlier checks, and of the model."""
        return union([self._box, _labelled_part(self.nodes, self.nodes.original)])

    def check(self) -> frozenset[int]:
        """Return the values of the structures that won or lost voxels since the last check; empty if none did."""
        node = self.nodes.segmentation
        state = () if node is None else state_of(node.GetSegmentation())
        if state == self._state:
            return frozenset()
        self._state = state
        box = union([self._box, _labelled_part(self.nodes, node)])
        if box is None:
            return frozenset()
        before, after = self._in(box), read_labels(self.nodes, box)
        self._box, self._labels = box, after
        changed = before != after
        return frozenset(map(int, np.union1d(before[changed], after[changed]))) - {0}

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


def structure_at(nodes: CaseNodes, ras_mm: Sequence[float]) -> str:
    """Return the name of the structure that is drawn at a point of the image's own space; "" for none.

    Raises:
        InputError: it lies outside of the image.
    """
    shape, matrix = grid_of(nodes)
    matrix.Invert()
    place = [round(part) for part in matrix.MultiplyPoint([*ras_mm, 1.0])[2::-1]]
    if not all(0 <= at < size for at, size in zip(place, shape, strict=True)):
        raise InputError(_("The slices meet outside of {run}: move them to the place.").format(run=nodes.label))
    (value,) = read_labels(nodes, tuple(slice(at, at + 1) for at in place)).ravel()
    return next((structure.name for structure in nodes.case.structures if structure.value == value), "")


def grid_of(nodes: CaseNodes) -> tuple[tuple[int, int, int], vtk.vtkMatrix4x4]:
    """Return the number of voxels along k, j, i and the matrix to RAS of the input's own space."""
    volume = nodes.grid_volume
    i, j, k = volume.GetImageData().GetDimensions()
    return (k, j, i), matrix_of(volume)


def _own_segments(
    nodes: CaseNodes, node: "slicer.vtkMRMLSegmentationNode | None"
) -> tuple[vtk.vtkStringArray, vtk.vtkIntArray]:
    """List the segments that are structures of the case, in the order of the segmentation, with their label values."""
    known = {segment_id(structure.value): structure.value for structure in nodes.case.structures}
    ids, values = vtk.vtkStringArray(), vtk.vtkIntArray()
    for identifier in () if node is None else node.GetSegmentation().GetSegmentIDs():
        if identifier in known:
            ids.InsertNextValue(identifier)
            values.InsertNextValue(known[identifier])
    return ids, values


def _labelled_part(nodes: CaseNodes, node: "slicer.vtkMRMLSegmentationNode | None") -> Box | None:
    """Return a box of the grid that holds every labelled voxel of a segmentation; None if there are none."""
    if node is None:
        return None
    shape, ijk_to_ras = grid_of(nodes)
    geometry, extent = slicer.vtkOrientedImageData(), [0] * 6
    geometry.SetImageToWorldMatrix(ijk_to_ras)
    node.GetSegmentation().DetermineCommonLabelmapExtent(extent, geometry, None, False, False)
    sides = zip(extent[4::-2], extent[5::-2], shape, strict=True)
    box = tuple(slice(max(low, 0), min(high + 1, size)) for low, high, size in sides)
    return box if all(side.start < side.stop for side in box) else None
