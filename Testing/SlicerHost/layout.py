"""slicer.app.layoutManager(): three slice views and one 3D view."""

from __future__ import annotations

from typing import Any, ClassVar

import slicer
from PySide6 import QtCore

from .qt_module import QT
from .widgets.mrml_widgets import qMRMLWidget
from .widgets.stand_in import stand_in

ORIENTATIONS = {"Red": "Axial", "Yellow": "Sagittal", "Green": "Coronal"}


class _View(QT.QWidget):
    def __init__(self, view: Any) -> None:
        super().__init__()
        self._view = view
        self._renders_asked = 0
        self.setFocusPolicy(QtCore.Qt.FocusPolicy.StrongFocus)  # a click gives a view the keyboard

    def renderWindow(self) -> Any:
        """The VTK window."""
        return self._view.window

    def interactor(self) -> Any:
        """The VTK interactor."""
        return self._view.interactor

    def forceRender(self) -> None:
        """Render now."""
        self._view.render()


@stand_in
class qMRMLSliceView(_View):
    """The drawing part of a slice widget."""

    def mrmlSliceNode(self) -> Any:
        """The slice node."""
        return self._view.node


@stand_in
class qMRMLThreeDView(_View):
    """The drawing part of a 3D widget."""

    def mrmlViewNode(self) -> Any:
        """The view node."""
        return self._view.node

    def resetFocalPoint(self) -> None:
        """Camera to what is shown."""
        self._view.renderer.ResetCamera()


@stand_in
class qMRMLSliceControllerWidget(qMRMLWidget):
    """The bar over a slice view."""

    def __init__(self, view: Any) -> None:
        super().__init__()
        self._view = view

    def fitSliceToBackground(self) -> None:
        """Fit."""
        self._view.logic.FitSliceToBackground()


@stand_in
class qMRMLSliceWidget(qMRMLWidget):
    """A slice view with its bar."""

    def __init__(self, view: Any) -> None:
        super().__init__()
        self._view = view
        self._slice_view = qMRMLSliceView(view)
        self._controller = qMRMLSliceControllerWidget(view)

    def sliceView(self) -> Any:
        """The drawing part."""
        return self._slice_view

    def sliceController(self) -> Any:
        """The bar."""
        return self._controller

    def sliceLogic(self) -> Any:
        """The real slice logic."""
        return self._view.logic

    def mrmlSliceNode(self) -> Any:
        """The slice node."""
        return self._view.node

    def fitSliceToBackground(self) -> None:
        """Fit."""
        self._view.logic.FitSliceToBackground()

    sliceViewName = QtCore.Property(str, lambda self: self._view.name)


@stand_in
class qMRMLThreeDWidget(qMRMLWidget):
    """A 3D view with its bar."""

    def __init__(self, view: Any) -> None:
        super().__init__()
        self._view = view
        self._threed_view = qMRMLThreeDView(view)

    def threeDView(self) -> Any:
        """The drawing part."""
        return self._threed_view

    def mrmlViewNode(self) -> Any:
        """The view node."""
        return self._view.node


def _layout_node(scene: Any) -> Any:
    """The scene's one layout node, which survives closing the scene, with Slicer's first layout."""
    node = scene.CreateNodeByClass("vtkMRMLLayoutNode")
    node.UnRegister(None)
    node.SetSingletonTag("vtkMRMLLayoutNode")
    node = scene.AddNode(node)
    if node.GetViewArrangement() == node.SlicerLayoutNone:
        node.SetViewArrangement(node.SlicerLayoutFourUpView)
    return node


@stand_in
class qSlicerLayoutManager(QT.QObject):
    """Finds views; the layout number is kept in a real layout node, views are not rearranged."""

    layoutChanged = QtCore.Signal(int)
    _signals: ClassVar[dict[str, str]] = {"layoutChanged(int)": "layoutChanged"}

    def __init__(self, scene: Any, slice_views: dict[str, Any], threed_view: Any) -> None:
        super().__init__()
        self._slices = {name: qMRMLSliceWidget(view) for name, view in slice_views.items()}
        self._threed = [qMRMLThreeDWidget(threed_view)]
        self._node = _layout_node(scene)

    def _put_into(self, window: Any) -> None:
        """Views are part of the main window, so they can have the keyboard; their pictures are rendered off-screen."""
        for widget in (*self._slices.values(), *self._threed):
            drawing = widget.sliceView() if hasattr(widget, "sliceView") else widget.threeDView()
            drawing.setParent(widget)
            drawing.setGeometry(0, 0, 1, 1)
            widget.setParent(window)
            widget.setGeometry(-2, -2, 1, 1)
            widget.show()

    def sliceViewNames(self) -> tuple[str, ...]:
        """Red, Yellow, Green."""
        return tuple(self._slices)

    def sliceWidget(self, name: str) -> Any:
        """The widget, or None."""
        return self._slices.get(name)

    def threeDWidget(self, which: Any) -> Any:
        """By number or name; only one exists."""
        return self._threed[0] if which in (0, "1", "View1") else None

    def mrmlSliceLogics(self) -> Any:
        """The real collection of slice logics."""
        return slicer.app.applicationLogic().GetSliceLogics()

    def setLayout(self, layout: int) -> None:
        """Keep the number in the layout node."""
        if layout != self._node.GetViewArrangement():
            self._node.SetViewArrangement(layout)
            self.layoutChanged.emit(layout)

    def resetSliceViews(self) -> None:
        """Fit all slices."""
        for widget in self._slices.values():
            widget.sliceLogic().FitSliceToBackground()

    def resetThreeDViews(self) -> None:
        """Camera to what is shown."""
        for widget in self._threed:
            widget.threeDView().resetFocalPoint()

    layout = QtCore.Property(int, lambda self: self._node.GetViewArrangement(), lambda self, v: self.setLayout(v))
    threeDViewCount = QtCore.Property(int, lambda self: len(self._threed))
    tableViewCount = QtCore.Property(int, lambda self: 0)
    plotViewCount = QtCore.Property(int, lambda self: 0)
