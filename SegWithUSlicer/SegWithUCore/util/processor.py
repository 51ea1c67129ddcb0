"""How many cores this process may use, threads that leave them to others while they wait, and its control groups."""

import math
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

# For GNU's and LLVM's OpenMP: threads that wait for their next part sleep. By default they spin, and on two cores with
# one other busy process a case of 128 x 128 x 64 voxels took 77 s instead of 10 s.
WAITING = {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"}
# Environment variable: cores of a SLURM job, where SLURM does not bind the job to them.
SLURM_CORES = "SLURM_CPUS_PER_TASK"


def usable_cores(proc: Path = Path("/proc")) -> int:
    """Count the cores that this process may use: its affinity, control groups' quotas and schedulers considered.

    Args:
        proc: where Linux shows its state.
    """
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    given = os.environ.get(SLURM_CORES, "")
    limits = [int(given)] if given.isdigit() and int(given) > 0 else []
    quotas = (_quota(folder, version) for folder, version in control_groups("cpu", proc))
    return max(1, min([bound, *limits, *(math.ceil(quota) for quota in quotas if quota is not None)]))


def _quota(folder: Path, version: int) -> float | None:
    """Read the cores that one control group allows; None without a limit."""
    try:
        if version == 2:
            quota, period = (folder / "cpu.max").read_text(encoding="ascii").split()
        else:
            quota, period = (
                (folder / f"cpu.cfs_{name}_us").read_text(encoding="ascii") for name in ("quota", "period")
            )
        return int(quota) / int(period) if int(quota) > 0 and int(period) > 0 else None
    except (OSError, ValueError):  # "max", or no such group
        return None


def threads_in_use() -> int:
    """Return the number of threads that OMP_NUM_THREADS names, or else of the cores that this process may use."""
    named = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    return int(named) if named.isdigit() and int(named) > 0 else usable_cores()


def use_threads(count: int | None = None) -> int:
    """Let torch and SimpleITK use `count` threads, which sleep while they wait; called before they are loaded.

    What the user has set in the environment is kept, unless `count` says otherwise. If torch is loaded already, the
    number of its threads is set all the same, but how they wait was decided.

    Args:
        count: threads; by default those that OMP_NUM_THREADS names, or as many as there are usable cores.

    Returns:
        The number of threads.
    """
    for name, value in WAITING.items():
        os.environ.setdefault(name, value)
    threads = count or threads_in_use()
    os.environ["OMP_NUM_THREADS"] = str(threads)
    os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = str(threads)
    if "torch" in sys.modules and count:
        sys.modules["torch"].set_num_threads(threads)
    if "SimpleITK" in sys.modules and count:
        sys.modules["SimpleITK"].ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
    return threads


def control_groups(controller: str, proc: Path = Path("/proc")) -> Iterator[tuple[Path, int]]:
    """Find the folders of the control groups that this process is in, parents included, each with its version.

    Source: Linux, Documentation/admin-guide/cgroup-v2.rst and cgroup-v1.

    Args:
        controller: "memory" or "cpu"; of version 1, where each has a hierarchy of its own.
        proc: where Linux shows its state.
    """
    try:
        mounts = (proc / "self" / "mountinfo").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        groups = (proc / "self" / "cgroup").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return
    paths = {controllers: path for _, controllers, path in (line.split(":", 2) for line in groups if ":" in line)}
    for line in mounts:
        own, _, other = line.partition(" - ")
        fields, kind = own.split(), other.split()
        if len(fields) < 5 or not kind or kind[0] not in ("cgroup", "cgroup2"):
            continue
        version = 2 if kind[0] == "cgroup2" else 1
        names = [name for name in paths if (name == "" if version == 2 else controller in name.split(","))]
        if not names or (version == 1 and controller not in kind[-1].split(",")):
            continue
        for folder in _with_parents(fields[3], Path(_unescaped(fields[4])), paths[names[0]]):
            yield folder, version


def _with_parents(root: str, mount: Path, path: str) -> list[Path]:
    """List the folders of a group and its parents below a mount; in a container the mount may be the group itself."""
    inside = path[len(root) :] if root != "/" and (path + "/").startswith(root + "/") else path
    steps = [step for step in inside.split("/") if step and step != ".."]
    return [mount.joinpath(*steps[:depth]) for depth in range(len(steps), -1, -1)]


def _unescaped(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)
