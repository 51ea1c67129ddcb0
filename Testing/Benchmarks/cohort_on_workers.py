"""What workers cost and survive: overhead a case, how busy 64 of them are, and kills at random moments.

    python Testing/Benchmarks/cohort_on_workers.py overhead|busy|kills [--data FOLDER] [--kills 50] [--seed 20261127]

`overhead`: 1,000 cases that sleep 20 ms on two local workers: wall time x workers minus the sum of the cases' times.
`busy`: 64 workers in one process (threads, simulated), 640 cases that sleep 5 s: the share of time that they work.
`kills`: two workers, real hippocampi and a quick model; one of them is killed again and again at random moments, and
the cohort must end equal to an uninterrupted one, voxel by voxel, with nothing left beside it. Exits 1 if not.
Results go into results/cohort_on_workers.json.
"""

import argparse
import contextlib
import json
import logging
import os
import random
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "SegWithUSlicer"), str(ROOT / "Testing" / "helpers"), str(ROOT / "Testing" / "Benchmarks")]

from SegWithUCore.cluster import on_worker  # noqa: E402
from SegWithUCore.cluster.connection import Connection, connect  # noqa: E402
from SegWithUCore.cluster.on_worker import Context, RunFacts  # noqa: E402
from SegWithUCore.cluster.request import ClusterRequest  # noqa: E402
from SegWithUCore.cluster.tasks import Task, TaskRun  # noqa: E402

RESULT = Path(__file__).resolve().parent / "results" / "cohort_on_workers.json"
CASES, CASE_S = 1000, 0.02
BUSY_WORKERS, BUSY_CASES, BUSY_CASE_S = 64, 640, 5.0
IMAGES = 10


def sleeping_case(_context: Context, seconds: float) -> dict[str, Any]:
    """A case that needs no processor; returns how long it took."""
    begun = time.perf_counter()
    time.sleep(seconds)
    return {"seconds": time.perf_counter() - begun}


def fits(*_: object) -> None:
    """Every worker fits."""


def timed(connection: Connection, workers: int, cases: int, case_s: float) -> dict[str, Any]:
    """Do cases that sleep; overhead a case and share of busy time."""
    tasks = TaskRun(connection, RunFacts(secrets.token_hex(4)), sleeping_case)
    tasks.get_ready(workers, fits, ())
    list(tasks.answers(Task(f"warm-{number}", (0.0,)) for number in range(4 * workers)))
    tasks = TaskRun(connection, RunFacts(secrets.token_hex(4)), sleeping_case)
    begun = time.perf_counter()
    answers = [a for a in tasks.answers(Task(f"case-{number}", (case_s,)) for number in range(cases)) if a is not None]
    wall = time.perf_counter() - begun
    spent = sum(answer.value["seconds"] for answer in answers if answer.value is not None)
    assert len(answers) == cases and all(answer.value for answer in answers)
    return {
        "workers": workers,
        "cases": cases,
        "case_s": case_s,
        "wall_s": round(wall, 2),
        "overhead_ms_a_case": round(1000 * (wall * workers - spent) / cases, 2),
        "busy_share": round(spent / (wall * workers), 4),
        "load": [round(value, 1) for value in os.getloadavg()],
    }


def overhead(_options: argparse.Namespace) -> dict[str, Any]:
    """Two local workers, as --workers 2 starts them."""
    with connect(ClusterRequest(workers=2), Path(tempfile.gettempdir()), print) as connection:
        return timed(connection, 2, CASES, CASE_S)


