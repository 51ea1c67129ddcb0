"""How the worker is started on Windows, macOS and Linux: pure functions, so that each system's rules are tested."""

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .i18n import _

WORKER_MODULE = "SegWithUCore.worker"
DEFAULT_IDLE_MINUTES = 10.0
# Values of subprocess.CREATE_NEW_PROCESS_GROUP and CREATE_NO_WINDOW, which exist on Windows only.
CREATE_NEW_PROCESS_GROUP = 0x00000200
CREATE_NO_WINDOW = 0x08000000


class WorkerStartError(Exception):
    """The worker cannot be started; the message is one sentence for the user."""


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
            text = _("{program} cannot be started ({reason}): choose another Python in the advanced settings.")
            raise WorkerStartError(text.format(program=self.command[0], reason=reason)) from error


def python_executable(override: str | None = None, own: str | None = None) -> str:
    """The Python that runs the worker.

    Args:
        override: one that the user chose; it must exist.
        own: that of this process, default sys.executable, which is PythonSlicer inside Slicer.

    Raises:
        WorkerStartError: there is none.
    """
    if override:
        if not Path(override).is_file():
            text = _("There is no Python at {path}: choose another one in the advanced settings, or none.")
            raise WorkerStartError(text.format(path=override))
        return override
    found = sys.executable if own is None else own
    if not found:
        raise WorkerStartError(_("This Slicer does not tell where its Python is: choose one in the advanced settings."))
    return found


def core_parent() -> Path:
    """The folder that holds SegWithUCore: beside this package, in the source tree and when installed."""
    return Path(__file__).resolve().parents[1]


def worker_command(python: str, idle_minutes: float = DEFAULT_IDLE_MINUTES) -> list[str]:
    """The command line. `-m` with PYTHONPATH works through the launcher that PythonSlicer is when installed."""
    return [python, "-m", WORKER_MODULE, "--idle-minutes", f"{idle_minutes:g}"]


def worker_environment(parent: Mapping[str, str], core: Path) -> dict[str, str]:
    """The environment of the worker, from that of its parent.

    Slicer's PYTHONPATH names the folders of all modules, whose files may shadow packages: only ours is left (the
    launcher adds what Slicer's Python needs). PYTHONHOME and the library paths, which point to Slicer's own Python
    and DLLs, stay.
    """
    environment = dict(parent)
    for name in ("PYTHONSTARTUP", "PYTHONINSPECT", "PYTHONWARNINGS"):
        environment.pop(name, None)
    environment["PYTHONPATH"] = str(core)
    environment["PYTHONUTF8"] = "1"
    environment["PYTHONNOUSERSITE"] = "1"  # packages of another Python must not be mixed with Slicer's
    environment["PYTHONSAFEPATH"] = "1"  # nor what happens to lie in the current folder
    environment["PYTHONUNBUFFERED"] = "1"  # the last words of a crash arrive
    return environment


def process_options(system: str) -> dict[str, Any]:
    """What sets the worker's process tree apart, so that it can be ended as a whole.

    Args:
        system: as sys.platform says.
    """
    if system == "win32":
        return {"creationflags": CREATE_NEW_PROCESS_GROUP | CREATE_NO_WINDOW}
    return {"start_new_session": True}


def worker_start(python: str | None = None, idle_minutes: float = DEFAULT_IDLE_MINUTES) -> WorkerStart:
    """How to start the worker on this computer.

    Raises:
        WorkerStartError: there is no Python to start.
    """
    return WorkerStart(
        worker_command(python_executable(python), idle_minutes),
        worker_environment(os.environ, core_parent()),
        process_options(sys.platform),
    )
