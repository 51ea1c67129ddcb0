"""The section "Outputs": the segmentation that the next run writes into, new by default."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import slicer

from SegWithUCore.util.errors import InputError

from ..guarded import guarded
from ..i18n import _
from ..parameters import Parameters
from ..run.models import ModelInfo
from ..scene.case_nodes import CaseNodes
from ..scene.load_case import read_roi
from ..scene.output import run_of, why_kept


class OutputPanel:
    """The section "Outputs".

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
        ui.outputsButton.connect("contentsCollapsed(bool)", guarded(lambda _collapsed: self.draw()))

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
