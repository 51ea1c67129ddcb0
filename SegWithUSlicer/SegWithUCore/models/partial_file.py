"""A file on its way: what has come of it, gone on with after a kill, checked by size and SHA-256, whole or absent."""

import contextlib
import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from ..errors import InputError, SegWithUError
from ..strict_json import read_json_object, to_json
from .model_entry import ModelFile

CHUNK = 1 << 16
"""Small, because what came of a chunk is lost when the connection is cut in it."""
SPARE_BYTES = 64 << 20
"""Left free on the disk."""
REFRESH = "registry and file differ; run segwithu models refresh"
Received = Callable[[int], None]
"""Called with the bytes of the file that are there."""


class DownloadError(SegWithUError):
    """A file could not be had, and trying again at once would not help."""


class UnreachableError(DownloadError):
    """A server cannot be reached now; what had come is kept."""


class PartialFile:
    """What has come of a file, `target`.part, and beside it a note of what it is a part of.

    Attributes:
        path: of the part.
        wanted: the file that it becomes.
    """

    def __init__(self, target: Path, wanted: ModelFile) -> None:
        self.path, self.wanted, self._target = target.with_name(f"{target.name}.part"), wanted, target
        self._note = target.with_name(f"{target.name}.part.json")

    def size(self) -> int:
        """Count the bytes that are there."""
        with contextlib.suppress(FileNotFoundError):
            return self.path.stat().st_size
        return 0

    def begun(self) -> tuple[int, str | None]:
        """Return how many bytes can be gone on with, and the server's mark of the file they came from."""
        try:
            note = read_json_object(self._note, maximum_bytes=1 << 16)
        except InputError:  # none yet, or torn by a crash
            note = {}
        if note.get("sha256") != self.wanted.sha256 or self.size() > self.wanted.size:
            self.discard()
            return 0, None
        validator = note.get("validator")
        return self.size(), validator if isinstance(validator, str) else None

    def receive(self, chunks: Iterable[bytes], begin: int, validator: str | None, received: Received) -> None:
        """Write what comes from byte `begin` on.

        Args:
            validator: the server's mark of the file, by which it can be gone on with.

        Raises:
            DownloadError: it is longer than the file.
        """
        self._note.write_text(to_json({"sha256": self.wanted.sha256, "validator": validator}), encoding="utf-8")
        with self.path.open("r+b" if begin else "wb") as file:
            file.seek(begin)
            file.truncate()
            received(begin)
            for chunk in chunks:
                begin += len(chunk)
                if begin > self.wanted.size:
                    break
                file.write(chunk)
                received(begin)
            file.flush()
            os.fsync(file.fileno())
        if begin > self.wanted.size:
            self.discard()
            raise DownloadError(f"{self.wanted.path} has more than {self.wanted.size} bytes: {REFRESH}.")

    def finish(self, source: str) -> None:
        """Check the whole file and give it its name.

        Raises:
            DownloadError: it is another file; the part is removed.
        """
        with self.path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != self.wanted.sha256 or self.size() != self.wanted.size:
            self.discard()
            raise DownloadError(
                f"{source} is not the file that the registry describes (SHA-256 {found[:12]}... instead of "
                f"{self.wanted.sha256[:12]}...): it was removed; ask whoever keeps it."
            )
        self.path.replace(self._target)
        self._note.unlink(missing_ok=True)

    def discard(self) -> None:
        """Remove the part."""
        self.path.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)


def copy_file(source: Path, wanted: ModelFile, target: Path, received: Received = lambda _: None) -> None:
    """Copy a file from a folder, checked as a downloaded one.

    Raises:
        DownloadError: it is another file, or cannot be read.
    """
    part = PartialFile(target, wanted)
    part.discard()
    try:
        size = source.stat().st_size
    except OSError as error:
        raise DownloadError(f"{source} cannot be read ({error.strerror}): check the folder.") from error
    if size != wanted.size:
        raise DownloadError(f"{source} has {size} bytes instead of the {wanted.size} of its registry: copy it again.")
    with writing(target, wanted.size):
        target.parent.mkdir(parents=True, exist_ok=True)
        check_space(target.parent, wanted.size)
        with source.open("rb") as read, part.path.open("wb") as write:
            while chunk := read.read(CHUNK):
                write.write(chunk)
                received(write.tell())
            write.flush()
            os.fsync(write.fileno())
        part.finish(str(source))


def check_space(folder: Path, needed: int) -> None:
    """Refuse to begin where the disk has too little room.

    Raises:
        DownloadError: names both figures.
    """
    free = shutil.disk_usage(folder).free
    if free < needed + SPARE_BYTES:
        raise DownloadError(
            f"{folder} has {free / 1e6:.0f} MB free, but {(needed + SPARE_BYTES) / 1e6:.0f} MB are needed: free some "
            "space or set SEGWITHU_MODELS to another disk."
        )


@contextlib.contextmanager
def writing(target: Path, size: int) -> Iterator[None]:
    """Word what the disk says while a file is written; what is there of it stays.

    Raises:
        DownloadError: it is full, or the folder may not be written to.
    """
    try:
        yield
    except OSError as error:
        if error.errno is None:  # a connection's, not the disk's
            raise
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DownloadError(
                f"The disk of {target.parent} is full ({size / 1e6:.0f} MB are needed for {target.name}): free some "
                "space, then the same command goes on."
            ) from error
        reason = error.strerror or str(error)
        raise DownloadError(f"Cannot write {target} ({reason}): set SEGWITHU_MODELS to another folder.") from error
