"""The side of the workers: getting ready, checking that this worker fits to the run, and doing one case at a time."""

import contextlib
import logging
import os
import platform
import socket
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..util.errors import SegWithUError
from ..util.failures import failure_sentence
from ..util.memory import give_back_freed_memory, keep_freed_memory, limit_process
from ..util.process_lock import ProcessLock
from ..util.processor import usable_cores, use_threads
from ..util.progress import Progress, silent
from ..version import __version__

BETWEEN_MESSAGES_S = 0.5
DASK_TRIM = "65536"
"""Dask's nanny sets MALLOC_TRIM_THRESHOLD_ to this, which gives memory back that the next case needs again."""
LONGEST_TRACE = 20_000
_ONE_CASE = threading.Lock()
"""A network keeps state between its layers: one case at a time in a process, whatever threads the worker has."""
kept: dict[str, Any] = {}
"""What functions keep for the next case of this process, such as a model."""
_report: Progress = silent

CaseFunction = Callable[..., dict[str, Any]]
"""Does one case; called with its arguments, returns plain and small values."""


@dataclass(frozen=True)
class RunFacts:
    """What each case carries about its run.

    Attributes:
        id: of the run; also the topic of its messages.
        version: of this program, at the client.
        lock: path and content of the run's lock file, by which a worker knows that it shares the folder; None if the
            run writes nothing.
        threads: of each worker; None for its share of the cores.
    """

    id: str
    version: str = __version__
    lock: tuple[str, str] | None = None
    threads: int | None = None


class UnfitError(SegWithUError):
    """This worker cannot do cases of the run."""


def call(function: CaseFunction, name: str, arguments: tuple[Any, ...], run: RunFacts) -> dict[str, Any]:
    """Do one case on this worker; what goes wrong with it is a result, so that Dask does not try it again.

    Returns:
        "value" of the function, or "reason" and "trace" of its failure; with "worker", in words.

    Raises:
        UnfitError: another worker may do.
    """
    global _report
    result: dict[str, Any] = {"worker": f"{_worker_name()} on {socket.gethostname()}"}
    with _ONE_CASE:
        try:
            get_ready(run)
            _report = _reporter(name, run.id)
            result["value"] = function(*arguments)
        except UnfitError:
            raise
        except Exception as error:  # noqa: BLE001 - the client reports it
            trace = "".join(traceback.format_exception(error))[-LONGEST_TRACE:]
            result |= {"reason": failure_sentence(error), "trace": trace}
        finally:
            _report = silent
            give_back_freed_memory()
    return result


def ask(run: RunFacts, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """Get ready for a run and call a function, such as one that loads the model.

    Raises:
        UnfitError: this worker cannot do cases of the run.
    """
    with _ONE_CASE:
        get_ready(run)
        return function(*arguments)


def progress(stage: str, fraction: float, detail: str = "") -> None:
    """Report to the client how far the case is that this process does."""
    _report(stage, fraction, detail)


def get_ready(run: RunFacts) -> None:
    """Get the process ready for a run: allocator, threads, memory, and a look at version and folder.

    Raises:
        UnfitError: the worker does not fit to the run.
    """
    here = f"the worker {_worker_name()} on {socket.gethostname()}"
    if "ready" not in kept:
        if os.environ.get("MALLOC_TRIM_THRESHOLD_") == DASK_TRIM:
            del os.environ["MALLOC_TRIM_THRESHOLD_"]
        keep_freed_memory()
        logging.getLogger("distributed").setLevel(logging.CRITICAL)
        use_threads(run.threads or max(1, usable_cores() // len(_siblings())))
        kept["ready"] = True
    limit_process(_memory_of_dask())
    if run.version != __version__:
        raise UnfitError(
            f"{here} has version {__version__} of this program instead of {run.version} (Python "
            f"{platform.python_version()}): install the same on all computers.",
            "other-version",
        )
    if run.lock is not None:
        path, content = Path(run.lock[0]), run.lock[1]
        with contextlib.suppress(OSError):
            if path.read_text(encoding="utf-8") == content:
                return
        raise UnfitError(
            f"{here} does not see the same folder at {path.parent}: give an --output that all computers share.",
            "folder-not-shared",
        )


def _worker_name() -> str:
    from distributed import get_worker

    try:
        return str(get_worker().name)
    except ValueError:  # no worker, as in tests
        return f"process {os.getpid()}"


def _siblings() -> list[int]:
    """Return the process numbers of the workers that share this one's parent, this one among them, in order."""
    import psutil

    found = {os.getpid()}
    with contextlib.suppress(psutil.Error):
        for child in psutil.Process(os.getppid()).children():
            with contextlib.suppress(psutil.Error):
                found |= {child.pid} if "spawn_main" in " ".join(child.cmdline()) else set()
    return sorted(found)


def _memory_of_dask() -> int | None:
    """Return the bytes at which Dask's nanny kills this process; None if it does not."""
    import dask
    from distributed import get_worker

    with contextlib.suppress(ValueError):  # no worker
        limit, share = get_worker().memory_manager.memory_limit, dask.config.get("distributed.worker.memory.terminate")
        return int(limit * share) if limit and share else None
    return None


def _reporter(name: str, topic: str) -> Progress:
    """Return a listener that tells the client about a case, twice a second at most."""
    from distributed import get_worker

    try:
        worker = get_worker()
    except ValueError:
        return silent
    sent = time.monotonic()

    def report(stage: str, fraction: float, detail: str = "") -> None:
        nonlocal sent
        if time.monotonic() - sent >= BETWEEN_MESSAGES_S:
            sent = time.monotonic()
            event = {"case": name, "stage": stage, "fraction": round(fraction, 3)}
            worker.log_event(topic, {**event, "host": socket.gethostname(), "pid": os.getpid()})

    return report


def choose_card() -> None:
    """Give this worker one of the graphics cards that torch sees: of several workers each another one."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.set_device(_siblings().index(os.getpid()) % max(1, torch.cuda.device_count()))


@contextlib.contextmanager
def own_card() -> Iterator[None]:
    """Wait until no other worker of this user and computer computes on the graphics card of this one."""
    import torch

    card = torch.cuda.get_device_properties(torch.cuda.current_device())
    user = os.getuid() if hasattr(os, "getuid") else 0
    name = f"segwithu-{user}-{getattr(card, 'uuid', card.name)}.lock".replace(" ", "-")
    lock = None
    with contextlib.suppress(OSError):  # a temporary folder without locks
        lock = ProcessLock.take(Path(tempfile.gettempdir()) / name, wait_s=float("inf"))
    try:
        yield
    finally:
        if lock is not None:
            lock.release()
