"""What goes wrong in ways a user can act on.

Every message is one sentence that names the file or option, the value found and what to do. Its code, such as
`[truncated-file]`, ends it.
"""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

# Error code of a file whose format has another version than the one that is read.
OTHER_VERSION = "other-format-version"
# Error code of a missing package.
NEEDS_PACKAGE = "needs-package"
# Exit status after Ctrl-C and SIGTERM, as shells give it to programs that SIGINT ends.
INTERRUPTED = 130
# Errors of reading a value of another type than a file should have.
DAMAGED = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError)


def code_of(message: str) -> str:
    """Return the error code that a message holds in brackets, such as `truncated-file`; empty if it holds none."""
    codes = re.findall(r"\[([a-z][a-z0-9]*(?:-[a-z0-9]+)+)\]", message)
    return codes[-1] if codes else ""


class SegWithUError(Exception):
    """A failure with a message meant for the user; the command line exits with `exit_code`.

    Args:
        message: one sentence.
        code: names the kind of failure in two or more lower-case words joined by hyphens, such as `truncated-file`. It
            stays the same when the message is rephrased, so tests and scripts check it. It ends the message in
            brackets: a message passes through processes, tables and logs that do not know this class. By default the
            code that the message already has, else that of the class.
    """

    exit_code = 1
    usual_code = "failed-run"

    def __init__(self, message: str = "", code: str = "") -> None:
        if message and not code and not code_of(message):
            code = self.usual_code
        super().__init__(f"{message} [{code}]" if code else message)

    @property
    def code(self) -> str:
        """The error code."""
        return code_of(str(self)) or self.usual_code


class InputError(SegWithUError):
    """An image, a case or a model bundle is not usable as it is."""

    usual_code = "unusable-input"


class OutputError(SegWithUError):
    """A result could not be written."""

    usual_code = "cannot-write"


class UsageError(SegWithUError):
    """The call itself is wrong: options that contradict, names that do not exist."""

    exit_code = 2
    usual_code = "wrong-usage"


class EngineMissingError(UsageError):
    """The packages of the engine that a model needs are not here.

    Args:
        problem: what is missing, without a full stop.
        remedy: what to type.
    """

    usual_code = NEEDS_PACKAGE

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}: {remedy}.")
        self.problem = problem


class CancelledError(SegWithUError):
    """The user ended the work; the message says what is kept and how to resume."""

    exit_code = INTERRUPTED
    usual_code = "cancelled-run"


@contextlib.contextmanager
def naming(source: Path | str) -> Iterator[None]:
    """Put the name of a file before what is wrong with it, where the message does not hold it yet.

    Raises:
        InputError: of the block, with `source` in it.
    """
    try:
        yield
    except InputError as error:
        if str(source) in str(error):
            raise
        raise InputError(f"{source}: {error}") from error


@contextlib.contextmanager
def unreadable_named(path: Path, wanted: str = "check its permissions and the disk") -> Iterator[None]:
    """Say of a failure to read what was to be read.

    Args:
        wanted: what to do, the end of the sentence.

    Raises:
        InputError: for every OSError of the block.
    """
    try:
        yield
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): {wanted}.") from error


@contextlib.contextmanager
def wrong_values_named(source: Path | str, wanted: str, code: str = "", problem: str = "is damaged") -> Iterator[None]:
    """Say of what a value in a file makes fail that the file is damaged.

    Args:
        wanted: what to do, the end of the sentence.

    Raises:
        InputError: for every error of a value that is missing, or not what it should be.
    """
    try:
        yield
    except DAMAGED as error:
        raise InputError(f"{source} {problem} ({error!r:.200}): {wanted}.", code) from error


@contextlib.contextmanager
def os_errors_named(target: Path) -> Iterator[None]:
    """Say of a failure to write what was to be written.

    Raises:
        OutputError: for every OSError of the block.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(f"Cannot write {target}: {reason}; free some space or choose another place.") from error
