"""Which workers the user asked for."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from ..util.errors import SegWithUError, UsageError

JOB_QUEUES = ("slurm", "pbs", "lsf", "sge")
"""Batch systems whose configuration dask-jobqueue reads."""


class ClusterError(SegWithUError):
    """The workers cannot be had, or do not fit to this run."""


@dataclass(frozen=True)
class ClusterRequest:
    """Workers on this computer, of a running scheduler, or as jobs of a batch system.

    Attributes:
        workers: how many; None for those that a scheduler has.
        scheduler: address, or the file that `dask scheduler --scheduler-file` wrote.
        job_queue: one of `JOB_QUEUES`.
        most: workers of an adaptive batch cluster.
        threads: of each worker; None for its share of the cores.
    """

    workers: int | None = None
    scheduler: str | None = None
    job_queue: str | None = None
    most: int | None = None
    threads: int | None = None

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
        self._check_place()
        for package in ["distributed", *(["dask_jobqueue"] if self.job_queue else [])]:
            if importlib.util.find_spec(package) is None:
                name = package.replace("_", "-")
                raise ClusterError(
                    f"Workers need the package {name}, which is not installed: run 'pip install "
                    '"segwithu-slicer[cluster]"\', or leave out --workers, --scheduler and --cluster.'
                )

    def _check_place(self) -> None:
        place = self.scheduler
        if place is None or place.startswith(("tcp://", "tls://")):
            return
        if "://" in place or not place.endswith(".json"):
            raise UsageError(
                f"--scheduler {place!r} is no scheduler: give tcp://HOST:PORT, tls://HOST:PORT, or the file that "
                "'dask scheduler --scheduler-file FILE.json' wrote."
            )
        if not Path(place).is_file():
            raise UsageError(
                f"--scheduler {place} does not exist: start 'dask scheduler --scheduler-file {place}' first."
            )
