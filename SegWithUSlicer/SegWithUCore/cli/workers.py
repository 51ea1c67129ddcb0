"""The options of commands that do many cases on several workers, and the loop over cases here or there."""

import argparse
import secrets
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..util.run_lock import Part
from .arguments import whole_number
from .console import Console

if TYPE_CHECKING:
    from ..cohort.on_worker import CaseFunction
    from ..cohort.workers import Answer, WorkersRequest

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


def workers_request(options: argparse.Namespace) -> "WorkersRequest | None":
    """Return which workers the options ask for; None for this process alone.

    Raises:
        UsageError: options contradict each other.
        ClusterError: a package is missing.
    """
    from ..cohort.workers import WorkersRequest

    asked = (options.workers, options.scheduler, options.cluster, options.adapt)
    if all(value is None for value in asked):
        return None
    request = WorkersRequest(*asked)
    request.check()
    return request


def add_share_option(command: argparse.ArgumentParser) -> None:
    """Add `--part`, for commands that write into the case folders themselves."""
    command.add_argument(
        "--part", metavar="I/N", help="do only the I-th of N equal shares of the cases; 'slurm' as in segment"
    )


def own_share(options: argparse.Namespace, folders: Sequence[Path]) -> list[Path]:
    """Return the case folders of this part, of all if there are no parts."""
    return list(folders) if options.part is None else Part.parse(options.part).share(sorted(folders))


def each_on_workers(
    cases: Mapping[str, tuple[Any, ...]],
    function: "CaseFunction",
    request: "WorkersRequest",
    options: argparse.Namespace,
    console: Console,
) -> "Iterator[Answer]":
    """Do all cases on workers, and yield what became of each as it ends.

    Args:
        cases: arguments of the function, by the name of the case.

    Raises:
        ClusterError: there are no workers.
    """
    from ..cohort.on_worker import RunFacts
    from ..cohort.workers import connected

    run = RunFacts(secrets.token_hex(6), threads=options.threads)
    with connected(request, Path.cwd(), console.note) as workers:
        workers.get_ready(run, dict)
        done = 0
        for answer in workers.each(cases.items(), function, run):
            if answer is not None:
                done += 1
                yield answer
            else:
                event = {"event": "workers", "workers": workers.count, "cases": len(cases), "done": done}
                console.step("", {**event, "running": list(workers.running.values())})
