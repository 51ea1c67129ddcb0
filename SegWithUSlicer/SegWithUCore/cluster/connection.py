"""A Dask cluster for the time of a run: started on this computer, found at a scheduler, or asked for as batch jobs."""

import contextlib
import importlib
import importlib.util
import logging
import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..util.errors import SegWithUError
from ..util.processor import usable_cores
from .request import ClusterError, ClusterRequest
from .siblings import meeting_folder

ALLOWED_DEATHS = 2
"""Workers that may die with a case before Dask gives it up. The run counts the deaths of cases itself, and refuses a
case at the third try with words; Dask's own count is for workers that die before a case begins."""
SATURATION = 1.0
"""One case a worker, the others wait at the scheduler: a worker that dies takes no waiting case along."""
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
_CLASSES = {"slurm": "SLURMCluster", "pbs": "PBSCluster", "lsf": "LSFCluster", "sge": "SGECluster"}
_KEYS_PATTERN = ".dask-jobqueue.worker.*"
Say = Callable[[str], None]


@dataclass
class Connection:
    """A cluster with a client.

    Attributes:
        client: of `distributed`.
        cluster: ours; None at a scheduler of others.
        request: what was asked for.
        say: prints a note.
        address: of the scheduler.
    """

    client: Any
    cluster: Any
    request: ClusterRequest
    say: Say
    _folder: Path | None = None
    address: str = field(init=False)

    def __post_init__(self) -> None:
        """Keep the address: a client that lost its scheduler no longer knows it."""
        self.address = str(self.client.scheduler.address)

    @property
    def where(self) -> str:
        """The scheduler, in words."""
        return f"the scheduler at {self.address}"

    def gone(self) -> ClusterError:
        """Return the error that says that the scheduler is lost."""
        return ClusterError(
            f"{self.where[0].upper()}{self.where[1:]} is gone: start it again, and this run with --resume.",
            "scheduler-gone",
        )

    @property
    def is_local(self) -> bool:
        """Whether the workers are children of this process."""
        return self.cluster is not None and self.request.job_queue is None

    def workers(self) -> int:
        """Count the workers that stand now."""
        return len(self.client.nthreads())

    def wait_for_workers(self, wanted: int, check: Callable[[], None]) -> None:
        """Wait until a worker stands; say every minute that none came. Local workers are waited for all.

        Args:
            check: called now and then; may raise.

        Raises:
            ClusterError: local workers do not start.
        """
        begun = said = time.monotonic()
        while (found := self.workers()) < (wanted if self.is_local else 1):
            now = time.monotonic()
            check()
            if self.is_local and now - begun > 2 * SAY_EVERY_S:
                raise ClusterError(f"Only {found} of {wanted} workers started: see what else runs on this computer.")
            if now - said >= SAY_EVERY_S:
                said = now
                self.say(f"No worker has come to {self.where} for {(now - begun) / 60:.0f} min: {self.state()}")
            time.sleep(0.05 if self.is_local else 0.5)

    def state(self) -> str:
        """Say what is known of workers that do not come, and where to look."""
        queue = self.request.job_queue
        if queue is None:
            return f"start one with 'dask worker {self.address} --nthreads 1', or wait."
        look = {"slurm": "squeue", "pbs": "qstat", "lsf": "bjobs", "sge": "qstat"}[queue]
        with contextlib.suppress(Exception):
            asked = len(self.cluster.worker_spec)
            return f"{asked} jobs are asked for; see '{look}' for their state and their log files for errors."
        return f"see '{look}' for the state of the jobs."

    def dashboard(self) -> str | None:
        """Address of Dask's dashboard; None if there is none."""
        if importlib.util.find_spec("bokeh") is None:
            return None
        return str(self.client.dashboard_link) or None

    def unusual_settings(self) -> list[str]:
        """Compare the scheduler's settings with those that cases want; a sentence each.

        Those of our own clusters are right; a scheduler of others has its own.
        """

        def settings(dask_scheduler: Any) -> tuple[float, int]:
            saturation = float(dask_scheduler.WORKER_SATURATION)
            return saturation, int(dask_scheduler.allowed_failures)

        saturation, allowed = self.client.run_on_scheduler(settings)
        found = []
        if saturation != SATURATION:
            found.append(
                f"The scheduler hands cases out before a worker is free (distributed.scheduler.worker-saturation is "
                f"{saturation:g}): set it to {SATURATION} there, or a worker that dies delays the cases that wait with "
                "it."
            )
        if allowed != ALLOWED_DEATHS:
            found.append(
                f"The scheduler gives a case up after {allowed + 1} workers died with it (distributed.scheduler."
                f"allowed-failures is {allowed}): set it to {ALLOWED_DEATHS} there; this run refuses a case after "
                f"{ALLOWED_DEATHS} deaths by its own count."
            )
        return found

    def close(self, at_once: bool = False) -> None:
        """Leave a scheduler of others; end our own cluster with all its processes, within seconds.

        Args:
            at_once: local workers are killed, whatever they are doing.
        """
        children = _descendants() if self.is_local else []
        if at_once and self.is_local:
            for nanny in self.cluster.workers.values():
                nanny.auto_restart = False
            _kill(children)
        with contextlib.suppress(Exception):
            self.client.close(timeout=CLOSE_S / 3)
        if self.cluster is not None:
            with contextlib.suppress(Exception):
                self.cluster.close(timeout=CLOSE_S / 3 if at_once else CLOSE_S)
        _kill([*children, *(_descendants() if self.is_local else [])])
        for folder in (self._folder, meeting_folder(os.getpid()) if self.is_local else None):
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def connect(request: ClusterRequest, shared: Path, say: Say) -> Iterator[Connection]:
    """Have workers for the time of the block.

    Args:
        shared: a folder that all computers see, in which the keys of batch jobs lie meanwhile.
        say: prints a note.

    Raises:
        ClusterError: they cannot be had.
    """
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    import dask

    settings = {
        "distributed.scheduler.worker-saturation": SATURATION,
        "distributed.scheduler.allowed-failures": ALLOWED_DEATHS,
    }
    if request.job_queue is None:  # a lost job is replaced after 15 s, and that is well
        settings["distributed.deploy.lost-worker-timeout"] = RETURN_S
    with dask.config.set(settings), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        connection = _connected(request, shared, say)
        try:
            yield connection
        except BaseException as error:
            lost = connection.client.status == "closed"  # asked before we close it ourselves
            connection.close(at_once=True)
            if lost and isinstance(error, Exception) and not isinstance(error, SegWithUError):
                raise connection.gone() from error  # whatever was asked of the closed client
            raise
        connection.close()


