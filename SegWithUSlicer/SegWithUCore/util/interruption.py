"""End a process soon after Ctrl-C or SIGTERM, in the middle of a long operation of a library, too.

Python hears a signal between two of its own steps: a window of a large network, or resampling a large image, may take
minutes. So a thread waits during the work, and ends the process where the signal was not handled in time.
Standard library only.
"""

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, NoReturn

from .atomic_files import remove_unfinished
from .errors import INTERRUPTED

# Time for the work to end by itself, in better order.
GRACE_S = 0.5
SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def heard_soon(farewell: Callable[[], object]) -> Iterator[None]:
    """Raise KeyboardInterrupt on Ctrl-C and SIGTERM while the block runs, or end the process where it does not hear.

    Only in the main thread, which alone gets signals; a signal that was ignored before stays ignored.

    Args:
        farewell: prints a message before the process is ended.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard = threading.Event()

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        heard.set()
        raise KeyboardInterrupt

    before: dict[int, Any] = {
        each: signal.signal(each, interrupt) for each in SIGNALS if signal.getsignal(each) is not signal.SIG_IGN
    }
    reader, writer = socket.socketpair()

    def wait() -> None:
        while received := reader.recv(64):
            if any(number in before for number in received) and not heard.wait(GRACE_S):
                end_now(INTERRUPTED, farewell)

    writer.setblocking(False)
    others = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    waiting = threading.Thread(target=wait, name="interruption", daemon=True)
    waiting.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(others)
        for each, handler in before.items():
            signal.signal(each, signal.SIG_DFL if handler is None else handler)  # None: not of Python
        writer.close()
        waiting.join()
        reader.close()


def end_now(code: int, farewell: Callable[[], object] = lambda: None) -> NoReturn:
    """End the process from any thread, even while another one computes: nothing half-written stays."""
    remove_unfinished()
    with contextlib.suppress(Exception):  # the reader of the message may be gone
        farewell()
    remove_unfinished()  # what the work began meanwhile
    os._exit(code)
