"""The stand-in widgets: no member that the real class lacks, and behaviour that tests can drive."""

from __future__ import annotations

import pytest
import slicer
from PySide6 import QtCore, QtWidgets
from SlicerHost import host, strict  # noqa: F401  (host registers every stand-in)
from SlicerHost.api_table import ApiTable
from SlicerHost.application import qt_application
from SlicerHost.popups import POPUPS
from SlicerHost.signals import stand_in_signals
from SlicerHost.widgets.stand_in import CTK_CLASSES, SLICER_CLASSES

qt_application()
API = ApiTable()
STAND_INS = {**CTK_CLASSES, **SLICER_CLASSES}
# members that the table cannot list: PythonQt decorators and static methods that its parser did not read
REAL_BUT_UNLISTED = {
    "qSlicerScriptedLoadableModule": {"widgetRepresentation", "logic"},
    "qSlicerApplication": {"layoutManager", "testingEnabled"},
    "ctkPathLineEdit": {  # the values of its enum Filter: PythonQt gives them to the class
        *("Dirs", "Files", "Drives", "NoSymLinks", "AllEntries", "Readable", "Writable", "Executable"),
        *("NoDot", "NoDotDot", "NoDotAndDotDot"),
    },
    "qMRMLPlotView": {"paintEvent"},  # its ancestry ends in VTK's QVTKOpenGLNativeWidget, a QWidget
}
# classes that Slicer does not export to Python under this name: C++ modules come as qSlicer<Name>Module
OURS = {"qSlicerLoadableModule"}


def _own_members(cls: type) -> list[tuple[str, object]]:
    found = []
    for base in cls.__mro__:
        if base.__module__ in ("qt", "SlicerHost.pythonqt") or base.__module__.startswith("PySide6"):
            break
        found += [
            (name, member) for name, member in vars(base).items() if name[0] != "_" and name != "staticMetaObject"
        ]
    return found


@pytest.mark.parametrize("name", sorted(set(STAND_INS) - OURS))
def test_stand_in_has_no_member_that_the_real_class_lacks(name):
    assert name in API.classes
    members = API.members(name)
    signal_names = {signature.split("(")[0] for signature in members.signals}
    wrong = [signature for signature in stand_in_signals(STAND_INS[name]) if signature not in members.signals]
    for member_name, member in _own_members(STAND_INS[name]):
        if isinstance(member, QtCore.Property):
            known = member_name in members.properties
        elif isinstance(member, QtCore.Signal):
            known = member_name in signal_names
        else:
            known = member_name in members.callable_names | members.native
        if not known and member_name not in REAL_BUT_UNLISTED.get(name, set()):
            wrong.append(member_name)
    assert wrong == []


@pytest.mark.parametrize("name", sorted(CTK_CLASSES))
def test_every_ctk_stand_in_is_made_with_and_without_a_parent(name):
    parent = CTK_CLASSES[name]()
    assert CTK_CLASSES[name](parent).parent() is parent
    assert parent.className() == name


def test_plain_cpp_setter_of_a_ctk_class_cannot_be_reached():
    slider = CTK_CLASSES["ctkSliderWidget"]()
    with pytest.raises(AttributeError):
        slider.setMinimum(3)
    with pytest.raises(AttributeError):
        slider.setRange(0, 1)


def test_slider_clamps_rounds_and_tells_changes_only():
    slider = CTK_CLASSES["ctkSliderWidget"]()
    slider.maximum = 1
    slider.decimals = 2
    got = []
    assert slider.connect("valueChanged(double)", got.append)
    slider.value = 0.456
    slider.value = 0.456
    slider.setValue(3)
    assert got == [0.46, 1.0]
    assert slider.value == 1.0
    slider.maximum = 0.5
    assert slider.value == 0.5


def test_range_widget_keeps_its_values_ordered():
    widget = CTK_CLASSES["ctkRangeWidget"]()
    widget.setRange(0, 10)
    widget.setValues(8, 2)
    assert (widget.minimumValue, widget.maximumValue) == (2, 8)
    got = []
    widget.connect("valuesChanged(double,double)", lambda low, high: got.append((low, high)))
    widget.minimumValue = 9
    assert got == [(9, 9)]


def test_collapsible_button_hides_contents_and_is_checked_while_open():
    from SlicerHost.qt_module import QT as qt  # noqa: N811

    button = CTK_CLASSES["ctkCollapsibleButton"]("Title")
    inside = qt.QPushButton("x")
    qt.QVBoxLayout(button).addWidget(inside)
    button.show()
    got = []
    button.connect("contentsCollapsed(bool)", got.append)
    button.collapsed = True
    assert (inside.visible, button.checked) == (False, False)
    button.click()
    assert (inside.visible, button.collapsed, got) == (True, False, [True, False])
    button.hide()


def test_collapsible_button_is_never_narrower_than_its_contents_would_like_to_be():
    from SlicerHost.qt_module import QT as qt  # noqa: N811

    panel, button = qt.QWidget(), CTK_CLASSES["ctkCollapsibleButton"]("Title")
    label = qt.QLabel("many words " * 20)
    label.wordWrap = True
    qt.QVBoxLayout(button).addWidget(label)
    qt.QVBoxLayout(panel).addWidget(button)
    wanted = QtWidgets.QLabel.sizeHint(label).width()
    assert QtWidgets.QWidget.minimumSizeHint(panel).width() > wanted > 200
    button.collapsed = True
    assert QtWidgets.QWidget.minimumSizeHint(panel).width() < 120


