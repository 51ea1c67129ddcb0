"""What is said about a run, and what a run needs from outside: plain objects, no Qt and no MRML."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Protocol

from .run.install_plan import InstallResult


class Phase(Enum):
    """What is going on."""

    IDLE = "idle"
    CHECKING = "checking"
    RUNNING = "running"
    CANCELLING = "cancelling"


class Outcome(Enum):
    """How the last run ended."""

    NONE = "none"
    DONE = "done"
    FAILED = "failed"
    REFUSED = "refused"
    CANCELLED = "cancelled"
    DECLINED = "declined"
    OUTDATED = "outdated"


@dataclass(frozen=True)
class RunStatus:
    """What the panel shows of a run.

    Attributes:
        sentence: one sentence that names the next click, empty while running.
        stage, fraction, seconds_left: progress; `fraction` is None where it is not known.
        warnings: why the input looks wrong for the model.
        details: for the log.
    """

    phase: Phase = Phase.IDLE
    outcome: Outcome = Outcome.NONE
    sentence: str = ""
    stage: str = ""
    fraction: float | None = None
    seconds_left: float | None = None
    warnings: tuple[str, ...] = ()
    details: str = ""


@dataclass(frozen=True)
class RunRequest:
    """What to segment.

    Attributes:
        volumes: one per channel of the model.
        model: the bundle's folder.
        unlike_training: go on although the input is far from the training cases.
        head: an uncertainty head other than the model's default.
    """

    volumes: Sequence[Any]
    model: Path
    roi: Any = None
    device: str = "auto"
    unlike_training: bool = False
    head: str = ""


def sentences(deviations: Sequence[Mapping[str, Any]]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What the engine says about an input: the warnings, and the notes, which need no banner."""
    told = [(entry.get("severity") == "note", str(entry.get("sentence", ""))) for entry in deviations]
    return tuple(text for is_note, text in told if not is_note), tuple(text for is_note, text in told if is_note)


class Folder(Protocol):
    """PrivateFolder, as far as it is used."""

    path: Path

    def remove(self) -> bool:
        """Remove it."""


class Worker(Protocol):
    """WorkerProcess, as far as it is used."""

    def submit(self, request: Mapping[str, Any], on_event: Callable[[Mapping[str, Any]], None]) -> int:
        """Ask for something."""

    def cancel(self, run_id: int) -> None:
        """Give it up."""

    def cancel_all(self) -> None:
        """Give everything up."""


@dataclass(frozen=True)
class RunTools:
    """What a run needs from outside.

    Attributes:
        prepare: brings the engine into a working state (asks before it installs anything) and reports once.
        new_folder: makes a private folder.
        export: writes a volume to a path, with the region of interest; gives an ExportedVolume.
        in_scene: whether an exported volume is still there.
        unchanged: whether it is still there as it was.
        load: puts a case folder of these volumes into the scene; gives the nodes.
        engine_lost: told that a package is missing after all, so that the next `prepare` looks again.
    """

    prepare: Callable[[Callable[[InstallResult], None]], None]
    new_folder: Callable[[], Folder]
    export: Callable[[Any, Path, Any], Any]
    in_scene: Callable[[Any], bool]
    unchanged: Callable[[Any], bool]
    load: Callable[[Path, Sequence[Any]], Any]
    engine_lost: Callable[[], None] = lambda: None
