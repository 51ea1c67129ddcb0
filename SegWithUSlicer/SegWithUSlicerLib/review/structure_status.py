"""Verdicts on structures as Slicer's segment status, which Segment Editor shows beside each segment.

Changing the status clears Segment Editor's undo and redo (slicer.md 10.13), so what is due is gathered in a
`SegmentStatusWriter` and written when the reviewer leaves the structure.
"""

from collections.abc import Iterable
from enum import StrEnum

import slicer

from ..scene.case_nodes import CaseNodes
from ..scene.segmentation import mark_judged, segment_id


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
