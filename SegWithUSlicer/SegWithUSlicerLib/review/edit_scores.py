"""A reviewer's edits: noticed, counted, shown as segment status, and saved in a file."""

from collections.abc import Callable, Iterable
from enum import StrEnum
from pathlib import Path

import numpy as np
import slicer

from SegWithUCore.review.log_format import Edited, Verdict
from SegWithUCore.review.state import StructureVerdict
from SegWithUCore.util.errors import OutputError

from ..scene.case_nodes import CaseNodes
from ..scene.review_nodes import region_labels
from ..scene.segmentation import mark_judged, segment_id
from .edits import Change, EditWatch, grid_of, read_labels
from .store import has_unkept_edits, save_reviewed


class ReviewEdits:
    """Follows the segmentation of a run. Call `release` when done.

    Args:
        folder, log_name: where the reviewer's version is kept, and whose it is.
        on_edit: called when the segmentation may have been edited.

    Attributes:
        trouble: why the file does not hold the edits; "" if it does.
    """

    def __init__(self, nodes: CaseNodes, folder: Path, log_name: str, on_edit: Callable[[], None]) -> None:
        self.nodes = nodes
        self.trouble = ""
        self._folder, self._log_name = folder, log_name
        # What was drawn before the review began is the reviewer's too.
        self._is_unsaved = has_unkept_edits(nodes, folder, log_name)
        self._status = SegmentStatusWriter(nodes)
        self._watch = EditWatch(nodes, on_edit)

    def check(self, region: int | None) -> tuple[Change, Edited] | None:
        """Notice edits since the last check. Returns the change and its log event; None if nothing changed.

        Args:
            region: id of the region at hand.
        """
        if not self._is_whole:  # the run is falling apart: what is gone is no edit
            return None
        change = self._watch.check()
        if change is None:
            self._status.follow()
            return None
        self._is_unsaved = True
        names = {structure.value: structure.name for structure in self.nodes.case.structures}
        known = [value for value in sorted(change.structures) if value in names]
        self._status.edited(known)
        shape, matrix = grid_of(self.nodes)
        box = self._watch.box
        differs = read_labels(self.nodes, box) != read_labels(self.nodes, box, original=True)
        inside = int(np.count_nonzero(region_labels(self.nodes, shape)[box or ...][differs]))
        count = int(np.count_nonzero(differs))
        changed_mm3 = round(count * abs(matrix.Determinant()), 3)
        changed = ", ".join(names[value] for value in known)
        return change, Edited(region, changed, inside, count - inside, changed_mm3)

    def judge(self, structure_value: int, standing: StructureVerdict) -> None:
        """Set the segment status from the current verdicts; applied when the reviewer moves to another structure."""
        verdict = standing.verdict
        if verdict is None and standing.flagged:
            verdict = Verdict.SECOND_READER
        self._status.judge(structure_value, verdict, begun=standing.decided + standing.unseen > 0 or standing.explicit)

    def leave(self) -> None:
        """Write the pending segment status when the reviewer leaves a structure."""
        self._status.leave()

    def save(self) -> None:
        """Write the edits that no file holds yet. A failure is reported as `trouble`, and the next call tries again."""
        if not self._is_unsaved or self.nodes.segmentation is None:
            return
        try:
            save_reviewed(self.nodes, self._folder, self._log_name)
            self._is_unsaved, self.trouble = False, ""
        except OutputError as error:
            self.trouble = str(error)

    def release(self) -> None:
        """Leave no observer."""
        self._watch.release()

    @property
    def _is_whole(self) -> bool:
        nodes = self.nodes
        return nodes.hub.GetScene() is not None and nodes.segmentation is not None and "error_probability" in nodes.maps


class Status(StrEnum):
    """Slicer's status of a segment, in Slicer's own words."""

    NOT_STARTED = "notstarted"
    IN_PROGRESS = "inprogress"
    COMPLETED = "completed"
    FLAGGED = "flagged"


