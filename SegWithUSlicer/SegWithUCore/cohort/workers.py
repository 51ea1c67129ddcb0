"""Workers of a Dask cluster: started on this computer, found at a scheduler, or asked for as batch jobs.

with connected(WorkersRequest(workers=4), folder, print) as workers:
for answer in workers.each({"a": (image,)}.items(), function, RunFacts("run-1")):
...
"""

import contextlib
import importlib
import importlib.util
import itertools
import logging
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..util.errors import SegWithUError, UsageError
from ..util.failures import failure_sentence
from .on_worker import CaseFunction, RunFacts, UnfitError, ask, call

ALLOWED_DEATHS = 1
"""Workers that may die with a case, by chance, before Dask gives it up."""
RETRIES = 3
"""Of a case that an unfit worker was given: another may do."""
LOCAL = "127.0.0.1"
RETURN_S = 300.0
"""For a killed worker here to come back. Dask gives up after 15 s; a busy computer took longer to load packages:
the run went on with one worker less."""
CLOSE_S = 3.0
"""For a cluster to close by itself; then its processes are killed."""
ANSWER_S = 20.0
"""For a scheduler to answer."""
SAY_EVERY_S = 60.0
"""How often a run without workers says so."""
LOST_AFTER_S = 300.0
"""Without a scheduler."""
CHECK_S = 1.0
LOOK_S = 0.005
_CLASSES = {"slurm": "SLURMCluster", "pbs": "PBSCluster", "lsf": "LSFCluster", "sge": "SGECluster"}
_LOOK = {"slurm": "squeue", "pbs": "qstat", "lsf": "bjobs", "sge": "qstat"}
JOB_QUEUES = tuple(_CLASSES)
"""Batch systems whose configuration dask-jobqueue reads."""
_KEYS_PATTERN = ".dask-jobqueue.worker.*"
Say = Callable[[str], None]


class ClusterError(SegWithUError):
    """The workers cannot be had, or do not fit to this run."""


@dataclass(frozen=True)
class WorkersRequest:
    """Workers on this computer, of a running scheduler, or as jobs of a batch system.

    Attributes:
        workers: how many; None for those that a scheduler has.
        scheduler: address, or the file that `dask scheduler --scheduler-file` wrote.
        job_queue: one of `JOB_QUEUES`.
        most: workers of an adaptive batch cluster.
    """

    workers: int | None = None
    scheduler: str | None = None
    job_queue: str | None = None
    most: int | None = None

    def check(self) -> None:
        """Refuse options that contradict each other, and a missing package.

        Raises:
            UsageError: names the option and what to do.
            ClusterError: the extra is not installed.
        """
        if self.scheduler is not None and (self.workers is not None or self.job_queue is not None):
            raise UsageError("--scheduler has its own workers: leave out --workers and --cluster.")
        if self.job_queue is not None and self.workers is None:
            raise UsageError("--cluster needs --workers N, the number of workers to ask for.")
        if self.most is not None and self.job_queue is None:
            raise UsageError("--adapt goes with --cluster: leave it out.")
        if self.most is not None and self.workers is not None and self.most < self.workers:
            raise UsageError(f"--adapt {self.most} is less than --workers {self.workers}: give at least as many.")
        place = self.scheduler
        if place is not None and not place.startswith(("tcp://", "tls://")):
            if "://" in place or not place.endswith(".json"):
                raise UsageError(
                    f"--scheduler {place!r} is no scheduler: give tcp://HOST:PORT, tls://HOST:PORT, or the file that "
                    "'dask scheduler --scheduler-file FILE.json' wrote."
                )
            if not Path(place).is_file():
                raise UsageError(
                    f"--scheduler {place} does not exist: start 'dask scheduler --scheduler-file {place}' first."
                )
        for package in ["distributed", *(["dask_jobqueue"] if self.job_queue else [])]:
            if importlib.util.find_spec(package) is None:
                name = package.replace("_", "-")
                raise ClusterError(
                    f"Workers need the package {name}, which is not installed: run 'pip install "
                    '"segwithu-slicer[cluster]"\', or leave out --workers, --scheduler and --cluster.',
                    "package-missing",
                )


@dataclass(frozen=True)
class Answer:
    """What became of a case.

    Attributes:
        name: of the case, unique in its run.
        value: what the function returned; None if it failed.
        reason, trace: of a failure.
        worker: that did it.
    """

    name: str
    value: dict[str, Any] | None
    reason: str = ""
    trace: str = ""
    worker: str = ""