def _connected(request: ClusterRequest, shared: Path, say: Say) -> Connection:
    if request.scheduler is not None:
        return _at_scheduler(request, request.scheduler, say)
    if request.job_queue is not None:
        return _batch_jobs(request, request.job_queue, shared, say)
    return _local(request, say)


def _local(request: ClusterRequest, say: Say) -> Connection:
    """Start workers on this computer; they and the scheduler listen on 127.0.0.1 only, and talk TLS."""
    from distributed import Client, LocalCluster

    workers = request.workers or 1
    security = _own_security()
    threads = request.threads or max(1, usable_cores() // workers)
    folder = Path(tempfile.mkdtemp(prefix="segwithu-cluster-"))
    try:
        cluster = LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            host=LOCAL,
            protocol="tcp://" if security is None else "tls://",
            security=security,
            dashboard_address=f"{LOCAL}:0",
            worker_dashboard_address=None,
            memory_limit=0,
            local_directory=str(folder),
            silence_logs=logging.CRITICAL,
            env={"OMP_NUM_THREADS": str(threads)},
        )
        client = Client(cluster, security=security, set_as_default=False)
    except BaseException as error:
        _kill(_descendants())
        shutil.rmtree(folder, ignore_errors=True)
        if not isinstance(error, Exception):
            raise
        reason = " ".join(str(error).split()).removesuffix(".") or type(error).__name__
        raise ClusterError(
            f"The {workers} workers could not be started here ({reason[:300]}): see what ended one, such as a lack of "
            "memory, give fewer --workers, or try again.",
            "workers-not-started",
        ) from error
    return Connection(client, cluster, request, say, folder)


def _batch_jobs(request: ClusterRequest, queue: str, shared: Path, say: Say) -> Connection:
    import dask
    from distributed import Client

    module = importlib.import_module("dask_jobqueue")
    for old in shared.glob(_KEYS_PATTERN):  # of a client that was killed
        old.unlink(missing_ok=True)
    security = _own_security()
    options = dict(dask.config.get(f"jobqueue.{queue}.scheduler-options", {}) or {})
    options.setdefault("dashboard_address", f"{LOCAL}:0")
    extra = list(dask.config.get(f"jobqueue.{queue}.worker-extra-args", []) or [])
    if "--nthreads" not in extra:  # else each core of a job becomes a thread, and a case may have several cores
        extra += ["--nthreads", "1"]
    try:
        cluster = getattr(module, _CLASSES[queue])(
            security=security,
            protocol="tcp://" if security is None else "tls://",
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
        reason = " ".join(str(error).split())
        raise ClusterError(
            f"Jobs of {queue} cannot be set up ({reason}): describe them under jobqueue.{queue} in "
            "~/.config/dask/jobqueue.yaml, as docs/user/cohorts.md shows."
        ) from error
    if security is None:
        say(_plain_warning(cluster.scheduler_address))
    return Connection(Client(cluster, security=security, set_as_default=False), cluster, request, say)


def _at_scheduler(request: ClusterRequest, place: str, say: Say) -> Connection:
    from distributed import Client

    try:
        options: dict[str, Any] = {"address": place} if "://" in place else {"scheduler_file": place}
        client = Client(**options, timeout=ANSWER_S, set_as_default=False)
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ClusterError(
            f"No scheduler answers at {place} ({reason[:300]}): check that it runs, that its port is open, and for "
            "tls:// that distributed.comm.tls in ~/.config/dask names its certificates."
        ) from error
    address = str(client.scheduler.address)
    if address.startswith("tcp://") and not _is_loopback(address):
        say(_plain_warning(address))
    return Connection(client, None, request, say)


def _own_security() -> Any:
    """Return keys that only this run knows, so that no other user of the computer can use its ports."""
    from distributed.security import Security

    if importlib.util.find_spec("cryptography") is None:
        return None
    return Security.temporary()


def _plain_warning(address: str) -> str:
    return (
        f"Warning: {address} is not encrypted, and whoever reaches it can run any program as its user: use tls:// (see "
        "docs/user/cohorts.md), or a network that only you reach."
    )


def _is_loopback(address: str) -> bool:
    host = address.partition("://")[2].rpartition(":")[0].strip("[]")
    return host.startswith("127.") or host in ("localhost", "::1")


def _descendants() -> list[Any]:
    """List the child processes of this one that Dask started, with theirs."""
    import psutil

    with contextlib.suppress(psutil.Error):
        found = [child for child in psutil.Process().children() if _is_worker(child)]
        return [*found, *(grandchild for child in found for grandchild in child.children(recursive=True))]
    return []


def _kill(processes: list[Any]) -> None:
    for process in processes:
        with contextlib.suppress(Exception):  # it has ended
            process.kill()


def _is_worker(process: Any) -> bool:
    return any("spawn_main" in part for part in process.cmdline())
