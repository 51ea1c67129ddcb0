"""Clusters that the command makes itself, of this computer and of a batch system; no process is left behind."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from cohort_kills import OVERVIEW, hidden_in
from repository import ROOT
from segwithu_command import Command
from worker_deaths import deadly_cases

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="signals, and a batch system of shell scripts"),
]
PATIENCE_S = 180.0
ENDED_WITHIN_S = 5.0
"""What users are promised after Ctrl-C."""


def started(*arguments: str | Path, log: Path) -> "subprocess.Popen[bytes]":
    """The command as the leader of a process group, as a terminal starts it."""
    call = [sys.executable, "-m", "SegWithUCore.cli", "segment", *map(str, arguments)]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT / "SegWithUSlicer"), os.environ["PYTHONPATH"]]),
    }
    with log.open("wb") as file:
        return subprocess.Popen(call, stdout=file, stderr=file, env=environment, start_new_session=True)


def wait_for(what: str, seen: object, process: "subprocess.Popen[bytes]", log: Path) -> None:
    """Wait until `seen()` holds."""
    deadline = time.monotonic() + PATIENCE_S
    while not seen():  # type: ignore[operator]
        if process.poll() is not None or time.monotonic() > deadline:
            pytest.fail(f"{what} did not happen: {log.read_text()}")
        time.sleep(0.01)


def copies(data_folder: Path, folder: Path, *names: str) -> list[Path]:
    image = data_folder / "hippocampus" / "images" / "hippocampus_001.nii.gz"
    folder.mkdir()
    return [Path(shutil.copy(image, folder / f"{name}.nii.gz")) for name in names]


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that run still; a dead one that nobody has asked for its exit code does not count."""
    return [each for each in processes if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]


def until_gone(processes: list[psutil.Process], within_s: float) -> list[psutil.Process]:
    deadline = time.monotonic() + within_s
    while alive(processes) and time.monotonic() < deadline:
        time.sleep(0.02)
    return alive(processes)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "killed"])
def test_local_workers_listen_here_only_and_end_with_their_client(
    number: int,
    data_folder: Path,
    tiny: Path,
    segwithu: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waiting, output, log = deadly_cases(tmp_path / "hook", monkeypatch), tmp_path / "out", tmp_path / "log"
    names = ("a", "waits-1", "waits-2", "z")
    images = copies(data_folder, tmp_path / "in", *names)
    client = started(*images, "--model", tiny, "--output", output, "--workers", "2", log=log)
    wait_for("two cases at a time", lambda: len(list(waiting.iterdir())) == 2, client, log)
    family = [psutil.Process(client.pid), *psutil.Process(client.pid).children(recursive=True)]
    places = {each.laddr.ip for process in family for each in process.net_connections() if each.status == "LISTEN"}
    assert places == {"127.0.0.1"}
    workers = [process for process in family[1:] if "resource_tracker" not in " ".join(process.cmdline())]
    assert len(workers) == 2
    if number == signal.SIGINT:
        os.killpg(client.pid, number)
    else:
        os.kill(client.pid, number)
    left = until_gone(workers, ENDED_WITHIN_S)
    assert left == [], "workers outlive Ctrl-C"
    code = client.wait(PATIENCE_S)
    assert until_gone(family[1:], ENDED_WITHIN_S) == [], "a process outlives its client"
    shutil.rmtree(waiting)
    waiting.mkdir()
    if number == signal.SIGINT:
        assert code == 130
        assert "run the same command with --resume to go on." in log.read_text()
        assert hidden_in(output) == [], "no lock, nothing half-written"
    monkeypatch.setenv("PYTHONPATH", "")
    outcome = segwithu.segment(*images, "--resume", model=tiny, output=output)
    assert outcome.code == 0, outcome.err
    assert {path.name for path in output.iterdir()} == {*names, *OVERVIEW}


CONFIGURATION = """
jobqueue:
  slurm:
    name: segwithu
    cores: 1
    processes: 1
    memory: 4GiB
    walltime: "01:00:00"
    queue: null
    account: null
    interface: lo
    local-directory: {folder}
    death-timeout: 60
    job-script-prologue: ["export PYTHONPATH={pythonpath}"]
"""


def test_a_batch_system_s_jobs_do_the_cases_and_a_killed_one_is_made_good(
    data_folder: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting, output, log = deadly_cases(tmp_path / "hook", monkeypatch), tmp_path / "out", tmp_path / "log"
    hook = os.environ["PYTHONPATH"].split(os.pathsep)[0]
    jobs, configuration = tmp_path / "jobs", tmp_path / "dask"
    jobs.mkdir()
    configuration.mkdir()
    (configuration / "jobqueue.yaml").write_text(
        CONFIGURATION.format(folder=tmp_path, pythonpath=f"{hook}:{ROOT / 'SegWithUSlicer'}"), encoding="utf-8"
    )
    monkeypatch.setenv("DASK_CONFIG", str(configuration))
    monkeypatch.setenv("BATCH_JOBS", str(jobs))
    monkeypatch.setenv("PATH", f"{ROOT / 'Testing' / 'helpers' / 'batch_system'}:{os.environ['PATH']}")
    names = ("a", "waits-1", "z")
    images = copies(data_folder, tmp_path / "in", *names)
    options = ["--cluster", "slurm", "--workers", "1"]
    client = started(*images, "--model", tiny, "--output", output, *options, log=log)
    wait_for("the case that waits", lambda: (waiting / "waits-1").exists(), client, log)
    first = int((jobs / "job.101.pid").read_text())
    family = [psutil.Process(first), *psutil.Process(first).children(recursive=True)]
    assert (output / ".run.lock").is_file(), "the client holds the lock of the folder"
    os.killpg(first, signal.SIGKILL)
    assert until_gone(family, ENDED_WITHIN_S) == []
    (waiting / "waits-1").unlink()
    wait_for("another job", lambda: (waiting / "waits-1").exists(), client, log)
    (waiting / "waits-1").unlink()
    assert client.wait(PATIENCE_S) == 0, log.read_text()
    assert "3 done, 0 there, 0 failed" in log.read_text()
    assert {path.name for path in output.iterdir()} == {*names, *OVERVIEW}, "no keys of the cluster"
    script = (jobs / "job.101.sh").read_text()
    assert "tls://" in script
    last = int((jobs / "last").read_text())
    assert last > 101
    assert until_gone([psutil.Process(pid) for pid in psutil.pids() if _of_jobs(pid, jobs)], ENDED_WITHIN_S) == []


def _of_jobs(pid: int, jobs: Path) -> bool:
    try:
        return psutil.Process(pid).environ().get("BATCH_JOBS") == str(jobs) and pid != os.getpid()
    except psutil.Error:
        return False
