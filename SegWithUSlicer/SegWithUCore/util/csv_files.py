"""Tables as CSV (RFC 4180) that spreadsheets show and never run: the one writer of every CSV file of ours."""

import contextlib
import csv
import io
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from .atomic_files import write_text
from .errors import InputError
from .input_files import read_bounded

MAXIMUM_BYTES = 256 << 20
_WANTED = "restore it from its source"
# What makes a spreadsheet take a text for a formula (OWASP, CSV injection); tab and CR are made blanks.
_RUN_BY_SPREADSHEETS = ("=", "+", "-", "@")
# Control characters with codes above that of the blank.
_LINE_BREAKS = {0x7F, 0x85, 0x2028, 0x2029}
# Texts that begin as formulas do and are plain numbers.
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?")
# Cells that need no closer look, as nearly all: numbers, and printable ASCII without a semicolon after a letter.
_PLAIN = re.compile(rf"{_NUMBER.pattern}|[A-Za-z][ -:<-~]*")


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Format a table as CSV; texts that a spreadsheet would run get an apostrophe before them."""
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
    write_text(path, csv_text(columns, rows))


def read_csv(path: Path) -> list[list[str]]:
    """All rows of a CSV file, the header among them.

    Raises:
        InputError: missing, no regular file, too large, no UTF-8 or no CSV.
    """
    return parse_csv(read_bounded(path, MAXIMUM_BYTES, _WANTED), str(path))


def parse_csv(text: str | bytes, source: str, wanted: str = _WANTED, delimiter: str = ",") -> list[list[str]]:
    """All rows of CSV text, the header among them.

    Args:
        source: names the text in messages.

    Raises:
        InputError: no UTF-8 or no CSV.
    """
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8-sig")
        return list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{source} is not a CSV table ({error}): {wanted}.") from None


# Spreadsheets of many countries separate columns by semicolons.
DELIMITERS = (",", ";", "\t")


def read_user_table(path: Path, columns: Sequence[str], wanted: str) -> list[dict[str, str]]:
    """Read a table as spreadsheets save it: with commas, semicolons or tabs, in UTF-8, UTF-16 or Latin-1.

    Args:
        columns: that it must have; they also determine the delimiter.
        wanted: what to do, the end of every sentence.

    Returns:
        Its rows by column name, blanks around names and cells left out.

    Raises:
        InputError: missing, no regular file, too large, no table, or without these columns.
    """
    text = _decoded(read_bounded(path, MAXIMUM_BYTES, wanted))
    header = text.lstrip().partition("\n")[0]
    for delimiter in DELIMITERS:
        found = [name.strip().strip('"').strip() for name in header.split(delimiter)]
        if set(columns) <= set(found):
            rows = parse_csv(text.lstrip(), str(path), wanted, delimiter)
            return records([[cell.strip() for cell in row] for row in rows if any(cell.strip() for cell in row)])
    named = ", ".join(f"'{name}'" for name in columns)
    raise InputError(f"{path} begins with {header.strip()[:80]!r} and needs the columns {named}: {wanted}.")


def _decoded(content: bytes) -> str:
    """Decode text of a spreadsheet: every byte is some character in Latin-1, which is tried last."""
    encodings = ("utf-16",) if content.startswith((b"\xff\xfe", b"\xfe\xff")) else ("utf-8-sig", "latin-1")
    for encoding in encodings:
        with contextlib.suppress(UnicodeDecodeError):
            return content.decode(encoding)
    return content.decode("latin-1")


def records(rows: Sequence[Sequence[str]]) -> list[dict[str, str]]:
    """Rows by the names of the first one; empty lines are left out, and cells that a row lacks are empty."""
    if not rows:
        return []
    header, *others = rows
    return [dict(zip_longest(header, row[: len(header)], fillvalue="")) for row in others if row]


def table_of(records_: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[Any]]]:
    """Columns, in the order in which they turn up, and rows of records; what a record lacks is empty."""
    columns = list(dict.fromkeys(name for record in records_ for name in record))
    return columns, [[record.get(name, "") for name in columns] for record in records_]


def harmless_cell(value: Any) -> Any:
    r"""Make a cell that spreadsheets show as it is; numbers stay numbers, and a harmless cell stays as it is.

    Line breaks and other control characters become spaces: a CR in a name begins a new row for readers that take
    it for the end of a line. A text that begins like a formula gets an apostrophe before it, and so does what
    follows a semicolon: spreadsheets of many countries separate columns there. Bytes of a file name that are not UTF-8
    are written as escapes ("\xfc"), since no table could hold them.
    """
    if not isinstance(value, str) or _PLAIN.fullmatch(value):
        return value
    text = "".join(_harmless_character(char) for char in value)
    return ";".join(f"'{part}" if _is_run(part) else part for part in text.split(";"))


def _harmless_character(char: str) -> str:
    code = ord(char)
    if 0xD800 <= code <= 0xDFFF:  # half a character, or a byte as Python keeps it in names (surrogateescape)
        return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"\\u{code:04x}"
    return " " if code < 32 or code in _LINE_BREAKS else char


def _is_run(part: str) -> bool:
    # Full-width signs count as the usual ones, and invisible characters as nothing.
    seen = "".join(char for char in unicodedata.normalize("NFKC", part) if unicodedata.category(char) != "Cf")
    text = seen.lstrip(' "')
    return text.startswith(_RUN_BY_SPREADSHEETS) and not _NUMBER.fullmatch(text)
