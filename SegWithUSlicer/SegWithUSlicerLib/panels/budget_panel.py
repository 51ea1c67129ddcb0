"""The section "Budget": how many of the errors reviewing some of the regions covers, as a sentence and a chart."""

from collections.abc import Callable
from typing import Any

import slicer

from SegWithUCore.util.errors import InputError

from ..guarded import guarded
from ..i18n import _
from ..review.budget import Budget
from ..review.session import ReviewSession
from ..run.session import Debounce
from ..scene.case_nodes import add_hidden_node
from .gui_connections import GuiConnections
from .plots_panel import hide_own_results

VIEW_TAG = "SegWithU"
_DELAY_MS = 300
_CHART_PX = 220
_FIRST_CHOICE = 10


class BudgetPanel:
    """The section "Budget". The plot is made when the section is opened first.

    Args:
        ui: the widgets of the .ui file.
        on_accept_rest: called when the reviewer takes the regions without a verdict as they are.
    """

    def __init__(self, ui: Any, on_accept_rest: Callable[[], None]) -> None:
        self.ui = ui
        self._on_accept_rest = on_accept_rest
        self.plot: Any = None
        self._budget: Budget | None = None
        self._gui = GuiConnections()
        self._draw_later = Debounce(_DELAY_MS, self.draw)
        ui.chartBox.addItem(_("Regions looked at"))
        ui.chartBox.addItem(_("Risk and coverage"))
        self._gui.connect(ui.budgetBox, lambda _value: self.refresh())
        ui.acceptRestButton.connect("clicked(bool)", guarded(self.accept_rest))
        self._gui.connect(ui.chartBox, lambda _index: self.refresh())
        ui.referenceSelector.connect("currentNodeChanged(vtkMRMLNode*)", guarded(lambda _node: self.refresh()))
        ui.budgetButton.connect("contentsCollapsed(bool)", guarded(lambda _collapsed: self.refresh()))

    def show(self, session: ReviewSession | None) -> None:
        """Show the budget of a review, or none."""
        self._draw_later.stop()
        self._budget = Budget(session) if session is not None else None
        if session is None:
            self.ui.budgetButton.collapsed = True
            return
        with self._gui.updating():
            self.ui.budgetBox.maximum = len(session.real_regions)
            self.ui.budgetBox.value = min(_FIRST_CHOICE, len(session.real_regions))
        hide_own_results(self.ui.referenceSelector)
        self.refresh()

    def refresh(self) -> None:
        """Say at once what the choice covers; the chart follows when the choice rests."""
        if self._budget is None:
            return
        self._say()
        if not self.ui.budgetButton.collapsed:
            self._draw_later.trigger()

    def follow(self) -> None:
        """Show whether the choice is reached and whether there is a rest; the chart stays."""
        if self._budget is None:
            return
        self.ui.acceptRestButton.enabled = not self._budget.session.is_done
        if not self.ui.budgetButton.collapsed:  # it counts all regions, and a verdict must not wait for that
            self._say()

    def _say(self) -> None:
        assert self._budget is not None
        number = self.ui.budgetBox.value
        reached = _("You have looked at as many: the rest can be accepted.") if self._budget.reached(number) else ""
        self.ui.budgetLabel.text = " ".join(filter(None, [self._budget.sentence(number), reached]))

    def accept_rest(self) -> None:
        """Take the regions without a verdict as they are, if the reviewer says so once more."""
        if self._budget is None or self._budget.session.is_done:
            return
        if slicer.util.confirmOkCancelDisplay(self._budget.rest_question(), windowTitle="SegWithU"):
            self._on_accept_rest()

    def draw(self) -> None:
        """Draw the chart, with the truth where a reference is chosen."""
        if self._budget is None or self.ui.budgetButton.collapsed:
            return
        number, reference = self.ui.budgetBox.value, self.ui.referenceSelector.currentNode()
        try:
            text = self._budget.reference_sentence(number, reference) if reference is not None else ""
            charts = self._budget.show(number, reference)
        except InputError as error:
            text, charts = str(error), self._budget.show(number)
        self.ui.referenceLabel.text = text
        self.ui.referenceLabel.visible = bool(text)
        self._view().SetPlotChartNodeID(charts[max(0, self.ui.chartBox.currentIndex)].GetID())

    def close(self) -> None:
        """Let go of the scene."""
        self._draw_later.stop()
        self._budget = None
        if self.plot is not None:
            self.plot.setMRMLPlotViewNode(None)
            self.plot.setMRMLScene(None)

    def _view(self) -> "slicer.vtkMRMLPlotViewNode":
        """Return our own view node; it is shown by our own widget and by no layout."""
        scene = slicer.mrmlScene
        view = scene.GetSingletonNode(VIEW_TAG, "vtkMRMLPlotViewNode")
        if view is None:
            owner = add_hidden_node(scene, "vtkMRMLScriptedModuleNode", "SegWithU plot", False, "SegWithUPlot")
            view = add_hidden_node(scene, "vtkMRMLPlotViewNode", "SegWithU budget", False, VIEW_TAG)
            view.SetLayoutName(VIEW_TAG)
            # A chart that is shown in the layout is not shown here too.
            view.SetDoPropagatePlotChartSelection(False)
            view.SetAndObserveParentLayoutNodeID(owner.GetID())
        if self.plot is None:
            self.plot = slicer.qMRMLPlotWidget()
            self.plot.setMRMLScene(scene)
            self.plot.setFixedHeight(_CHART_PX)
            self.ui.plotFrame.layout().addWidget(self.plot)
        if self.plot.mrmlPlotViewNode() is not view:
            self.plot.setMRMLPlotViewNode(view)
        return view