def busy(_options: argparse.Namespace) -> dict[str, Any]:
    """64 workers in one process; each would be a process of its own."""
    import dask
    from distributed import Client, LocalCluster

    on_worker._ONE_CASE = contextlib.nullcontext()  # type: ignore[assignment]
    with (
        dask.config.set({"distributed.scheduler.worker-saturation": 1.0}),
        LocalCluster(
            n_workers=BUSY_WORKERS, threads_per_worker=1, processes=False, protocol="tcp://", host="127.0.0.1",
            dashboard_address="127.0.0.1:0", memory_limit=0, silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):  # fmt: skip
        return timed(Connection(client, None, ClusterRequest(), print), BUSY_WORKERS, BUSY_CASES, BUSY_CASE_S)


def begun_by(path: Path) -> int | None:
    """The process that says in its file that it is at a case; None where the case ended meanwhile."""
    with contextlib.suppress(OSError):
        found = re.match(r"process (\d+) ", path.read_text(encoding="utf-8"))
        return int(found[1]) if found else None
    return None


def kills(options: argparse.Namespace) -> dict[str, Any]:
    """Workers killed at random moments of a cohort that is made again and again."""
    import dask
    from cohort_kills import assert_same_cases, hidden_in
    from distributed import LocalCluster
    from distributed.core import Status
    from segwithu_command import tiny_bundle

    images = sorted((options.data / "hippocampus" / "images").glob("*.nii.gz"))[:IMAGES]
    names = [path.name.removesuffix(".nii.gz") for path in images]
    chance, count, ended = random.Random(options.seed), 0, threading.Event()
    settings = {"distributed.scheduler.worker-saturation": 1.0, "distributed.scheduler.allowed-failures": 2}
    with (
        tempfile.TemporaryDirectory() as place,
        dask.config.set(settings),
        LocalCluster(
            n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0", memory_limit=0,
            local_directory=place, silence_logs=logging.CRITICAL,
        ) as cluster,
    ):  # fmt: skip
        root = Path(place)
        model, output = tiny_bundle(root / "models" / "tiny"), root / "out"
        call = [sys.executable, "-m", "SegWithUCore.cli", "segment", *map(str, images), "--model", str(model)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "SegWithUSlicer")}

        def run(*more: str) -> int:
            done = subprocess.run([*call, *more], env=environment, capture_output=True, text=True, check=False)
            return done.returncode

        assert run("--output", str(root / "uninterrupted")) == 0

        def kill() -> None:
            nonlocal count
            while count < options.kills and not ended.wait(chance.uniform(0.2, 2.0)):
                # Killed while it starts, a worker takes its nanny along: both are made anew.
                for name, nanny in list(cluster.workers.items()):
                    if nanny.status in (Status.closed, Status.failed):
                        cluster.workers.pop(name, None)
                cluster.scale(2)
                # Asked of the nannies in this process: a client waits for ever for a worker that dies while it answers.
                pids = {nanny.pid for nanny in cluster.workers.values() if nanny.pid}
                at_work = sorted(pids & {begun_by(path) for path in output.glob(".*.begun")})
                with contextlib.suppress(ProcessLookupError):  # killed before, and not yet missed
                    if at_work:  # a kill that hits no work proves nothing
                        os.kill(chance.choice(at_work), signal.SIGKILL)
                        count += 1
                        print(f"{count} of {options.kills} kills", file=sys.stderr, flush=True)

        killer = threading.Thread(target=kill)
        killer.start()
        resumed = ["--output", str(output), "--scheduler", cluster.scheduler_address, "--resume", "--take-over"]
        runs = 0
        while killer.is_alive():
            run(*resumed)
            runs += 1
            if killer.is_alive():  # there is more to kill: some cases are made again
                for name in chance.sample(names, 6):
                    shutil.rmtree(output / name, ignore_errors=True)
        assert count == options.kills, f"only {count} kills"
        assert run(*resumed) == 0
        assert hidden_in(output) == [], hidden_in(output)
        assert_same_cases(output, root / "uninterrupted", names)
    return {"kills": count, "runs": runs + 1, "cases": len(names), "seed": options.seed, "equal_to_uninterrupted": True}


def main() -> int:
    """Run one of them and write its result beside the others'."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("what", choices=("overhead", "busy", "kills"))
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("SEGWITHU_DATA", ROOT.parent / "shared/data")))
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=20261127)
    options = parser.parse_args()
    try:
        result = {"overhead": overhead, "busy": busy, "kills": kills}[options.what](options)
    except AssertionError as error:
        print(f"FAILED: {error}")
        return 1
    print(json.dumps(result, indent=1))
    results = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.is_file() else {}
    RESULT.write_text(json.dumps({**results, options.what: result}, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
