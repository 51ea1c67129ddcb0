"""The arrays behind a review's figures, read from the scene when they are needed first."""

from collections.abc import Collection

import numpy as np
import vtk

from SegWithUCore.review.blind import BlindPlace
from SegWithUCore.review.rescoring import Rescore, Rescoring

from .review.edits import Change, grid_of, read_labels
from .scene.case_images import array_of
from .scene.case_nodes import CaseNodes
from .scene.review_nodes import RegionMask, region_labels


class Scores:
    """Re-scores a run after edits and verdicts.

    The arrays are made at the first edit: a review without edits never pays for them.
    """

    def __init__(self, nodes: CaseNodes) -> None:
        self.nodes = nodes
        self._rescoring: Rescoring | None = None

    def now(self, seen_ids: Collection[int]) -> Rescore:
        """The state of the whole segmentation as it is."""
        self._rescoring = self._rescoring or self._make()
        return self._rescoring.after(read_labels(self.nodes), seen_ids)

    def after(self, change: Change, seen_ids: Collection[int]) -> Rescore:
        """The state after an edit that changed nothing outside `change.box` since the last call."""
        if self._rescoring is None:
            return self.now(seen_ids)
        return self._rescoring.after(change.after, seen_ids, change.box)

    def seen(self, seen_ids: Collection[int]) -> Rescore:
        """The state after a verdict."""
        return self.now(seen_ids) if self._rescoring is None else self._rescoring.seen(seen_ids)

    def _make(self) -> Rescoring:
        shape, matrix = grid_of(self.nodes)
        error = array_of(self.nodes.maps["error_probability"].GetImageData())
        original = read_labels(self.nodes, original=True)
        return Rescoring(error, original, region_labels(self.nodes, shape), abs(matrix.Determinant()))


def blind_mask(nodes: CaseNodes, place: BlindPlace) -> RegionMask:
    """The voxels of a blind place, as `region_mask` has those of a region."""
    _shape, matrix = grid_of(nodes)
    low, high = place.voxels.min(0), place.voxels.max(0)
    mask = np.zeros(tuple(high - low + 1), bool)
    mask[tuple((place.voxels - low).T)] = True
    k, j, i = (int(number) for number in low)
    copy = vtk.vtkMatrix4x4()
    copy.DeepCopy(matrix)
    return RegionMask(mask, (i, j, k), copy)
