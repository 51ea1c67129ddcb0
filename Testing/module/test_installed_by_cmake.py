"""The extension is configured, built and installed with CMake, and the module is opened from what was installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from repository import HELPERS, PACKAGES, ROOT, TESTING, left_out_of_slicer

pytestmark = pytest.mark.slow

if shutil.which("cmake") is None:
    pytest.skip("cmake is not installed", allow_module_level=True)

OPTIONS = (f"-DSlicer_DIR={TESTING / 'stand_in' / 'cmake'}", f"-DPython3_EXECUTABLE={sys.executable}")
MODULES = "lib/Slicer-5.12/qt-scripted-modules"

OPEN_INSTALLED = """
import sys
from pathlib import Path
sys.path[:0] = {testing!r}
import stand_in
from stand_in.application import opened_module

with opened_module(Path({module!r}), Path({folder!r})) as opened:
    ui = opened.ui
    import SegWithUSlicerLib, SegWithUCore.util.paths as paths
    assert SegWithUSlicerLib.__file__.startswith({installed!r}), SegWithUSlicerLib.__file__
    assert str(paths.resources_folder()) == {installed!r} + "/Resources"
    assert not opened.widget.described.icon.isNull()
    assert ui.modelBox.count >= 1
    ui.tryItButton.click()
    assert ui.runButton.enabled, ui.statusLabel.text
    from SegWithUSlicerLib.run.launch import core_parent
    assert str(core_parent()) == {installed!r}
    assert "torch" not in sys.modules and "monai" not in sys.modules and "jsonschema" not in sys.modules
print("opened")
"""


RUN = """
import sys
sys.path.insert(0, sys.argv[1])
from SegWithUCore.cli.__main__ import main
sys.exit(main(sys.argv[2:]))
"""


def _cmake(*arguments: str | Path) -> str:
    done = subprocess.run(["cmake", *map(str, arguments)], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of the installed module; the build folder lies beside the install folder."""
    folder = tmp_path_factory.mktemp("extension with spaces")
    build, prefix = folder / "build", folder / "installed"
    _cmake("-S", ROOT, "-B", build, *OPTIONS)
    _cmake("--build", build)
    _cmake("--install", build, "--prefix", prefix)
    yield prefix / MODULES


def test_every_script_of_ours_is_installed(installed: Path) -> None:
    source = PACKAGES
    ours = {path.relative_to(source) for path in source.rglob("*.py") if not left_out_of_slicer(path)}
    there = {path.relative_to(installed) for path in installed.rglob("*.py")}
    assert there == ours
    assert (installed / "SegWithUCore/models/bundle.schema.json").is_file()
    assert (installed / "SegWithUCore/models/model_card.md.jinja").is_file()


def test_the_installed_command_calibrates_and_says_what_it_cannot_do(installed: Path, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def said(*arguments: str) -> tuple[int, str]:
        command = [sys.executable, "-P", "-c", RUN, str(installed), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, check=False)
        return done.returncode, done.stderr

    (tmp_path / "cases").mkdir()
    code, text = said(
        "calibrate", "-m", "hippocampus", "--add", str(tmp_path / "cases"), "--output", str(tmp_path / "own")
    )
    assert code == 2 and "SegWithULab" not in text and str(tmp_path / "cases") in text
    code, text = said("evaluate", "-m", "hippocampus", "--cases", str(tmp_path), "--output", str(tmp_path / "figures"))
    assert code != 0 and "Slicer" in text


def test_resources_lie_beside_the_module(installed: Path) -> None:
    for name in ("UI/SegWithUSlicer.ui", "Icons/SegWithUSlicer.png", "SampleData/sample.json", "requirements.txt"):
        assert (installed / "Resources" / name).is_file()
    assert (installed / "Resources/Models/hippocampus/weights.safetensors").is_file()


def test_description_and_tests_of_the_extension(installed: Path) -> None:
    build = installed.parents[2].parent / "build"
    description = (build / "SegWithU.s4ext").read_text(encoding="utf-8")
    assert "depends NA" in description
    listed = subprocess.run(["ctest", "-N"], cwd=build, capture_output=True, text=True, check=True).stdout
    assert "py_SegWithUSlicer" in listed
    assert "py_nomainwindow_qSlicerSegWithUSlicerModuleGenericTest" in listed


def test_a_custom_application_bundles_the_extension(tmp_path: Path) -> None:
    """As `Slicer_EXTENSION_SOURCE_DIRS` does: our folder is a subdirectory of another project."""
    source, build, prefix = tmp_path / "custom app", tmp_path / "build", tmp_path / "installed"
    source.mkdir()
    lines = (
        "cmake_minimum_required(VERSION 3.16.3...3.28)",
        "project(CustomApplication)",
        f'add_subdirectory("{ROOT.as_posix()}" extension)',
    )
    (source / "CMakeLists.txt").write_text("\n".join(lines), encoding="utf-8")
    _cmake("-S", source, "-B", build, *OPTIONS)
    _cmake("--build", build)
    _cmake("--install", build, "--prefix", prefix)
    there = prefix / MODULES
    for name in ("UI/SegWithUSlicer.ui", "SampleData/sample.json", "requirements.txt"):
        assert (there / "Resources" / name).is_file()
    assert (there / "Resources/Models/hippocampus/weights.safetensors").is_file()
    assert (there / "SegWithUSlicerLib/scene/sample.py").is_file()


def test_module_opens_from_the_installed_tree(installed: Path, tmp_path: Path) -> None:
    script = tmp_path / "open.py"
    text = OPEN_INSTALLED.format(
        testing=[str(TESTING), str(HELPERS)],
        module=str(installed / "SegWithUSlicer.py"),
        installed=str(installed),
        folder=str(tmp_path),
    )
    script.write_text(text, encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-P", str(script)], capture_output=True, text=True, timeout=300, env=environment, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "opened" in done.stdout