STATUS_OF_VERDICT = {
    "accepted": Status.COMPLETED,
    "corrected": Status.COMPLETED,
    "rejected": Status.FLAGGED,
    "needs second reader": Status.FLAGGED,
    "not looked at": Status.IN_PROGRESS,
}
"""By the words of the core's `Verdict`."""


def status_for(verdict: str | None, begun: bool = False) -> Status:
    """Return the segment status that stands for a structure's verdict.

    Args:
        begun: something of the structure was decided or edited; used if there is no verdict yet.
    """
    if verdict is None:
        return Status.IN_PROGRESS if begun else Status.NOT_STARTED
    return STATUS_OF_VERDICT[verdict]


def structure_status(nodes: CaseNodes, value: int) -> Status | None:
    """Return the segment status of a structure; None if its segment was deleted."""
    segment = _segment(nodes, value)
    logic = slicer.vtkSlicerSegmentationsModuleLogic
    if segment is None:
        return None
    return Status(logic.GetSegmentStatusAsMachineReadableString(logic.GetSegmentStatus(segment)))


def set_structure_status(nodes: CaseNodes, value: int, status: Status) -> bool:
    """Write a structure's status and mark the segmentation as judged; False if nothing had to be written.

    Call it only when the reviewer leaves the structure: it clears Segment Editor's undo.
    """
    if structure_status(nodes, value) in (None, status):
        return False
    logic = slicer.vtkSlicerSegmentationsModuleLogic
    logic.SetSegmentStatus(_segment(nodes, value), logic.GetSegmentStatusFromMachineReadableString(str(status)))
    mark_judged(nodes.segmentation)
    return True


class SegmentStatusWriter:
    """Keeps the pending statuses of a run's structures until the reviewer leaves them."""

    def __init__(self, nodes: CaseNodes) -> None:
        self.nodes = nodes
        self.due: dict[int, Status] = {}
        self._known: dict[int, Status] = {}
        self.follow()

    def follow(self) -> None:
        """Read the segments' statuses: the reviewer may have changed one in Segment Editor."""
        values = [structure.value for structure in self.nodes.case.structures]
        statuses = {value: structure_status(self.nodes, value) for value in values}
        self._known = {value: status for value, status in statuses.items() if status is not None}

    def status(self, value: int) -> Status | None:
        """Return the status of a structure, written or pending; None if its segment was deleted."""
        return self.due.get(value) or structure_status(self.nodes, value)

    def judge(self, value: int, verdict: str | None, begun: bool = False) -> None:
        """Note a verdict on a structure; None takes it back."""
        self.due[value] = status_for(verdict, begun)

    def edited(self, values: Iterable[int]) -> list[int]:
        """Note edits: structures not started are now in progress, accepted ones are again.

        A flagged one stays flagged: an edit does not stand in for the second reader. What undo in Segment Editor took
        back of other statuses is written again: it keeps the status with the voxels.

        Returns:
            The structures that lost their acceptance.
        """
        reopened = []
        for value, status in self._known.items():
            if structure_status(self.nodes, value) not in (None, status):
                self.due.setdefault(value, status)
        for value in values:
            now = self.status(value)
            if now is Status.COMPLETED:
                reopened.append(value)
            if now in (Status.NOT_STARTED, Status.COMPLETED):
                self.due[value] = Status.IN_PROGRESS
        return reopened

    def leave(self) -> list[int]:
        """Write the pending statuses when the reviewer leaves the structures; returns those that changed."""
        due, self.due = self.due, {}
        written = [value for value, status in due.items() if set_structure_status(self.nodes, value, status)]
        self.follow()
        return written


def _segment(nodes: CaseNodes, value: int) -> "slicer.vtkSegment | None":
    node = nodes.segmentation
    return None if node is None else node.GetSegmentation().GetSegment(segment_id(value))
