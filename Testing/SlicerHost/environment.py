"""What has to be true of the process before PySide6 and slicer-core are imported."""

from __future__ import annotations

import importlib.util
import os
import sys

# IntEnum and IntFlag in place of Enum and Flag: PythonQt's enums compare equal to integers.
_INT_LIKE_ENUMS = "3"


def prepare_process() -> None:
    """Set the variables that select off-screen Qt, off-screen VTK and int-like enums."""
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    os.environ.setdefault("VTK_DEFAULT_OPENGL_WINDOW", "vtkEGLRenderWindow")
    os.environ.setdefault("QT_LOGGING_RULES", "qt.qpa.fonts.warning=false")
    if "PySide6" not in sys.modules:
        os.environ["PYSIDE6_OPTION_PYTHON_ENUM"] = _INT_LIKE_ENUMS


def missing_reason() -> str:
    """One sentence that says why the host cannot run here; an empty string when it can."""
    for package, install in (("slicer_core", "slicer-core"), ("PySide6", "PySide6-Essentials<6.12"), ("vtk", "vtk")):
        if importlib.util.find_spec(package) is None:
            return f"the stand-in of the Slicer application needs {install}, which is not installed"
    if "PySide6" in sys.modules and os.environ.get("PYSIDE6_OPTION_PYTHON_ENUM") != _INT_LIKE_ENUMS:
        return "PySide6 was imported before SlicerHost: import SlicerHost first, so that enums are int-like"
    import PySide6

    version = tuple(int(part) for part in PySide6.__version__.split(".")[:2])
    if sys.version_info < (3, 12) and version >= (6, 12):
        return "PySide6 6.12 corrupts None on Python 3.11: install PySide6-Essentials<6.12"
    return ""
