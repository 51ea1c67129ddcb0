"""What arguments of every command must be, said before any work in the words of the option."""

import argparse
import math
import re
from collections.abc import Callable
from pathlib import Path

from ..errors import UsageError
from ..input_files import path_problem

WRITTEN = ("output", "run_folder")
"""Options whose last folder is made here."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?", re.IGNORECASE)
_SHOWN = 40


def check_arguments(options: argparse.Namespace) -> None:
    """Refuse paths that no file system can have, and control characters in the names of what is to be made.

    Raises:
        UsageError: names the option and the value.
    """
    for option, value in vars(options).items():
        for path in value if isinstance(value, list) else [value]:
            if not isinstance(path, str | Path):
                continue
            problem = path_problem(str(path)) if isinstance(path, Path) or "\0" in path else None
            if problem is None and option in WRITTEN and _CONTROL.search(str(path)):
                problem = "holds a control character"
            if problem:
                raise UsageError(f"{_named(option)}: {_short(str(path))} {problem}, as no path may: give another.")


def check_folder_name(name: str, option: str) -> None:
    """Refuse a name that some system cannot have as a folder's: results travel between computers.

    Raises:
        UsageError: names the option, the name and the reason.
    """
    problem = None
    if _CONTROL.search(name):
        problem = "it holds a control character"
    elif "/" in name or "\\" in name:
        problem = "it holds a path separator"
    elif _RESERVED.fullmatch(name) or name.endswith((".", " ")):
        problem = "Windows has no such folder"
    if problem:
        raise UsageError(f"{_short(name)} cannot be the name of a folder, for {problem}: choose another with {option}.")


def whole_number(low: int, high: int) -> Callable[[str], int]:
    """A reader of whole numbers between two limits, for argparse."""

    def read(text: str) -> int:
        if not re.fullmatch(r"[+-]?[0-9]{1,18}", text.strip()) or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"{_short(text)} is no whole number from {low} to {high}")
        return int(text)

    return read


def finite_number(text: str) -> float:
    """A reader of numbers for argparse that takes neither NaN nor infinity, which pass every comparison."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{_short(text)} is no number")
    return value


def _named(option: str) -> str:
    return {"cases": "CASE", "folder": "the folder", "source": "FILE"}.get(option, f"--{option.replace('_', '-')}")


def _short(text: str) -> str:
    """Quoted on one line, and cut where it is long."""
    return repr(text) if len(text) <= _SHOWN else f"{text[:_SHOWN]!r}..."
