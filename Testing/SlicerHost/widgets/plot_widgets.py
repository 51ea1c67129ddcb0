"""qMRMLPlotWidget and its view: the chart nodes of the scene, drawn by VTK's own charts off-screen."""

from __future__ import annotations

from typing import Any, ClassVar

from PySide6 import QtCore, QtGui, QtWidgets

from ..qt_module import QT
from ..strict import record
from .mrml_widgets import qMRMLWidget
from .observing import Observers
from .plot_chart import ChartPicture
from .stand_in import stand_in, stored

_SMALLEST = (160, 120)


@stand_in
class qMRMLPlotView(QT.QWidget):
    """Draws the chart that its plot view node refers to."""

    mrmlSceneChanged = QtCore.Signal(object)
    dataSelected = QtCore.Signal(object, object)
    _signals: ClassVar[dict[str, str]] = {
        "mrmlSceneChanged(vtkMRMLScene*)": "mrmlSceneChanged",
        "dataSelected(vtkStringArray*,vtkCollection*)": "dataSelected",
    }

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._scene: Any = None
        self._node: Any = None
        self._picture = ChartPicture()
        self._reported: set[str] = set()
        self._observers = Observers(self)
        self.setMinimumSize(*_SMALLEST)
        self.setFocusPolicy(QtCore.Qt.FocusPolicy.StrongFocus)

    def setMRMLScene(self, scene: Any) -> None:
        """The scene; a view node of another scene is let go."""
        if scene is self._scene:
            return
        self._scene = scene
        if self._node is not None and self._node.GetScene() is not scene:
            self.setMRMLPlotViewNode(None)
        self.mrmlSceneChanged.emit(scene)
        self.update()

    def setMRMLPlotViewNode(self, node: Any) -> None:
        """Draw the chart of this view node."""
        if node is self._node:
            return
        self._node = node
        changed = {} if node is None else {"ModifiedEvent": _follow, node.PlotChartNodeChangedEvent: _follow}
        self._observers.replace("view", node, changed)
        _follow(self)

    def _chart_node(self) -> Any:
        if self._scene is None or self._node is None:
            return None
        return self._scene.GetNodeByID(self._node.GetPlotChartNodeID() or "")

    def chart(self) -> Any:
        """The vtkChartXY."""
        return self._picture.chart

    def scene(self) -> Any:
        """The vtkContextScene."""
        return self._picture.view.GetScene()

    def renderWindow(self) -> Any:
        """The VTK window."""
        return self._picture.window

    def fitToContent(self) -> None:
        """Axes to the curves."""
        self._picture.chart.RecalculateBounds()
        self.update()

    def RemovePlotSelections(self) -> None:
        """Forget selected points."""
        for index in range(self._picture.chart.GetNumberOfPlots()):
            self._picture.chart.GetPlot(index).SetSelection(None)

    def paintEvent(self, event: QtGui.QPaintEvent) -> None:
        """Draw the nodes as they are now; a curve that cannot be drawn is a finding, in Slicer it is just missing."""
        if self._node is not None and self._scene is None:
            self._report("a plot view node is set but no MRML scene: nothing is drawn")
        for problem in self._picture.update(self._chart_node()):
            self._report(problem)
        size = (QtWidgets.QWidget.width(self), QtWidgets.QWidget.height(self))
        pixels = self._picture.pixels(size)
        image = QtGui.QImage(pixels.tobytes(), size[0], size[1], 3 * size[0], QtGui.QImage.Format.Format_RGB888)
        painter = QtGui.QPainter(self)
        painter.drawPixmap(0, 0, QtGui.QPixmap.fromImage(image))
        painter.end()

    def _report(self, problem: str) -> None:
        if problem not in self._reported:
            self._reported.add(problem)
            record("plot", "qMRMLPlotView", problem)

    title = QtCore.Property(
        str, lambda self: self._picture.chart.GetTitle() or "", lambda self, v: self._picture.chart.SetTitle(v)
    )


def _follow(view: Any) -> None:
    """The chart may be another one, and each of its nodes may have changed."""
    chart = view._chart_node()
    redraw = lambda owner: owner.update()  # noqa: E731
    view._observers.replace("chart", chart, {"ModifiedEvent": redraw})
    view.update()


@stand_in
class qMRMLPlotViewControllerWidget(qMRMLWidget):
    """The bar over a plot view; it is empty here."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._view: Any = None
        self._bar = QT.QWidget(self)
        self._pin, self._label = QT.QToolButton(self._bar), QT.QLabel(self._bar)
        row = QT.QHBoxLayout(self._bar)
        row.addWidget(self._pin)
        row.addWidget(self._label)
        self._bar.hide()

    def setPlotView(self, view: Any) -> None:
        """The view that it controls."""
        self._view = view

    def setMRMLPlotViewNode(self, node: Any) -> None:
        """The node that it controls: the view's."""
        if self._view is not None:
            self._view.setMRMLPlotViewNode(node)

    def mrmlPlotViewNode(self) -> Any:
        """The view node."""
        return self._view._node if self._view is not None else None

    def fitPlotToAxes(self) -> None:
        """Axes to the curves."""
        if self._view is not None:
            self._view.fitToContent()

    def barWidget(self) -> Any:
        """The bar."""
        return self._bar

    def barLayout(self) -> Any:
        """The bar's row."""
        return QtWidgets.QWidget.layout(self._bar)

    def pinButton(self) -> Any:
        """The button that keeps the pop-up open."""
        return self._pin

    def viewLabel(self) -> Any:
        """The letter of the view."""
        return self._label

    showMaximizeViewButton = stored(bool, "showMaximizeViewButton", True)


@stand_in
class qMRMLPlotWidget(qMRMLWidget):
    """A plot view with its bar."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._view = qMRMLPlotView()
        self._controller = qMRMLPlotViewControllerWidget()
        self._controller.setPlotView(self._view)
        rows = QtWidgets.QVBoxLayout(self)
        rows.setContentsMargins(0, 0, 0, 0)
        rows.setSpacing(0)
        rows.addWidget(self._controller)
        rows.addWidget(self._view, 1)  # the bar is empty and hidden: all room is the view's

    def setMRMLScene(self, scene: Any) -> None:
        """The scene of view and bar."""
        super().setMRMLScene(scene)
        self._view.setMRMLScene(scene)
        self._controller.setMRMLScene(scene)

    def setMRMLPlotViewNode(self, node: Any) -> None:
        """Draw the chart of this view node."""
        self._view.setMRMLPlotViewNode(node)

    def setMRMLAbstractViewNode(self, node: Any) -> None:
        """Draw the chart of this view node."""
        self._view.setMRMLPlotViewNode(node)

    def mrmlPlotViewNode(self) -> Any:
        """The view node."""
        return self._view._node

    def mrmlAbstractViewNode(self) -> Any:
        """The view node."""
        return self._view._node

    def plotView(self) -> Any:
        """The drawing part."""
        return self._view

    def viewWidget(self) -> Any:
        """The drawing part."""
        return self._view

    def plotController(self) -> Any:
        """The bar."""
        return self._controller

    def controllerWidget(self) -> Any:
        """The bar."""
        return self._controller

    viewLabel = stored(str, "viewLabel", "")
    viewColor = stored(QtGui.QColor, "viewColor", QtGui.QColor())