class Workers:
    """A cluster with a client.

    Attributes:
        client: of `distributed`.
        cluster: ours; None at a scheduler of others.
        address: of the scheduler.
        running: the last message about each case that has not ended, by its name.
        count: workers that stood when last looked.
    """

    def __init__(self, client: Any, cluster: Any, request: WorkersRequest, say: Say) -> None:
        """Keep what `connected` made."""
        self.client, self.cluster, self.request, self.say = client, cluster, request, say
        self.address = str(client.scheduler.address)  # a client that lost its scheduler no longer knows it
        self.running: dict[str, dict[str, Any]] = {}
        self.count = 0
        self._seen = self._said = time.monotonic()

    @property
    def is_local(self) -> bool:
        """Whether the workers are children of this process."""
        return self.cluster is not None and self.request.job_queue is None

    def gone(self) -> ClusterError:
        """Return the error that says that the scheduler is lost."""
        return ClusterError(
            f"The scheduler at {self.address} is gone: start it again, and this run with --resume.", "scheduler-gone"
        )

    def get_ready(self, run: RunFacts, function: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
        """Wait for workers, and call a function on each that stands, which gets ready for the run.

        Returns:
            What the function returned, by the address of the worker. One that dies meanwhile is left out.

        Raises:
            ClusterError: local workers do not start, or the function fails on one.
        """
        begun = time.monotonic()
        wanted = self.request.workers or 1
        answers: dict[str, Any] = {}
        while not answers:  # all that stood may have died meanwhile
            while self._look() < (wanted if self.is_local else 1):
                if self.is_local and time.monotonic() - begun > 2 * SAY_EVERY_S:
                    raise ClusterError(
                        f"Only {self.count} of {wanted} workers started: see what else runs on this computer.",
                        "workers-not-started",
                    )
                time.sleep(0.05 if self.is_local else 0.5)
            found = self.client.run(ask, run, function, arguments, on_error="return")
            for address, answer in found.items():
                if isinstance(answer, UnfitError):
                    raise ClusterError(f"The worker at {address} cannot do cases: {answer}")
                if isinstance(answer, BaseException) and not isinstance(answer, OSError):
                    raise ClusterError(f"The worker at {address} cannot do cases: {_sentence(answer)}", "worker-unfit")
            answers = {address: answer for address, answer in found.items() if not isinstance(answer, BaseException)}
        return answers

    def each(
        self, cases: Iterable[tuple[str, tuple[Any, ...]]], function: CaseFunction, run: RunFacts
    ) -> Iterator[Answer | None]:
        """Do all cases; what became of each comes as it ends.

        A worker has one case at a time, the others wait here: one that dies takes no waiting case along.

        Args:
            cases: names and arguments of the function.

        Yields:
            An answer, or None about every second in which there is none.

        Raises:
            ClusterError: the scheduler is gone.
        """
        from distributed import as_completed

        done = as_completed(loop=self.client.loop, with_results=True, raise_errors=False)
        futures: dict[Any, tuple[str, Any]] = {}
        left, more, looked = iter(cases), True, 0.0
        self.client.subscribe_topic(run.id, lambda event: self.running.update({event[1]["case"]: event[1]}))
        try:
            while True:
                if more and len(futures) < max(1, self.count):
                    free = max(1, self.count) - len(futures)
                    given = list(itertools.islice(left, max(0, free)))
                    more = len(given) >= free
                    for name, arguments in given:
                        future = self.client.submit(
                            call, function, name, arguments, run, key=f"{name}-{run.id}", pure=False, retries=RETRIES
                        )
                        futures[future.key] = (name, future)
                        done.add(future)
                if not futures:
                    return
                batch = done.next_batch(block=False)
                for future, result in batch:
                    name, _ = futures.pop(future.key)
                    self.running.pop(name, None)
                    if future.status == "cancelled":
                        raise self.gone()
                    yield _answer(name, future.status, result)
                if time.monotonic() - looked >= CHECK_S:
                    looked = time.monotonic()
                    self._look()
                    yield None
                elif not batch:
                    time.sleep(LOOK_S)
        finally:
            with contextlib.suppress(Exception):  # the scheduler is gone
                self.client.unsubscribe_topic(run.id)
                self.client.cancel([future for _, future in futures.values()])

    def _look(self) -> int:
        """Count the workers that stand now; say every minute that there are none.

        Raises:
            ClusterError: the scheduler is gone.
        """
        now, status = time.monotonic(), self.client.status
        if status == "closed" or (status != "running" and now - self._seen > LOST_AFTER_S):
            raise self.gone()
        self.count = len(self.client.nthreads()) if status == "running" else 0
        if self.count:
            self._seen = self._said = now
        elif now - self._said >= SAY_EVERY_S:
            self._said = now
            queue = self.request.job_queue
            look = f"start one with 'dask worker {self.address} --nthreads 1', or wait"
            if queue is not None:
                look = f"see '{_LOOK[queue]}' for the state of the jobs, and their log files for errors"
            self.say(
                f"There is no worker at the scheduler {self.address} for {(now - self._seen) / 60:.0f} min: {look}."
            )
        return self.count

    def close(self, at_once: bool = False) -> None:
        """Leave a scheduler of others; end our own cluster with all its processes, within seconds.

        Args:
            at_once: local workers are killed, whatever they are doing.
        """
        children = _started_processes() if self.is_local else []
        if at_once and self.is_local:
            for nanny in self.cluster.workers.values():
                nanny.auto_restart = False
            _kill(children)
        with contextlib.suppress(Exception):
            self.client.close(timeout=CLOSE_S / 3)
        if self.cluster is not None:
            with contextlib.suppress(Exception):
                self.cluster.close(timeout=CLOSE_S / 3 if at_once else CLOSE_S)
        _kill([*children, *(_started_processes() if self.is_local else [])])


def _answer(name: str, status: str, result: Any) -> Answer:
    """Return what became of a case that Dask is done with."""
    from distributed.scheduler import KilledWorker

    if status == "finished":
        return Answer(name, result.get("value"), result.get("reason", ""), result.get("trace", ""), result["worker"])
    error = result[1] if isinstance(result, tuple) and len(result) > 1 else result
    reason = f"{name} was not made: {_sentence(error)}"
    if isinstance(error, KilledWorker):
        failure = ClusterError(
            f"{name} was not made: {error.allowed_failures + 1} workers were killed while they made it, by the system "
            "when memory runs out, by the batch system or by hand; free some memory or give fewer --workers, and try "
            "it again with --resume.",
            "worker-killed",
        )
        reason = str(failure)
    elif isinstance(error, ModuleNotFoundError):
        reason = f"{name} was not made: a worker lacks the package {error.name}; install the same there."
    return Answer(name, None, reason)


def _sentence(error: Any) -> str:
    return failure_sentence(error) if isinstance(error, Exception) else " ".join(str(error).split())[:300]


@contextlib.contextmanager
def connected(request: WorkersRequest, shared: Path, say: Say) -> Iterator[Workers]:
    """Have workers for the time of the block.

    Args:
        shared: a folder that all computers see, in which the keys of batch jobs lie meanwhile.
        say: prints a note.

    Raises:
        ClusterError: they cannot be had.
    """
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    import dask
    import distributed  # noqa: F401 - its settings must be there before some are changed for a while

    settings: dict[str, Any] = {"distributed.scheduler.allowed-failures": ALLOWED_DEATHS}
    if request.job_queue is None:  # a lost job is replaced after 15 s, and that is well
        settings["distributed.deploy.lost-worker-timeout"] = RETURN_S
    folder = Path(tempfile.mkdtemp(prefix="segwithu-cluster-"))
    try:
        with dask.config.set(settings), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            workers = _opened(request, folder, shared, say)
            try:
                yield workers
            except BaseException as error:
                lost = workers.client.status == "closed"  # asked before we close it ourselves
                workers.close(at_once=True)
                if lost and isinstance(error, Exception) and not isinstance(error, SegWithUError):
                    raise workers.gone() from error  # whatever was asked of the closed client
                raise
            workers.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _opened(request: WorkersRequest, folder: Path, shared: Path, say: Say) -> Workers:
    """Start or find the cluster.

    Args:
        folder: where local workers keep their files.
    """
    from distributed import Client
    from distributed.security import Security

    if request.scheduler is not None:
        place = request.scheduler
        try:
            options: dict[str, Any] = {"address": place} if "://" in place else {"scheduler_file": place}
            client = Client(**options, timeout=ANSWER_S, set_as_default=False)
        except (OSError, ValueError, TypeError, RuntimeError) as error:
            raise ClusterError(
                f"No scheduler answers at {place} ({_short(error)}): check that it runs, that its port is open, and "
                "for tls:// that distributed.comm.tls in ~/.config/dask names its certificates.",
                "no-scheduler",
            ) from error
        address = str(client.scheduler.address)
        if address.startswith("tcp://") and not _is_loopback(address):
            say(_plain_warning(address))
        return Workers(client, None, request, say)
    # Keys that only this run knows, so that no other user of the computer can use its ports.
    security = None if importlib.util.find_spec("cryptography") is None else Security.temporary()
    protocol = "tcp://" if security is None else "tls://"
    if request.job_queue is None:
        cluster = _local_cluster(request.workers or 1, folder, security, protocol)
    else:
        cluster = _batch_cluster(request, request.job_queue, shared, security, protocol)
        if security is None:
            say(_plain_warning(cluster.scheduler_address))
    return Workers(Client(cluster, security=security, set_as_default=False), cluster, request, say)


def _local_cluster(workers: int, folder: Path, security: Any, protocol: str) -> Any:
    """Start workers on this computer; they and the scheduler listen on 127.0.0.1 only."""
    from distributed import LocalCluster

    try:
        return LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            host=LOCAL,
            protocol=protocol,
            security=security,
            dashboard_address=f"{LOCAL}:0",
            worker_dashboard_address=None,
            memory_limit=0,
            local_directory=str(folder),
            silence_logs=logging.CRITICAL,
        )
    except BaseException as error:
        _kill(_started_processes())
        if not isinstance(error, Exception):
            raise
        raise ClusterError(
            f"The {workers} workers could not be started here ({_short(error)}): see what ended one, such as a lack of "
            "memory, give fewer --workers, or try again.",
            "workers-not-started",
        ) from error


