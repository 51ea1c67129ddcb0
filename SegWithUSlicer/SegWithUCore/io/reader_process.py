"""Images read in a child process, so that a file that no library survives ends the child and not the work.

One child serves a whole cohort, a worker or a command; it is started when needed, and again when it died. It has only
numpy and SimpleITK loaded, and nothing reaches the disk: voxels come through a pipe (`reader_child`).
"""

import contextlib
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np
import SimpleITK as sitk

from ..util.errors import InputError, SegWithUError
from .header_peek import FileGrid
from .input_reader import InputReader, described_image, empty_voxels
from .plain_names import LINKS_PREFIX

LIMIT_S = 2 * 3600.0
"""A network drive may take an hour for a large series; what takes longer hangs."""
_LOOK_UP_S = 0.5
"""How long a wait may last at most before Ctrl-C is noticed (Windows)."""
_END_WAIT_S = 2.0
_PIPE_BYTES = 1 << 20
CREATE_NO_WINDOW = 0x08000000
"""subprocess.CREATE_NO_WINDOW, which exists on Windows only."""
_Answer = tuple[dict[str, Any], np.ndarray | None]


class ReaderEndedError(InputError):
    """A file ended the process that read it."""


class ReaderStartError(SegWithUError):
    """The process that reads images does not start."""


class ReaderFaultError(RuntimeError):
    """An error in the child that is no message for users."""


class ReaderProcess(InputReader):
    """As `InputReader`, but in a child process; used by one thread at a time.

    Every method raises, besides what `InputReader` raises:
        ReaderEndedError: the child died of this file, or did not end within `limit_s`.
        ReaderStartError: it cannot be started.
    """

    def __init__(self, limit_s: float = LIMIT_S) -> None:
        """Start nothing yet.

        Args:
            limit_s: seconds that one file, or one series, may take.
        """
        self._limit_s = limit_s
        self._child: _Child | None = None

    def __enter__(self) -> Self:
        """Nothing to do."""
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        """As `close`."""
        self.close()

    @property
    def pid(self) -> int | None:
        """Process id of the child, None if there is none."""
        return self._child.pid if self._child else None

    def start(self) -> None:
        """Start the child where it does not live, without waiting for it; else the first request does.

        Raises:
            ReaderStartError: the system refuses.
        """
        if self._child is not None and not self._child.lives:  # killed while it had nothing to do
            self.close()
        if self._child is None:
            self._child = _Child()

    def close(self) -> None:
        """End the child; a later request starts another."""
        child, self._child = self._child, None
        if child is not None:
            child.end()

    def is_dicom(self, file: Path) -> bool:
        """Whether a file is DICOM; of one that ended the child its reading, later, says so."""
        try:
            return bool(self._asked("is_dicom", file))
        except ReaderEndedError:
            return False

    def folder_words(self, folder: Path) -> str:
        """As `InputReader.folder_words`."""
        return str(self._asked("folder_words", folder))

    def grid(self, path: Path, series: str | None = None) -> FileGrid | None:
        """As `InputReader.grid`."""
        found = self._asked("grid", path, series=series)
        return None if found is None else FileGrid.from_json(found)

    def read(self, path: Path, series: str | None = None) -> sitk.Image:
        """As `InputReader.read`."""
        return self._asked("read", path, series=series)

    def _asked(self, request: str, path: Path, **options: Any) -> Any:
        self.start()
        assert self._child is not None
        try:
            self._child.send({"request": request, "path": os.fsencode(path).hex(), "options": options})
            answer = self._child.answer(self._limit_s)
        except TimeoutError:
            self.close()
            minutes = f"{self._limit_s / 60:.0f} min"
            raise ReaderEndedError(f"{path} was not read within {minutes}: check the disk that it lies on.") from None
        except BaseException:  # Ctrl-C: the answer that is still to come must not be taken for the next one's
            self.close()
            raise
        if answer is None:
            reason = self._child.end_reason()
            self.close()
            raise ReaderEndedError(_ended_sentence(path, reason))
        return _content(answer)


