"""Arguments that several commands share: checks of paths and numbers before any work, and the limits of flags."""

import argparse
import contextlib
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from ..case.case_file import read_case
from ..case.case_folders import case_folders, deeper_cases
from ..review.flags import FlagRules, check_limits, read_rules
from ..util.errors import InputError, UsageError
from ..util.input_files import path_problem
from .console import Console

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
    """Make a reader of whole numbers between two limits, for argparse."""

    def read(text: str) -> int:
        if not re.fullmatch(r"[+-]?[0-9]{1,18}", text.strip()) or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"{_short(text)} is no whole number from {low} to {high}")
        return int(text)

    return read


def finite_number(text: str) -> float:
    """Read a number for argparse; refuse NaN and infinity, which pass every comparison."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{_short(text)} is no number")
    return value


def add_threads_option(command: argparse.ArgumentParser) -> None:
    """Add `--threads`; `main` heeds it before torch is loaded."""
    command.add_argument(
        "--threads", type=whole_number(1, 1024), metavar="N", help="CPU threads (default: the cores it may use)"
    )


def add_cohort_options(command: argparse.ArgumentParser) -> None:
    """Add `--part` and `--dry-run`."""
    group = command.add_argument_group("many cases")
    group.add_argument(
        "--part",
        metavar="I/N",
        help="do only the I-th of N equal shares of the sorted cases, such as 3/8; runs of all shares may work at the "
        "same time. 'slurm' takes the place of this task in its SLURM array",
    )
    group.add_argument("--dry-run", action="store_true", help="print cases, memory, workers and hours; make nothing")


def add_flag_options(command: argparse.ArgumentParser) -> None:
    """Add a file of rules and an option a rule."""
    group = command.add_argument_group("flags", "a case is flagged beyond these limits (default: those of its model)")
    group.add_argument("--rules", type=Path, help='JSON file of limits, such as {"wrong_share": 0.2, "dice": 0.8}')
    group.add_argument(
        "--flag-wrong-share",
        type=finite_number,
        help="expected wrong volume of a structure above, as a share of its volume, or that of the whole case, missed "
        "tissue included, as a share of the segmented volume; such as 0.2",
    )
    group.add_argument(
        "--flag-soft-dice",
        type=finite_number,
        help="soft Dice of a structure below, the Dice that its probabilities expect; 0 to 1",
    )


def flag_rules(options: argparse.Namespace) -> FlagRules | None:
    """Return the rules that the options set; None if they set none, so that each case's own hold.

    Raises:
        UsageError: a limit is no limit.
    """
    given = {
        "wrong_share": options.flag_wrong_share,
        "case_share": options.flag_wrong_share,
        "soft_dice": options.flag_soft_dice,
    }
    given = {name: value for name, value in given.items() if value is not None}
    if options.rules is None and not given:
        return None
    return replace(read_rules(options.rules) if options.rules else FlagRules(), **given)


def asked_cases(paths: Sequence[Path], console: Console) -> list[Path]:
    """List the case folders that a call names, and note those that it leaves out.

    Raises:
        InputError: as `case_folders`.
    """
    folders = case_folders(paths)
    for sentence in deeper_cases(paths):
        console.note(sentence)
    return folders


def check_rules(folders: Sequence[Path], rules: FlagRules | None, console: Console) -> None:
    """Refuse limits that can act on none of the cases, and say where they act on some only; damaged cases are left out.

    Raises:
        UsageError: names the limit.
    """
    if rules is None or not rules.active:
        return
    cases = []
    for folder in folders:
        with contextlib.suppress(InputError):
            cases.append(read_case(folder))
    for note in check_limits(cases, rules):
        console.note(note)


def _named(option: str) -> str:
    return {"cases": "CASE", "folder": "the folder", "source": "FILE"}.get(option, f"--{option.replace('_', '-')}")


def _short(text: str) -> str:
    """Quoted on one line, and cut where it is long."""
    return repr(text) if len(text) <= _SHOWN else f"{text[:_SHOWN]!r}..."