def _batch_cluster(request: WorkersRequest, queue: str, shared: Path, security: Any, protocol: str) -> Any:
    """Submit workers as jobs of a batch system, as dask-jobqueue's configuration describes them."""
    import dask

    module = importlib.import_module("dask_jobqueue")
    for old in shared.glob(_KEYS_PATTERN):  # of a client that was killed
        old.unlink(missing_ok=True)
    options = dict(dask.config.get(f"jobqueue.{queue}.scheduler-options", {}) or {})
    options.setdefault("dashboard_address", f"{LOCAL}:0")
    extra = list(dask.config.get(f"jobqueue.{queue}.worker-extra-args", []) or [])
    if "--nthreads" not in extra:  # else each core of a job becomes a thread, and a case may have several cores
        extra += ["--nthreads", "1"]
    try:
        cluster = getattr(module, _CLASSES[queue])(
            security=security,
            protocol=protocol,
            shared_temp_directory=str(shared),
            scheduler_options=options,
            worker_extra_args=extra,
            silence_logs=logging.CRITICAL,
        )
        if request.most is None:
            cluster.scale(request.workers)
        else:
            cluster.adapt(minimum=request.workers, maximum=request.most)
    except (ValueError, TypeError, KeyError, OSError, RuntimeError) as error:
        raise ClusterError(
            f"Jobs of {queue} cannot be set up ({_short(error)}): describe them under jobqueue.{queue} in "
            "~/.config/dask/jobqueue.yaml, as docs/user/cohorts.md shows.",
            "no-jobs",
        ) from error
    return cluster


def _short(error: BaseException) -> str:
    return " ".join(str(error).split()).removesuffix(".")[:300] or type(error).__name__


def _plain_warning(address: str) -> str:
    return (
        f"Warning: {address} is not encrypted, and anybody who reaches it can run any program as its user: use tls:// "
        "(see docs/user/cohorts.md), or a network that only you reach."
    )


def _is_loopback(address: str) -> bool:
    host = address.partition("://")[2].rpartition(":")[0].strip("[]")
    return host.startswith("127.") or host in ("localhost", "::1")


def _started_processes() -> list[Any]:
    """List the child processes of this one that Dask started, with theirs."""
    import psutil

    with contextlib.suppress(psutil.Error):
        found = [child for child in psutil.Process().children() if "spawn_main" in " ".join(child.cmdline())]
        return [*found, *(grandchild for child in found for grandchild in child.children(recursive=True))]
    return []


def _kill(processes: list[Any]) -> None:
    for process in processes:
        with contextlib.suppress(Exception):  # it has ended
            process.kill()
