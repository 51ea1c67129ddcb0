"""Keys go through Qt's shortcut map; item widgets, text fields and menus follow PythonQt's rules."""

from __future__ import annotations

import pytest
import slicer
from SlicerHost import strict
from SlicerHost.qt_module import QT as qt  # noqa: N811


class Panel:
    """Fields in the host's window, and a shortcut of the main window that counts."""

    def __init__(self, host, key="N"):
        self.host, self.fired = host, 0
        self.panel = qt.QWidget()
        rows = qt.QVBoxLayout(self.panel)
        self.line, self.text, self.rich = qt.QLineEdit(), qt.QPlainTextEdit(), qt.QTextEdit()
        self.number, self.button = qt.QSpinBox(), qt.QPushButton("Next")
        for field in (self.line, self.text, self.rich, self.number, self.button):
            rows.addWidget(field)
        host._window._panel.setWidget(self.panel)
        self.shortcut = qt.QShortcut(qt.QKeySequence(key), slicer.util.mainWindow())
        self.shortcut.connect("activated()", self.count)

    def count(self):
        self.fired += 1


@pytest.fixture
def panel(slicer_host):
    made = Panel(slicer_host)
    yield made
    made.shortcut.setEnabled(False)


@pytest.mark.parametrize("view", ["Red", "3D", "window", "button"])
def test_a_shortcut_fires_while_a_view_or_a_button_has_the_keyboard(panel, view):
    layout = slicer.app.layoutManager()
    widgets = {
        "Red": layout.sliceWidget("Red").sliceView(),
        "3D": layout.threeDWidget(0).threeDView(),
        "window": None,
        "button": panel.button,
    }
    panel.host.press_key("N", widgets[view])
    assert panel.fired == 1


@pytest.mark.parametrize("field", ["line", "text", "rich"])
def test_a_shortcut_of_a_letter_does_not_fire_while_text_is_typed(panel, field):
    widget = getattr(panel, field)
    panel.host.press_key("N", widget)
    assert panel.fired == 0
    assert (widget.text if field == "line" else widget.plainText) == "n"


def test_a_read_only_text_lets_the_shortcut_fire(panel):
    panel.text.readOnly = True
    panel.host.press_key("N", panel.text)
    assert (panel.fired, panel.text.plainText) == (1, "")


def test_a_shortcut_with_ctrl_and_alt_fires_while_text_is_typed(slicer_host):
    panel = Panel(slicer_host, "Ctrl+Alt+1")
    slicer_host.press_key("Ctrl+Alt+1", panel.line)
    slicer_host.press_key("1", panel.button)
    assert (panel.fired, panel.line.text) == (1, "")


def test_two_shortcuts_of_one_key_are_ambiguous_and_neither_fires(panel):
    other = qt.QShortcut(qt.QKeySequence("N"), slicer.util.mainWindow())
    told = []
    other.connect("activated()", lambda: told.append("other"))
    other.connect("activatedAmbiguously()", lambda: told.append("ambiguous"))
    panel.shortcut.connect("activatedAmbiguously()", lambda: told.append("ambiguous"))
    panel.host.press_key("N", panel.button)
    assert (panel.fired, told) == (0, ["ambiguous"])


def test_a_disabled_or_deleted_shortcut_does_not_fire(panel):
    panel.shortcut.enabled = False
    panel.host.press_key("N", panel.button)
    panel.shortcut.enabled = True
    panel.host.press_key("N", panel.button)
    assert panel.fired == 1


def test_the_focus_stays_where_it_was_for_the_next_key(panel):
    panel.host.press_key("A", panel.line)
    panel.host.press_key("N")
    assert (panel.line.text, panel.fired) == ("an", 0)


def test_a_hidden_widget_and_an_unknown_key_are_refused(panel):
    panel.line.hide()
    with pytest.raises(AssertionError, match="cannot have the keyboard focus"):
        panel.host.press_key("N", panel.line)
    with pytest.raises(AssertionError, match="no key is called 'Nonsense'"):
        panel.host.press_key("Nonsense")


def test_the_segment_editor_takes_its_keys_only_while_they_are_installed(slicer_host):
    editor = slicer.qMRMLSegmentEditorWidget()
    slicer_host._window._panel.setWidget(editor)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentEditorNode")
    editor.setMRMLSegmentEditorNode(node)
    editor.setMRMLScene(slicer.mrmlScene)
    segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    view = slicer.app.layoutManager().sliceWidget("Red").sliceView()
    for segment_id in ("a", "b"):
        segmentation.GetSegmentation().AddEmptySegment(segment_id, segment_id)
    editor.setCurrentSegmentID("a")
    slicer_host.press_key("W", view)
    assert editor.currentSegmentID() == "a"
    editor.installKeyboardShortcuts()
    slicer_host.press_key("W", view)
    slicer_host.press_key("2", view)
    assert (editor.currentSegmentID(), editor.activeEffect().name) == ("b", "Paint")
    slicer_host.press_key("Esc", view)
    editor.uninstallKeyboardShortcuts()
    slicer_host.press_key("2", view)
    assert editor.activeEffect() is None


