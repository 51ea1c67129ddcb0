"""Run a `segwithu` command in a child process, so that Slicer stays responsive: progress, result, clean cancel.

Exports and jobs of the store need no torch.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..i18n import _
from ..scene.readout import for_panel
from .child_process import ChildProcess, Event, PolledProcess, StartTimer
from .launch import WorkerStartError, child_start, end_reason


@dataclass(frozen=True)
class CommandEnd:
    """How a command ended.

    Attributes:
        result: what it returned; None if it failed or was cancelled.
        errors: messages of errors and warnings.
        cancelled: the user gave it up; no process is left then, and nothing half-written.
    """

    result: Mapping[str, Any] | None = None
    errors: Sequence[str] = ()
    cancelled: bool = False


@dataclass
class _Run:
    output: Path
    on_progress: Callable[[float, Event], None]
    on_end: Callable[[CommandEnd], None]
    result: Mapping[str, Any] | None = None
    errors: list[str] = field(default_factory=list)
    is_cancelled: bool = False
    case: tuple[int, int] | None = None
    """Which case it works on, of how many; None for a command that is no run of cases."""


class CommandProcess(PolledProcess):
    """One command at a time. All callbacks arrive on the main thread, from the timer.

    Args:
        start_timer: see StartTimer.
    """

    def __init__(self, start_timer: StartTimer) -> None:
        super().__init__(start_timer)
        self._run: _Run | None = None

    @property
    def is_busy(self) -> bool:
        """Whether a command is running or being cancelled."""
        return self._run is not None

    def start(
        self,
        arguments: Sequence[str],
        output: Path,
        on_progress: Callable[[float, Event], None],
        on_end: Callable[[CommandEnd], None],
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Run `segwithu ARGUMENTS... --json`.

        Args:
            arguments: of the command line.
            output: what it makes; half-written files next to it are removed after a cancelled command.
            on_progress: called with the share done, 0 to 1, and the event, which has stage and detail; of several cases
                also when one is begun, with the event "case".
            on_end: called once.
            environment: variables to add.

        Raises:
            RuntimeError: a command is running.
        """
        if self._run is not None:
            raise RuntimeError("a command is running")
        try:
            start = child_start("SegWithUCore.cli", [*arguments, "--json"])
            self._start_child(replace(start, environment={**start.environment, **(environment or {})}))
        except WorkerStartError as error:
            on_end(CommandEnd(errors=[str(error)]))
            return
        self._run = _Run(output, on_progress, on_end)

    def cancel(self) -> None:
        """Give the command up. Returns at once; `on_end` is called when no process is left."""
        if self._run is not None and self._child is not None and not self._run.is_cancelled:
            self._run.is_cancelled = True
            self._child.end(self._run.output.parent)

    def stop(self) -> None:
        """End everything now and wait for it, without any callback: for quitting and reloading."""
        run, self._run = self._run, None
        child, self._child = self._child, None
        self._stop_polling()
        if run is not None and child is not None:
            child.end(run.output.parent).join()

    def _on_event(self, event: Event) -> None:
        run = self._run
        if run is None:
            return
        kind = event.get("event")
        if kind == "case":
            run.case = event["number"], event["of"]
        if kind in ("case", "progress") and not run.is_cancelled:
            number, of = run.case or (1, 1)
            run.on_progress((number - 1 + float(event.get("fraction") or 0.0)) / of, event)
        elif kind == "error" or (kind == "note" and str(event.get("text")).startswith("Warning:")):
            run.errors.append(for_panel(str(event.get("text") or "")))
        elif (kind == "result" and run.case is None) or (kind == "cohort" and not event["interrupted"]):
            run.result = event  # that of one case is none of the run

    def _on_ended(self, child: ChildProcess, code: int | None) -> None:
        if self._run is not None and not self._run.is_cancelled:
            self._finish(self._run, child, code)

    def _on_tree_ended(self, child: ChildProcess) -> None:
        if self._run is not None and child is self._child:
            self._finish(self._run, child, None)

    def _finish(self, run: _Run, child: ChildProcess, code: int | None) -> None:
        self._run = self._child = None
        self._stop_polling()
        if run.result is None and not run.errors and not run.is_cancelled:
            child.remove_half_written(run.output.parent)
            last = next((line for line in reversed(self._log) if line.strip()), "")
            run.errors.append(_("The process ended ({reason}): {last}").format(reason=end_reason(code), last=last))
        # A result that was complete before the click on Cancel came through is there, and is reported.
        is_cancelled = run.is_cancelled and run.result is None
        run.on_end(CommandEnd(run.result, () if is_cancelled else run.errors, is_cancelled))
