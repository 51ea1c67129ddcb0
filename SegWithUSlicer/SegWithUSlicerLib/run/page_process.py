"""The server behind the browser's page as a child process: `segwithu web`, which ends with Slicer."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..i18n import _
from .child_process import ChildProcess, Event, PolledProcess, StartTimer
from .command import command_start
from .launch import WorkerStartError, end_reason

LOG_LINES = 50
_WHEREVER = ("--port", "0", "--end-with-input")


class PageProcess(PolledProcess):
    """One server at a time. All callbacks arrive on the main thread, from the timer.

    It reads its standard input and ends when that is closed: also when Slicer crashes.

    Args:
        start_timer: see StartTimer.
    """

    def __init__(self, start_timer: StartTimer) -> None:
        super().__init__(start_timer, LOG_LINES)
        self._on_link: Callable[[str], None] = lambda _link: None
        self._on_end: Callable[[str], None] = lambda _why: None
        self._errors: list[str] = []
        self._is_ready = False
        self.ids: Mapping[str, Any] = {}

    @property
    def is_running(self) -> bool:
        """Whether the server runs, or is starting."""
        return self._child is not None

    def start(self, arguments: Sequence[str], on_link: Callable[[str], None], on_end: Callable[[str], None]) -> None:
        """Run `segwithu web ARGUMENTS...` on a free port of this computer.

        Args:
            arguments: of the command line.
            on_link: called with a link that works once, when the page is ready and whenever it was asked for.
            on_end: called once if it ends by itself, with one sentence why.

        Raises:
            RuntimeError: it runs already.
        """
        if self._child is not None:
            raise RuntimeError("the page is served already")
        self._on_link, self._on_end, self._errors, self._is_ready = on_link, on_end, [], False
        try:
            self._start_child(command_start(["web", *arguments, *_WHEREVER]))
        except WorkerStartError as error:
            on_end(str(error))

    def ask_for_link(self) -> None:
        """Ask for another link: one that a browser was opened with works no more."""
        if self._child is not None and self._is_ready:
            self._child.send({"ask": "link"})

    def stop(self) -> None:
        """End the server now and wait for it, without any callback: it brings every review to disk first."""
        child, self._child = self._child, None
        self._stop_polling()
        if child is not None:
            child.ask_to_quit()
            child.end(None).join()

    def _on_event(self, event: Event) -> None:
        kind = event.get("event")
        if kind == "ready":
            self._is_ready, self.ids = True, event.get("ids") or {}
        if kind in ("ready", "link"):
            self._on_link(str(event.get("url_once") or ""))
        elif kind == "error":
            self._errors.append(str(event.get("text") or ""))

    def _on_ended(self, child: ChildProcess, code: int | None) -> None:
        self._child = None
        self._stop_polling()
        last = next((line for line in reversed(self._log) if line.strip()), "")
        text = _("The page was closed ({reason}): {last}")
        self._on_end(" ".join(self._errors) or text.format(reason=end_reason(code), last=last))

    def _on_tree_ended(self, child: ChildProcess) -> None:
        """Nobody waits: `stop` has let go of it before."""
