"""Review cases of a list in a browser: the list becomes a worklist that the server of the page reads."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from SegWithUCore.review.flags import FlagRules
from SegWithUCore.review.worklist import SECONDS_PER_REGION, Worklist
from SegWithUCore.review.worklist_files import WORKLIST_JSON, write_worklist

from ..run.page_process import PageProcess
from ..run.private_folder import PrivateFolder
from .case_list import CaseItem


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
