"""The list of everything a module did that the real application would not have accepted or not have shown."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One wrong use: its kind (signal, popup, exception, ...), the object it concerns and what was wrong."""

    kind: str
    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.kind} on {self.where}: {self.what}"


STRICT: list[Finding] = []


def record(kind: str, where: str, what: str) -> None:
    """Remember a wrong use; a test's teardown fails while the list is not empty."""
    STRICT.append(Finding(kind, where, what))


def take(kind: str = "") -> list[Finding]:
    """Return the findings (of one kind) and remove them from the list: a test that expects them calls this."""
    found = [finding for finding in STRICT if not kind or finding.kind == kind]
    STRICT[:] = [finding for finding in STRICT if finding not in found]
    return found
