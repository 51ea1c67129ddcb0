"""The button "Save as case": a result becomes a case folder, with its review so far, and is listed in "Cases"."""

from itertools import chain, count
from pathlib import Path
from typing import Any

import qt
import slicer

from SegWithUCore.case.case_file import read_description
from SegWithUCore.cli.arguments import check_folder_name
from SegWithUCore.util.errors import SegWithUError

from ..i18n import _
from ..review.store import is_same_case, review_folder
from ..run.child_process import Event
from ..run.controller import CASE_FOLDER
from ..run.private_folder import PrivateFolder
from ..run.session import set_setting, setting
from ..scene.volume_export import unchanged_file
from .cohort_panel import PLACE_SETTING
from .review_panel import settings_folder
from .widgets import connect_clicks

_GONE = _("A saved scene does not hold all files of a case: press Apply again, then save the new result.")


class SavePanel:
    """Owns the button in the section "Result".

    Args:
        ui: the widgets of the .ui file.
        panel: the whole panel, a `ModulePanel`.
    """

    def __init__(self, ui: Any, panel: Any) -> None:
        self.ui, self._panel = ui, panel
        self._saving: PrivateFolder | None = None
        """What is being saved: it stays until that has ended, whatever happens to the scene."""
        self._tip = ui.saveCaseButton.toolTip
        connect_clicks(ui, saveCaseButton=self.choose_place)

    def draw(self) -> None:
        """Show whether the shown result can be saved, or why not."""
        why = self._obstacle()
        self.ui.saveCaseButton.enabled, self.ui.saveCaseButton.toolTip = not why, why or self._tip
        self.ui.saveLabel.visible = bool(self.ui.saveLabel.text)

    def choose_place(self) -> None:
        """Let the user choose the folder that gets the case folder."""
        title = _("Folder of cases, which gets a folder for this result")
        chosen = qt.QFileDialog.getExistingDirectory(slicer.util.mainWindow(), title, setting(PLACE_SETTING))
        if chosen:
            set_setting(PLACE_SETTING, str(chosen))
            self.save(Path(str(chosen)))

    def save(self, parent: Path) -> None:
        """Save the shown result as a case in a folder, named after its volume; a review goes on in the case."""
        nodes, review = self._panel.overlay.nodes, self._panel.review
        made = self._panel.session.made.get(nodes.hub.GetID())
        if made is None or not is_same_case(made.path / CASE_FOLDER, nodes):  # an id of a scene before
            self._show(_GONE)
            return
        was_reviewing, name = review.session is not None, str((nodes.inputs or [nodes.hub])[0].GetName())
        try:
            check_folder_name(name, _("another name of the volume"))
            trouble = review.leave()
        except SegWithUError as error:
            trouble = str(error)
        if trouble:
            self._show(trouble)
            return
        names = chain([name], (f"{name}-{number}" for number in count(2)))
        target = next(parent / each for each in names if not (parent / each).exists())
        channels = nodes.case.raw["input"]["channels"]
        originals = [*map(unchanged_file, nodes.inputs), *[None] * len(channels)][: len(channels)]
        request = {
            "request": "save",
            "case": str(made.path / CASE_FOLDER),
            "target": str(target),
            "files": [str(file or "") for file in originals],
            "reviews": str(review_folder(nodes, settings_folder())),
        }

        def answered(event: Event) -> None:
            if event["event"] == "progress":
                return
            self._saving = None
            is_saved = event["event"] == "saved"
            if is_saved and nodes.hub.GetScene() is not None:
                nodes.set_case(read_description(target), target)
                self._panel.session.sweep()
            if was_reviewing and self._panel.overlay.nodes == nodes:
                review.start()
            if is_saved:
                self._panel.cases.open_list(parent)
            text = _("Saved as {folder}.").format(folder=target)
            self._show(text if is_saved else str(event.get("text") or _("Not saved: press Save as case again.")))

        self._saving = made
        self._show(_("Saving..."))
        self._panel.session.worker.submit(request, answered)

    def _obstacle(self) -> str:
        nodes = self._panel.overlay.nodes
        if nodes is None or nodes.hub.GetScene() is None:
            return _("Press Apply first.")
        if self._saving is not None or self._panel.is_busy:
            return _("Wait until the run has ended, and the case before is saved.")
        if nodes.case_folder is not None:
            return _("This result is the case {folder}.").format(folder=nodes.case_folder)
        if nodes.hub.GetID() not in self._panel.session.made:
            return _GONE
        return ""

    def _show(self, text: str) -> None:
        self.ui.saveLabel.text = text
        self.draw()
