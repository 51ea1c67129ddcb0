"""Run the tests of this folder with pytest inside 3D Slicer, in one process, and leave with pytest's exit code.

    Slicer --no-splash --testing --additional-module-paths SegWithUSlicer \
        --python-script Testing/in_slicer/run_pytest.py

SEGWITHU_TESTS names files and options of pytest (Slicer would take them for its own); by default all tests run. An
official Slicer has no pytest: SEGWITHU_PYTEST names the site-packages folder of any Python that has it (`make
test-slicer` names that of `.venv`). Of that folder only pytest and the pure Python packages that it needs are imported.
Exit code 2: nothing could be tried.
"""

from __future__ import annotations

import importlib.machinery
import importlib.metadata
import os
import shlex
import sys
import traceback
from pathlib import Path
from typing import Any

import slicer

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
OF_PYTEST = ("_pytest", "pytest", "py", "pluggy", "iniconfig", "packaging", "pygments")
NEEDED = ("openvino", "safetensors", "jsonschema", "pydicom")
NOTHING_TRIED = 2
LIMIT_S = 240
"""A Slicer that a test holds longer is ended, with its stack."""


class OnlyPytest(importlib.metadata.DistributionFinder):
    """Finds pytest in a folder where Slicer has none, and nothing else that lies there."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """Answer for the packages of pytest; None lets the others look."""
        if path is None and name in OF_PYTEST:
            return importlib.machinery.PathFinder.find_spec(name, [self.folder])
        return None

    def find_distributions(self, context: Any = importlib.metadata.DistributionFinder.Context()) -> Any:  # noqa: B008
        """Give their versions."""
        if context.name not in OF_PYTEST:
            return iter(())
        there = importlib.metadata.DistributionFinder.Context(name=context.name, path=[self.folder])
        return iter(importlib.metadata.MetadataPathFinder.find_distributions(there))


def why_not() -> str:
    """Say why no test can be run here, or nothing."""
    missing = [name for name in NEEDED if not _is_installed(name)]
    if missing:
        return (
            f"This Slicer lacks {', '.join(missing)}: open the module, press Try it and Apply and agree to the "
            "installation, then run this again."
        )
    reviews = Path(slicer.app.userSettings().fileName()).parent / "SegWithU" / "Reviews"
    if reviews.is_dir() and any(reviews.iterdir()):
        return f"{reviews} holds reviews, which the tests would delete: set XDG_CONFIG_HOME to an empty folder first."
    return ""


def _is_installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def main() -> int:
    """Run pytest; returns its exit code."""
    problem = why_not()
    if problem:
        print(problem, flush=True)
        return NOTHING_TRIED
    if "SEGWITHU_PYTEST" in os.environ:
        sys.meta_path.append(OnlyPytest(os.environ["SEGWITHU_PYTEST"]))
    import pytest

    options = ["-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT), "-p", "no:cacheprovider", "-v"]
    # A dialog that nobody answers would hold Slicer for ever.
    options += ["-o", f"faulthandler_timeout={LIMIT_S}", "-o", "faulthandler_exit_on_timeout=true"]
    return int(pytest.main([*options, *(shlex.split(os.environ.get("SEGWITHU_TESTS", "")) or [str(HERE)])]))


if __name__ == "__main__":
    status = 1
    try:
        status = main()
    except BaseException:  # noqa: BLE001  (Slicer shall end, and not with 0)
        traceback.print_exc()
    sys.stdout.flush()
    slicer.util.exit(status)
