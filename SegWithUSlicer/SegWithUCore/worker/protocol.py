"""The protocol between the worker and its parent: JSON lines in UTF-8, on pipes of their own."""

import json
import math
import os
import shutil
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from ..inference.settings import DEFAULTS, RunSettings
from ..util.atomic_files import TEMPORARY_PREFIX, remove_leftovers
from ..util.errors import UsageError
from ..util.input_files import path_problem
from ..util.strict_json import typed

PROTOCOL = 1


@dataclass(frozen=True)
class Request:
    """One line from the parent; fields that a kind of request does not need are ignored.

    Attributes:
        request: its kind.
        settings: of the run.
        networks: "nnunet" where torch will run a network of nnU-Net that is not a model yet.
        own_to_world_ras: linear transform that the volume hangs under, 4 x 4 row by row.
        mask: folder with one file per structure of a segmentation to be judged; None or "" for none.
        labels: what these files stand for (`MaskFile.names`).
        case, reviews: to be saved, as `save_case` takes them; `files` are then the originals, "" for none.
    """

    request: str
    model: str = ""
    settings: RunSettings = DEFAULTS
    networks: str | None = None
    name: str = ""
    files: tuple[str, ...] = ()
    target: str = ""
    own_to_world_ras: Sequence[float] | None = None
    mask: str | None = None
    labels: Mapping[str, str] | None = None
    case: str = ""
    reviews: str = ""

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> "Request":
        """Decode a request.

        Raises:
            UsageError: a field is missing or of another type, or a text cannot be a name.
        """
        try:
            request: Request = typed(cls, data)
        except ValueError as error:
            raise UsageError(f"The request is unusable: {error}.", "unusable-request") from error
        chosen = request.settings
        texts = [request.model, request.name, request.target, request.mask, request.case, request.reviews]
        texts += [chosen.head, chosen.device, chosen.engine]
        length = len(request.own_to_world_ras or range(16))
        if any(path_problem(text) for text in (*texts, *request.files) if text) or length != 16:
            message = f"The request '{request.request[:40]}' has an unusable text or matrix."
            raise UsageError(message, "unusable-request")
        return request


class Channel:
    """Reads requests and writes events; events may be sent from any thread."""

    def __init__(self, reader: BinaryIO, writer: BinaryIO) -> None:
        self._reader = reader
        self._writer = writer
        self._lock = threading.Lock()

    def lines(self) -> Iterator[bytes]:
        """Yield lines that are not blank, until the parent closes its end."""
        for line in self._reader:
            if line.strip():
                yield line

    def send(self, event: Mapping[str, Any]) -> None:
        """Write one event; numbers that are not finite become null, for the other side reads no NaN.

        Raises:
            OSError: the parent is gone.
        """
        line = json.dumps(_finite(event), ensure_ascii=False, default=str).encode("utf-8", "replace") + b"\n"
        with self._lock:
            self._writer.write(line)
            self._writer.flush()


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def open_channel() -> Channel:
    """Take stdin and stdout for the protocol: from now on prints go to stderr, and stdin is empty.

    On Windows a thread that waits on stdin would block the loading of some DLLs (numpy, scipy).
    """
    sys.stdout.flush()
    reader, writer = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(line_buffering=True)  # so that a log is up to date
    return Channel(os.fdopen(reader, "rb"), os.fdopen(writer, "wb"))


def remove_half_written(folder: Path, pid: int) -> None:
    """Remove what process `pid` of this computer, which ended, was about to write into `folder`, and its lock there."""
    remove_leftovers(folder)
    for left in folder.glob(f"{TEMPORARY_PREFIX}{pid}-*"):  # on a file system without locks
        shutil.rmtree(left, ignore_errors=True)
