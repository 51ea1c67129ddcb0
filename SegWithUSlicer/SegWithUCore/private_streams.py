"""The standard streams of a child process that speaks a protocol on them, kept from libraries.

Libraries print to stdout and child processes read stdin as they like; both would break a protocol that shares these
streams. So such a process keeps private copies of both and points the standard ones elsewhere.
"""

import os
import sys
from typing import BinaryIO


def take_standard_streams() -> tuple[BinaryIO, BinaryIO]:
    """Private copies of stdin and stdout: from now on prints go to stderr, and stdin is empty.

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
