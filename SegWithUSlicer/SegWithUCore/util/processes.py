"""The standard streams of child processes that answer on them."""

import os
import sys
from typing import BinaryIO


def take_standard_streams() -> tuple[BinaryIO, BinaryIO]:
    """Take private copies of stdin and stdout: from now on prints go to stderr, and stdin is empty.

    Windows also needs stdin out of the way: a thread that waits on it blocks the loading of some DLLs (numpy, scipy).

    Returns:
        What was stdin, to read from, and what was stdout, to write to.
    """
    sys.stdout.flush()
    reader, writer = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(line_buffering=True)  # a log is of use while things happen
    return os.fdopen(reader, "rb"), os.fdopen(writer, "wb")
