"""The section "Export": cases for a colleague, and the report of a case."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import qt
import slicer

from SegWithUCore.case.case_file import read_case
from SegWithUCore.review.flags import FlagRules
from SegWithUCore.review.worklist_files import FORMAT
from SegWithUCore.util.errors import InputError, SegWithUError

from ..cases.case_list import CaseItem
from ..cases.moved_images import MovedImages
from ..guarded import guarded
from ..i18n import _
from ..run.command import CommandEnd, CommandProcess
from ..run.private_folder import PrivateFolder
from ..run.session import set_setting, setting, start_timer, temporary_root

EXPORT_PLACE_SETTING = "SegWithU/ExportPlace"
REPORT_FILE = "report.html"
FLAGGED, SELECTED, SHOWN = range(3)


class ExportPanel:
    """The section "Export".

    Args:
        ui: the widgets of the .ui file.
        moved: knows where images lie that were moved.
        cases: gives the cases that are shown, and those that are selected.
        rules: gives the rules of flags that hold for the list.
        save_review: brings an open review to the disk.
    """

    def __init__(
        self,
        ui: Any,
        moved: MovedImages,
        cases: Callable[[], tuple[Sequence[CaseItem], Sequence[CaseItem]]],
        rules: Callable[[], FlagRules | None],
        save_review: Callable[[], None],
    ) -> None:
        self.ui, self._moved, self._cases, self._rules, self._save_review = ui, moved, cases, rules, save_review
        self._message = ""
        self.process = CommandProcess(start_timer)
        self.reporting = CommandProcess(start_timer)
        self._job = ExportJob(self.process, lambda: PrivateFolder(temporary_root()), moved)
        for title in (_("Flagged cases"), _("Selected cases"), _("All cases shown")):
            ui.exportScopeBox.addItem(title)
        ui.exportScopeBox.connect("currentIndexChanged(int)", guarded(lambda _index: self.draw()))
        ui.anonymousBox.connect("toggled(bool)", guarded(lambda _checked: self.draw()))
        ui.exportButton.connect("contentsCollapsed(bool)", guarded(lambda _collapsed: self.draw()))
        ui.startExportButton.connect("clicked(bool)", guarded(self.export_or_cancel))
        ui.reportButton.connect("clicked(bool)", guarded(self.report))
        slicer.app.connect("aboutToQuit()", self._stop)

    def draw(self) -> None:
        """Show what can be done now."""
        ui, busy = self.ui, self.process.is_busy
        count = len(self._chosen())
        ui.startExportButton.text = _("Cancel") if busy else _export_text(count)
        ui.startExportButton.enabled = busy or count > 0
        for name in ("exportScopeBox", "anonymousBox"):
            getattr(ui, name).enabled = not busy
        ui.commentsBox.enabled = not busy and ui.anonymousBox.checked
        ui.exportBar.visible = busy
        ui.exportLabel.text = " ".join(filter(None, [self._message, self._why_none()]))
        ui.exportLabel.visible = bool(ui.exportLabel.text)
        selected = self._cases()[1]
        ui.reportButton.enabled = len(selected) == 1 and not self.reporting.is_busy

    def close(self) -> None:
        """End what is running, and leave nothing half-written."""
        slicer.app.disconnect("aboutToQuit()", self._stop)
        self._stop()

    @guarded
    def _stop(self) -> None:
        self.process.stop()
        self.reporting.stop()

    # -- export --

    def export_or_cancel(self) -> None:
        """Start the export, or cancel the one that runs."""
        if self.process.is_busy:
            self._show_message(_("Cancelling..."))
            self.process.cancel()
            return
        folders = [item.folder for item in self._chosen()]
        without = self._job.without_image(folders)
        if without:
            text = _(
                "{count} of {all} cases lack their image, the first is {case}: open it, choose its image, and export "
                "again."
            )
            self._show_message(text.format(count=len(without), all=len(folders), case=without[0].name))
            return
        title = _("Where to put the folder of the export")
        chosen = qt.QFileDialog.getExistingDirectory(slicer.util.mainWindow(), title, setting(EXPORT_PLACE_SETTING))
        if chosen:
            set_setting(EXPORT_PLACE_SETTING, str(chosen))
            self.export(folders, Path(str(chosen)))

    def export(self, folders: Sequence[Path], parent: Path) -> None:
        """Begin an export into a new folder in `parent`."""
        self._save_review()
        ui = self.ui
        request = ExportRequest(
            folders, free_folder(parent), ui.anonymousBox.checked, ui.commentsBox.checked, self._rules()
        )

        def end(ended: CommandEnd) -> None:
            self._show_message(export_text(request, ended))

        ui.exportBar.value = 0
        try:
            self._job.start(request, self._progress, end)
        except (SegWithUError, OSError) as error:
            self._show_message(str(error))
            return
        if self.process.is_busy:
            self._show_message(_("Exporting to {folder}.").format(folder=request.output))

    def _progress(self, fraction: float, _case: str) -> None:
        self.ui.exportBar.value = round(100 * fraction)

    def _why_none(self) -> str:
        """Return why there is nothing to export, and the next click; "" if there is."""
        if self.process.is_busy or self._chosen() or not self._cases()[0]:
            return ""
        reasons = {
            FLAGGED: _("No case in the list is flagged: choose All cases shown."),
            SELECTED: _("No case is selected: click one in the list, or choose All cases shown."),
        }
        return reasons.get(self.ui.exportScopeBox.currentIndex, "")

    def _chosen(self) -> Sequence[CaseItem]:
        shown, selected = self._cases()
        scope = self.ui.exportScopeBox.currentIndex
        found = {FLAGGED: [item for item in shown if item.entry.flags], SELECTED: selected}.get(scope, shown)
        return [item for item in found if not item.entry.trouble]

    # -- report --

    def report(self) -> None:
        """Make the report of the selected case and open it."""
        selected = self._cases()[1]
        if len(selected) != 1 or self.reporting.is_busy:
            return
        folder = selected[0].folder
        self._save_review()
        # A folder that cannot be written to: the page lies with the other temporary files then.
        target = (folder if _is_writable(folder) else Path(slicer.app.temporaryPath)) / REPORT_FILE
        arguments = ["report", str(folder), "--output", str(target)]
        try:
            moved = self._moved.find(folder, read_case(folder))
        except InputError:  # reported by the command, which reads the case too
            moved = None
        arguments += ["--image", str(moved)] if moved is not None else []
        self._show_message(_("Making the report of {case}...").format(case=selected[0].entry.name))
        self.reporting.start(
            arguments, target, lambda _fraction, _what: None, lambda end: self._report_made(target, end)
        )
        self.draw()

    def _report_made(self, target: Path, ended: CommandEnd) -> None:
        if ended.result is None:
            self._show_message(" ".join(ended.errors))
            return
        self._show_message(_("The report is {file}.").format(file=target))
        qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(str(target)))

    def _show_message(self, text: str) -> None:
        self._message = text
        self.draw()


def _export_text(count: int) -> str:
    return _("Export one case...") if count == 1 else _("Export {count} cases...").format(count=count)


def _is_writable(folder: Path) -> bool:
    return os.access(folder, os.W_OK)


FOLDER_NAME = "segwithu-export"


@dataclass(frozen=True)
class ExportRequest:
    """Cases to export, and how.

    Attributes:
        folders: the cases.
        output: the folder to be made.
        anonymous: without names, dates, identifiers and paths.
        keep_comments: of an anonymous export.
        rules: of flags; None for those of each case's model.
    """

    folders: Sequence[Path]
    output: Path
    anonymous: bool = False
    keep_comments: bool = False
    rules: FlagRules | None = None

    @property
    def names_file(self) -> Path:
        """Where an anonymous export keeps who is who."""
        return self.output.with_name(f"{self.output.name}-names.json")


def free_folder(parent: Path) -> Path:
    """Return a new folder name for an export; neither it nor its file of names exists yet."""
    number = 1
    while True:
        found = parent / (FOLDER_NAME if number == 1 else f"{FOLDER_NAME}-{number}")
        if not found.exists() and not ExportRequest((), found).names_file.exists():
            return found
        number += 1


class ExportJob:
    """Runs exports in a child process, one at a time.

    Args:
        process: that runs the command.
        new_folder: makes a private folder.
        moved: knows where images lie that were moved.
    """

    def __init__(self, process: CommandProcess, new_folder: Callable[[], PrivateFolder], moved: MovedImages) -> None:
        self._process, self._new_folder, self._moved = process, new_folder, moved

    def without_image(self, folders: Sequence[Path]) -> list[Path]:
        """List the cases whose images cannot be found; damaged cases are reported by the export itself."""
        return [folder for folder in folders if self._lacks_image(folder)]

    def start(
        self, request: ExportRequest, on_progress: Callable[[float, str], None], on_end: Callable[[CommandEnd], None]
    ) -> None:
        """Begin; everything else comes through the callbacks."""
        private = self._new_folder()
        listed = private.path / "cases.json"
        listed.write_text(json.dumps({"format": FORMAT, "cases": [self._row(f) for f in request.folders]}), "utf-8")
        arguments = ["export", "--list", str(listed), "--own-list", "--output", str(request.output)]
        arguments += ["--anonymous"] if request.anonymous else []
        arguments += ["--keep-comments"] if request.anonymous and request.keep_comments else []
        if request.rules is not None:
            rules = private.path / "rules.json"
            rules.write_text(json.dumps(request.rules.to_json()), "utf-8")
            arguments += ["--rules", str(rules)]
        had_names = request.names_file.exists()

        def end(ended: CommandEnd) -> None:
            private.remove()
            if not request.output.exists() and not had_names:
                with suppress(OSError):  # there is no such folder: then there is no file of names either
                    request.names_file.unlink()
            on_end(ended)

        self._process.start(arguments, request.output, on_progress, end)

    def _lacks_image(self, folder: Path) -> bool:
        try:
            case = read_case(folder)
            return not self._moved.is_at_recorded_path(folder, case) and self._moved.find(folder, case) is None
        except InputError:
            return False

    def _row(self, folder: Path) -> Mapping[str, Any]:
        row = {"folder": str(folder.absolute())}
        try:
            image = self._moved.find(folder, read_case(folder))
        except InputError:  # reported by the export, which reads the case too
            image = None
        return row if image is None else {**row, "image": str(image)}


def export_text(request: ExportRequest, ended: CommandEnd) -> str:
    """Return the message about the end of an export."""
    if ended.cancelled:
        return _("Export cancelled: nothing was written.")
    if ended.result is None:
        return " ".join(ended.errors)
    done = ended.result.get("exported") or []
    lines = [
        _("{count} of {all} cases are in {folder}.").format(
            count=len(done), all=len(request.folders), folder=request.output
        )
    ]
    if request.anonymous:
        lines.append(_("Who is who is in {file}: keep that file to yourself.").format(file=request.names_file))
        if request.keep_comments:
            lines.append(_("The comments are in it as they were written: read them before you send it."))
    return " ".join([*lines, *ended.errors])
