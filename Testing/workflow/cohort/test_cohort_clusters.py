"""Workers that the command starts on this computer; no process is left behind."""

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
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="signals"),
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
    image = data_folder / "hippocampus" / "images" / "hippocampus_319.nii.gz"
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
        assert "run the same command, without --overwrite, to continue." in log.read_text()
        assert hidden_in(output) == [], "no lock, nothing half-written"
    monkeypatch.setenv("PYTHONPATH", "")
    outcome = segwithu.segment(*images, "--resume", model=tiny, output=output)
    assert outcome.code == 0, outcome.err
    assert {path.name for path in output.iterdir()} == {*names, *OVERVIEW}
