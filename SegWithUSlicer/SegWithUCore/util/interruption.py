"""End a process soon after Ctrl-C or SIGTERM, in the middle of a long operation of a library, too.

Python hears a signal between two of its own steps: a window of a large network, or resampling a large image, may take
minutes. So a thread waits beside the work, and ends the process where nothing has heard the signal for a moment.
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

GRACE_S = 0.5
"""How long the work is waited for, which leaves in better order by itself."""
SIGNALS = (signal.SIGINT, signal.SIGTERM)

Farewell = Callable[[], object]

_farewells: list[Farewell] = []


@contextlib.contextmanager
def heard_soon(farewell: Farewell) -> Iterator[None]:
    """Raise KeyboardInterrupt on Ctrl-C and SIGTERM while the block runs, or end the process where it does not hear.

    Only in the main thread, which alone gets signals; a signal that was ignored before stays ignored.

    Args:
        farewell: what to say before the process is ended.
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
                end_now(INTERRUPTED)

    writer.setblocking(False)
    others = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    waiting = threading.Thread(target=wait, name="interruption", daemon=True)
    waiting.start()
    try:
        with says_farewell(farewell):
            yield
    finally:
        signal.set_wakeup_fd(others)
        for each, handler in before.items():
            signal.signal(each, signal.SIG_DFL if handler is None else handler)  # None: not of Python
        writer.close()
        waiting.join()
        reader.close()


@contextlib.contextmanager
def says_farewell(farewell: Farewell) -> Iterator[None]:
    """Let the block have its own last words: those of the innermost block alone are said."""
    _farewells.append(farewell)
    try:
        yield
    finally:
        _farewells.remove(farewell)


def end_now(code: int) -> NoReturn:
    """End the process from any thread, even while another one computes: nothing half-written stays."""
    remove_unfinished()
    for farewell in _farewells[-1:]:
        with contextlib.suppress(Exception):  # the reader of the message may be gone
            farewell()
        remove_unfinished()  # what the work began meanwhile
    os._exit(code)
