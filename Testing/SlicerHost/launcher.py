"""What Slicer's launcher does to the process: its own Python home in the environment, and PythonSlicer beside it."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path


class Launcher:
    """Sets PYTHONHOME, as Slicer's launcher does on Linux and Windows (SuperBuild/External_python.cmake).

    The folder suits no other Python: one that inherits the variable ends at once with "No module named 'encodings'".
    `sys.executable` is PythonSlicer, a launcher too, which sets the environment that its Python needs.
    """

    def __init__(self, folder: Path) -> None:
        self._before: dict[str, str] = {}
        self._executable = sys.executable
        self._folder = folder

    def start(self) -> None:
        """Change environment and `sys.executable`; on Windows nothing (a script is no program there)."""
        self._before = dict(os.environ)
        if sys.platform == "win32":
            return
        home = self._folder / "lib" / "Python"
        home.mkdir(parents=True)
        program = self._folder / "bin" / "PythonSlicer"
        program.parent.mkdir()
        call = f'unset PYTHONHOME\nexec {shlex.quote(self._executable)} "$@"\n'
        program.write_text(f"#!/bin/sh\n{call}", encoding="utf-8")
        program.chmod(0o755)
        os.environ["PYTHONHOME"] = str(home)
        sys.executable = str(program)

    def end(self) -> None:
        """Put back what was there."""
        sys.executable = self._executable
        os.environ.pop("PYTHONHOME", None)
        if "PYTHONHOME" in self._before:
            os.environ["PYTHONHOME"] = self._before["PYTHONHOME"]
