"""The reader by its old name, until its last caller uses `InputReader`."""

import contextlib

from .input_reader import InputReader


class ReaderProcess(InputReader, contextlib.nullcontext["ReaderProcess"]):
    """Reads in this process."""

    def __enter__(self) -> "ReaderProcess":
        """Return the reader."""
        return self

    def start(self) -> None:
        """Do nothing."""