class _Child:
    """One life of the child: its process, its pipes, and the thread that waits for its answers."""

    def __init__(self) -> None:
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "SegWithUCore.io.reader_child"],
                env=_environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                creationflags=CREATE_NO_WINDOW if sys.platform == "win32" else 0,
            )
        except OSError as error:
            self._stderr.close()
            reason = error.strerror or str(error)
            raise ReaderStartError(f"{sys.executable} cannot be started to read images: {reason}.") from error
        assert self._process.stdout is not None
        _widen(self._process.stdout)
        self._is_ready = False
        self._answers: queue.SimpleQueue[_Answer | MemoryError | None] = queue.SimpleQueue()
        threading.Thread(target=self._listen, args=(self._process.stdout,), daemon=True).start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def lives(self) -> bool:
        return self._process.poll() is None

    def send(self, request: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # it is gone: the missing answer shows it
            self._process.stdin.write(json.dumps(request).encode("ascii") + b"\n")
            self._process.stdin.flush()

    def answer(self, limit_s: float) -> "_Answer | None":
        """Wait for the next answer; None if the child died.

        Raises:
            ReaderStartError: it died before it was ready.
            TimeoutError: none came in time.
            MemoryError: there is no room for the voxels.
        """
        if not self._is_ready:
            if self._next(limit_s) is None:
                raise ReaderStartError(self._no_start())
            self._is_ready = True
        return self._next(limit_s)

    def _next(self, limit_s: float) -> "_Answer | None":
        until = time.monotonic() + limit_s
        while True:
            try:
                answer = self._answers.get(timeout=_LOOK_UP_S)
            except queue.Empty:
                if time.monotonic() > until:
                    raise TimeoutError from None
                continue
            if isinstance(answer, MemoryError):
                raise answer
            return answer

    def end(self) -> None:
        """Close its stdin, at which it ends; where it does not, or was never asked for anything, kill it."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        if not self._is_ready:
            self._process.kill()
        try:
            self._process.wait(_END_WAIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):  # it hangs in a disk: the system ends it later
                self._process.wait(_END_WAIT_S)
        self._stderr.close()
        for left in Path(tempfile.gettempdir()).glob(f"{LINKS_PREFIX}{self.pid}-*"):
            shutil.rmtree(left, ignore_errors=True)

    def end_reason(self) -> str:
        """Why it died, in words: the name of a signal, or its exit code."""
        try:
            code = self._process.wait(_END_WAIT_S)
        except subprocess.TimeoutExpired:
            return "it closed its pipe"
        if code < 0:
            return signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        return f"exit code 0x{code:08X}" if code > 255 else f"exit code {code}"

    def _no_start(self) -> str:
        reason = self.end_reason()
        self._stderr.seek(0)
        lines = self._stderr.read().decode("utf-8", "replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
        return f"The process that reads images does not start ({reason}; {last[:300]}): install the program anew."

    def _listen(self, pipe: IO[bytes]) -> None:
        with pipe:
            for line in pipe:
                fields = json.loads(line)
                voxels = None
                if "image" in fields:
                    try:
                        voxels = empty_voxels(fields["image"])
                    except MemoryError as error:
                        self._answers.put(error)
                        return
                    if not _filled(voxels.data.cast("B"), pipe):
                        break
                self._answers.put((fields, voxels))
                del fields, voxels  # else they would be held until the next answer
        self._answers.put(None)


def _content(answer: _Answer) -> Any:
    """Return what was asked for, or raise the error in its place."""
    fields, voxels = answer
    if voxels is not None:
        return described_image(fields["image"], voxels)
    if "input_error" in fields:
        raise InputError(fields["input_error"])
    if "memory_error" in fields:
        raise MemoryError
    if "unexpected" in fields:
        error = ReaderFaultError(fields["unexpected"])
        error.add_note(fields["details"])
        raise error
    return fields["value"]


def _ended_sentence(path: Path, reason: str) -> str:
    cure = "the file is damaged in a way that the image library does not survive, give a whole copy of it."
    if reason == "SIGKILL":
        cure = "the system does so when memory runs out, close other programs or give a smaller image."
    return f"Reading {path} ended the reading process ({reason}): {cure}"


def _environment() -> dict[str, str]:
    """Ours, but nothing is imported from the current folder, and file names mean the same in both processes."""
    core = str(Path(__file__).resolve().parents[2])
    installed = core == sysconfig.get_path("purelib")  # found anyway, and not to come before Python's own library
    others = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if Path(path).is_absolute()]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([*([] if installed else [core]), *(path for path in others if path != core)]),
        "PYTHONSAFEPATH": "1",
        "PYTHONUTF8": str(sys.flags.utf8_mode),
    }


def _widen(pipe: IO[bytes]) -> None:
    """Let the child write more at once than the usual 64 kB (Linux)."""
    if sys.platform == "linux":
        import fcntl

        with contextlib.suppress(OSError):  # the user has no more room for pipes
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


def _filled(view: memoryview, pipe: IO[bytes]) -> bool:
    """Read until `view` is full; False if the pipe ends before."""
    while view:
        count = pipe.readinto(view)  # type: ignore[attr-defined]  # a pipe of Popen is a BufferedReader
        if not count:
            return False
        view = view[count:]
    return True
