"""ctkCollapsibleButton and ctkCollapsibleGroupBox: contents are hidden while collapsed."""

from __future__ import annotations

from typing import Any, ClassVar

from PySide6 import QtCore, QtGui, QtWidgets

from ..qt_module import QT
from .stand_in import stand_in, stored

_HEADER = 24
_ARROW = 32
_NO_LIMIT = 16777215


class _ContentHider:
    """Hides the direct children of a widget and shows again those that it hid."""

    def __init__(self, owner: QtWidgets.QWidget) -> None:
        self._owner = owner
        self._hidden: list[QtWidgets.QWidget] = []

    def apply(self, collapsed: bool, header: int) -> None:
        direct = QtCore.Qt.FindChildOption.FindDirectChildrenOnly
        if collapsed:
            children = QtCore.QObject.findChildren(self._owner, QtWidgets.QWidget, options=direct)
            self._hidden = [c for c in children if not QtWidgets.QWidget.isHidden(c)]
        for child in self._hidden:
            QtWidgets.QWidget.setVisible(child, not collapsed)
        QtWidgets.QWidget.setMaximumHeight(self._owner, header if collapsed else _NO_LIMIT)


@stand_in
class ctkCollapsibleButton(QT.QAbstractButton):
    """A checkable header over contents; checked means open."""

    contentsCollapsed = QtCore.Signal(bool)
    _signals: ClassVar[dict[str, str]] = {"contentsCollapsed(bool)": "contentsCollapsed"}

    def __init__(self, *args: Any) -> None:
        text = args[0] if args and isinstance(args[0], str) else ""
        parent = args[-1] if args and not isinstance(args[-1], str) else None
        super().__init__(parent)
        self._hider = _ContentHider(self)
        self.setCheckable(True)
        self.setChecked(True)
        self.setText(text)
        # As in ctkCollapsibleButton.cpp: no layout makes it narrower than its sizeHint, even if contents could be.
        policy = QtWidgets.QSizePolicy.Policy
        QtWidgets.QWidget.setSizePolicy(self, policy.Minimum, policy.Preferred)
        self.setContentsMargins(0, _HEADER, 0, 0)
        self.toggled.connect(self._apply)

    def _apply(self, is_open: bool) -> None:
        self._hider.apply(not is_open, _HEADER)
        self.contentsCollapsed.emit(not is_open)

    def _is_collapsed(self) -> bool:
        return not QtWidgets.QAbstractButton.isChecked(self)

    def _collapse(self, collapsed: bool) -> None:
        self.setChecked(not collapsed)

    collapsed = QtCore.Property(bool, _is_collapsed, _collapse)
    collapsedHeight = stored(int, "collapsedHeight", 10)
    flat = stored(bool, "flat", False)

    def _header_size(self) -> QtCore.QSize:
        metrics = QtWidgets.QWidget.fontMetrics(self)
        return QtCore.QSize(metrics.horizontalAdvance(QtWidgets.QAbstractButton.text(self)) + _ARROW, _HEADER)

    def sizeHint(self) -> QtCore.QSize:
        """Header and contents; while collapsed the header alone."""
        header = self._header_size()
        return header if self._is_collapsed() else QtWidgets.QAbstractButton.sizeHint(self).expandedTo(header)

    def minimumSizeHint(self) -> QtCore.QSize:
        """The least size that contents allow; while collapsed the header alone."""
        header = self._header_size()
        return header if self._is_collapsed() else QtWidgets.QAbstractButton.minimumSizeHint(self).expandedTo(header)

    def paintEvent(self, event: QtGui.QPaintEvent) -> None:
        """Header bar with an arrow and the text."""
        painter = QtGui.QPainter(self)
        bar = QtCore.QRect(0, 0, QtWidgets.QWidget.width(self), _HEADER - 3)
        painter.fillRect(bar, QtWidgets.QWidget.palette(self).color(QtGui.QPalette.ColorRole.Mid))
        arrow = "\u25b8" if self._is_collapsed() else "\u25be"
        line = f" {arrow} {QtWidgets.QAbstractButton.text(self)}"
        painter.drawText(bar, QtCore.Qt.AlignmentFlag.AlignVCenter | QtCore.Qt.AlignmentFlag.AlignLeft, line)
        painter.end()


@stand_in
class ctkCollapsibleGroupBox(QT.QGroupBox):
    """A group box that folds."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._folded = False
        self._hider = _ContentHider(self)

    def _is_collapsed(self) -> bool:
        return self._folded

    def _collapse(self, collapsed: bool) -> None:
        if bool(collapsed) != self._folded:
            self._folded = bool(collapsed)
            self._hider.apply(self._folded, _HEADER)

    collapsed = QtCore.Property(bool, _is_collapsed, _collapse)
    collapsedHeight = stored(int, "collapsedHeight", 14)
