"""Observers on MRML objects that end with the widget they belong to."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import shiboken6


class Observers:
    """Groups of observers of one widget; a group is replaced as a whole, as qvtkReconnect does."""

    def __init__(self, owner: Any) -> None:
        self._owner = weakref.ref(owner)
        self._groups: dict[str, list[tuple[Any, int]]] = {}

    def _guarded(self, react: Callable[[Any], None]) -> Callable[..., None]:
        def observed(*_: Any) -> None:
            owner = self._owner()
            if owner is None or not shiboken6.isValid(owner):
                self.stop()
            else:
                react(owner)

        return observed

    def replace(
        self, group: str, subject: Any, reactions: dict[Any, Callable[[Any], None]], priority: float = 0.0
    ) -> None:
        """Stop the group; then observe these events of the subject (None: of nothing), calling react(owner)."""
        self.drop(group)
        if subject is not None:
            self.add(group, subject, reactions, priority)

    def add(self, group: str, subject: Any, reactions: dict[Any, Callable[[Any], None]], priority: float = 0.0) -> None:
        """Observe more in the same group."""
        for event, react in reactions.items():
            tag = subject.AddObserver(event, self._guarded(react), priority)
            self._groups.setdefault(group, []).append((subject, tag))

    def drop(self, group: str) -> None:
        """Remove the observers of a group."""
        for subject, tag in self._groups.pop(group, []):
            subject.RemoveObserver(tag)

    def stop(self) -> None:
        """Remove all."""
        for group in list(self._groups):
            self.drop(group)
