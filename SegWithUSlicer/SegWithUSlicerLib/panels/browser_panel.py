"""*Review in browser*: the list of cases as a page in the browser of this computer."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import qt
import slicer

from SegWithUCore.review.flags import FlagRules
from SegWithUCore.review.worklist import SECONDS_PER_REGION, Worklist
from SegWithUCore.review.worklist_files import WORKLIST_JSON, write_worklist
from SegWithUCore.util.errors import SegWithUError

from ..cases.case_list import CaseItem, CaseList
from ..guarded import guarded
from ..i18n import _
from ..run.command import PageProcess
from ..run.private_folder import PrivateFolder
from ..run.session import start_timer, temporary_root
from .case_opener import PanelContext


class BrowserPanel:
    """The buttons that open and close the page.

    Args:
        ui: the widgets of the .ui file.
        cases: gives the list of cases; None if there is none.
        selected: gives the selected cases.
        context: the whole panel.
        on_closed: called when the page was closed: reviewers have gone on meanwhile.
    """

    def __init__(
        self,
        ui: Any,
        cases: Callable[[], CaseList | None],
        selected: Callable[[], Sequence[CaseItem]],
        context: PanelContext,
        on_closed: Callable[[], None],
    ) -> None:
        self.ui, self._cases, self._selected, self._context, self._on_closed = ui, cases, selected, context, on_closed
        self.review = BrowserReview(PageProcess(start_timer), lambda: PrivateFolder(temporary_root()))
        self._served: CaseList | None = None
        self._message = self._note = ""
        ui.browserButton.connect("clicked(bool)", guarded(self.open))
        ui.endBrowserButton.connect("clicked(bool)", guarded(self.end))
        slicer.app.connect("aboutToQuit()", self._stop)
        self.draw()

    def draw(self) -> None:
        """Show what can be done now."""
        ui, found = self.ui, self._cases()
        ui.browserButton.enabled = found is not None
        ui.endBrowserButton.visible = self.review.process.is_running
        ui.browserLabel.text = self._message
        ui.browserLabel.visible = bool(self._message)

    def open(self) -> None:
        """Serve the list, if it is not served yet, and open the page at the selected case."""
        found = self._cases()
        if found is None:
            return
        self._note = self._hand_over()
        if self._served is not found:
            self._stop()
        if self.review.process.is_running:
            self.review.process.ask_for_link()
            return
        self._tell(_("The page is being opened..."))
        self._served = found
        title, reviewer = Path(found.title).name, self._context.review.setup.reviewer
        try:
            self.review.start(found.items, title, reviewer, found.rules, self._show, self._ended)
        except (SegWithUError, OSError) as error:
            self._ended(str(error))

    def end(self) -> None:
        """Close the page, and read what was said in it."""
        self._stop()
        self._tell(_("The page is closed: every verdict is in its case folder."))
        self._on_closed()

    def close(self) -> None:
        """Let go of everything."""
        slicer.app.disconnect("aboutToQuit()", self._stop)
        self._stop()

    @guarded
    def _stop(self) -> None:
        self._served = None
        self.review.stop()

    def _hand_over(self) -> str:
        """End the review that is open here: the page can go on with it. Returns what the user is told."""
        if self._context.review.session is None:
            return ""
        self._context.review.end()
        return _("Your review in Slicer was closed, so that the browser can go on with it.")

    def _show(self, link: str) -> None:
        selected = self._selected()
        folder = selected[0].folder if len(selected) == 1 else None
        if qt.QDesktopServices.openUrl(qt.QUrl(self.review.address(link, folder))) is False:
            self._tell(_("No browser could be started: choose one in the settings of this computer, and try again."))
            return
        text = _(
            "The page is open in your browser. While it shows a case, Slicer cannot review that case, and the other "
            "way round: leave it in one, and the other goes on."
        )
        self._tell(" ".join(filter(None, [self._note, text])))

    def _ended(self, why: str) -> None:
        self._served = None
        self._tell(why)
        self._on_closed()

    def _tell(self, text: str) -> None:
        self._message = text
        self.draw()


class BrowserReview:
    """Serves the cases of one list to the browser of this computer.

    Args:
        process: of the server.
        new_folder: makes a private folder.
    """

    def __init__(self, process: PageProcess, new_folder: Callable[[], PrivateFolder]) -> None:
        self.process, self._new_folder = process, new_folder
        self._private: PrivateFolder | None = None

    def start(
        self,
        items: Sequence[CaseItem],
        title: str,
        reviewer: str,
        rules: FlagRules | None,
        on_link: Callable[[str], None],
        on_end: Callable[[str], None],
    ) -> None:
        """Begin to serve.

        Args:
            items: of the list; those without a case folder are left out.
            title: of the list.
            reviewer: whom the page proposes; "" for nobody.
            rules: of flags.
            on_link, on_end: see `PageProcess.start`.

        Raises:
            OutputError: there is no room for the worklist.
        """
        entries = tuple(replace(item.entry, folder=item.folder) for item in items if item.folder is not None)
        self._private = private = self._new_folder()
        write_worklist(Worklist(entries, SECONDS_PER_REGION, 0, rules), private.path)

        def end(why: str) -> None:
            self._tidy()
            on_end(why)

        arguments = [str(private.path / WORKLIST_JSON), "--title", title, "--reviewer", reviewer]
        self.process.start(arguments, on_link, end)

    def address(self, link: str, folder: Path | None) -> str:
        """Return the link of a case; of the list if it is not served."""
        number = self.process.ids.get(str(folder.resolve())) if folder is not None else None
        return link if number is None else f"{link}&case={number}"

    def stop(self) -> None:
        """End the server; every verdict is on disk then."""
        self.process.stop()
        self._tidy()

    def _tidy(self) -> None:
        if self._private is not None:
            self._private.remove()
            self._private = None
