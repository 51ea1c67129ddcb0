"""The side of the workers: getting ready, checking that this worker fits to the run, and doing one case at a time."""

import contextlib
import logging
import os
import platform
import socket
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..util.errors import SegWithUError
from ..util.failures import failure_sentence
from ..util.memory import give_back_freed_memory, keep_freed_memory, limit_process
from ..util.processor import usable_cores, use_threads
from ..util.progress import Progress
from ..version import __version__
from .siblings import Siblings

SILENT_S = 0.5
"""Between two messages of a worker about its case."""
DASK_TRIM = "65536"
"""Dask's nanny sets MALLOC_TRIM_THRESHOLD_ to this, which gives memory back that the next case needs again."""
_LONGEST_TRACE = 20_000
_ONE_CASE = threading.Lock()
"""A network keeps state between its layers: one case at a time in a process, whatever threads the worker has."""
_state: "WorkerState | None" = None


@dataclass(frozen=True)
class RunFacts:
    """What each task carries about its run.

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


@dataclass
class WorkerState:
    """What a worker process keeps between cases.

    Attributes:
        siblings: the other workers of its parent.
        seat: its number among them.
        kept: what functions keep for the next case, such as a model.
    """

    siblings: Siblings
    seat: int
    kept: dict[str, Any] = field(default_factory=dict)
    fitting_runs: set[str] = field(default_factory=set)


class Context:
    """What a function that does a case is given.

    Attributes:
        run: of the case.
        state: kept between the cases of a process; None where there is no worker.
    """

    def __init__(self, run: RunFacts, state: WorkerState | None = None, report: Progress | None = None) -> None:
        self.run, self.state, self._report = run, state, report

    def progress(self, stage: str, fraction: float, detail: str = "") -> None:
        """Tell the client where the case is."""
        if self._report is not None:
            self._report(stage, fraction, detail)


CaseFunction = Callable[..., dict[str, Any]]
"""Does one case: called with the context and the arguments of its task, returns plain and small facts."""


def call(function: CaseFunction, name: str, arguments: tuple[Any, ...], run: RunFacts) -> dict[str, Any]:
    """Do one case on this worker; what goes wrong is a result, so that Dask does not try it again elsewhere.

    Returns:
        "value" of the function with "seconds", or "reason" and "trace" of its failure, or "unfit", why this worker
        cannot do cases of the run; with "worker" and "host".
    """
    where = {"worker": worker_name(), "host": socket.gethostname(), "pid": os.getpid()}
    with _ONE_CASE:
        begun = time.perf_counter()
        try:
            state = _ready(run)
            if run.id not in state.fitting_runs:
                unfit = why_unfit(run)
                if unfit is not None:
                    return {**where, "unfit": unfit}
                state.fitting_runs.add(run.id)
            value = function(Context(run, state, _reporter(name, run, where)), *arguments)
            return {**where, "value": value, "seconds": time.perf_counter() - begun}
        except UnfitError as error:
            return {**where, "unfit": str(error)}
        except Exception as error:  # noqa: BLE001 - it is told where the run is
            trace = "".join(traceback.format_exception(error))[-_LONGEST_TRACE:]
            return {**where, "reason": failure_sentence(error), "trace": trace}
        finally:
            give_back_freed_memory()


class UnfitError(SegWithUError):
    """This worker cannot do cases of the run; the message follows the worker's name."""


def ask(function: Callable[..., str], run: RunFacts, arguments: tuple[Any, ...]) -> str:
    """Call a function with this worker's context."""
    with _ONE_CASE:
        return function(Context(run, _ready(run)), *arguments)


def why_unfit(run: RunFacts) -> str | None:
    """Say why this worker cannot do cases of a run, in words that follow its name; None if it can."""
    if run.version != __version__:
        return f"has version {__version__} of this program instead of {run.version}: install the same on all computers"
    if run.lock is not None:
        path, content = Path(run.lock[0]), run.lock[1]
        try:
            same = path.read_text(encoding="utf-8") == content
        except OSError:
            same = False
        if not same:
            return f"does not see the same folder at {path.parent}: give an --output that all computers share"
    return None


def probe(run: RunFacts, token: str, fits: Callable[..., str | None], arguments: tuple[Any, ...]) -> dict[str, Any]:
    """Tell what this worker is, and leave a file beside the lock; called once before the first case.

    Args:
        fits: called with `arguments`, says why cases cannot be done here, or None.
    """
    _ready(run)
    facts = {
        "worker": worker_name(),
        "host": socket.gethostname(),
        "python": platform.python_version(),
        "unfit": why_unfit(run) or fits(*arguments),
        "threads": _dask_threads(),
        "file": None,
    }
    if run.lock is not None and facts["unfit"] is None:
        path = Path(run.lock[0]).with_name(f".segwithu-probe-{token}-{os.getpid()}-{socket.gethostname()}")
        try:
            path.write_text(token, encoding="ascii")
            facts["file"] = path.name
        except OSError as error:
            facts["unfit"] = f"cannot write into {path.parent} ({error.strerror}): check its permissions there"
    return facts


def worker_name() -> str:
    """Name of the Dask worker that this thread works for; of the process if there is none."""
    from distributed import get_worker

    try:
        return str(get_worker().name)
    except ValueError:
        return f"process {os.getpid()}"


def _dask_threads() -> int:
    from distributed import get_worker

    try:
        return int(get_worker().state.nthreads)
    except ValueError:
        return 1


def _ready(run: RunFacts) -> WorkerState:
    """Get the process ready for its first case: allocator, threads, limit of memory."""
    global _state
    if _state is None:
        if os.environ.get("MALLOC_TRIM_THRESHOLD_") == DASK_TRIM:
            del os.environ["MALLOC_TRIM_THRESHOLD_"]
        keep_freed_memory()
        logging.getLogger("distributed").setLevel(logging.CRITICAL)
        use_threads(run.threads or max(1, usable_cores() // _processes()))
        _limit_memory()
        siblings = Siblings()
        _state = WorkerState(siblings, siblings.seat())
    return _state


def _processes() -> int:
    """Count the worker processes of this one's parent."""
    import psutil

    try:
        children = psutil.Process(os.getppid()).children()
        lines = [" ".join(child.cmdline()) for child in children]
    except psutil.Error:
        return 1
    return max(1, sum("spawn_main" in line for line in lines))


def _limit_memory() -> None:
    """Heed the limit at which Dask's nanny kills this process."""
    import dask
    from distributed import get_worker

    with contextlib.suppress(ValueError):  # no worker
        limit, share = get_worker().memory_manager.memory_limit, dask.config.get("distributed.worker.memory.terminate")
        if limit and share:
            limit_process(int(limit * share))


def _reporter(name: str, run: RunFacts, where: Mapping[str, Any]) -> Progress:
    """Tell the client about a case, not more than twice a second in one process."""
    from distributed import get_worker

    try:
        worker = get_worker()
    except ValueError:
        return lambda stage, fraction, detail="": None
    told = time.monotonic()

    def report(stage: str, fraction: float, detail: str = "") -> None:
        nonlocal told
        if time.monotonic() - told >= SILENT_S:
            told = time.monotonic()
            worker.log_event(run.id, {**where, "case": name, "stage": stage, "fraction": round(fraction, 3)})

    return report
