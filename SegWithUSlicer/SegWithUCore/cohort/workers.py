"""Cases on workers of a Dask cluster: started here, found at a scheduler, or asked for as SLURM jobs.

    with connected(request, folder) as client:
        setup = ready_workers(client, Setup.of(bundle, head, engine, device))
        for name, answer in each_case(client, setup, function, {"a": (image,)}.items()):
            ...

The package `distributed` is loaded inside functions only: it belongs to the extra `cluster`.
"""

import contextlib
import importlib.util
import itertools
import logging
import os
import socket
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..case.case_file import CASE_FILE
from ..inference.model import Model, user_network_sha256
from ..inference.segment import Job
from ..models.bundle import Bundle, read_bundle, with_head
from ..util.atomic_files import exists_error, sweep_leftovers
from ..util.errors import SegWithUError, UsageError
from ..util.memory import available_bytes, give_back_freed_memory, keep_freed_memory, limit_process
from ..util.process_lock import ProcessLock
from ..util.processor import usable_cores, use_threads
from ..version import __version__
from .one_case import FINISHED, Rules, Settled, failed, settle

ALLOWED_DEATHS = 1
"""Workers that may die with a case, by chance, before Dask gives it up."""
RETURN_S = 300.0
"""For a killed worker here to come back: Dask gives up after 15 s; a busy computer took longer to load packages."""
RETRIES = 3
"""Of a case that an unfit worker was given: another may do."""
LOCAL = "127.0.0.1"
SHARED_MEMORY = 0.9
"""Share of the free memory that the workers of this computer divide among them."""
CLOSE_S = 1.0
ANSWER_S = 20.0
"""For a scheduler to answer."""
START_S = 120.0
"""For workers of this computer to start."""
SEEN_AFTER_S = 60.0
"""For a folder that another computer made to be seen here: network file systems keep what they know for so long."""
CHECK_S, LOOK_S = 1.0, 0.01


class ClusterError(SegWithUError):
    """Workers cannot be had, or one does not fit to this run."""


@dataclass(frozen=True)
class WorkersRequest:
    """Workers on this computer, of a running scheduler, or as SLURM jobs.

    Attributes:
        workers: how many; None for those that a scheduler has.
        scheduler: its address.
        cluster: "slurm".
    """

    workers: int | None = None
    scheduler: str | None = None
    cluster: str | None = None

    def check(self) -> None:
        """Refuse options that contradict each other, and a missing package.

        Raises:
            UsageError: names the option and what to do.
            ClusterError: the extra is not installed.
        """
        if (self.scheduler is None) == (self.workers is None):
            raise UsageError("Give --workers N (with --cluster, too), or --scheduler ADDRESS alone.", "workers-options")
        if self.scheduler is not None and (self.cluster or not self.scheduler.startswith(("tcp://", "tls://"))):
            raise UsageError(f"--scheduler {self.scheduler!r} is not tcp://HOST:PORT, alone.", "no-scheduler")
        for package in ["distributed", *(["dask_jobqueue"] if self.cluster else [])]:
            if importlib.util.find_spec(package) is None:
                raise ClusterError(
                    f'Workers need the package {package}: pip install ".[cluster]" in the checkout.',
                    "package-missing",
                )


@dataclass(frozen=True)
class Setup:
    """What a worker must know, and agree with, to do cases of a run; the network itself does not travel.

    Attributes:
        folder: of the bundle, the same on all computers.
        head: other than the default.
        engine, device: as the user asks for them.
        identity: what results depend on beside images, settings and the engine: names and hashes.
        network: file and factory of the user's own network.
        threads: of each worker; None for the cores that it may use.
        memory: bytes that each worker may use; None for what the system allows.
        lock: path and content of the run's lock file, by which a worker knows that it shares the folder.
        runtime: what the engine must be, in words; empty as long as no worker was asked.
    """

    folder: str
    head: str | None
    engine: str
    device: str
    identity: tuple[str | None, ...]
    network: str | None = None
    threads: int | None = None
    memory: int | None = None
    lock: tuple[str, str] | None = None
    runtime: str = ""

    @classmethod
    def of(cls, bundle: Bundle, head: str | None, engine: str, device: str, **more: Any) -> "Setup":
        """Describe the model of this run."""
        assert bundle.folder is not None
        return cls(str(bundle.folder.resolve()), head, engine, device, _identity(bundle, head), **more)


