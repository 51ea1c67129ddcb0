"""The parser of a command, options that several commands share, and what they mean.

command = commands.add_parser("report", help="write a report", description="...", examples=("report results/case_1",))
command.add_argument("--output", required=True, type=Path)  # in the group of required options, with its short form
command.set_defaults(run=run)  # run(options, console) calls one function of the package below
"""

import argparse
import contextlib
import math
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from ..case.case_file import read_case
from ..case.case_folders import case_folders, deeper_cases
from ..inference.engines import AUTO, ENGINES
from ..review.flags import FlagRules, check_limits, read_rules
from ..util.errors import InputError, UsageError
from ..util.input_files import path_problem
from .console import Console, terminal_line

if TYPE_CHECKING:
    from ..inference.model import Model
    from ..models.bundle import Bundle

PROGRAM = "segwithu"
_SHORT = {"--output": "-o", "--model": "-m"}

WRITTEN = ("output", "run_folder")
"""Options whose last folder is made here."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?", re.IGNORECASE)
_SHOWN = 40
_NUMBER = re.compile(r"[-+]?[\d.]+(mm|px)?,?")


class _HelpFormatter(argparse.HelpFormatter):
    """Wraps descriptions, and leaves examples as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if text.startswith("examples:") else super()._fill_text(text, width, indent)


class CommandParser(argparse.ArgumentParser):
    """Parser of the program or of one command; errors are one sentence, as all others.

    Args:
        examples: calls, without the program's name; a test parses them.
        shared: whether it has the options that every command has.

    Attributes:
        commands: parsers of its commands by name; empty for a command.
    """

    def __init__(self, *, examples: Sequence[str] = (), shared: bool = True, **given: Any) -> None:
        if examples:
            given["epilog"] = "\n".join(["examples:", *(f"  {PROGRAM} {example}" for example in examples)])
        super().__init__(add_help=False, formatter_class=_HelpFormatter, **given)
        self.commands: dict[str, CommandParser] = {}
        self.needed = self.add_argument_group("required options")
        self.others = self.add_argument_group("options")
        self.add_argument("-h", "--help", action="help", help="show this help message and exit")
        if shared:
            self.add_argument("--json", action="store_true", help="print JSON lines for machines instead of words")
            self.add_argument("--debug", action="store_true", help="show the Python traceback of an error")

    def add_argument(self, *names: Any, **given: Any) -> argparse.Action:
        """Add an argument as `argparse` does, required options in a group of their own."""
        if not names[0].startswith("-"):
            return super().add_argument(*names, **given)
        if names[0] in _SHORT:
            names = (_SHORT[names[0]], *names)
        return (self.needed if given.get("required") else self.others).add_argument(*names, **given)

    def add_mutually_exclusive_group(self, *, required: bool = False) -> argparse._MutuallyExclusiveGroup:
        """Add options that exclude each other, to the group that they belong to."""
        return (self.needed if required else self.others).add_mutually_exclusive_group(required=required)

    def add_subparsers(self, **given: Any) -> Any:
        """Add commands as `argparse` does, and keep their parsers."""
        actions = super().add_subparsers(**given)
        self.commands = actions.choices
        return actions

    def leaves(self) -> "Iterator[CommandParser]":
        """Yield every parser without commands."""
        if not self.commands:
            yield self
        for child in self.commands.values():
            yield from child.leaves()

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """Parse as `argparse` does; a region of interest may begin with a minus."""
        words: list[str] = []
        for word in sys.argv[1:] if args is None else args:
            if words and words[-1] == "--roi" and re.match(r"-[\d.]", word):
                words[-1] = f"--roi={word}"
            else:
                words.append(word)
        return super().parse_args(words, namespace)

    def error(self, message: str) -> NoReturn:
        """Print one sentence and exit with 2; `--help` has the usage."""
        rest = message.removeprefix("unrecognized arguments: ")
        if rest != message and all(_NUMBER.fullmatch(word) for word in rest.split()):
            message = f"{message} (numbers of one option go together, with commas and without blanks)"
        Console().error(f"{message}; see '{self.prog} --help'.")
        sys.exit(2)


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
    """Make a reader of integers between two limits, for argparse."""

    def read(text: str) -> int:
        if not re.fullmatch(r"[+-]?[0-9]{1,18}", text.strip()) or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"{_short(text)} is not an integer between {low} and {high}")
        return int(text)

    return read


def finite_number(text: str) -> float:
    """Read a number for argparse; refuse NaN and infinity, which pass every comparison."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{_short(text)} is not a number")
    return value


def add_threads_option(command: argparse.ArgumentParser) -> None:
    """Add `--threads`; `main` heeds it before torch is loaded."""
    command.add_argument(
        "--threads", type=whole_number(1, 1024), metavar="N", help="CPU threads (default: the cores it may use)"
    )


def add_network_option(command: argparse.ArgumentParser) -> None:
    """Add `--network`, for commands that build a user's own network; `main` registers it."""
    command.add_argument(
        "--network", metavar="FILE.py:FACTORY", help="your own network, for models whose backbone it is"
    )


def add_engine_option(command: argparse.ArgumentParser) -> None:
    """Add `--engine`."""
    command.add_argument(
        "--engine",
        choices=ENGINES,
        default=AUTO,
        help="what runs the network: auto (default: torch where it has a graphics card, else openvino where model and "
        "computer have what it needs, else torch), torch or openvino",
    )


def opened_model(
    bundle: "Bundle",
    engine: str,
    console: Console,
    device: str = AUTO,
    head: str | None = None,
    begun: Sequence[Path] = (),
) -> "Model":
    """Load a model into the engine that was asked for, or that suits best, and print which.

    Args:
        head: None for the model's default.
        begun: case folders of a run that is resumed: with "auto" their engine is taken.

    Raises:
        UsageError: the engine is not here.
    """
    from ..inference.engines.choice import engine_of_cases
    from ..inference.model import Model

    made_with = engine_of_cases(begun) if engine == AUTO else None
    try:
        model = Model(bundle, device, head, made_with or engine)
    except UsageError as error:
        if made_with is None:
            raise
        reason = str(error)
        raise UsageError(
            f"The cases in {begun[0].parent} were made with the engine {made_with}, but: {reason}"
        ) from error
    if made_with is not None:
        model.engine_reason = f"as the cases in {begun[0].parent}"
    facts = {"event": "engine", "model": model.bundle.name, "device": model.device, "engine": model.engine.identity()}
    text = f"{model.bundle.name}: 100% loaded, {model.engine_words}"
    console.step(terminal_line(text), {**facts, "reason": model.engine_reason})
    return model


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
