"""Pauses between the steps of long work, so that a window can draw; without a window nothing happens in them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

_pauses: list[Callable[[], None]] = [lambda: None]


def pause() -> None:
    """Let the window draw: nodes that were just made are whole, and others may come next."""
    _pauses[-1]()


@contextmanager
def pausing(act: Callable[[], None]) -> Iterator[None]:
    """Do this in each pause of the block."""
    _pauses.append(act)
    try:
        yield
    finally:
        _pauses.pop()