def _table():
    table = qt.QTableWidget(3, 2)
    for row in range(3):
        for column in range(2):
            table.setItem(row, column, qt.QTableWidgetItem(f"{2 - row}{column}"))
    return table


def test_selection_signals_of_a_table_come_with_their_arguments():
    table, told = _table(), []
    assert table.connect("itemSelectionChanged()", lambda: told.append("selection"))
    assert table.connect("currentCellChanged(int,int,int,int)", lambda *a: told.append(a))
    assert table.connect("cellDoubleClicked(int,int)", lambda row, column: told.append((row, column)))
    assert table.selectionModel().connect("selectionChanged(QItemSelection,QItemSelection)", lambda: told.append("m"))
    table.selectRow(1)
    assert sorted(map(str, told)) == sorted(["selection", "m", "(1, 0, -1, -1)"])
    told.clear()
    table.cellDoubleClicked.emit(2, 1)
    assert table.selectionModel().disconnect("selectionChanged(QItemSelection,QItemSelection)")
    table.setCurrentCell(2, 0)
    assert sorted(map(str, told)) == sorted(["(2, 1)", "selection", "(2, 0, 1, 0)"])
    assert (table.currentRow(), [index.row() for index in table.selectionModel().selectedIndexes]) == (2, [2])


def test_table_enums_are_taken_as_pythonqt_takes_them():
    table = _table()
    table.selectionBehavior = qt.QAbstractItemView.SelectRows
    table.setSelectionMode(qt.QTableWidget.SingleSelection)
    table.setEditTriggers(qt.QAbstractItemView.NoEditTriggers)
    table.horizontalHeader().setSectionResizeMode(0, qt.QHeaderView.Stretch)
    assert table.horizontalHeader().sectionResizeMode(0) == qt.QHeaderView.Stretch
    item = table.item(0, 0)
    item.setFlags(item.flags() & ~qt.Qt.ItemIsEditable)
    assert int(item.flags()) & 2 == 0
    item.setData(qt.Qt.UserRole, "liver")
    item.setIcon(qt.QIcon(qt.QPixmap(8, 8)))
    assert (item.data(256), item.icon().isNull()) == ("liver", False)
    table.setSortingEnabled(True)
    table.sortItems(0, qt.Qt.AscendingOrder)
    assert (table.sortingEnabled, [table.item(row, 0).text() for row in range(3)]) == (True, ["00", "10", "20"])
    with pytest.raises(TypeError, match="not callable"):
        table.rowCount()


def test_actions_that_a_menu_makes_follow_the_rules():
    menu, told = qt.QMenu("More"), []
    action = menu.addAction("Accept all", lambda: told.append("slot"))
    assert action.connect("triggered()", lambda: told.append("string"))
    action.trigger()
    assert (told, action.text) == (["slot", "string"], "Accept all")
    sub = menu.addMenu("Export")
    sub.addAction(qt.QIcon(), "CSV").enabled = False
    menu.addSeparator()
    assert [entry.isSeparator() for entry in menu.actions()] == [False, False, True]
    assert (sub.title, [entry.enabled for entry in sub.actions()]) == ("Export", [False])
    button = qt.QToolButton()
    button.setMenu(menu)
    button.popupMode = qt.QToolButton.InstantPopup
    assert button.menu() is menu


@pytest.mark.parametrize(
    ("made", "signals"),
    [
        ("QLineEdit", ["textChanged(QString)", "textEdited(QString)", "editingFinished()", "returnPressed()"]),
        ("QPlainTextEdit", ["textChanged()"]),
        ("QTextEdit", ["textChanged()"]),
        ("QSpinBox", ["valueChanged(int)", "editingFinished()"]),
        ("QToolButton", ["clicked()", "toggled(bool)", "triggered(QAction*)"]),
        ("QComboBox", ["currentIndexChanged(int)", "activated(int)", "currentTextChanged(QString)"]),
        ("QCheckBox", ["toggled(bool)", "stateChanged(int)"]),
        ("QProgressBar", ["valueChanged(int)"]),
        ("QShortcut", ["activated()", "activatedAmbiguously()"]),
        ("QAction", ["triggered()", "triggered(bool)", "toggled(bool)"]),
    ],
)
def test_signals_of_common_widgets_exist_and_misspelt_ones_are_found(made, signals):
    strict.take()
    parent = qt.QWidget()
    widget = getattr(qt, made)(parent)
    assert [signal for signal in signals if widget.connect(signal, print) is not True] == []
    assert widget.connect("changedd()", print) is False
    assert len(strict.take("signal")) == 1