@pytest.mark.parametrize(
    ("filters", "kind"),
    [
        (None, "getOpenFileName"),
        (["Files"], "getOpenFileName"),
        (["Files", "Writable"], "getSaveFileName"),
        (["Dirs", "Drives", "NoDotAndDotDot"], "getExistingDirectory"),
    ],
)
def test_browse_of_a_path_edit_asks_for_a_file_unless_filters_leave_only_folders(filters, kind):
    edit = CTK_CLASSES["ctkPathLineEdit"]()
    if filters is not None:
        edit.filters = sum(getattr(CTK_CLASSES["ctkPathLineEdit"], name) for name in filters)
    POPUPS.reset()
    POPUPS.answer("/chosen")
    edit.browse()
    assert POPUPS.shown[-1].kind.endswith(kind)
    assert edit.currentPath == "/chosen"


def test_slider_rounds_its_ends_to_the_decimals_that_it_has_then():
    slider = CTK_CLASSES["ctkSliderWidget"]()
    slider.minimum = -16.3266
    assert slider.minimum == -16.33
    slider.decimals = 4
    assert slider.minimum == -16.33
    slider.minimum = -16.3266
    assert slider.minimum == -16.3266


@pytest.fixture
def selector():
    scene = slicer.vtkMRMLScene()
    widget = SLICER_CLASSES["qMRMLNodeComboBox"]()
    widget.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    widget.noneEnabled = True
    widget.setMRMLScene(scene)
    yield widget
    widget.setMRMLScene(None)


def _add(selector, name, kind="vtkMRMLScalarVolumeNode"):
    return selector.mrmlScene().AddNewNodeByClass(kind, name)


def _names(selector):
    return [selector.nodeFromIndex(index).GetName() for index in range(selector.nodeCount())]


def test_selector_without_a_scene_is_disabled_and_remembers_the_requested_node():
    scene = slicer.vtkMRMLScene()
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "A")
    widget = SLICER_CLASSES["qMRMLNodeComboBox"]()
    widget.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    widget.noneEnabled = True
    widget.setCurrentNode(node)
    assert (widget.enabled, widget.currentNode()) == (False, None)
    widget.setMRMLScene(scene)
    assert (widget.enabled, widget.currentNode()) == (True, node)
    widget.setMRMLScene(None)


def test_selector_follows_added_renamed_and_removed_nodes(selector):
    first = _add(selector, "A")
    renamed = []
    selector.connect("currentNodeRenamed(QString)", renamed.append)
    selector.setCurrentNode(first)
    _add(selector, "B")
    first.SetName("C")
    assert _names(selector) == ["C", "B"]
    assert renamed == ["C"]
    selector.mrmlScene().RemoveNode(first)
    assert (_names(selector), selector.currentNode()) == (["B"], None)


def test_selector_emits_node_flag_and_id_once_a_change(selector):
    node = _add(selector, "A")
    got = []
    selector.connect("currentNodeChanged(vtkMRMLNode*)", lambda n: got.append(n and n.GetName()))
    selector.connect("currentNodeChanged(bool)", got.append)
    selector.connect("currentNodeIDChanged(QString)", got.append)
    selector.setCurrentNode(node)
    selector.setCurrentNode(node)
    selector.setCurrentNodeID("")
    assert got == ["A", True, node.GetID(), None, False, ""]


def test_selector_filters_by_type_hidden_type_attribute_and_hide_flag(selector):
    _add(selector, "volume")
    _add(selector, "labels", "vtkMRMLLabelMapVolumeNode")
    assert _names(selector) == ["volume", "labels"]
    selector.hideChildNodeTypes = ["vtkMRMLLabelMapVolumeNode"]
    assert _names(selector) == ["volume"]
    selector.hideChildNodeTypes = []
    selector.showChildNodeTypes = False
    assert _names(selector) == ["volume"]
    hidden = _add(selector, "hidden")
    hidden.SetHideFromEditors(1)
    assert _names(selector) == ["volume"]
    marked = _add(selector, "marked")
    marked.SetAttribute("Role", "map")
    selector.addAttribute("vtkMRMLScalarVolumeNode", "Role", "map")
    assert _names(selector) == ["marked"]
    marked.RemoveAttribute("Role")
    assert _names(selector) == []


def test_selector_without_none_takes_the_first_node_and_a_new_node_is_selected(selector):
    selector.noneEnabled = False
    node = _add(selector, "A")
    assert selector.currentNode() is node
    made = []
    selector.connect("nodeAddedByUser(vtkMRMLNode*)", made.append)
    selector.baseName = "Mine"
    new = selector.addNode()
    assert (made, selector.currentNode(), new.GetName()) == ([new], new, "Mine")


def test_selector_is_empty_after_the_scene_is_closed(selector):
    selector.setCurrentNode(_add(selector, "A"))
    selector.mrmlScene().Clear(0)
    assert (selector.nodeCount(), selector.currentNode(), selector.currentNodeID) == (0, None, "")
    assert strict.take() == []
