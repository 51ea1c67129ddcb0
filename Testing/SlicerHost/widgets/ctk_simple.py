"""ctk widgets that add little to their Qt base class."""

from __future__ import annotations

from typing import Any, ClassVar

from PySide6 import QtCore, QtWidgets

from ..qt_module import QT
from .stand_in import stand_in, stored


@stand_in
class ctkComboBox(QT.QComboBox):
    """A combo box with a text for "nothing chosen"."""

    def _user_data(self) -> str:
        return str(QtWidgets.QComboBox.currentData(self) or "")

    def setCurrentUserDataAsString(self, data: str) -> None:
        """Choose the item whose user data is this string."""
        self.setCurrentIndex(QtWidgets.QComboBox.findData(self, data))

    currentUserDataAsString = QtCore.Property(str, _user_data, lambda self, v: self.setCurrentUserDataAsString(v))
    defaultText = QtCore.Property(
        str,
        lambda self: QtWidgets.QComboBox.placeholderText(self),
        lambda self, v: QtWidgets.QComboBox.setPlaceholderText(self, v),
    )
    forceDefault = stored(bool, "forceDefault", False)


@stand_in
class ctkCheckBox(QT.QCheckBox):
    """A check box; its own indicator icons are not drawn."""


@stand_in
class ctkMessageBox(QT.QMessageBox):
    """A message box that may be silenced by a setting."""

    dontShowAgainVisible = stored(bool, "dontShowAgainVisible", False)
    dontShowAgainSettingsKey = stored(str, "dontShowAgainSettingsKey", "")
    dontShowAgain = stored(bool, "dontShowAgain", False)


@stand_in
class ctkDirectoryButton(QT.QWidget):
    """A button that holds a folder."""

    directoryChanged = QtCore.Signal(str)
    directorySelected = QtCore.Signal(str)
    _signals: ClassVar[dict[str, str]] = {
        "directoryChanged(QString)": "directoryChanged",
        "directorySelected(QString)": "directorySelected",
    }

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._button = QtWidgets.QPushButton()
        QtWidgets.QHBoxLayout(self).addWidget(self._button)
        self._button.clicked.connect(lambda: self.browse())

    def browse(self) -> None:
        """Ask for a folder."""
        chosen = QT.QFileDialog.getExistingDirectory(self, self.caption, self.directory)
        if chosen:
            self.directory = chosen
            self.directorySelected.emit(chosen)

    def _set(self, folder: str) -> None:
        if folder != self._button.text():
            self._button.setText(folder)
            self.directoryChanged.emit(folder)

    directory = QtCore.Property(str, lambda self: self._button.text(), lambda self, v: self._set(v))
    caption = stored(str, "caption", "")


@stand_in
class ctkPathLineEdit(QT.QWidget):
    """A line edit that holds a path, with a button that asks for one."""

    # QDir's filters, as the class repeats them
    Dirs, Files, Drives, NoSymLinks, AllEntries = 0x1, 0x2, 0x4, 0x8, 0x7
    Readable, Writable, Executable = 0x10, 0x20, 0x40
    NoDot, NoDotDot, NoDotAndDotDot = 0x2000, 0x4000, 0x6000

    currentPathChanged = QtCore.Signal(str)
    validInputChanged = QtCore.Signal(bool)
    _signals: ClassVar[dict[str, str]] = {
        "currentPathChanged(QString)": "currentPathChanged",
        "validInputChanged(bool)": "validInputChanged",
    }

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._edit = QtWidgets.QLineEdit()
        self._button = QtWidgets.QToolButton()
        self._button.setText("...")
        row = QtWidgets.QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self._edit)
        row.addWidget(self._button)
        self._edit.textChanged.connect(self.currentPathChanged)
        self._button.clicked.connect(lambda: self.browse())

    def setCurrentPath(self, path: str) -> None:
        """Set the path."""
        self._edit.setText(path)

    def browse(self) -> None:
        """Ask for a file where the filters allow files, also if they allow folders; else for a folder (as CTK does)."""
        dialog, path = QT.QFileDialog, self._edit.text()
        if self.filters & self.Files and self.filters & self.Writable:
            chosen = dialog.getSaveFileName(self, "Select a file to save", path, ";;".join(self.nameFilters))
        elif self.filters & self.Files:
            chosen = dialog.getOpenFileName(self, "Select a file to open", path, ";;".join(self.nameFilters))
        else:
            chosen = dialog.getExistingDirectory(self, "Select a directory...", path)
        if chosen:
            self.setCurrentPath(str(chosen))

    currentPath = QtCore.Property(str, lambda self: self._edit.text(), lambda self, v: self._edit.setText(v))
    filters = stored(int, "filters", AllEntries | NoDotAndDotDot | Readable)
    settingKey = stored(str, "settingKey", "")
    label = stored(str, "label", "")
    nameFilters = stored("QStringList", "nameFilters", [])
    showHistoryButton = stored(bool, "showHistoryButton", True)
