"""Tables as CSV (RFC 4180) that spreadsheets show and never run: the one writer of every CSV file of ours."""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from .errors import InputError
from .input_files import read_bounded
from .whole_files import whole_file

MAXIMUM_BYTES = 256 << 20
_RUN_BY_SPREADSHEETS = ("=", "+", "-", "@")
"""What makes a spreadsheet take a text for a formula (OWASP, CSV injection); tab and CR are made blanks."""
_LINE_BREAKS = {0x7F, 0x85, 0x2028, 0x2029}
"""Control characters above the blank."""


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table as CSV text; texts that a spreadsheet would run get an apostrophe before them."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([harmless_cell(name) for name in columns])
    writer.writerows([harmless_cell(value) for value in row] for row in rows)
    return text.getvalue()


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a table, whole or not at all.

    Raises:
        OutputError: the place cannot be written to.
    """
    text = csv_text(columns, rows)
    with whole_file(path) as work:
        work.write_text(text, encoding="utf-8", newline="")


def read_csv(path: Path, wanted: str = "restore it from its source") -> list[list[str]]:
    """All rows of a CSV file, the header among them.

    Raises:
        InputError: missing, no regular file, too large, no UTF-8 or no CSV.
    """
    content = read_bounded(path, MAXIMUM_BYTES, wanted)
    try:
        return list(csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} is no CSV table ({error}): {wanted}.") from None


def harmless_cell(value: Any) -> Any:
    """A cell that spreadsheets show as it is; numbers stay numbers, and a harmless cell stays as it is.

    Line breaks and other control characters become spaces: a CR in a name begins a new row for readers that take
    it for the end of a line. A text that begins like a formula gets an apostrophe before it, and so does what
    follows a semicolon: spreadsheets of many countries part columns there.
    """
    if not isinstance(value, str):
        return value
    text = "".join(" " if ord(char) < 32 or ord(char) in _LINE_BREAKS else char for char in value)
    return ";".join(
        f"'{part}" if part.lstrip(' "').startswith(_RUN_BY_SPREADSHEETS) else part for part in text.split(";")
    )
