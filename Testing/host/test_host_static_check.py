"""The static check finds each kind of mistake in a .py/.ui pair, and the CMake stand-in refuses what Slicer refuses."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import SlicerHost
from SlicerHost.static_check import check

HOST = Path(SlicerHost.__file__).parent
EXAMPLE = HOST / "example"
UI = """<ui version="4.0"><widget class="qMRMLWidget" name="Top"><layout class="QVBoxLayout" name="rows">
<item><widget class="qMRMLNodeComboBox" name="selector">{more}</widget></item>
<item><widget class="{slider}" name="slider"/></item>
<item><widget class="QPushButton" name="button"/></item></layout></widget>
<connections>{connections}<connection><sender>Top</sender><signal>mrmlSceneChanged(vtkMRMLScene*)</signal>
<receiver>selector</receiver><slot>setMRMLScene(vtkMRMLScene*)</slot></connection></connections></ui>"""


def _check(tmp_path, code="", more="", slider="ctkSliderWidget", connections="", drop_scene=False):
    text = UI.format(more=more, slider=slider, connections=connections)
    if drop_scene:
        text = text.replace("<receiver>selector", "<receiver>button").replace(
            "<slot>setMRMLScene(vtkMRMLScene*)", "<slot>click()"
        )
    (tmp_path / "p.ui").write_text(text)
    (tmp_path / "p.py").write_text(code)
    return [finding.split(": ", 1)[1] for finding in check([tmp_path / "p.py"], tmp_path / "p.ui")]


def test_correct_pair_has_no_findings(tmp_path):
    code = (
        "self.ui.slider.value = 3\nself.ui.slider.connect('valueChanged(double)', f)\n"
        "self.ui.selector.setCurrentNode(n)\nself.ui.selector.addAttribute('a', 'b')\nself.ui.button.setText('x')\n"
        "self.ui.button.clicked.connect(f)\nself.ui.selector.setToolTip('x')\n"
    )
    assert _check(tmp_path, code) == []


@pytest.mark.parametrize(
    ("code", "finding"),
    [
        ("self.ui.slidr.value", "ui.slidr is not in p.ui"),
        ("self.ui.slider.valu = 3", "ui.slider (ctkSliderWidget) has no property valu"),
        (
            "self.ui.slider.connect('valueChanged(int)', f)",
            "ui.slider (ctkSliderWidget) has no signal valueChanged(int)",
        ),
        (
            "self.ui.slider.setMinimum(3)",
            "ui.slider (ctkSliderWidget) has no member setMinimum that Python can reach "
            "(a plain C++ method: use the property)",
        ),
        ("self.ui.button.pressit()", "ui.button (QPushButton) has no member pressit that Python can reach"),
    ],
)
def test_mistake_in_code_is_found(tmp_path, code, finding):
    assert _check(tmp_path, code) == [finding]


def test_unknown_property_of_a_widget_is_found_unless_it_is_dynamic(tmp_path):
    wrong = '<property name="nodeTyps"><bool>true</bool></property>'
    assert _check(tmp_path, more=wrong) == ["selector (qMRMLNodeComboBox) has no property nodeTyps"]
    dynamic = '<property name="SlicerParameterName" stdset="0"><string>x</string></property>'
    assert _check(tmp_path, more=dynamic) == []


def test_unknown_widget_class_is_found(tmp_path):
    assert _check(tmp_path, slider="ctkSliderWidgett") == ["unknown widget class ctkSliderWidgett (slider)"]


def test_wrong_connection_in_the_ui_file_is_found(tmp_path):
    wrong = (
        "<connection><sender>button</sender><signal>pressd()</signal>"
        "<receiver>slider</receiver><slot>rset()</slot></connection>"
    )
    assert _check(tmp_path, connections=wrong) == [
        "button (QPushButton) has no signal pressd()",
        "slider (ctkSliderWidget) has no slot rset()",
    ]


def test_mrml_widget_without_a_scene_is_found(tmp_path):
    assert _check(tmp_path, drop_scene=True) == ["selector (qMRMLNodeComboBox) never gets the MRML scene"]


def test_example_has_just_the_forgotten_selector():
    found = check([EXAMPLE / "ExampleModule.py"], EXAMPLE / "Resources/UI/ExampleModule.ui")
    assert [finding.split(": ", 1)[1] for finding in found] == [
        "forgottenSelector (qMRMLNodeComboBox) never gets the MRML scene"
    ]


needs_cmake = pytest.mark.skipif(shutil.which("cmake") is None, reason="cmake is not installed")


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "source"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "lib" / "deep").mkdir(parents=True)
    (folder / "lib" / "deep" / "helper.py").write_text("X = 1\n")
    return folder


def _edit(source, old, new):
    lists = source / "CMakeLists.txt"
    text = lists.read_text()
    assert old in text
    lists.write_text(text.replace(old, new))


def _run(*command):
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, timeout=120)


def _configure(source):
    return _run("cmake", "-S", source, "-B", source / "build", f"-DSlicer_DIR={HOST / 'cmake'}")


@needs_cmake
def test_extension_is_built_installed_and_opened(source, tmp_path):
    _edit(source, "SCRIPTS ExampleModule.py", "SCRIPTS ExampleModule.py lib/deep/helper.py")
    configured = _configure(source)
    assert configured.returncode == 0, configured.stderr
    built = _run("cmake", "--build", source / "build")
    assert built.returncode == 0, built.stdout + built.stderr
    assert _run("cmake", "--install", source / "build", "--prefix", tmp_path / "installed").returncode == 0
    modules = tmp_path / "installed/lib/Slicer-5.12/qt-scripted-modules"
    assert (modules / "lib/deep/helper.py").is_file()
    assert list((modules / "lib/deep/__pycache__").glob("helper.*.pyc"))
    assert (modules / "Resources/UI/ExampleModule.ui").is_file()
    description = (source / "build/ExampleExtension.s4ext").read_text()
    assert "depends PyTorch\n" in description
    listed = _run("ctest", "--test-dir", source / "build", "-N").stdout
    assert "py_ExampleModule" in listed
    assert "py_nomainwindow_qSlicerExampleModuleModuleGenericTest" in listed
    from SlicerHost.host import SlicerHost as Host

    with Host(modules / "ExampleModule.py") as host:
        assert host.widget.ui.applyButton.enabled is False


@needs_cmake
def test_files_copied_at_configure_time_are_installed_too(source, tmp_path):
    _edit(
        source,
        "slicerMacroBuildScriptedModule(",
        'file(WRITE "${CMAKE_BINARY_DIR}/${Slicer_QTSCRIPTEDMODULES_LIB_DIR}/Resources/more.txt" "x")\n'
        "slicerMacroBuildScriptedModule(",
    )
    assert _configure(source).returncode == 0
    assert _run("cmake", "--build", source / "build").returncode == 0
    assert _run("cmake", "--install", source / "build", "--prefix", tmp_path / "installed").returncode == 0
    assert (tmp_path / "installed/lib/Slicer-5.12/qt-scripted-modules/Resources/more.txt").is_file()


@needs_cmake
@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("SCRIPTS ExampleModule.py", "SCRIPTS ExampleModule.py absent.py", "does not exist"),
        ("RESOURCES Resources", "RESOURCES absent.png Resources", "does not exist"),
        ("NAME ExampleModule", "BOGUS 1 NAME ExampleModule", "unknown keywords"),
        ("RESOURCES Resources", "RESOURCES ../outside.png Resources", "leaves the folder"),
        ("SCRIPT ExampleModule.py)", "SCRIPT ExampleModule.py BOGUS)", "unknown keywords"),
    ],
)
def test_what_slicer_refuses_is_a_fatal_error(source, old, new, message):
    _edit(source, old, new)
    configured = _configure(source)
    assert configured.returncode != 0
    assert message in " ".join(configured.stderr.split())


@needs_cmake
def test_syntax_error_fails_the_build(source):
    (source / "ExampleModule.py").write_text("def broken(:\n")
    assert _configure(source).returncode == 0
    assert _run("cmake", "--build", source / "build").returncode != 0
