"""The boundary with Qt and MRML: report exceptions in callbacks and reset the busy state.

Qt, VTK and Slicer print an exception of a Python callback and continue; the panel may then be half drawn.
So every callable that is given to them is guarded: the console prints the exception as before, and the panel shows
what happened. No Qt and no MRML here.
"""

import inspect
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

from .i18n import _

Result = TypeVar("Result")
_OURS = ("SegWithUCore", "SegWithUSlicerLib", "SegWithUSlicer")


@dataclass(frozen=True)
class Problem:
    """An unexpected exception: a message for the user, and what a bug report needs."""

    message: str
    details: str


class _State:
    listener: Callable[[Problem], None] | None = None
    last: Problem | None = None


def listen(listener: Callable[[Problem], None] | None) -> None:
    """Report problems to this listener, the panel, from now on; None reports them to the console only."""
    _State.listener = listener


def last_problem() -> Problem | None:
    """Return the last problem of this session."""
    return _State.last


def guarded(callback: Callable[..., Result]) -> Callable[..., Result | None]:
    """Guard what Qt, VTK or Slicer call: an exception is reported, and None returned.

    Returns:
        A function that may be given more arguments than the callback takes: PythonQt passes all arguments of a signal.
    """
    most = _most_arguments(callback)

    @wraps(callback)
    def call(*arguments: Any) -> Result | None:
        return _called(callback, arguments[:most])

    return call


def _called(callback: Callable[..., Result], arguments: tuple[Any, ...]) -> Result | None:
    try:
        return callback(*arguments)
    except Exception as error:  # noqa: BLE001 - this is where all of them end
        report(error)
        return None


def attempt(*steps: Callable[[], Any]) -> None:
    """Do all steps, in order; one that fails is reported and does not keep the others from being done."""
    for step in steps:
        try:
            step()
        except Exception as error:  # noqa: BLE001 - the other steps matter more
            report(error)


def report(error: Exception) -> None:
    """Print an exception to the console as Python does, and report it to the panel."""
    show_in_console(error)
    text = _("Something unexpected went wrong ({reason}): press Copy diagnostics and report it; you can continue.")
    _State.last = Problem(text.format(reason=reason_of(error)), details_of(error))
    if _State.listener is None:
        return
    try:
        _State.listener(_State.last)
    except Exception as other:  # noqa: BLE001 - the panel itself cannot be drawn
        show_in_console(other)


def show_in_console(error: Exception) -> None:
    """Print an exception to Slicer's console as if it had not been caught."""
    sys.excepthook(type(error), error, error.__traceback__)


def reason_of(error: Exception) -> str:
    """Return kind and message of an exception, without the name of a file, which may be a patient's."""
    message = (error.strerror or "") if isinstance(error, OSError) else " ".join(str(error).split())
    return f"{type(error).__name__}: {message[:300]}" if message else type(error).__name__


def details_of(error: Exception) -> str:
    """Return where an exception came from; files are named from our packages on, without the user's folders."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [f"{_short(frame.filename)}:{frame.lineno} in {frame.name}: {frame.line}" for frame in frames]
    return "\n".join([*lines, reason_of(error)])


def _short(file: str) -> str:
    parts = Path(file).parts
    first = next((number for number, part in enumerate(parts) if part in _OURS), len(parts) - 1)
    return "/".join(parts[first:])


def _most_arguments(callback: Callable[..., Any]) -> int | None:
    """Return how many positional arguments a callback takes, None for any number."""
    kinds = [parameter.kind for parameter in inspect.signature(callback).parameters.values()]
    if inspect.Parameter.VAR_POSITIONAL in kinds:
        return None
    by_place = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(kind in by_place for kind in kinds)
