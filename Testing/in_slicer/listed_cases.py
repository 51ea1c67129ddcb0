"""Real cases in a folder, segmented once for a session, and the panel that lists and opens them."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import slicer
from exchanged_cases import judged
from opened_module import Opened
from reviewing import Reviewing

__all__ = ["CASES", "Listing", "judged", "segment_cases", "segwithu"]
CASES = ("hippocampus_075", "hippocampus_319", "hippocampus_320")


def segwithu(*arguments: str | Path) -> str:
    """Run the command in a process of its own; returns what it printed."""
    from SegWithUSlicerLib.run.launch import child_start

    start = child_start("SegWithUCore.cli", [str(argument) for argument in arguments])
    done = subprocess.run(
        start.command, env=start.environment, capture_output=True, text=True, timeout=400, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def segment_cases(data: Path, home: Path) -> Path:
    """Make `images` and `cases` in a folder: three hippocampi segmented by the shipped model."""
    (home / "images").mkdir()
    for name in CASES:
        shutil.copy(data / "hippocampus" / "images" / f"{name}.nii.gz", home / "images")
    segwithu("segment", home / "images", "--each", "--model", "hippocampus", "--output", home / "cases")
    return home


class Listing:
    """What tests of the section "Cases" click and ask."""

    def __init__(self, opened: Opened, home: Path) -> None:
        self.opened, self.app, self.ui, self.home = opened, opened.app, opened.ui, home
        self.reviewing = Reviewing(opened)

    @property
    def panel(self) -> Any:
        """The section."""
        return self.opened.panel.cases

    @property
    def cases(self) -> Path:
        """The folder of cases."""
        return self.home / "cases"

    @property
    def shown(self) -> list[str]:
        """The names in the table, from above, without the mark of the open one."""
        table = self.ui.casesTable
        return [table.item(row, 0).text().removeprefix("▶ ") for row in range(table.rowCount)]

    @property
    def open_case(self) -> str:
        """The name of the case that is marked as open; "" for none."""
        table = self.ui.casesTable
        texts = [table.item(row, 0).text() for row in range(table.rowCount)]
        return next((text.removeprefix("▶ ") for text in texts if text.startswith("▶ ")), "")

    def row(self, name: str) -> int:
        """The row of a case."""
        return self.shown.index(name)

    def cell(self, name: str, column: int) -> str:
        """What the table says of a case."""
        return str(self.ui.casesTable.item(self.row(name), column).text())

    def status(self, name: str) -> str:
        """How far a case is, as the table says."""
        return self.cell(name, 1)

    def settled(self) -> None:
        """Wait until everything was read from the disk."""
        self.app.settle()
        self.app.wait(lambda: not self.panel._stop_reading, timeout=30)

    def list_folder(self, place: Path | None = None) -> None:
        """Open a folder by its button."""
        self.app.dialogs.answer(str(place or self.cases))
        self.ui.openFolderButton.click()
        self.settled()

    def list_file(self, place: Path) -> None:
        """Open a worklist by its button."""
        self.app.dialogs.answer(str(place))
        self.ui.openWorklistButton.click()
        self.settled()

    def click(self, name: str) -> None:
        """Click on a case."""
        self._press(self.row(name))
        self.settled()

    def select(self, *names: str) -> None:
        """Rows gathered with the Ctrl key."""
        self.ui.casesTable.clearSelection()
        for name in names:
            self._press(self.row(name), "Ctrl")

    def _press(self, row: int, *modifiers: str) -> None:
        table = self.ui.casesTable
        self.ui.casesButton.collapsed = False  # a review that begins folds it
        self.app.process_events()
        item = table.item(row, 0)
        table.scrollToItem(item)
        box = table.visualItemRect(item)
        self.app.click(table.viewport(), box.x() + box.width() // 2, box.y() + box.height() // 2, *modifiers)

    def log(self, case: str, reviewer: str = "Ana") -> list[dict[str, Any]]:
        """The lines of a review in a case folder."""
        path = self.cases / case / f"review.{reviewer}.jsonl"
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]

    def volumes(self) -> list[str]:
        """The volumes in the scene that are no maps."""
        from SegWithUSlicerLib.scene.case_nodes import is_ours

        return [node.GetName() for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode") if not is_ours(node)]
