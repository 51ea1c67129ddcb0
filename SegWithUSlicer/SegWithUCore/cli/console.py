"""Print progress, tables and errors: results to stdout, the rest to stderr."""

import contextlib
import errno
import io
import json
import os
import shutil
import sys
import time
import traceback
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, TextIO

from ..util.errors import SegWithUError, code_of
from ..util.failures import failure_message
from ..util.progress import Progress, TimeLeft

# Without a terminal (log files, CI) one line in this time shows that work continues.
PLAIN_INTERVAL_S = 10.0


CANCELLED = "cancelled; partial output was removed."


class ReaderLeftError(KeyboardInterrupt):
    """The reader of the output, such as `head`, has ended: the work ends as by Ctrl-C, without a message."""


class Console:
    """Prints for people, or JSON lines for machines.

    Args:
        as_json: one JSON object a line on stdout instead of words.
        out, err: streams.

    Attributes:
        failures: cases that failed, see `case_by_case`.
    """

    def __init__(self, as_json: bool = False, out: TextIO | None = None, err: TextIO | None = None) -> None:
        self.as_json = as_json
        self.failures = 0
        self._line = ""
        self.on_cancel: Callable[[], object] = partial(self.error, CANCELLED)  # where Ctrl-C has to end the process
        self.out = out or sys.stdout
        self.err = err or sys.stderr
        for stream in (self.out, self.err):
            if isinstance(stream, io.TextIOWrapper):  # a path beyond the terminal's code page must not end the program
                stream.reconfigure(errors="backslashreplace")

    def result(self, text: str, data: dict[str, Any]) -> None:
        """Print a result: `text` for people, `data` for machines."""
        self._print(text, {"event": "result", **data}, self.out)

    def note(self, *texts: str) -> None:
        """Print information that is not a result, a line each."""
        for text in texts:
            self._print(terminal_line(text), {"event": "note", "text": text}, self.err)

    def warn(self, *problems: str) -> None:
        """Print notes that begin with "Warning: "."""
        self.note(*(f"Warning: {problem}" for problem in problems))

    def step(self, text: str, data: dict[str, Any]) -> None:
        """Print where the work is: `text` for people, if not empty; `data` for machines, its event included."""
        if text or self.as_json:
            self._print(text, data, self.err)

    def started(self) -> None:
        """For a parent process: the number of this one, which a launcher may have started."""
        self.step("", {"event": "started", "pid": os.getpid()})

    def error(self, *texts: str, **data: str) -> None:
        """Print failures, in one sentence each; `data` and the code of the error say more for machines."""
        for text in texts:
            fields = {"event": "error", "text": text, "code": code_of(text), **data}
            self._print(f"segwithu: {terminal_line(text)}", fields, self.err)

    @contextlib.contextmanager
    def case_by_case(self) -> Iterator[None]:
        """Print and count what is wrong with one case of several: it does not stop the others."""
        try:
            yield
        except SegWithUError as error:
            self.error(failure_message(error))
            self.failures += 1

    def trace(self, error: BaseException | str) -> None:
        """Python's traceback of an error, or its text, for those who look for its cause."""
        text = error if isinstance(error, str) else "".join(traceback.format_exception(error))
        _write(terminal_text(text), self.err, end="")

    def _print(self, text: str, data: dict[str, Any], stream: TextIO) -> None:
        if self.as_json:
            _write(self._json(data), self.out)
        else:
            self._replace_line("")
            _write(terminal_text(text), stream)

    def _json(self, data: dict[str, Any]) -> str:
        """One line; a terminal of another encoding than UTF-8 gets ASCII, since its escapes are not JSON."""
        return json.dumps(data, ensure_ascii=(self.out.encoding or "utf-8").lower().replace("-", "") != "utf8")

    @contextlib.contextmanager
    def progress(self, title: str, with_time: bool = True) -> Iterator[Progress]:
        """Show how far a job is: one line on a terminal, lines now and then elsewhere, JSON events for machines.

        Args:
            with_time: whether the line ends with the time left; not where the title has that of a larger job.
        """
        left, shown = TimeLeft(), ("", 0.0)

        def report(stage: str, fraction: float, detail: str = "") -> None:
            nonlocal shown
            now, time_left = time.monotonic(), left.message(fraction) if with_time else ""
            line = f"{title}: {fraction:4.0%} {', '.join(filter(None, [stage, detail, time_left]))}"
            if self.as_json:
                event = {"event": "progress", "job": title, "stage": stage, "fraction": round(fraction, 4)}
                event |= {"detail": detail, "seconds_left": left.seconds(fraction)}
                _write(self._json(event), self.out)
            elif self.err.isatty():
                self._replace_line(line)
            elif stage != shown[0] or now - shown[1] >= PLAIN_INTERVAL_S or fraction >= 1:
                _write(terminal_line(line), self.err)
                shown = stage, now

        yield report
        self._replace_line("")

    def _replace_line(self, text: str) -> None:
        """Write over the line of a terminal that says how far the job is."""
        if text or self._line:
            width = shutil.get_terminal_size().columns - 1
            self._line = terminal_line(text)[:width]
            _write(f"\r{self._line.ljust(width)}\r", self.err, end="")


def reader_left(error: OSError) -> bool:
    """Whether writing failed because the reader has ended; Windows has no number of its own for it."""
    return isinstance(error, BrokenPipeError) or (sys.platform == "win32" and error.errno == errno.EINVAL)


def silence(*streams: TextIO) -> None:
    """Discard the rest of streams without a reader: Python would complain about it when it ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in streams:
        with contextlib.suppress(OSError, ValueError):  # a stream without a file
            os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def _write(text: str, stream: TextIO, end: str = "\n") -> None:
    try:
        print(text, file=stream, end=end, flush=True)
    except OSError as error:
        if not reader_left(error):
            raise
        silence(stream)
        raise ReaderLeftError from error


def terminal_text(text: str) -> str:
    """Make a text safe for a terminal, as `terminal_line` does; its lines stay."""
    return "\n".join(map(terminal_line, text.split("\n")))


def terminal_line(text: str) -> str:
    """Escape what moves a terminal's cursor, changes its title or shows what is not there, and marks of direction."""
    return "".join(
        char.encode("unicode_escape").decode("ascii")
        if unicodedata.category(char) in ("Cc", "Zl", "Zp") or char in _DIRECTIONS
        else char
        for char in text
    )


# Marks that reverse the direction of text (Unicode, annex 9): a name could look like another one.
_DIRECTIONS = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def table(header: Sequence[str], rows: Sequence[Sequence[str]], words: Sequence[int] = (0,)) -> str:
    """Columns aligned with spaces.

    Args:
        words: columns aligned to the left; the others hold figures and are aligned to the right.
    """
    lines = [[terminal_line(cell) for cell in line] for line in [header, *rows]]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]

    def joined(line: Sequence[str]) -> str:
        cells = zip(line, widths, range(len(widths)), strict=True)
        return "  ".join(c.ljust(w) if column in words else c.rjust(w) for c, w, column in cells).rstrip()

    return "\n".join([joined(lines[0]), joined(["-" * width for width in widths]), *map(joined, lines[1:])])
