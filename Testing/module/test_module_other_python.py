"""Another Python under Advanced: it runs at once, although the launcher sets PYTHONHOME, and is left as it is."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from opened_module import MODULE, Opened, segment_crop
from SlicerHost.host import SlicerHost as Host

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="a script is no program there")]
PYTHON = sys.executable
"""A Python of its own, with the engine's packages."""


@pytest.fixture
def opened_alone() -> Iterator[Opened]:
    """An application of its own: the choice outlives a scene."""
    with Host(MODULE) as host:
        yield Opened(host)


def _script(path: Path, python: str) -> Path:
    """A Python that leaves a line beside itself whenever it starts."""
    path.write_text(f'#!/bin/sh\necho "started" >> "$0.log"\nexec "{python}" "$@"\n', encoding="utf-8")
    path.chmod(0o755)
    return path


def test_the_chosen_python_runs_and_at_once(opened_alone: Opened, tmp_path: Path) -> None:
    opened = opened_alone
    segment_crop(opened)
    first = opened.worker.pid
    chosen = _script(tmp_path / "python", PYTHON)
    opened.ui.pythonEdit.currentPath = str(chosen)
    opened.wait(lambda: opened.worker.pid is None)
    segment_crop(opened)
    assert opened.worker.pid not in (None, first)
    assert Path(f"{chosen}.log").is_file(), "the run still came from Slicer's own Python"
    opened.ui.pythonEdit.currentPath = ""
    opened.wait(lambda: opened.worker.pid is None)
    Path(f"{chosen}.log").unlink()
    segment_crop(opened)
    assert not Path(f"{chosen}.log").exists()


def test_what_the_chosen_python_lacks_is_told_and_not_installed(opened_alone: Opened, tmp_path: Path) -> None:
    opened = opened_alone
    opened.ui.tryItButton.click()
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexec "{sys._base_executable}" -S "$@"\n', encoding="utf-8")  # type: ignore[attr-defined]
    bare.chmod(0o755)
    opened.ui.pythonEdit.currentPath = str(bare)
    opened.ui.runButton.click()
    said = opened.finish()
    assert "chosen under Advanced (3." in said
    assert "openvino: it is not installed" in said
    assert '"openvino>=' in said
    assert "which Slicer ships" not in said
    assert opened.host.packaging.installations == []
    assert opened.host.popups.shown == []
