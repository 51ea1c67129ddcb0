"""The arrays behind a review's figures, read from the scene when they are needed first."""

from collections.abc import Collection

import numpy as np
import vtk

from SegWithUCore.review.blind_sample import BlindPlace
from SegWithUCore.review.rescoring import Rescore, Rescoring

from .case_images import array_of
from .case_nodes import CaseNodes
from .region_nodes import RegionMask, region_labels
from .review_edit import Change, grid_of, read_labels
from .review_opening import expected_wrong_mm3


class Scores:
    """Re-scores a run after edits and verdicts.

    The arrays are made at the first edit: a review without edits never pays for them.
    """

    def __init__(self, nodes: CaseNodes) -> None:
        self.nodes = nodes
        self.total_mm3 = expected_wrong_mm3(nodes)
        self._rescoring: Rescoring | None = None

    def after(self, change: Change, seen_ids: Collection[int]) -> Rescore:
        """The state after an edit that changed nothing outside `change.box`."""
        if self._rescoring is None:
            self._rescoring = self._make()
            return self._rescoring.after(read_labels(self.nodes), seen_ids)
        return self._rescoring.after(change.after, seen_ids, change.box)

    def seen(self, seen_ids: Collection[int]) -> Rescore:
        """The state after a verdict."""
        self._rescoring = self._rescoring or self._make()
        return self._rescoring.seen(seen_ids)

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
