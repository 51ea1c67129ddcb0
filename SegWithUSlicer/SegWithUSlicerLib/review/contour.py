"""The contour of a structure that is scrolled through the error probability, with a preview in the views."""

from pathlib import Path
from typing import Any

import numpy as np
import slicer

from SegWithUCore.case.case_file import is_mask_alone
from SegWithUCore.review.gestures import Runs, drawn_by, drawn_by_hand, runs_of
from SegWithUCore.review.state import ReviewState
from SegWithUCore.util.errors import InputError

from ..i18n import _
from ..scene.case_images import Volume, array_of, boxes_of_labels, image_from, matrix_of
from ..scene.case_nodes import CaseNodes, add_hidden_node
from ..scene.review_nodes import file_axes, keep_runner_up, region_labels
from ..scene.segmentation import labelmap_name, labels_image, oriented_image, put_labels, segment_id
from ..scene.volume_export import grid_of as facts_of_grid
from .edits import grid_of, read_labels

_LINE_PX = 3


def draw_runs(nodes: CaseNodes, runs: Runs, back: bool = False) -> None:
    """Draw a gesture of the log into the segmentation, or take it back.

    Raises:
        InputError: the gesture is not of these labels.
    """
    axes = file_axes(nodes)
    labels = np.flip(drawn_by(runs, np.ascontiguousarray(np.flip(read_labels(nodes), axes)), back), axes)
    whole, structures = Volume(image_from(labels), matrix_of(nodes.grid_volume)), nodes.case.structures
    put_labels(nodes.segmentation, structures, labels_image(structures, whole, boxes_of_labels(labels)))


class Contour:
    """A contour at one of its positions. Call `release` when done.

    Args:
        folder: of the case's files; None where only a saved scene is left.
        state: of the review.
        structure: its name.
        region: ID of one of its regions; None for the whole structure.

    Attributes:
        position: where it stands; `start` is the contour as it is.

    Raises:
        InputError: there are no runner-up labels.
    """

    def __init__(
        self, nodes: CaseNodes, folder: Path | None, state: ReviewState, structure: str, region: int | None
    ) -> None:

        from SegWithUCore.review.scroll import Scroll, Volumes  # slow to import: SimpleITK

        keep_runner_up(nodes, folder)
        if nodes.runner_up is None:
            message = _("This saved scene does not hold the runner-up labels: press Apply again to scroll.")
            if is_mask_alone(nodes.case.raw):
                message = _("Without a model no contour can be scrolled: draw with the Segment Editor.")
            raise InputError(message)
        self.nodes, self.structure, self.region, self._axes = nodes, structure, region, file_axes(nodes)
        values = {each.name: each.value for each in nodes.case.structures}
        self._value = values[structure]

        def of_file(array: np.ndarray) -> np.ndarray:
            return np.ascontiguousarray(np.flip(array, self._axes))

        x, y, z = facts_of_grid(nodes.grid_volume)["spacing_mm"]
        drawn = of_file(read_labels(nodes, original=True))
        self._now = of_file(read_labels(nodes))
        runner_up, error = (of_file(array_of(node.GetImageData()))
                            for node in (nodes.runner_up, nodes.maps["error_probability"]))  # fmt: skip
        shown = Volumes(now=self._now, drawn=drawn, runner_up=runner_up, error=error,
                        fixed=drawn_by_hand(state.edits, self._now, drawn),
                        finished=[values[name] for name in state.finished], spacing_mm=(z, y, x))  # fmt: skip
        inside = None if region is None else of_file(region_labels(nodes, *grid_of(nodes)) == region)
        self._scroll = Scroll(shown, self._value, inside)
        self.start = self.position = self._scroll.start
        self.positions = len(self._scroll.counts)
        self._own = int(np.count_nonzero(self._now == self._value))
        self._gained = 0
        self._preview = self._make_preview()
        self.go_to(self.start)

    def go_to(self, position: int) -> None:
        """Show a position."""
        self.position = min(max(position, 0), self.positions - 1)
        places, labels = self._scroll.at(self.position)
        mask = self._now == self._value
        mask.ravel()[places] = labels == self._value
        self._gained = int(np.count_nonzero(mask)) - self._own
        voxels = np.flip(mask, self._axes).astype(np.uint8)
        box = boxes_of_labels(voxels).get(1, (slice(0, 1),) * 3)
        image = oriented_image(voxels[box], [side.start for side in box[::-1]], matrix_of(self.nodes.grid_volume))
        own = self.nodes.segmentation.GetSegmentation().GetSegment(segment_id(self._value))
        segment, shown = slicer.vtkSegment(), slicer.vtkSegmentation()
        segment.SetName(self.structure)
        segment.SetLabelValue(1)
        segment.SetColor(*(own.GetColor() if own is not None else (1.0, 1.0, 0.0)))
        segment.AddRepresentation(labelmap_name(), image)
        shown.SetSourceRepresentationName(labelmap_name())
        shown.AddSegment(segment, "contour")
        self._preview.SetAndObserveSegmentation(shown)  # as a whole: Slicer's tree has no item for a hidden node

    @property
    def volume_mm3(self) -> tuple[float, float]:
        """Volume of the structure now, and at this position."""
        voxel = abs(grid_of(self.nodes)[1].Determinant())
        return self._own * voxel, (self._own + self._gained) * voxel

    @property
    def neighbours_mm3(self) -> dict[str, float]:
        """By structure, what the others lose to this one, or gain of it, at this position."""
        voxel, names = (
            abs(grid_of(self.nodes)[1].Determinant()),
            {one.value: one.name for one in self.nodes.case.structures},
        )
        changes = dict[int, int]()
        for _first, count, before, after in self.runs:
            changes[before], changes[after] = changes.get(before, 0) - count, changes.get(after, 0) + count
        return {names[value]: voxel * n for value, n in changes.items() if n and value not in (0, self._value)}

    @property
    def runs(self) -> Runs:
        """The voxels that this position changes, as the log has them."""
        places, labels = self._scroll.at(self.position)
        return runs_of(places, self._now.ravel()[places], labels)

    def release(self) -> None:
        """Remove the preview."""
        scene = self._preview.GetScene()
        if scene is not None:
            scene.RemoveNode(self._preview)

    def _make_preview(self) -> Any:
        title = _("{structure}, contour").format(structure=self.structure)
        node = add_hidden_node(self.nodes.hub.GetScene(), "vtkMRMLSegmentationNode", title, saved=False)
        node.CreateDefaultDisplayNodes()
        display = node.GetDisplayNode()
        display.SetSaveWithScene(False)
        display.SetVisibility2DFill(False)
        display.SetVisibility3D(False)
        display.SetSliceIntersectionThickness(_LINE_PX)
        node.SetAndObserveTransformNodeID(self.nodes.segmentation.GetTransformNodeID())
        return node
