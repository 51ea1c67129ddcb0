"""`case.json` of a case folder, and which folders are cases. Needs nothing but Python, as Slicer's window does."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..atomic_files import TEMPORARY_PREFIX
from ..errors import InputError
from ..strict_json import read_json

CASE_FILE = "case.json"
CASE_FORMAT = "segwithu-case"
MARKS = ("segmentation.nii.gz", "regions.csv", "review.*.jsonl")
"""Files that show that a folder without a `case.json` was a case."""
MAXIMUM_BYTES = 16 << 20
"""Of `case.json`: ours have 30 kB, with a hundred structures about 1 MB."""
DAMAGED = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError)
"""What reading a value raises that is not what a case should hold."""


@contextmanager
def naming_case(folder: Path) -> Iterator[None]:
    """Say of which case something is wrong, in the block that reads what its files hold.

    Raises:
        InputError: a value is not what it should be, or the block says so; names the folder.
    """
    try:
        yield
    except DAMAGED as error:
        raise InputError(f"{folder} is damaged (case.json: {error!r:.200}): segment the case again.") from error
    except InputError as error:
        if str(folder) in str(error):
            raise
        raise InputError(f"{folder}: {error}") from error


def read_case(folder: Path) -> dict[str, Any]:
    """The content of a case folder's `case.json`.

    Raises:
        InputError: it is no case folder, or damaged.
    """
    path = folder / CASE_FILE
    if not path.exists():
        raise InputError(f"{folder} is no case folder (it has no {CASE_FILE}): give one that segment wrote.")
    case = read_json(path, "segment the case again", MAXIMUM_BYTES)
    if not isinstance(case, dict) or case.get("format") != CASE_FORMAT:
        raise InputError(f"{path} is not of a SegWithU case: give a folder that segment wrote.")
    return case


def case_folders(places: Sequence[Path]) -> list[Path]:
    """The case folders among `places` and directly inside them, each once, in the order given, then by name.

    A folder that was a case and lost its `case.json` is among them: reading it says what is wrong.

    Raises:
        InputError: a place is neither a case folder nor holds any.
    """
    found: dict[Path, Path] = {}
    for place in places:
        inside = [place] if (place / CASE_FILE).is_file() else list(_cases_inside(place))
        if not inside and not _was_a_case(place):
            raise InputError(f"{place} is no case folder and holds none: give folders that segment wrote.")
        for folder in inside or [place]:
            found.setdefault(folder.resolve(), folder)
    return list(found.values())


def _cases_inside(place: Path) -> Iterator[Path]:
    for folder in sorted(place.iterdir()) if place.is_dir() else []:
        hidden = folder.name.startswith((".", TEMPORARY_PREFIX))
        if folder.is_dir() and not hidden and ((folder / CASE_FILE).is_file() or _was_a_case(folder)):
            yield folder


def _was_a_case(folder: Path) -> bool:
    return any(next(folder.glob(mark), None) is not None for mark in MARKS)