def _identity(bundle: Bundle, head: str | None) -> tuple[str | None, ...]:
    """Return what results depend on beside images, settings and the engine, the version of this program included."""
    bundle = with_head(bundle, head)
    hashes = (bundle.weights_sha256, bundle.calibration_sha256, user_network_sha256(bundle))
    return (__version__, bundle.name, str(bundle.about["version"]), bundle.default_head.name, *hashes)


_ONE_CASE = threading.Lock()
"""A network keeps state between its layers: one case at a time in a process, whatever threads the worker has."""
_kept: dict[str, Any] = {}
"""The model of this worker, and the setup that it was loaded by."""


def on_worker(function: Callable[..., Any], setup: Setup, *arguments: Any) -> Any:
    """Call `function(model, *arguments)` on this worker, with the model of the run.

    Raises:
        ClusterError: another worker may do.
    """
    with _ONE_CASE:
        try:
            return function(_warm_model(setup), *arguments)
        finally:
            give_back_freed_memory()


def _warm_model(setup: Setup) -> Model:
    """Return the model of this worker, loaded once a process.

    Raises:
        ClusterError: this worker has another version, folder, model or engine.
    """
    here = f"The worker on {socket.gethostname()}"
    if setup.lock is not None and not _is_there(*setup.lock):
        raise ClusterError(
            f"{here} does not see the same folder at {Path(setup.lock[0]).parent}: give an --output that all share.",
            "folder-not-shared",
        )
    asked = replace(setup, lock=None, runtime="")
    if _kept.get("setup") != asked:
        _kept.clear()  # memory first: two models need not fit
        os.environ.pop("MALLOC_TRIM_THRESHOLD_", None)  # Dask's: gives memory back that the next case needs again
        keep_freed_memory()
        use_threads(setup.threads or usable_cores())
        limit_process(setup.memory)
        try:
            _kept["model"] = _loaded(setup)
        except SegWithUError as error:
            raise ClusterError(f"{here} cannot load the model: {error}") from error
        _kept["setup"] = asked
    model: Model = _kept["model"]
    if setup.runtime and _runtime(model) != setup.runtime:
        raise ClusterError(
            f"{here} has {_runtime(model)} instead of {setup.runtime}: install the same.", "other-engine"
        )
    return model


def _loaded(setup: Setup) -> Model:
    if setup.network is not None:
        from ..network.backbones.user_network import register_network

        register_network(setup.network)
    bundle = read_bundle(Path(setup.folder))
    if _identity(bundle, setup.head) != setup.identity:
        raise ClusterError(
            f"A worker has another model in {setup.folder}, or another version of this program: install the same.",
            "other-model",
        )
    return Model(bundle, setup.device, setup.head, setup.engine)


def _is_there(path: str, content: str) -> bool:
    with contextlib.suppress(OSError):
        return Path(path).read_text(encoding="utf-8") == content
    return False


def _runtime(model: Model) -> str:
    """Say what runs a model: the same words, the same results."""
    facts = model.engine.identity()
    version, graphs = str(facts["version"]).partition("+")[0], str(facts.get("graphs_sha256") or "none")[:12]
    return f"{facts['name']} {version} ({facts['precision']}, graphs {graphs}) on {model.device}"


def _settle_on_worker(model: Model, job: Job, rules: Rules) -> Settled:
    return {**settle(job, model, rules), "worker": socket.gethostname()}


