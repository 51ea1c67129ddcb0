"""Logs of reviews, and locks that others left on them."""

from pathlib import Path

from review_cases import HEADER, Clock

from SegWithUCore.review.log import AuditLog
from SegWithUCore.review.log_format import Action, Opened


def log_of(folder: Path, *facts: Action, header: Opened = HEADER, reviewer: str = "Anna", copy: str = "") -> AuditLog:
    """A log with some more lines, closed."""
    log = AuditLog.open(folder, reviewer, header, Clock(), copy)
    for fact in facts:
        log.append(fact)
    log.close()
    return log


def told(log: AuditLog) -> list[Action]:
    """The facts of a log but for the headers."""
    return [event.action for event in log.events if not isinstance(event.action, Opened)]
