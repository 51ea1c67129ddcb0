"""The options of commands that do many cases on several workers."""

import argparse
from typing import TYPE_CHECKING

from .arguments import whole_number

if TYPE_CHECKING:
    from ..cluster.request import ClusterRequest

MOST_WORKERS = 10_000


def add_worker_options(command: argparse.ArgumentParser) -> None:
    """Add `--workers`, `--scheduler`, `--cluster` and `--adapt`."""
    group = command.add_argument_group("workers", "several cases at a time; with the extra 'cluster'")
    count = whole_number(1, MOST_WORKERS)
    group.add_argument("--workers", type=count, metavar="N", help="workers on this computer, or of --cluster")
    group.add_argument(
        "--scheduler", metavar="ADDRESS", help="use the workers of a Dask scheduler: tcp://..., tls://... or FILE.json"
    )
    group.add_argument(
        "--cluster",
        choices=("slurm", "pbs", "lsf", "sge"),
        help="workers as jobs of a batch system, as dask-jobqueue's configuration describes them",
    )
    group.add_argument("--adapt", type=count, metavar="MAX", help="with --cluster: up to MAX workers, as there is work")


def cluster_request(options: argparse.Namespace) -> "ClusterRequest | None":
    """Return which workers the options ask for; None for this process alone.

    Raises:
        UsageError: options contradict each other.
        ClusterError: a package is missing.
    """
    from ..cluster.request import ClusterRequest

    asked = (options.workers, options.scheduler, options.cluster, options.adapt)
    if all(value is None for value in asked):
        return None
    request = ClusterRequest(*asked, threads=options.threads if hasattr(options, "threads") else None)
    request.check()
    return request