def settle_on_workers(
    jobs: Sequence[Job],
    output: Path,
    setup: Setup,
    rules: Rules,
    request: WorkersRequest,
    say: Callable[[str], None],
    lock: ProcessLock | None = None,
) -> Iterator[tuple[Job, Settled] | int]:
    """Settle cases on workers, as `settle_all` does here.

    Args:
        say: prints a note.
        lock: of the output folder, by which workers know that they see the same one.

    Yields:
        A job and what became of it; or about every second the number of workers.

    Raises:
        ClusterError: there are no workers, or unfit ones.
    """
    if lock is not None:
        setup = replace(setup, lock=(str(lock.path.resolve()), lock.path.read_text(encoding="utf-8")))
    sweep_leftovers(output)
    named = {job.name: job for job in jobs}
    free = [job for job in jobs if rules.resume or rules.overwrite or not job.target.exists()]
    # A worker may die after it made a case and before it said so: what the run itself made is left as it is.
    own = rules if rules.overwrite else replace(rules, resume=True)
    try:
        with connected(request, output) as client:
            setup = ready_workers(client, setup, request)
            say(f"The workers run {setup.runtime}.")
            for name in named.keys() - {job.name for job in free}:
                yield named[name], failed(exists_error(named[name].target))
            cases = ((job.name, (job, own)) for job in free)
            for answer in each_case(client, setup, _settle_on_worker, cases):
                if isinstance(answer, int):
                    yield answer
                    continue
                name, value = answer
                yield named[name], failed(value) if isinstance(value, Exception) else _seen(named[name], value)
    finally:
        sweep_leftovers(output)


def _seen(job: Job, settled: Settled) -> Settled:
    """Wait until a case that a worker wrote is here, too; it failed if it does not come."""
    end = time.monotonic() + SEEN_AFTER_S
    while settled["state"] == FINISHED and not (job.target / CASE_FILE).is_file():
        if time.monotonic() > end:
            message = f"{job.target} was written by {settled['worker']}, but not here: give a shared --output."
            return failed(ClusterError(message, "folder-not-shared"))
        time.sleep(0.5)
    return settled


