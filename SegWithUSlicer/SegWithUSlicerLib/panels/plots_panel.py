"""The section "Reliability plots": the error probability on the model's test cases and on this case, as charts."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import slicer

from SegWithUCore.models.registry import model_folders
from SegWithUCore.util.errors import InputError
from SegWithUCore.util.paths import bundle_folders

from ..guarded import guarded
from ..i18n import _
from ..review import calibration_plots as plots
from ..review.calibration_plots import CaseCurves, TitledCurves, time_of
from ..scene.case_nodes import CaseNodes, find_cases
from .widgets import GuiConnections

_PUT = (plots.put_reliability, plots.put_risk_coverage)
"""In the order of the box."""


class PlotsPanel:
    """The section "Reliability plots" of the shown run.

    Args:
        ui: the widgets of the .ui file.
        model_folder: returns the folder of the model that is chosen, which may lie anywhere; None for none.
    """

    def __init__(self, ui: Any, model_folder: Callable[[], Path | None]) -> None:
        self.ui = ui
        self._model_folder = model_folder
        self._nodes: CaseNodes | None = None
        self._compared: dict[tuple[str, str, int], CaseCurves] = {}
        self._gui = GuiConnections()
        ui.plotBox.addItem(_("Reliability"))
        ui.plotBox.addItem(_("Risk and coverage"))
        self._gui.connect(ui.plotBox, lambda _index: self.follow())
        ui.plotReferenceSelector.connect("currentNodeChanged(vtkMRMLNode*)", guarded(lambda _node: self.follow()))
        ui.plotsButton.connect("contentsCollapsed(bool)", guarded(lambda _collapsed: self.refresh()))
        ui.showPlotButton.connect("clicked(bool)", guarded(self.show_chart))
        self.show(None)

    def show(self, nodes: CaseNodes | None) -> None:
        """Offer the plots of a run, or none."""
        self._nodes = nodes
        self._compared.clear()
        self.ui.plotsButton.visible = nodes is not None
        self._say([])
        self.refresh()

    def refresh(self) -> None:
        """Say what can be plotted; nothing is computed while the section is folded."""
        if self._nodes is not None and not self.ui.plotsButton.collapsed:
            hide_own_results(self.ui.plotReferenceSelector)
            self._say(self._curves()[1])

    def follow(self) -> None:
        """Redraw for another choice, if a plot of this run is on view already."""
        self.refresh()
        if self._nodes is not None and _shown_chart() in self._nodes.plots:
            self.show_chart()

    def show_chart(self) -> None:
        """Draw the chosen plot in a plot view, in a layout that has one."""
        chart = self._draw()
        if chart is not None:
            slicer.modules.plots.logic().ShowChartInLayout(chart)

    def _draw(self) -> "slicer.vtkMRMLPlotChartNode | None":
        """Draw what there is of model and case, and say what is missing; None if there is nothing."""
        if self._nodes is None:
            return None
        shown, said = self._curves()
        self._say(said)
        return _PUT[max(0, self.ui.plotBox.currentIndex)](self._nodes, shown) if shown else None

    def _curves(self) -> tuple[dict[str, TitledCurves], list[str]]:
        """Return the curves that there are, and the sentences about them and about those that there are not."""
        assert self._nodes is not None
        shown: dict[str, TitledCurves] = {}
        said = []
        case, reference = self._nodes.case, self.ui.plotReferenceSelector.currentNode()
        try:
            shown["model"] = plots.titled_model(case.model_name, plots.curves_of_model(case, self._folders()))
        except InputError as error:
            said.append(str(error))
        try:
            if reference is not None:
                found = self._compare(self._nodes, reference)
                shown["case"] = plots.titled_case(reference, found.curves)
                said += _missing_text(reference, found)
        except InputError as error:
            said.append(str(error))
        return shown, [*(_sentence(one) for one in shown.values()), *said]

    def _compare(self, nodes: CaseNodes, reference: Any) -> CaseCurves:
        key = (nodes.hub.GetID(), reference.GetID(), time_of(reference))
        if key not in self._compared:
            self._compared = {key: plots.compare(nodes, reference)}
        return self._compared[key]

    def _folders(self) -> list[Path]:
        chosen = self._model_folder()
        installed = [folder for place in model_folders() for folder in bundle_folders(place).folders]
        return [*installed, *([] if chosen is None else [chosen])]

    def _say(self, sentences: list[str]) -> None:
        self.ui.plotLabel.text = "\n".join(sentences)
        self.ui.plotLabel.visible = bool(sentences)


def hide_own_results(selector: Any) -> None:
    """Offer as reference only what no run has made."""
    made = [nodes.segmentation for nodes in find_cases(slicer.mrmlScene)]
    selector.sortFilterProxyModel().hiddenNodeIDs = [node.GetID() for node in made if node is not None]


def _sentence(one: TitledCurves) -> str:
    text = f"{one.title}: {plots.describe(one.curves)}."
    return text[:1].upper() + text[1:]


def _missing_text(reference: Any, found: CaseCurves) -> list[str]:
    if not found.missing:
        return []
    text = _("{reference} holds no {names}: all that was found of it counts as wrong.")
    return [text.format(reference=reference.GetName(), names=", ".join(found.missing))]


def _shown_chart() -> Any:
    """Return the chart that plot views of the layout show, or None."""
    selection = slicer.app.applicationLogic().GetSelectionNode()
    return slicer.mrmlScene.GetNodeByID(selection.GetActivePlotChartID() or "")
