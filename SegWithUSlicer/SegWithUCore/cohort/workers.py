"""Cases on workers of a Dask cluster, which are started here or belong to a running scheduler.

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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..case.case_file import CASE_FILE
from ..inference.case_result import Job
from ..inference.model import Model, user_network_sha256
from ..inference.settings import RunSettings
from ..models.bundle import Bundle, read_bundle, with_head
from ..util.atomic_files import exists_error, remove_leftovers
from ..util.errors import SegWithUError, UsageError
from ..util.memory import available_bytes, give_back_freed_memory, keep_freed_memory, limit_process
from ..util.process_lock import ProcessLock
from ..util.processor import usable_cores, use_threads
from ..version import __version__
from .one_case import FINISHED, Rules, Settled, Settling, failed, settle

# Workers that may die while they make a case, before Dask gives it up.
ALLOWED_DEATHS = 1
# Time limit for the restart of a killed worker: Dask gives up after 15 s, too soon for a busy computer.
RETURN_S = 300.0
# Tries of a case whose worker does not fit: another may.
RETRIES = 3
LOCAL = "127.0.0.1"
# Share of the free memory that the workers of this computer divide among them.
SHARED_MEMORY = 0.9
CLOSE_S = 1.0
# Time limit for the answer of a scheduler.
ANSWER_S = 20.0
# Time limit for the start of workers on this computer.
START_S = 120.0
# Network file systems may show a folder of another computer so much later.
SEEN_AFTER_S = 60.0
CHECK_S, LOOK_S = 1.0, 0.01


class ClusterError(SegWithUError):
    """There are no workers, or a worker does not fit this run."""


def uses_workers(workers: int | None, scheduler: str | None) -> bool:
    """Return whether a run uses workers: a number of them here, or those of a running scheduler.

    Raises:
        UsageError: both are given, the scheduler has no such address, or the extra `cluster` is not installed.
    """
    if workers is None and scheduler is None:
        return False
    if workers is not None and scheduler is not None:
        raise UsageError("--workers and --scheduler exclude each other: give one of them.", "contradicting-options")
    if scheduler is not None and not scheduler.startswith(("tcp://", "tls://")):
        raise UsageError(f"--scheduler {scheduler!r} is not an address such as tcp://HOST:PORT.", "wrong-usage")
    if importlib.util.find_spec("distributed") is None:
        message = 'Workers need the package distributed: pip install ".[cluster]" in the checkout.'
        raise UsageError(message, "needs-package")
    return True


@dataclass(frozen=True)
class Setup:
    """What a worker must know, and agree with, to do cases of a run; the network itself does not travel.

    Attributes:
        folder: of the bundle, the same on all computers.
        settings: of the run; head, engine and device are those of the model.
        identity: what results depend on besides images, settings and the engine: names and hashes.
        network: file and factory of the user's own network.
        threads: of each worker; None for the cores that it may use.
        memory: bytes that each worker may use; None for what the system allows.
        lock: path and content of the run's lock file, by which a worker knows that it shares the folder.
        runtime: what the engine must be, in words; empty as long as no worker was asked.
    """

    folder: str
    settings: RunSettings
    identity: tuple[str | None, ...]
    network: str | None = None
    threads: int | None = None
    memory: int | None = None
    lock: tuple[str, str] | None = None
    runtime: str = ""

    @classmethod
    def of(cls, bundle: Bundle, settings: RunSettings, **more: Any) -> "Setup":
        """Describe the model of this run."""
        assert bundle.folder is not None
        return cls(str(bundle.folder.resolve()), settings, _identity(bundle, settings.head), **more)


def _identity(bundle: Bundle, head: str | None) -> tuple[str | None, ...]:
    """Return what results depend on besides images, settings and the engine, the version of this program included."""
    bundle = with_head(bundle, head)
    hashes = (bundle.weights_sha256, bundle.calibration_sha256, user_network_sha256(bundle))
    return (__version__, bundle.name, str(bundle.about["version"]), bundle.default_head.name, *hashes)


# A network keeps state between its layers: one case at a time in a process, whatever threads the worker has.
_ONE_CASE = threading.Lock()
# The model of this worker, and the setup that it was loaded by.
_kept: dict[str, Any] = {}


def settle_here(setup: Setup, job: Job, rules: Rules) -> Settled:
    """Settle a case on this worker, with the model of the run.

    Raises:
        ClusterError: this worker does not fit; another may.
    """
    with _ONE_CASE:
        try:
            return {**settle(job, _warm_model(setup), rules), "worker": socket.gethostname()}
        finally:
            give_back_freed_memory()


def runtime_here(setup: Setup) -> str:
    """Load the model on this worker and return its `_runtime`; raises as `settle_here`."""
    with _ONE_CASE:
        return _runtime(_warm_model(setup))


def _warm_model(setup: Setup) -> Model:
    """Return the model of this worker, loaded once a process.

    Raises:
        ClusterError: this worker has another version, folder, model or engine.
    """
    here = f"The worker on {socket.gethostname()}"
    path, content = setup.lock or ("", "")
    try:
        is_shared = not path or Path(path).read_text(encoding="utf-8") == content
    except OSError:
        is_shared = False
    if not is_shared:
        message = f"{here} does not see the folder {Path(path).parent}: give a shared --output."
        raise ClusterError(message, "folder-not-shared")
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
        raise ClusterError(f"{here} has {_runtime(model)} instead of {setup.runtime}: install it.", "different-workers")
    return model


def _loaded(setup: Setup) -> Model:
    if setup.network is not None:
        from ..network.backbones.user_network import register_network

        register_network(setup.network)
    bundle = read_bundle(Path(setup.folder))
    if _identity(bundle, setup.settings.head) != setup.identity:
        message = f"A worker has another model in {setup.folder}, or another version of this program: install the same."
        raise ClusterError(message, "different-workers")
    return Model.of(bundle, setup.settings)


def _runtime(model: Model) -> str:
    """Say what runs a model: the same words, the same results."""
    facts = model.engine.identity()
    version, graphs = str(facts["version"]).partition("+")[0], str(facts.get("graphs_sha256") or "none")[:12]
    return f"{facts['name']} {version} ({facts['precision']}, graphs {graphs}) on {model.device}"


def settle_on_workers(
    jobs: Sequence[Job],
    output: Path,
    setup: Setup,
    rules: Rules,
    workers: int | None,
    scheduler: str | None,
    note: Callable[[str], None],
    lock: ProcessLock | None = None,
) -> Settling:
    """Settle cases on workers, as `settle_all` does in this process.

    A worker has one case at a time, the others wait here: a worker that dies takes no waiting case along.

    Args:
        workers: to be started on this computer; None with a scheduler.
        scheduler: address of a running scheduler; None for workers here.
        note: prints a note.
        lock: of the output folder, by which workers recognise the shared folder.

    Yields:
        A job and what became of it.

    Raises:
        ClusterError: there are no workers, a worker does not fit, or the scheduler is gone.
    """
    if lock is not None:
        setup = replace(setup, lock=(str(lock.path.resolve()), lock.path.read_text(encoding="utf-8")))
    remove_leftovers(output)
    free = [job for job in jobs if rules.resume or rules.overwrite or not job.target.exists()]
    # A worker may die after it made a case and before it reported it: what this run made is left as it is.
    own = rules if rules.overwrite else replace(rules, resume=True)
    try:
        with connected(workers, scheduler) as client:
            setup = ready_workers(client, setup, workers)
            note(f"The workers run {setup.runtime}.")
            for job in jobs:
                if job not in free:
                    yield job, failed(exists_error(job.target))
            yield from _each_case(client, setup, own, free)
    finally:
        remove_leftovers(output)


def _each_case(client: Any, setup: Setup, rules: Rules, jobs: Sequence[Job]) -> Settling:
    from distributed import as_completed

    done = as_completed(loop=client.loop, with_results=True, raise_errors=False)
    running: dict[Any, Job] = {}
    left, count, looked = iter(jobs), 0, 0.0
    while True:
        if time.monotonic() - looked >= CHECK_S:
            looked, count = time.monotonic(), len(client.nthreads())
        for job in itertools.islice(left, max(0, max(1, count) - len(running))):
            future = client.submit(settle_here, setup, job, rules, pure=False, retries=RETRIES)
            running[future] = job
            done.add(future)
        if not running:
            return
        batch = done.next_batch(block=False)
        for future, result in batch:
            if future.status == "cancelled" or client.status == "closed":
                raise _scheduler_gone()
            job = running.pop(future)
            yield job, _seen(job, result) if future.status == "finished" else failed(_failure(result))
        if not batch:
            time.sleep(LOOK_S)


def _seen(job: Job, settled: Settled) -> Settled:
    """Wait until a case that a worker wrote is here, too; it failed if it does not come."""
    end = time.monotonic() + SEEN_AFTER_S
    while settled["state"] == FINISHED and not (job.target / CASE_FILE).is_file():
        if time.monotonic() > end:
            message = f"{job.target} was written by {settled['worker']}, but not here: give a shared --output."
            return failed(ClusterError(message, "folder-not-shared"))
        time.sleep(0.5)
    return settled


def ready_workers(client: Any, setup: Setup, local: int | None) -> Setup:
    """Wait for workers and let each load the model; returns the setup with the engine that they share.

    Raises:
        ClusterError: workers of this computer do not start, or one cannot do cases of the run.
    """
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
        answers = client.run(runtime_here, setup, on_error="return")
        for address, answer in answers.items():
            if isinstance(answer, BaseException) and not isinstance(answer, OSError):
                raise ClusterError(f"The worker at {address} cannot do cases: {answer}") from answer
        found = {address: answer for address, answer in answers.items() if not isinstance(answer, BaseException)}
    if len(set(found.values())) > 1:
        places = ", ".join(f"{runtime} at {address}" for address, runtime in sorted(found.items())[:4])
        message = f"The workers would make different results ({places}): choose one with --engine and --device."
        raise ClusterError(message, "different-workers")
    return replace(setup, runtime=next(iter(found.values())))


def _scheduler_gone() -> ClusterError:
    return ClusterError("The scheduler is gone: start it again, and this run with --resume.", "no-workers")


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
def connected(workers: int | None, scheduler: str | None) -> Iterator[Any]:
    """Connect to a scheduler, or start workers here for the time of the block; yields the client.

    Raises:
        ClusterError: they are not available, or the scheduler is lost.
    """
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    import dask
    from distributed import Client

    cluster = client = None
    settings = {
        "distributed.scheduler.allowed-failures": ALLOWED_DEATHS,
        "distributed.deploy.lost-worker-timeout": RETURN_S,
    }
    with (
        tempfile.TemporaryDirectory(prefix="segwithu-cluster-", ignore_cleanup_errors=True) as folder,
        dask.config.set(settings),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        try:
            try:
                cluster = None if workers is None else _local_cluster(workers, folder)
                client = Client(scheduler or cluster, timeout=ANSWER_S, set_as_default=False)
            except Exception as error:
                reason = " ".join(str(error).split())[:300] or type(error).__name__
                raise ClusterError(f"No workers at {scheduler or 'this computer'}: {reason}.", "no-workers") from error
            yield client
        except BaseException as error:
            lost = client is not None and client.status == "closed"  # read before this process closes the client
            for nanny in getattr(cluster, "workers", {}).values():
                nanny.auto_restart = False
            _kill_children(cluster)
            if lost and isinstance(error, Exception) and not isinstance(error, SegWithUError):
                raise _scheduler_gone() from error
            raise
        finally:
            for each in (client, cluster):
                with contextlib.suppress(Exception):
                    each.close(timeout=CLOSE_S)  # type: ignore[union-attr]
            _kill_children(cluster)


def _local_cluster(workers: int, folder: str) -> Any:
    """Start workers on this computer; their connections are encrypted with keys of this run."""
    from distributed import LocalCluster

    return LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        host=LOCAL,
        security=True,
        dashboard_address=f"{LOCAL}:0",
        worker_dashboard_address=None,
        memory_limit=0,
        local_directory=folder,
        silence_logs=logging.CRITICAL,
    )


def _kill_children(cluster: Any) -> None:
    """Kill the processes that Dask started for this run, with their children."""
    import psutil

    for child in [] if cluster is None else psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            if "spawn_main" in " ".join(child.cmdline()):
                for each in [child, *child.children(recursive=True)]:
                    each.kill()
