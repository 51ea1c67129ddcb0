"""The rules of PythonQt 4.1.0 on Qt 6.8 that the stand-in keeps: one test per measured row of the rule book."""

from __future__ import annotations

import numpy as np
import pytest
from SlicerHost import strict
from SlicerHost.application import qt_application
from SlicerHost.qt_module import QT as qt  # noqa: N811

qt_application()


@pytest.fixture(autouse=True)
def _no_findings_left():
    strict.take()
    yield
    assert strict.take() == []


def test_unknown_signal_is_recorded_and_returns_false(capsys):
    button = qt.QPushButton()
    assert button.connect("clickedd()", print) is False
    assert "does not exist" in capsys.readouterr().out
    assert [f.kind for f in strict.take()] == ["signal"]


def test_string_overload_of_current_index_changed_is_gone_with_qt6():
    box = qt.QComboBox()
    assert box.connect("currentIndexChanged(QString)", print) is False
    assert len(strict.take("signal")) == 1
    assert box.connect("currentIndexChanged(int)", print) is True
    assert box.connect("currentTextChanged(QString)", print) is True


@pytest.mark.parametrize("name", ["enabledd", "foo", "_hidden"])
def test_unknown_attribute_write_raises(name):
    with pytest.raises(AttributeError, match="not allowed"):
        setattr(qt.QPushButton(), name, 1)


def test_unknown_attribute_read_raises():
    with pytest.raises(AttributeError):
        qt.QPushButton().enabledd  # noqa: B018


def test_python_subclass_may_have_attributes_of_its_own():
    class Mine(qt.QWidget):
        pass

    widget = Mine()
    widget.extra = 5
    assert widget.extra == 5


def test_property_called_as_method_is_a_type_error_and_setter_works():
    button = qt.QPushButton("a")
    with pytest.raises(TypeError, match="not callable"):
        button.text()
    button.setText("b")
    assert button.text == "b"


def test_name_is_the_object_name():
    button = qt.QPushButton()
    button.name = "apply"
    assert (button.name, button.objectName) == ("apply", "apply")


def test_single_shot_of_a_timer_is_written_by_its_setter_only():
    timer = qt.QTimer()
    with pytest.raises(AttributeError):
        timer.singleShot = True
    timer.setSingleShot(True)
    assert timer.isSingleShot()
    assert callable(qt.QTimer.singleShot)


def test_exit_code_and_state_of_a_process_are_methods():
    process = qt.QProcess()
    assert process.exitCode() == 0
    assert process.state() == qt.QProcess.NotRunning


def test_sizes_and_timer_activity_are_properties():
    button = qt.QPushButton("a")
    assert button.size.width() == button.width
    assert button.sizeHint.width() > 0
    assert qt.QTimer().active is False


def test_properties_of_headers_and_scroll_bars_work():
    table = qt.QTableWidget(2, 3)
    table.horizontalHeader().stretchLastSection = True
    assert table.horizontalHeader().stretchLastSection is True
    table.verticalHeader().visible = False
    assert table.verticalHeader().visible is False
    assert table.verticalScrollBar().value == 0
    assert qt.QTreeWidget().header().stretchLastSection is True


def test_float_and_numpy_arguments_are_taken_for_ints():
    slider = qt.QSlider()
    slider.setValue(4.6)
    assert slider.value == 4
    slider.setValue(np.int64(7))
    assert slider.value == 7
    slider.maximum = np.float32(50.9)
    assert slider.maximum == 50


def test_enums_are_int_like():
    assert qt.Qt.Checked == 2
    assert int(qt.Qt.AlignRight) == 2
    item = qt.QTableWidgetItem("x")
    item.setFlags(33)
    item.setCheckState(2)
    assert int(item.flags()) == 33
    assert item.checkState() == qt.Qt.Checked
    label = qt.QLabel()
    label.setAlignment(0x84)
    assert int(label.alignment) == 0x84


def test_find_child_and_find_children():
    parent = qt.QWidget()
    layout = qt.QVBoxLayout(parent)
    button = qt.QPushButton("a")
    button.name = "first"
    layout.addWidget(button)
    assert parent.findChild("QPushButton", "first") is button
    assert parent.findChild(qt.QPushButton) is button
    assert parent.findChildren(qt.QAbstractButton) == (button,)
    assert parent.findChild("QSlider") is None


def test_exec_and_exec_underscore_both_exist():
    dialog = qt.QDialog()
    assert callable(dialog.exec_)
    assert callable(dialog.exec)


def test_wrong_type_for_a_bool_property_is_silently_converted():
    button = qt.QPushButton()
    button.checkable = "abc"
    assert button.checkable is True


def test_dict_as_item_data_comes_back():
    box = qt.QComboBox()
    box.addItem("d", {"k": 1})
    assert box.itemData(0) == {"k": 1}


def test_read_only_property_cannot_be_written():
    with pytest.raises(AttributeError, match="not writable"):
        qt.QWidget().sizeHint = 3


def test_signals_pass_only_what_the_slot_takes():
    button = qt.QPushButton()
    got = []
    button.connect("clicked()", lambda *args: got.append(args))
    button.connect("clicked(bool)", lambda *args: got.append(args))
    button.connect("clicked(bool)", lambda: got.append("no argument"))
    button.click()
    assert got == [(), (False,), "no argument"]


def test_disconnect_removes_one_slot_and_says_whether_there_was_one():
    button = qt.QPushButton()
    got = []
    button.connect("clicked()", got.append)  # a builtin: takes whatever is sent
    keep = lambda: got.append("kept")  # noqa: E731
    button.connect("clicked()", keep)
    assert button.disconnect("clicked()", got.append) is True
    assert button.disconnect("clicked()", got.append) is False
    button.click()
    assert got == ["kept"]


def test_bound_methods_disconnect_by_equality():
    class Receiver:
        def __init__(self):
            self.count = 0

        def slot(self):
            self.count += 1

    receiver = Receiver()
    button = qt.QPushButton()
    button.connect("clicked()", receiver.slot)
    button.click()
    button.disconnect("clicked()", receiver.slot)
    button.click()
    assert receiver.count == 1


def test_connection_by_slot_name_works_and_wrong_ones_are_found():
    button, label = qt.QPushButton(), qt.QLabel("x")
    assert button.connect("clicked(bool)", label, "setDisabled(bool)") is True
    assert button.connect("clicked(bool)", label, "setDisabledd(bool)") is False
    assert [f.kind for f in strict.take()] == ["slot"]


def test_shortcut_settings_icon_and_pixmap_are_usable():
    parent = qt.QWidget()
    shortcut = qt.QShortcut(qt.QKeySequence("n"), parent)
    got = []
    assert shortcut.connect("activated()", lambda: got.append(1))
    shortcut.activated.emit()
    assert got == [1]
    assert qt.QIcon(qt.QPixmap(8, 8)).isNull() is False
    assert isinstance(parent, qt.QWidget)
    assert not isinstance(parent, qt.QPushButton)
    assert type(parent) is qt.QWidget
    assert parent.className() == "QWidget"


def test_process_reports_through_string_signals():
    import sys

    process = qt.QProcess()
    finished = []
    assert process.connect("finished(int,QProcess::ExitStatus)", lambda code, status: finished.append(int(code)))
    assert process.connect("readyReadStandardOutput()", lambda: None)
    process.start(sys.executable, ["-c", "print('hello'); raise SystemExit(3)"])
    assert process.waitForFinished(20000)
    qt_application().processEvents()
    assert bytes(process.readAllStandardOutput().data()).strip() == b"hello"
    assert finished == [3]
