"""The section "Run": Apply, progress, warning banner, log."""

import time
from collections.abc import Callable
from typing import Any

import qt

from ..guarded import Problem, guarded
from ..i18n import _
from ..run.controller import Outcome, Phase, RunStatus
from ..run.session import start_timer
from ..scene.readout import typeset
from .widgets import OneLine

_MODELS_PAGE = "https://github.com/SegWithUSlicer/SlicerSegWithU/tree/main/docs/models"


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
        self._stage, self._began = "", 0.0
        self._stop_clock: Callable[[], None] | None = None
        self._banner = OneLine(ui.bannerLabel, ui.bannerButton, ui.bannerDetailsLabel)
        self.problem: Problem | None = None
        """What went wrong unexpectedly, shown until the next run or choice."""
        ui.copyButton.connect("clicked(bool)", guarded(self.copy_diagnostics))

    def show(self, status: RunStatus, is_current: bool, hint: str, can_run: bool, is_reviewing: bool) -> None:
        """Draw a status.

        Args:
            is_current: whether the last run's message still concerns the chosen inputs.
            hint: the next click, if the last run does not name one.
            can_run: whether the inputs are complete.
            is_reviewing: a review is open, so that the last run's next click is done.
        """
        busy = status.phase is not Phase.IDLE
        self.ui.runButton.text = _("Cancel") if busy else _("Apply")
        self.ui.runButton.visible = busy or can_run or not is_reviewing
        self.ui.runButton.enabled = status.phase is not Phase.CANCELLING if busy else can_run
        self._show_progress(status, busy)
        text = status.message if is_current else ""
        problem = self.problem.message if self.problem is not None else ""
        is_past = is_reviewing and (status.outcome is Outcome.DONE or not can_run)
        self.ui.statusLabel.text = problem or ("" if busy else typeset(text) or hint)
        self.ui.statusLabel.visible = bool(self.ui.statusLabel.text) and (bool(problem) or not is_past)
        self._show_banner(status, is_current)
        self._log(status)

    def show_problem(self, problem: Problem) -> None:
        """Show an unexpected error, and bring Copy diagnostics into view."""
        self.problem = problem
        self.write(f"{problem.message}\n{problem.details}")
        self._open_log()

    def _open_log(self) -> None:
        """Bring Copy diagnostics into view."""
        self.ui.advancedButton.collapsed = self.ui.logButton.collapsed = False

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
        if busy and self._stop_clock is None:
            self._began, self._stop_clock = time.monotonic(), start_timer(1000, self._draw_stage)
        elif not busy and self._stop_clock is not None:
            self._stop_clock()
            self._stop_clock = None
        if not busy:
            bar.setRange(0, 100)
            bar.value = 0
            return
        # An empty range makes Qt draw a bar without a value.
        bar.setRange(0, 0 if status.fraction is None else 100)
        if status.fraction is not None:
            bar.value = round(100 * status.fraction)
        left = "" if status.seconds_left is None else _(", about {n:.0f} s left").format(n=max(1, status.seconds_left))
        self._stage = f"{status.stage[:1].upper()}{status.stage[1:]}{left}"
        self._draw_stage()

    def _draw_stage(self) -> None:
        """Count the seconds since Apply: what is reported can be old."""
        since = _(" ({n:.0f} s so far)").format(n=time.monotonic() - self._began)
        self.ui.stageLabel.text = f"{self._stage}{since}"

    def _show_banner(self, status: RunStatus, is_current: bool) -> None:
        busy = status.phase is not Phase.IDLE
        warnings = status.warnings if busy or is_current else ()
        self._banner.show(_banner_text(status) if warnings else "", warnings)
        self.ui.bannerFrame.visible = bool(warnings)
        self.ui.insistButton.visible = bool(warnings and status.refusal) and not busy

    def _log(self, status: RunStatus) -> None:
        line = status.message if status.phase is Phase.IDLE else status.stage
        if line and line != self._last_stage:
            self._last_stage = line
            self.write(f"{line}\n{status.details}" if status.details else line)
            if status.outcome is Outcome.FAILED and status.details:
                self._open_log()


def _banner_text(status: RunStatus) -> str:
    """Return one line: what is wrong, and the next click."""
    if status.refusal == {"field of view"}:
        return _("<b>Not assessed.</b> This is far larger than the training images: press Propose for a region.")
    if status.refusal:
        text = _("<b>Not assessed.</b> {why} Other images need <a href='{url}'>other models</a>.")
        return text.format(why=typeset(status.warnings[0]), url=_MODELS_PAGE)
    return _("<b>Check the result carefully:</b> unusual properties of the image: {n}.").format(n=len(status.warnings))
