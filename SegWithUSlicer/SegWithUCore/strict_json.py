"""JSON as the standard has it (RFC 8259), from files of others: no NaN or Infinity, bounded in size and depth."""

import json
import math
from pathlib import Path
from typing import Any

from .errors import InputError
from .input_files import read_bounded

MAXIMUM_BYTES = 64 << 20
"""Of a JSON file: the largest of ours, a benchmark of 44 cases, has 0.7 MB."""
MAXIMUM_DEPTH = 100
"""Of nesting: ours stay below 12, and Python's parser gives up near 1000 with an error of its own kind."""

MAXIMUM_DIGITS = 20
"""Of a whole number: what 64 bits hold; a longer one becomes infinite, or an error, wherever it meets a float."""


def read_json(path: Path, wanted: str = "restore it from its source", maximum_bytes: int = MAXIMUM_BYTES) -> Any:
    """Read a JSON file.

    Args:
        wanted: what to do, the end of every sentence.

    Raises:
        InputError: missing, no regular file, too large, no UTF-8, and what `parse_json` refuses.
    """
    return parse_json(read_bounded(path, maximum_bytes, wanted), str(path), wanted)


def read_json_object(
    path: Path, wanted: str = "restore it from its source", maximum_bytes: int = MAXIMUM_BYTES
) -> dict[str, Any]:
    """Read a JSON file that holds an object, as `read_json`.

    Raises:
        InputError: as `read_json`, or it holds something else.
    """
    content = read_json(path, wanted, maximum_bytes)
    if not isinstance(content, dict):
        raise InputError(f"{path} holds {_type_name(content)} instead of a JSON object: {wanted}.")
    return content


def parse_json(text: str | bytes, source: str, wanted: str = "restore it from its source") -> Any:
    """Parse JSON text.

    Args:
        source: names the text in messages.

    Raises:
        InputError: no UTF-8, no JSON, NaN or Infinity (also a number too large to be one), more than
            `MAXIMUM_DEPTH` levels.
    """
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8-sig")
        content = json.loads(text, parse_constant=_no_number, parse_float=_finite, parse_int=_bounded)
    except RecursionError:
        raise InputError(f"{source} is nested more than {MAXIMUM_DEPTH} levels deep: {wanted}.") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{source} is no UTF-8 text (byte {error.start}): {wanted}.") from None
    except ValueError as error:
        raise InputError(f"{source} is not valid JSON ({error}): {wanted}.") from None
    if _deeper_than(content, MAXIMUM_DEPTH):
        raise InputError(f"{source} is nested more than {MAXIMUM_DEPTH} levels deep: {wanted}.")
    return content


def to_json(content: Any, indent: int | None = 1) -> str:
    """Write JSON text that every reader takes.

    Raises:
        ValueError: a number in it is not finite.
    """
    text = json.dumps(content, indent=indent, ensure_ascii=False, allow_nan=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # half a character, as names that are no UTF-8 hold: escapes can write it
        return json.dumps(content, indent=indent, allow_nan=False)
    return text


def _no_number(literal: str) -> None:
    raise ValueError(f"it holds {literal}, which is no number")


def _finite(literal: str) -> float:
    value = float(literal)
    if not math.isfinite(value):
        raise ValueError(f"the number {literal[:40]} is too large")
    return value


def _bounded(literal: str) -> int:
    if len(literal) > MAXIMUM_DIGITS:
        raise ValueError(f"the number {literal[:40]} is too large")
    return int(literal)


def _deeper_than(content: Any, levels: int) -> bool:
    layer = [content]
    for _level in range(levels):
        layer = [
            inner
            for outer in layer
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not layer:
            return False
    return True


def _type_name(content: Any) -> str:
    names = {list: "a list", str: "a text", bool: "true or false", int: "a number", float: "a number"}
    return names.get(type(content), "null")
