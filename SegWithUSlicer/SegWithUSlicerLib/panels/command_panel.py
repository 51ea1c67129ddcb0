"""The base of sections that run commands: one at a time, with a progress bar and a line that says how it went."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import qt
import slicer

from ..guarded import guarded
from ..run.child_process import Event
from ..run.command import CommandEnd, CommandProcess
from ..run.session import set_setting, setting, start_timer


class CommandPanel:
    """Runs one command at a time.

    Args:
        bar, label: widgets, which are hidden where there is nothing to show.
    """

    def __init__(self, bar: Any, label: Any) -> None:
        self._bar, self._label, self._message = bar, label, ""
        self.process = CommandProcess(start_timer)
        slicer.app.connect("aboutToQuit()", self._stop)

    def draw(self) -> None:
        """Show what can be done now."""
        self._bar.visible = self.process.is_busy
        self._label.text, self._label.visible = self._message, bool(self._message)

    def close(self) -> None:
        """End what is running, and leave nothing half-written."""
        slicer.app.disconnect("aboutToQuit()", self._stop)
        self._stop()

    @guarded
    def _stop(self) -> None:
        self.process.stop()

    def _start(self, arguments: Sequence[str], output: Path, end: Callable[[CommandEnd], None], message: str) -> None:
        def ended(how: CommandEnd) -> None:
            self._message = " ".join(how.errors)
            end(how)
            self.draw()

        self._bar.value = 0
        self._message = message
        self.process.start(arguments, output, self._progress, ended)
        self.draw()

    def _progress(self, fraction: float, _event: Event) -> None:
        self._bar.value = round(100 * fraction)

    def _show_message(self, text: str) -> None:
        self._message = text
        self.draw()


def choose_folder(title: str, name: str) -> Path | None:
    """Let the user choose a folder, which the setting of this name remembers; None for none."""
    chosen = qt.QFileDialog.getExistingDirectory(slicer.util.mainWindow(), title, setting(name))
    if chosen:
        set_setting(name, str(chosen))
    return Path(str(chosen)) if chosen else None
