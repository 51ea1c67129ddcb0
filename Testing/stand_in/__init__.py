"""A small stand-in of the Slicer application: enough to open the module and click Apply. See Testing/README.md."""

from __future__ import annotations

import importlib.util
import os
import sys


def prepare_process() -> None:
    """Select off-screen Qt and VTK, and enums that equal integers, before anything loads PySide6 and VTK."""
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    os.environ.setdefault("VTK_DEFAULT_OPENGL_WINDOW", "vtkEGLRenderWindow")
    os.environ.setdefault("QT_LOGGING_RULES", "qt.qpa.fonts.warning=false")
    if "PySide6" not in sys.modules:
        os.environ["PYSIDE6_OPTION_PYTHON_ENUM"] = "3"


def missing_reason() -> str:
    """Say what is missing to run tests of the scene and the stand-in, or nothing."""
    for package, install in (("slicer_core", "slicer-core"), ("PySide6", "PySide6-Essentials"), ("vtk", "vtk")):
        if importlib.util.find_spec(package) is None:
            return f"{install} is not installed"
    return ""


prepare_process()
