"""The section "Run": the large button, progress, warning banner, log."""

import time
from typing import Any

import qt

from ..guarded import Problem, guarded
from ..i18n import _
from ..run.controller import Outcome, Phase, RunStatus
from ..run.preview import PreflightResult

_STAGES = {
    "starting the engine": _("starting the engine"),
    "loading the model": _("loading the model"),
    "reading": _("reading the image"),
    "preparing": _("preparing the image"),
    "segmenting": _("segmenting"),
    "computing the maps": _("computing the maps"),
    "writing": _("writing the result"),
    "done": _("done"),
}


class RunPanel:
    """Shows the status of a run.

    Args:
        ui: the widgets of the .ui file.
        diagnostics: gives the text for "Copy diagnostics".
    """

    def __init__(self, ui: Any, diagnostics: Any) -> None:
        self.ui = ui
        self._diagnostics = diagnostics
        self._last_stage = ""
        self.problem: Problem | None = None
        """What went wrong unexpectedly, shown until the next run or choice."""
        ui.copyButton.connect("clicked(bool)", guarded(self.copy_diagnostics))

    def show(self, status: RunStatus, hint: str, result: PreflightResult, can_start: bool, is_current: bool) -> None:
        """Draw a status.

        Args:
            hint: the next click, if the last run does not name one.
            can_start: whether the inputs are complete.
            is_current: whether the last run's words still concern the chosen inputs.
        """
        busy = status.phase is not Phase.IDLE
        self.ui.runButton.text = _("Cancel") if busy else _("Apply")
        self.ui.runButton.enabled = status.phase is not Phase.CANCELLING if busy else can_start
        self._show_progress(status, busy)
        text = status.sentence if is_current else ""
        problem = self.problem.sentence if self.problem is not None else ""
        self.ui.statusLabel.text = problem or ("" if busy else text or hint)
        self.ui.statusLabel.visible = bool(problem) or not busy
        self._show_banner(status, result, busy, is_current)
        self._log(status)

    def show_problem(self, problem: Problem) -> None:
        """Say that something went wrong unexpectedly, and bring Copy diagnostics in sight."""
        self.problem = problem
        self.write(f"{problem.sentence}\n{problem.details}")
        self.ui.logButton.collapsed = False

    def copy_diagnostics(self) -> None:
        """Put the diagnostics into the clipboard."""
        qt.QApplication.clipboard().setText(self._diagnostics())
        self.write(_("The diagnostics are in the clipboard: paste them into your report."))

    def write(self, line: str) -> None:
        """Add a line to the log."""
        self.ui.logText.appendPlainText(f"{time.strftime('%H:%M:%S')} {line}")

    def _show_progress(self, status: RunStatus, busy: bool) -> None:
        bar = self.ui.progressBar
        bar.visible = busy
        self.ui.stageLabel.visible = busy
        if not busy:
            bar.setRange(0, 100)
            bar.value = 0
            return
        # An empty range makes Qt draw a bar that only says "busy".
        bar.setRange(0, 0 if status.fraction is None else 100)
        if status.fraction is not None:
            bar.value = round(100 * status.fraction)
        stage = _STAGES.get(status.stage, status.stage)
        left = "" if status.seconds_left is None else _(", about {n:.0f} s left").format(n=max(1, status.seconds_left))
        self.ui.stageLabel.text = f"{stage[:1].upper()}{stage[1:]}{left}"

    def _show_banner(self, status: RunStatus, result: PreflightResult, busy: bool, is_current: bool) -> None:
        refused = result.refused or (is_current and status.outcome is Outcome.REFUSED)
        warnings = dict.fromkeys([*(status.warnings if busy or is_current else ()), *result.warnings])
        title = _("Not assessed.") if refused else _("Check the result with care.")
        self.ui.bannerLabel.text = f"<b>{title}</b> {' '.join(warnings)}"
        self.ui.bannerFrame.visible = bool(warnings)
        self.ui.insistButton.visible = bool(warnings) and refused and not busy

    def _log(self, status: RunStatus) -> None:
        line = status.sentence if status.phase is Phase.IDLE else status.stage
        if line and line != self._last_stage:
            self._last_stage = line
            self.write(f"{line}\n{status.details}" if status.details else line)
            if status.outcome is Outcome.FAILED and status.details:
                self.ui.logButton.collapsed = False  # Copy diagnostics is in it
