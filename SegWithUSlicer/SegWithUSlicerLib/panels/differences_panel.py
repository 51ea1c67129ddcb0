"""The section "Reviews of others": merge what came back, and show where reviewers disagree."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import qt
import slicer

from SegWithUCore.regions.region import Region
from SegWithUCore.review.merge import merge_reviews
from SegWithUCore.util.errors import SegWithUError

from ..cases.case_list import CaseItem, Difference
from ..guarded import guarded
from ..i18n import _
from ..run.session import set_setting, setting
from ..scene.readout import volume_text
from .review_widgets import verdict_text
from .widgets import fit_columns, fit_rows, put_cell, set_up_table

MERGE_PLACE_SETTING = "SegWithU/MergePlace"
_MOST_SENTENCES = 8
_MOST_ROWS, _WIDEST_PX = 8, 260


class DifferencesPanel:
    """The section "Reviews of others".

    Args:
        ui: the widgets of the .ui file.
        folders: gives the case folders of the list.
        on_chosen: called with the row and the region that the user wants to see.
        on_merged: called when reviews were merged: cases have changed on the disk.
    """

    def __init__(
        self,
        ui: Any,
        folders: Callable[[], Sequence[Path]],
        on_chosen: Callable[[CaseItem, Region], Any],
        on_merged: Callable[[], None],
    ) -> None:
        self.ui, self._folders, self._on_chosen, self._on_merged = ui, folders, on_chosen, on_merged
        self._shown: list[Difference] = []
        self._message = ""
        table = ui.differencesTable
        titles = [_("Case"), "#", _("Structure"), _("Verdicts"), _("Comments")]
        set_up_table(table, titles)
        table.connect("cellClicked(int,int)", guarded(self._chosen))
        table.connect("cellActivated(int,int)", guarded(self._chosen))
        ui.mergeButton.connect("clicked(bool)", guarded(self.choose))

    def show(self, differences: Sequence[Difference], unseen: int = 0, unseen_mm3: float = 0.0) -> None:
        """Show these regions.

        Args:
            unseen, unseen_mm3: regions that were taken without a look and that nobody has looked at, and the volume in
                them that is expected to be wrong.
        """
        if list(differences) != self._shown or not self._shown:
            self._shown = list(differences)
            self._fill()
        count = len(self._shown)
        text = _("Reviewers disagree on {count} regions.").format(count=count)
        if count < 2:
            text = _("Reviewers disagree on one region.") if count else _("No region was judged differently.")
        more = _unseen_text(unseen, unseen_mm3)
        self.ui.differencesLabel.text = "\n".join(filter(None, [self._message, text, more]))

    def clear(self) -> None:
        """Clear the messages about the list that was shown before."""
        self._message = ""

    def choose(self) -> None:
        """Let the user choose the folder that came back."""
        title = _("The folder that came back")
        chosen = qt.QFileDialog.getExistingDirectory(slicer.util.mainWindow(), title, setting(MERGE_PLACE_SETTING))
        if chosen:
            set_setting(MERGE_PLACE_SETTING, str(chosen))
            self.merge(Path(str(chosen)))

    def merge(self, source: Path) -> None:
        """Merge the reviews of a folder into the cases of the list that lie in case folders."""
        qt.QApplication.setOverrideCursor(qt.Qt.WaitCursor)
        try:
            done, troubles = merge_reviews([source], list(self._folders()))
            sentences = [*troubles, *(text for merged in done for text in (merged.note, merged.sentence) if text)] or [
                _("No review came back.")
            ]
        except SegWithUError as error:
            sentences = [str(error)]
        finally:
            qt.QApplication.restoreOverrideCursor()
        more = len(sentences) - _MOST_SENTENCES
        self._message = "\n".join(
            [*sentences[:_MOST_SENTENCES], *([_("... and {n} more.").format(n=more)] if more > 0 else [])]
        )
        self.ui.differencesButton.collapsed = False
        self._on_merged()

    def _fill(self) -> None:
        table = self.ui.differencesTable
        table.clearContents()
        table.setRowCount(len(self._shown))
        for row, difference in enumerate(self._shown):
            for column, text in enumerate(_texts(difference)):
                put_cell(table, row, column, text, text)
        fit_columns(table, [_WIDEST_PX] * table.columnCount)
        fit_rows(table, len(self._shown), 1, _MOST_ROWS)
        table.visible = bool(self._shown)

    def _chosen(self, row: int, _column: int) -> None:
        if 0 <= row < len(self._shown):
            chosen = self._shown[row]
            self._on_chosen(chosen.item, chosen.verdicts.region)


def _unseen_text(count: int, wrong_mm3: float) -> str:
    if not count:
        return ""
    text = _("{count} regions were taken without a look, and nobody has looked at them: {wrong} of expected error.")
    if count == 1:
        text = _("One region was taken without a look, and nobody has looked at it: {wrong} of expected error.")
    return text.format(count=count, wrong=volume_text(wrong_mm3))


def _texts(difference: Difference) -> tuple[str, ...]:
    verdicts, region = difference.verdicts, difference.verdicts.region
    entries = list(zip(difference.reviewers, verdicts.verdicts, verdicts.comments, strict=True))
    given = "; ".join(f"{name} {verdict_text(verdict)}" for name, verdict, _c in entries if verdict is not None)
    comments = "; ".join(f"{name}: {comment}" for name, _v, comment in entries if comment)
    return difference.case, str(region.rank), region.structure, given, comments
