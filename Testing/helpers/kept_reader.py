"""One process that reads images for all commands of a test process: each would start its own, for 0.3 s."""

import atexit
import contextlib
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

from SegWithUCore.io import reader_process


class _Surroundings(NamedTuple):
    """What a child takes over from its parent: another child is started where it differs."""

    folder: tuple[int, int]
    umask: int
    variables: frozenset[tuple[str, str]]


_idle: list["_KeptChild"] = []
"""One at most."""


@contextlib.contextmanager
def kept_reader() -> Iterator[None]:
    """Let the reader of whatever runs inside be one that is there already, and stay for the next."""
    plain = reader_process._Child
    reader_process._Child = _taken  # type: ignore[assignment, misc]
    try:
        yield
    finally:
        reader_process._Child = plain  # type: ignore[misc]


class _KeptChild(reader_process._Child):
    """A reader that stays when it is told to end, unless it is dead or has an answer left to give."""

    def __init__(self, surroundings: _Surroundings) -> None:
        super().__init__()
        self.surroundings, self._owes_an_answer = surroundings, False

    def send(self, request: list[Any]) -> None:
        self._owes_an_answer = True
        super().send(request)

    def answer(self, limit_s: float) -> Any:
        found = super().answer(limit_s)
        self._owes_an_answer = found is None
        return found

    def end(self) -> None:
        if self.lives and not self._owes_an_answer and not _idle:
            _idle.append(self)
        else:
            super().end()

    def end_at_last(self) -> None:
        """End it in any case."""
        super().end()


def _taken() -> _KeptChild:
    surroundings = _surroundings()
    kept = _idle.pop() if _idle else None
    if kept is not None and kept.lives and kept.surroundings == surroundings:
        return kept
    if kept is not None:
        kept.end_at_last()
    return _KeptChild(surroundings)


def _surroundings() -> _Surroundings:
    here = os.stat(".")  # noqa: PTH116 - also where the folder's name is gone
    umask = os.umask(0)
    os.umask(umask)
    variables = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
    return _Surroundings((here.st_dev, here.st_ino), umask, frozenset(variables.items()))


@atexit.register
def _end_the_idle() -> None:
    while _idle:
        _idle.pop().end_at_last()
