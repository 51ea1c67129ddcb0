"""What goes wrong in ways a user can act on.

Every message is one sentence that names the file or option, the value found and what to do.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path


class SegWithUError(Exception):
    """A failure with a message meant for the user; the command line exits with `exit_code`."""

    exit_code = 1


class InputError(SegWithUError):
    """An image, a case or a model bundle is not usable as it is."""


class OutputError(SegWithUError):
    """A result could not be written."""


class UsageError(SegWithUError):
    """The call itself is wrong: options that contradict, names that do not exist."""

    exit_code = 2


class EngineMissingError(UsageError):
    """The packages of the engine that a model needs are not here.

    Args:
        problem: what is missing, without a full stop.
        remedy: what to type.
    """

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}: {remedy}.")
        self.problem = problem


class CancelledError(SegWithUError):
    """The user ended the work; the message says what is kept and how to go on."""


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
