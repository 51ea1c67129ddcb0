"""Logs of reviews, and locks that others left on them."""

import json
import subprocess
import sys
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


def lock_of(folder: Path, **changes: object) -> Path:
    """A lock as a living process on this computer would have it, but for the changes."""
    log = AuditLog.open(folder, "Anna", HEADER)
    lock = folder / "review.Anna.jsonl.lock"
    owner = json.loads(lock.read_bytes())
    log.close()
    lock.write_text(json.dumps(owner | changes), encoding="utf-8")
    return lock


def dead_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid
