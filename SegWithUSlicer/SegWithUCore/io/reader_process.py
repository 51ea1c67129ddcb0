"""Images read in a child process, so that a file that no library survives ends the child and not the work.

One child serves a whole cohort, a worker or a command; it is started when needed, and again when it died. It has only
numpy and SimpleITK loaded, and nothing reaches the disk: voxels come through a pipe, straight into the array that takes
them. `concurrent.futures` cannot do this: Dask's workers are daemonic and may start no process of multiprocessing, and
it pickles the voxels, at nearly twice the memory and time.
"""

import contextlib
import json
import os
import queue
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

from ..util.errors import InputError, SegWithUError
from .grid import VoxelGrid
from .input_reader import InputReader
from .volume import Header, Volume

LIMIT_S = 2 * 3600.0
"""A network drive may take an hour for a large series; what takes longer hangs."""
_LOOK_UP_S = 0.5
"""How long a wait may last at most before Ctrl-C is noticed (Windows)."""
_END_WAIT_S = 2.0
_PIPE_BYTES = 1 << 20
CREATE_NO_WINDOW = 0x08000000
"""subprocess.CREATE_NO_WINDOW, which exists on Windows only."""


class ReaderEndedError(InputError):
    """A file ended the process that read it."""


class ReaderStartError(SegWithUError):
    """The process that reads images does not start."""


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
        self._headers = 0

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
            return bool(self._asked("is_dicom", file)["value"])
        except ReaderEndedError:
            return False

    def folder_words(self, folder: Path) -> str:
        """As `InputReader.folder_words`."""
        return str(self._asked("folder_words", folder)["value"])

    def series_uids(self, folder: Path) -> list[str]:
        """As `InputReader.series_uids`."""
        return list(self._asked("series_uids", folder)["value"])

    def header(self, path: Path, series: str | None = None) -> Header:
        """As `InputReader.header`; what reads the voxels stays with the child."""
        self._headers += 1
        return Header.from_json(self._asked("header", path, series, self._headers)["header"])

    def read(self, path: Path, series: str | None = None, header: Header | None = None) -> Volume:
        """As `InputReader.read`."""
        answer = self._asked("read", path, series, header.source if header else 0)
        return Volume(answer["image"], Header.from_json(answer["header"]))

    def _asked(self, name: str, path: Path, series: str | None = None, token: int = 0) -> dict[str, Any]:
        self.start()
        assert self._child is not None
        try:
            self._child.send([name, os.fsencode(path).hex(), series, token])
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
        if "input_error" in answer:
            raise InputError(answer["input_error"])
        if "memory_error" in answer:
            self.close()
            raise MemoryError
        if "unexpected" in answer:
            raise RuntimeError(answer["unexpected"])
        return answer


class _Child:
    """One life of the child: its process, its pipes, and the thread that waits for its answers."""

    def __init__(self) -> None:
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "SegWithUCore.io.input_reader"],
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
        self._answers: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        threading.Thread(target=self._listen, args=(self._process.stdout,), daemon=True).start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def lives(self) -> bool:
        return self._process.poll() is None

    def send(self, request: list[Any]) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # it is gone: the missing answer shows it
            self._process.stdin.write(json.dumps(request).encode("ascii") + b"\n")
            self._process.stdin.flush()

    def answer(self, limit_s: float) -> dict[str, Any] | None:
        """Wait for the next answer; None if the child died.

        Raises:
            ReaderStartError: it died before it was ready.
            TimeoutError: none came in time.
        """
        if not self._is_ready:
            if self._next(limit_s) is None:
                raise ReaderStartError(self._no_start())
            self._is_ready = True
        return self._next(limit_s)

    def _next(self, limit_s: float) -> dict[str, Any] | None:
        until = time.monotonic() + limit_s
        while True:
            try:
                return self._answers.get(timeout=_LOOK_UP_S)
            except queue.Empty:
                if time.monotonic() > until:
                    raise TimeoutError from None

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
        with pipe, contextlib.suppress(EOFError, OSError):
            for line in pipe:
                answer = _received(line, pipe)
                self._answers.put(answer)
                if "memory_error" in answer:  # what else is in the pipe are voxels
                    return
                del answer  # else its voxels would be held until the next one
        self._answers.put(None)


def _received(line: bytes, pipe: IO[bytes]) -> dict[str, Any]:
    """Parse an answer, and read an image's voxels behind it; nothing is kept of them here.

    Raises:
        EOFError: the child is gone.
    """
    answer: dict[str, Any] = json.loads(line)
    if "voxel_type" in answer:
        grid = VoxelGrid.from_json(answer["grid"])
        try:
            voxels = np.empty(grid.shape_zyx, answer["voxel_type"])
        except MemoryError:
            return {"memory_error": True}
        _fill(voxels.reshape(-1).view(np.uint8).data, pipe)
        answer["image"] = grid.image(voxels)
        for key, value in answer["metadata"].items():
            with contextlib.suppress(TypeError):  # a text that is no UTF-8 can be got but not set
                answer["image"].SetMetaData(key, value)
    return answer


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


def _fill(view: memoryview, pipe: IO[bytes]) -> None:
    """Read until `view` is full.

    Raises:
        EOFError: the pipe ends before.
    """
    while view:
        count = pipe.readinto(view)  # type: ignore[attr-defined]  # a pipe of Popen is a BufferedReader
        if not count:
            raise EOFError
        view = view[count:]
