"""Work counted instead of timed: the same on every machine, however busy it is."""

import sys
import tracemalloc
from collections.abc import Callable
from types import FrameType
from typing import Any, TypeVar

Result = TypeVar("Result")


def calls_of(action: Callable[[], object]) -> int:
    """How many functions an action calls: see `counted`."""
    return counted(action)[0]


def counted(action: Callable[[], Result]) -> tuple[int, Result]:
    """How many functions an action calls in this thread, Python's own and those in C, and what it returns.

    A loop over n things in Python calls at least n; what numpy does inside one function counts as one.
    """
    calls = 0

    def count(_frame: FrameType, event: str, _argument: Any) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        result = action()
    finally:
        sys.setprofile(before)
    return calls, result


def allocated_mib(action: Callable[[], object]) -> float:
    """How many MiB an action holds at most beyond what there was before, numpy's arrays included."""
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()
