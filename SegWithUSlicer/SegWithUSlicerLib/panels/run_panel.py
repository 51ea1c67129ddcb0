"""The section "Run": Apply, progress, warning banner, log."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import qt
import slicer

from SegWithUCore.util.errors import InputError

from ..guarded import Problem, guarded
from ..i18n import _
from ..parameters import Parameters
from ..run.controller import Outcome, Phase, RunStatus
from ..run.models import ModelInfo
from ..run.preview import PreflightResult
from ..scene.case_nodes import CaseNodes
from ..scene.load_case import run_of, why_kept
from ..scene.volume_export import read_roi
from .widgets import OneLine

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


_MODELS_PAGE = "https://github.com/SegWithUSlicer/SlicerSegWithU/tree/main/docs/models"


@dataclass(frozen=True)
class Choice:
    """What is chosen to be segmented.

    Attributes:
        model: its name.
        hint: the next click, if the last run does not name one.
        is_complete: whether a run could be started.
        has_region: a part of the image is chosen.
        is_reviewing: a review is open, so that the last run's next click is done.
    """

    model: str
    hint: str
    is_complete: bool
    has_region: bool = False
    is_reviewing: bool = False


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
        self._banner = OneLine(ui.bannerLabel, ui.bannerButton, ui.bannerDetailsLabel)
        self.problem: Problem | None = None
        """What went wrong unexpectedly, shown until the next run or choice."""
        ui.copyButton.connect("clicked(bool)", guarded(self.copy_diagnostics))

    def show(self, status: RunStatus, choice: Choice, result: PreflightResult, is_current: bool) -> None:
        """Draw a status.

        Args:
            is_current: whether the last run's words still concern the chosen inputs.
        """
        busy = status.phase is not Phase.IDLE
        self.ui.runButton.text = _("Cancel") if busy else _("Apply")
        self.ui.runButton.enabled = status.phase is not Phase.CANCELLING if busy else choice.is_complete
        self._show_progress(status, busy)
        text = status.sentence if is_current else ""
        problem = self.problem.sentence if self.problem is not None else ""
        is_past = choice.is_reviewing and status.outcome is Outcome.DONE
        # Where the banner says what to do first, it is not said again.
        hint = "" if result.refused else choice.hint
        self.ui.statusLabel.text = problem or ("" if busy else text or hint)
        self.ui.statusLabel.visible = bool(self.ui.statusLabel.text) and (bool(problem) or not is_past)
        self._show_banner(status, choice, result, is_current)
        self._log(status)

    def show_problem(self, problem: Problem) -> None:
        """Say that something went wrong unexpectedly, and bring Copy diagnostics in sight."""
        self.problem = problem
        self.write(f"{problem.sentence}\n{problem.details}")
        self._open_log()

    def _open_log(self) -> None:
        """Bring Copy diagnostics in sight."""
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

    def _show_banner(self, status: RunStatus, choice: Choice, result: PreflightResult, is_current: bool) -> None:
        busy = status.phase is not Phase.IDLE
        refused = result.refused or (is_current and status.outcome is Outcome.REFUSED)
        warnings = list(dict.fromkeys([*(status.warnings if busy or is_current else ()), *result.warnings]))
        self._banner.show(_banner_text(len(warnings), refused, result, choice) if warnings else "", warnings)
        self.ui.bannerFrame.visible = bool(warnings)
        self.ui.insistButton.visible = bool(warnings) and refused and not busy

    def _log(self, status: RunStatus) -> None:
        line = status.sentence if status.phase is Phase.IDLE else status.stage
        if line and line != self._last_stage:
            self._last_stage = line
            self.write(f"{line}\n{status.details}" if status.details else line)
            if status.outcome is Outcome.FAILED and status.details:
                self._open_log()


def _banner_text(points: int, refused: bool, result: PreflightResult, choice: Choice) -> str:
    """Return one line: what is wrong, and the next click."""
    start = f"<b>{_('Not assessed.')}</b> " if refused else ""
    if result.others:
        text = _("This image does not fit the model '{model}': choose the model '{other}', which it fits.")
        return start + text.format(model=choice.model, other=result.others[0])
    if refused and result.kinds == {"field of view"}:
        return start + _("This is far more than the training images show: press Propose for a region of their size.")
    if "empty" in result.kinds:
        return start + _("The part to be segmented is empty: check the image and the region.")
    if result.others is not None and choice.has_region:
        return start + _("No installed model fits this region: move it onto the structure, or choose another image.")
    if result.others is not None:
        text = _(
            "No installed model fits this image: choose another image or region, or <a href='{url}'>add a model</a>."
        )
        return start + text.format(url=_MODELS_PAGE)
    if refused:
        return start + _("This is too unlike the training images: press Propose, or choose another image.")
    title = _("Check the result with care:")
    what = _("one point is unusual.") if points == 1 else _("{n} points are unusual.").format(n=points)
    return f"<b>{title}</b> {what}"


class OutputPanel:
    """The choice of the segmentation to write into, and why it would not be replaced.

    After a run its segmentation is chosen, so that pressing Apply again makes it anew. It is given up as soon as
    something else is to be segmented: a result is replaced only by one of the same image, model and place, unless the
    user chooses otherwise.

    Args:
        ui: the widgets of the .ui file.
    """

    def __init__(self, ui: Any) -> None:
        self.ui = ui
        self._parameters: Parameters | None = None
        self._drawn: Any = None
        ui.outputSelector.noneDisplay = _("Create new segmentation")
        # A review folds the section; afterwards its segmentation is one that stays.
        ui.inputsButton.connect("contentsCollapsed(bool)", guarded(lambda _collapsed: self.draw()))

    @property
    def chosen(self) -> "slicer.vtkMRMLSegmentationNode | None":
        """The segmentation to write into; None for a new one."""
        return self._parameters.output if self._parameters is not None else None

    def bind(self, parameters: Parameters | None) -> None:
        """Show the choice of a parameter node; None between two scenes."""
        self._parameters = parameters
        self.draw()

    def show_run(self, nodes: CaseNodes) -> None:
        """Choose the result of a run that is done."""
        if self._parameters is not None:
            self._parameters.output = nodes.segmentation
        self.draw()

    def follow(self, volumes: Sequence[Any], model: ModelInfo | None, roi: Any) -> None:
        """Go back to a new segmentation if the chosen one is the result of something else."""
        run = run_of(self.chosen) if self.chosen is not None else None
        if self._parameters is not None and run is not None and not _is_of(run, volumes, model, roi):
            self._parameters.output = None
        self.draw()

    def choice_may_have_changed(self) -> None:
        """Draw another choice; voxels are looked at, so not without need."""
        if self.chosen is not self._drawn:
            self.draw()

    def draw(self) -> None:
        """Say beforehand where a chosen segmentation will not be replaced."""
        self._drawn = self.chosen
        kept = why_kept(self.chosen) if self.chosen is not None else ""
        text = _("{kept} and stays as it is: the result gets a new segmentation.").format(kept=kept) if kept else ""
        self.ui.outputNoteLabel.text = text
        self.ui.outputNoteLabel.visible = bool(text)

    def set_enabled(self, enabled: bool) -> None:
        """Check whether the choice can be changed: not during a run."""
        self.ui.outputSelector.enabled = enabled


def _is_of(run: CaseNodes, volumes: Sequence[Any], model: ModelInfo | None, roi: Any) -> bool:
    """Check whether a run is of this image, model and place."""
    if run.inputs != list(volumes) or model is None or run.model_name != model.name:
        return False
    before = run.case.raw.get("region_of_interest")
    if before is None or roi is None or volumes[0] is None:
        return True
    try:
        now = np.array(read_roi(roi, volumes[0]))
    except InputError:  # the region lies outside of the image, which is told elsewhere
        return True
    apart = np.abs(now[:3] - before["centre_ras_mm"])
    return bool((apart < (now[3:] + before["size_mm"]) / 2).all())