def ready_workers(client: Any, setup: Setup, request: WorkersRequest) -> Setup:
    """Wait for workers and let each load the model; returns the setup with the engine that they share.

    Raises:
        ClusterError: workers of this computer do not start, or one cannot do cases of the run.
    """
    local = request.workers if request.cluster is None else None
    if local is not None:
        free = available_bytes()
        setup = replace(
            setup,
            threads=setup.threads or max(1, usable_cores() // local),
            memory=None if free is None else int(SHARED_MEMORY * free / local),
        )
    found: dict[str, Any] = {}
    while not found:  # all that stood may have died meanwhile
        try:
            client.wait_for_workers(local or 1, timeout=None if local is None else START_S)
        except TimeoutError as error:
            raise ClusterError(f"Not all {local} workers started: see what else runs here.", "no-workers") from error
        answers = client.run(on_worker, _runtime, setup, on_error="return")
        for address, answer in answers.items():
            if isinstance(answer, BaseException) and not isinstance(answer, OSError):
                raise ClusterError(f"The worker at {address} cannot do cases: {answer}") from answer
        found = {address: answer for address, answer in answers.items() if not isinstance(answer, BaseException)}
    if len(set(found.values())) > 1:
        places = ", ".join(f"{runtime} at {address}" for address, runtime in sorted(found.items())[:4])
        raise ClusterError(
            f"The workers would make different results ({places}): name one with --engine and --device.",
            "different-engines",
        )
    return replace(setup, runtime=next(iter(found.values())))


def each_case(
    client: Any, setup: Setup, function: Callable[..., Any], cases: Iterable[tuple[str, tuple[Any, ...]]]
) -> Iterator[tuple[str, Any] | int]:
    """Call `function(model, *arguments)` for all cases on workers; what became of each comes as it ends.

    A worker has one case at a time, the others wait here: one that dies takes no waiting case along.

    Args:
        cases: names, and arguments of the function.

    Yields:
        The name of a case, and its value or its exception; or about every second the number of workers.

    Raises:
        ClusterError: the scheduler is gone.
    """
    from distributed import as_completed

    done = as_completed(loop=client.loop, with_results=True, raise_errors=False)
    names: dict[Any, str] = {}
    left, count, looked = iter(cases), 0, 0.0
    while True:
        if time.monotonic() - looked >= CHECK_S:
            looked, count = time.monotonic(), len(client.nthreads())
            yield count
        for name, arguments in itertools.islice(left, max(0, max(1, count) - len(names))):
            future = client.submit(on_worker, function, setup, *arguments, pure=False, retries=RETRIES)
            names[future] = name
            done.add(future)
        if not names:
            return
        batch = done.next_batch(block=False)
        for future, result in batch:
            if future.status == "cancelled" or client.status == "closed":
                raise _gone(client)
            yield names.pop(future), result if future.status == "finished" else _failure(result)
        if not batch:
            time.sleep(LOOK_S)


def _gone(client: Any) -> ClusterError:
    return ClusterError("The scheduler is gone: start it again, and this run with --resume.", "scheduler-gone")


def _failure(result: Any) -> Exception:
    from distributed.scheduler import KilledWorker

    error = result[1] if isinstance(result, tuple) and len(result) > 1 else result
    if isinstance(error, KilledWorker):
        return ClusterError(
            f"{error.allowed_failures + 1} workers were killed while they made this case, mostly for lack of memory: "
            "give fewer --workers, and try it again with --resume.",
            "worker-killed",
        )
    return error if isinstance(error, Exception) else ClusterError(str(error))


@contextlib.contextmanager
def connected(request: WorkersRequest, shared: Path) -> Iterator[Any]:
    """Have a client of workers for the time of the block.

    Args:
        shared: a folder that all computers see, in which the keys of SLURM jobs lie meanwhile.

    Raises:
        ClusterError: they cannot be had, or the scheduler is lost.
    """
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    import dask
    from distributed import Client

    cluster = client = None
    settings: dict[str, Any] = {"distributed.scheduler.allowed-failures": ALLOWED_DEATHS}
    if request.cluster is None:
        settings["distributed.deploy.lost-worker-timeout"] = RETURN_S
    with (
        tempfile.TemporaryDirectory(prefix="segwithu-cluster-", ignore_cleanup_errors=True) as folder,
        dask.config.set(settings),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        try:
            try:
                cluster = None if request.scheduler else _cluster(request, folder, shared)
                client = Client(request.scheduler or cluster, timeout=ANSWER_S, set_as_default=False)
            except Exception as error:
                where = request.scheduler or f"as described in docs/user/cohorts.md ({request.cluster or 'here'})"
                reason = " ".join(str(error).split())[:300] or type(error).__name__
                raise ClusterError(f"No workers {where}: {reason}.", "no-workers") from error
            yield client
        except BaseException as error:
            lost = client is not None and client.status == "closed"  # asked before we close it ourselves
            for nanny in getattr(cluster, "workers", {}).values():
                nanny.auto_restart = False
            _kill_children(request)
            if lost and isinstance(error, Exception) and not isinstance(error, SegWithUError):
                raise _gone(client) from error
            raise
        finally:
            for each in (client, cluster):
                with contextlib.suppress(Exception):
                    each.close(timeout=CLOSE_S)  # type: ignore[union-attr]
            _kill_children(request)


def _cluster(request: WorkersRequest, folder: str, shared: Path) -> Any:
    """Start workers; their connections are encrypted with keys that only this run knows."""
    if request.cluster is None:
        from distributed import LocalCluster

        return LocalCluster(
            n_workers=request.workers,
            threads_per_worker=1,
            host=LOCAL,
            security=True,
            dashboard_address=f"{LOCAL}:0",
            worker_dashboard_address=None,
            memory_limit=0,
            local_directory=folder,
            silence_logs=logging.CRITICAL,
        )
    import dask
    from dask_jobqueue import SLURMCluster

    given = {
        name: dask.config.get(f"jobqueue.slurm.{name}", None) for name in ("scheduler-options", "worker-extra-args")
    }
    cluster = SLURMCluster(
        security=True,
        shared_temp_directory=str(shared),
        scheduler_options={"dashboard_address": f"{LOCAL}:0", **(given["scheduler-options"] or {})},
        worker_extra_args=[*(given["worker-extra-args"] or []), "--nthreads", "1"],  # a case has all cores of its job
        silence_logs=logging.CRITICAL,
    )
    cluster.adapt(minimum=request.workers, maximum=request.workers)  # a job that ends is replaced
    return cluster


def _kill_children(request: WorkersRequest) -> None:
    """Kill the processes that Dask started for this run, with theirs; those of a scheduler stay."""
    import psutil

    for child in [] if request.scheduler else psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            if "spawn_main" in " ".join(child.cmdline()):
                for each in [child, *child.children(recursive=True)]:
                    each.kill()
