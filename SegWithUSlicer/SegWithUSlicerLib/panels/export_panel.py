"""The section "Export": cases for a colleague, and the report of a case."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import chain, count
from pathlib import Path
from typing import Any

import qt
import slicer

from SegWithUCore.case.case_file import read_case
from SegWithUCore.review.worklist_files import FORMAT
from SegWithUCore.util.errors import InputError

from ..cases.case_list import CaseItem
from ..cases.moved_images import MovedImages
from ..guarded import guarded
from ..i18n import _
from ..run.command import CommandEnd
from ..run.private_folder import PrivateFolder
from ..run.session import temporary_root
from .command_panel import CommandPanel, choose_folder
from .widgets import connect_clicks

EXPORT_PLACE_SETTING = "SegWithU/ExportPlace"
FOLDER_NAME = "segwithu-export"
REPORT_FILE, CHANGES_PAGE = "report.html", "changes.html"


class ExportPanel(CommandPanel):
    """The section "Export". One command runs at a time.

    Args:
        ui: the widgets of the .ui file.
        moved: finds images that were moved.
        cases: gives the cases that are shown, and those that are selected.
        save_review: brings an open review to the disk.
    """

    def __init__(
        self,
        ui: Any,
        moved: MovedImages,
        cases: Callable[[], tuple[Sequence[CaseItem], Sequence[CaseItem]]],
        save_review: Callable[[], None],
    ) -> None:
        super().__init__(ui.exportBar, ui.exportLabel)
        self.ui, self._moved, self._cases, self._save_review = ui, moved, cases, save_review
        ui.exportScopeBox.addItems([_("Flagged cases"), _("All cases shown"), _("Selected cases")])
        ui.exportScopeBox.connect("currentIndexChanged(int)", guarded(lambda _index: self.draw()))
        ui.anonymousBox.connect("toggled(bool)", guarded(lambda _checked: self.draw()))
        connect_clicks(ui, startExportButton=self.export_or_cancel, reportButton=self.report)

    def draw(self) -> None:
        """Show what can be done now."""
        ui, busy, count = self.ui, self.process.is_busy, len(self._chosen())
        texts = [_("Export flagged cases ({count})..."), _("Export cases ({count})...")]
        text = texts[min(ui.exportScopeBox.currentIndex, 1)].format(count=count)
        ui.startExportButton.text = _("Cancel") if busy else text
        ui.startExportButton.enabled = busy or count > 0
        for widget in (ui.exportScopeBox, ui.anonymousBox):
            widget.enabled = not busy
        several = len(self._cases()[1]) > 1
        ui.reportButton.text = _("Compare scans") if several else _("Report of the case")
        ui.reportButton.enabled = not busy and len(self._cases()[1]) > 0
        super().draw()

    def export_or_cancel(self) -> None:
        """Start the export, or cancel the command that runs."""
        if self.process.is_busy:
            self._show_message(_("Cancelling..."))
            self.process.cancel()
            return
        chosen = choose_folder(_("Where to put the folder of the export"), EXPORT_PLACE_SETTING)
        if chosen is not None:
            self.export([item.folder for item in self._chosen()], chosen)

    def export(self, folders: Sequence[Path], parent: Path) -> None:
        """Begin an export into a new folder in `parent`."""
        anonymous = self.ui.anonymousBox.checked
        output = _free_folder(parent)
        names = _names_file(output)
        self._save_review()
        try:
            private = PrivateFolder(temporary_root())
            listed = private.path / "cases.json"
            rows = [self._row(folder) for folder in folders]
            listed.write_text(json.dumps({"format": FORMAT, "cases": rows}), "utf-8")
            arguments = ["export", "--list", str(listed), "--own-list", "--output", str(output)]
            arguments += ["--anonymous"] if anonymous else []
        except OSError as error:
            self._show_message(str(error))
            return

        def end(ended: CommandEnd) -> None:
            private.remove()
            if not output.exists():
                with suppress(OSError):  # there is no such folder: then there is no file of names either
                    names.unlink()
            if ended.cancelled:
                self._show_message(_("Export cancelled: nothing was written."))
            elif ended.result is not None:
                text = _("Cases exported: {count} of {all}, to {folder}.")
                done = len(ended.result.get("exported") or [])
                lines = [text.format(count=done, all=len(folders), folder=output)]
                if anonymous:
                    lines.append(_("Who is who is in {file}: keep that file to yourself.").format(file=names))
                self._show_message(" ".join([*lines, *ended.errors]))

        self._start(arguments, output, end, _("Exporting to {folder}.").format(folder=output))

    def report(self) -> None:
        """Make the report of the selected case, or of several the page that compares them, and open it."""
        selected = self._cases()[1]
        if not selected or self.process.is_busy:
            return
        if len(selected) > 1:
            self._compare([item.folder for item in selected])
            return
        folder = selected[0].folder
        # If the folder is read-only, the page is written to the temporary files.
        target = (folder if os.access(folder, os.W_OK) else Path(slicer.app.temporaryPath)) / REPORT_FILE
        image = self._row(folder).get("image")
        arguments = ["report", str(folder), "--output", str(target), *(["--image", image] if image else [])]

        def end(ended: CommandEnd) -> None:
            if ended.result is not None:
                self._show_message(_("The report is {file}.").format(file=target))
                qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(str(target)))

        self._save_review()
        self._start(arguments, target, end, _("Making the report of {case}...").format(case=selected[0].entry.name))

    def _compare(self, folders: Sequence[Path]) -> None:
        """Make the page of the changes from the first of the selected cases, by their names, to each other one."""
        target = Path(slicer.app.temporaryPath) / "changes"
        arguments = ["compare", *map(str, sorted(folders)), "--output", str(target)]

        def end(ended: CommandEnd) -> None:
            if ended.result is not None:
                self._show_message(_("The page is {file}.").format(file=target / CHANGES_PAGE))
                qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(str(target / CHANGES_PAGE)))

        self._save_review()
        self._start(arguments, target, end, _("Comparing {count} scans...").format(count=len(folders)))

    def _chosen(self) -> list[CaseItem]:
        shown, selected = self._cases()
        chosen = [[item for item in shown if item.entry.is_flagged], shown, selected]
        return [item for item in chosen[self.ui.exportScopeBox.currentIndex] if not item.entry.trouble]

    def _row(self, folder: Path) -> Mapping[str, str]:
        """Return a case for the command, with its image where that was moved."""
        try:
            image = self._moved.find(folder, read_case(folder))
        except InputError:  # reported by the command, which reads the case too
            image = None
        return {"folder": str(folder.absolute()), **({} if image is None else {"image": str(image)})}


def _names_file(output: Path) -> Path:
    """Return where an anonymous export keeps who is who."""
    return output.with_name(f"{output.name}-names.json")


def _free_folder(parent: Path) -> Path:
    """Return a new folder name for an export; neither it nor its file of names exists yet."""
    numbered = (parent / f"{FOLDER_NAME}-{number}" for number in count(2))
    folders = chain([parent / FOLDER_NAME], numbered)
    return next(folder for folder in folders if not folder.exists() and not _names_file(folder).exists())
