"""Start the worker's process, end it with everything it started, and report why it ended.

In Slicer the child is a launcher and the worker its child: ending the child alone would leave the worker computing.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..i18n import _

GRACE_S = 0.7
"""The worker ends at once when asked; a process that does not is killed after this time."""
LIMIT_S = 1.8
POLL_S = 0.02
_ACCESS_VIOLATION = 0xC0000005


def end_process_tree(process: "subprocess.Popen[bytes]", reported_pid: int | None) -> bool:
    """End a worker, its launcher and their children within two seconds; return whether all have ended.

    Args:
        process: the child that was started as the head of a session (POSIX) or group (Windows) of its own.
        reported_pid: the process ID that the worker reported.
    """
    if sys.platform == "win32":
        return _end_on_windows(process, reported_pid)
    return _end_on_posix(process, reported_pid)


def _end_on_windows(
    process: "subprocess.Popen[bytes]", reported_pid: int | None, run: Callable[..., object] = subprocess.run
) -> bool:
    """End the launcher last: its end can be seen, and it ends by itself with its child."""
    for pid in dict.fromkeys(pid for pid in (reported_pid, process.pid) if pid is not None):
        if pid == process.pid and process.poll() is not None:
            continue
        program = str(Path(os.environ.get("SYSTEMROOT") or "C:/Windows") / "System32" / "taskkill.exe")
        command = [program, "/T", "/F", "/PID", str(pid)]
        run(command, capture_output=True, timeout=LIMIT_S, creationflags=CREATE_NO_WINDOW, check=False)
    try:
        process.wait(LIMIT_S)
    except subprocess.TimeoutExpired:
        return False
    return True


def _end_on_posix(process: "subprocess.Popen[bytes]", reported_pid: int | None) -> bool:
    groups = _groups(process.pid, reported_pid)
    start = time.monotonic()
    for number, until in ((signal.SIGTERM, GRACE_S), (signal.SIGKILL, LIMIT_S)):
        for group in groups:
            _signal(group, number)
        while time.monotonic() - start < until:
            process.poll()  # collects the child: as a zombie it would count as alive
            if not any(_group_lives(group) for group in groups):
                return True
            time.sleep(POLL_S)
    return False


def _groups(child_pid: int, reported_pid: int | None) -> list[int]:
    """Return the process groups to end: the child's session, and the worker's if a launcher moved it. Never our own."""
    groups = {child_pid}
    if reported_pid is not None and reported_pid != child_pid:
        with suppress(ProcessLookupError):
            groups.add(os.getpgid(reported_pid))
    return sorted(groups - {os.getpgrp()})


def _signal(group: int, number: int) -> bool:
    """Send a signal to a process group; False if there is nobody to get it."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):  # macOS: no permission for a group of zombies
        return False
    return True


def _group_lives(group: int) -> bool:
    return _signal(group, 0) and (not Path("/proc").is_dir() or _linux_group_lives(group))


def _linux_group_lives(group: int) -> bool:
    """Check whether a process that is no zombie belongs to the group: orphans may wait long to be collected.

    A zombie with threads is still ending, and holds its files and locks until they are gone.
    """
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:
            continue  # it ended while we looked
        if len(fields) > 17 and fields[2] == str(group) and (fields[0] not in "ZX" or int(fields[17]) > 1):
            return True
    return False


def end_reason(code: int | None, system: str = sys.platform) -> str:
    """Return why a process ended, from its exit code as `subprocess` gives it."""
    if code is None:
        return _("it cannot be reached")
    if system == "win32":
        if code & 0xFFFFFFFF == _ACCESS_VIOLATION:
            return _("access violation in a library")
        return _("exit code {code}").format(code=hex(code & 0xFFFFFFFF) if abs(code) > 255 else code)
    number = -code if code < 0 else code - 128  # a launcher or shell reports its child's signal as 128 + n
    name = {known.value: known.name for known in signal.Signals}.get(number)
    if name is None:
        return _("exit code {code}").format(code=code)
    if name == "SIGKILL":
        return _("signal {name}: ended by the system, most often because memory ran out").format(name=name)
    return _("signal {name}").format(name=name)


# Values of subprocess.CREATE_NEW_PROCESS_GROUP and CREATE_NO_WINDOW, which exist on Windows only.
CREATE_NEW_PROCESS_GROUP = 0x00000200
CREATE_NO_WINDOW = 0x08000000


class WorkerStartError(Exception):
    """The worker cannot be started; the message is for the user."""


@dataclass(frozen=True)
class WorkerStart:
    """A process to be started: its command line, its whole environment and how it is set apart from ours."""

    command: list[str]
    environment: dict[str, str]
    options: dict[str, Any] = field(default_factory=dict)

    def popen(self) -> "subprocess.Popen[bytes]":
        """Start it with a pipe on each stream.

        Raises:
            WorkerStartError: the system refuses.
        """
        try:
            return subprocess.Popen(
                self.command,
                env=self.environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                **self.options,
            )
        except OSError as error:
            reason = error.strerror or str(error)
            text = _("{program} cannot be started ({reason}): copy the diagnostics and report it.")
            raise WorkerStartError(text.format(program=self.command[0], reason=reason)) from error


def core_parent() -> Path:
    """Return the folder that holds SegWithUCore: next to this package, in the source tree and when installed."""
    return Path(__file__).resolve().parents[2]


def worker_environment(parent: Mapping[str, str], core: Path) -> dict[str, str]:
    """Return the environment of the worker, made from that of its parent.

    Slicer's PYTHONPATH names the folders of all modules, whose files may shadow packages: only ours is left (the
    launcher adds what Slicer's Python needs). PYTHONHOME and the library paths, which point to Slicer's files, stay.
    """
    environment = dict(parent)
    for name in ("PYTHONSTARTUP", "PYTHONINSPECT", "PYTHONWARNINGS"):
        environment.pop(name, None)
    environment["PYTHONPATH"] = str(core)
    environment["PYTHONUTF8"] = "1"
    environment["PYTHONNOUSERSITE"] = "1"  # packages of another Python must not be mixed with Slicer's
    environment["PYTHONSAFEPATH"] = "1"  # nor files of the current folder
    environment["PYTHONUNBUFFERED"] = "1"  # the last lines before a crash arrive
    return environment


def process_options(system: str) -> dict[str, Any]:
    """Return options that set the worker's process tree apart, so that it can be ended as a whole.

    Args:
        system: as sys.platform says.
    """
    if system == "win32":
        return {"creationflags": CREATE_NEW_PROCESS_GROUP | CREATE_NO_WINDOW}
    return {"start_new_session": True}


def child_start(module: str, arguments: Sequence[str] = ()) -> WorkerStart:
    """Return how to start a module of the core; `-m` works through the launcher of PythonSlicer too."""
    environment = worker_environment(os.environ, core_parent())
    return WorkerStart([sys.executable, "-m", module, *arguments], environment, process_options(sys.platform))


def worker_start() -> WorkerStart:
    """Return how to start the worker."""
    return child_start("SegWithUCore.worker", ("--idle-minutes", "10"))
