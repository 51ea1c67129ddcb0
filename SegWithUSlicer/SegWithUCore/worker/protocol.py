"""The protocol between the worker and its parent: JSON lines in UTF-8, on pipes of their own."""

import json
import math
import shutil
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from ..util.atomic_files import TEMPORARY_PREFIX, sweep_leftovers
from ..util.errors import InputError, UsageError
from ..util.input_files import path_problem
from ..util.processes import take_standard_streams
from ..util.strict_json import parse_json

PROTOCOL = 1


@dataclass(frozen=True)
class Request:
    """One line from the parent: `kind` is its "request" field, `id` is repeated in every answer."""

    kind: str
    id: Any
    fields: Mapping[str, Any]

    @classmethod
    def parse(cls, line: bytes) -> "Request":
        """Read a line.

        Raises:
            UsageError: not JSON, or no "request" field.
        """
        try:
            data = parse_json(line, "A request", "send one object a line")
        except InputError as error:
            raise UsageError(str(error)) from error
        if not isinstance(data, dict) or not isinstance(data.get("request"), str):
            raise UsageError('A request has no "request" field: send an object such as {"request": "check"}.')
        return cls(data["request"], data.get("id"), data)

    def text(self, name: str, default: str | None = None) -> str:
        """Return a field that must be a non-empty string.

        Raises:
            UsageError: missing (without `default`) or of another kind.
        """
        value = self.fields.get(name, default)
        if not _is_path(value):
            raise UsageError(
                f"The request '{self.kind}' has {name} = {_short(value)}: give a text that can be a name.",
                "unusable-text",
            )
        return value

    def flag(self, name: str) -> bool:
        """Return a field that is true or false; False if absent."""
        return bool(self.fields.get(name, False))

    def files(self, name: str = "files") -> list[Path]:
        """Return a field that must be a list of at least one path.

        Raises:
            UsageError: missing, empty or of another kind.
        """
        value = self.fields.get(name)
        if not isinstance(value, list) or not value or not all(_is_path(path) for path in value):
            raise UsageError(
                f"The request '{self.kind}' has {name} = {_short(value)}: give a list with a path per channel.",
                "unusable-paths",
            )
        return [Path(path) for path in value]

    def numbers(self, name: str, block: Mapping[str, Any], count: int) -> Sequence[float]:
        """Return a list of `count` numbers inside a block of the request.

        Raises:
            UsageError: missing, of another length or kind.
        """
        value = block.get(name) if isinstance(block, Mapping) else None
        if not isinstance(value, list) or len(value) != count or not all(_is_number(n) for n in value):
            raise UsageError(f"The request '{self.kind}' has {name} = {_short(value)}: give {count} numbers.")
        return value


def _line(event: Mapping[str, Any]) -> str:
    """Encode an event as JSON; numbers that are not finite become null, for the other side reads no NaN."""
    try:
        return json.dumps(event, ensure_ascii=False, default=str, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(event), ensure_ascii=False, default=str, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _is_path(value: Any) -> bool:
    return isinstance(value, str) and bool(value) and path_problem(value) is None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


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
        """Write one event.

        Raises:
            OSError: the parent is gone.
        """
        line = _line(event).encode("utf-8", "replace") + b"\n"
        with self._lock:
            self._writer.write(line)
            self._writer.flush()


def open_channel() -> Channel:
    """Take stdin and stdout for the protocol: from now on prints go to stderr, and stdin is empty."""
    return Channel(*take_standard_streams())


def remove_half_written(folder: Path, pid: int) -> None:
    """Remove what process `pid` of this computer, which ended, was about to write into `folder`, and its lock there."""
    sweep_leftovers(folder)
    for left in folder.glob(f"{TEMPORARY_PREFIX}{pid}-*"):  # on a file system without locks
        shutil.rmtree(left, ignore_errors=True)
