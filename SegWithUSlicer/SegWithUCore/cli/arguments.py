"""The parser of a command, options that several commands share, and what they mean.

command = add_command(commands, "report", run)  # run(options, console) calls one function of the package below
command.add_shared("--output", "--threads")
command.add_flag("--anonymous", "without names")
"""

import argparse
import inspect
import math
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from ..case.case_folders import case_folders, deeper_cases
from ..inference.engines import AUTO, ENGINES
from ..inference.settings import RunSettings, parse_roi
from ..util.csv_files import read_user_table
from ..util.errors import InputError, UsageError
from ..util.input_files import is_plain, path_problem
from ..util.strict_json import read_json_object
from .console import Console, terminal_line

if TYPE_CHECKING:
    from ..inference.model import Model
    from ..models.bundle import Bundle

PROGRAM = "segwithu"
CASES_HELP = "TABLE.csv:ROLE (columns case, role; with folders images and labels next to it) or an nnU-Net folder"
_SHORT = {"--output": "-o", "--model": "-m"}
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?", re.IGNORECASE)
_SHOWN = 40
_NUMBER = re.compile(r"[-+]?[\d.]+(mm|px)?,?")


def int_between(low: int, high: int) -> Callable[[str], int]:
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


def axes(text: str) -> str:
    """Read an orientation such as RAS for argparse."""
    letters = text.upper()
    if len(letters) != 3 or {"LRAPIS".find(letter) // 2 for letter in letters} != {0, 1, 2}:
        raise argparse.ArgumentTypeError(f"{_short(text)} is not an orientation such as RAS")
    return letters


# Options of several commands, as `argparse` takes them.
SHARED: dict[str, dict[str, Any]] = {
    "--model": {"required": True, "help": "name of an installed model, or a bundle's folder"},
    "--output": {"required": True, "type": Path, "help": "folder to write"},
    "--overwrite": {"action": "store_true", "help": "replace existing results"},
    "--head": {"help": "uncertainty head other than the model's default"},
    "--device": {"default": AUTO, "help": "auto (default), cpu, cuda or mps"},
    "--engine": {
        "choices": ENGINES,
        "default": AUTO,
        "help": "auto (default: torch on a graphics card, else openvino where the model allows), torch or openvino",
    },
    "--network": {"metavar": "FILE.py:FACTORY", "help": "file of a user-defined network"},
    "--threads": {"type": int_between(1, 1024), "metavar": "N", "help": "CPU threads (default: the cores)"},
    "--allow-seen-cases": {
        "action": "store_true",
        "help": "allow cases that were used in another role; noted in the model card",
    },
    "--labels": {
        "nargs": "+",
        "default": [],
        "metavar": "LABEL=STRUCTURE",
        "help": "what labels (values, or names of segments or files) mean to the model, such as 17=hippocampus, a CSV "
        "table with the columns label and structure, an nnU-Net's dataset.json, or freesurfer, synthseg or "
        "totalsegmentator for the values of these programs; all others are left out",
    },
    "--folds": {"type": Path, "nargs": "+", "metavar": "RUN", "help": "training runs of cross-validation models"},
    "--fold-cases": {"metavar": "CASES", "help": "the training cases of all folds, such as TABLE.csv:train"},
}


class CommandParser(argparse.ArgumentParser):
    """Parser of the program or of one command; errors are one sentence, as all others.

    Args:
        shared: whether it has the options that every command has.

    Attributes:
        commands: parsers of its commands by name; empty for a command.
    """

    def __init__(self, *, shared: bool = True, **given: Any) -> None:
        super().__init__(add_help=False, formatter_class=_HelpFormatter, **given)
        self.commands: dict[str, CommandParser] = {}
        self.add_argument("-h", "--help", action="help", help="show this help message and exit")
        if shared:
            self.add_flag("--json", "print JSON lines instead of text")
            self.add_flag("--debug", "show the Python traceback of an error")

    def add_argument(self, *names: Any, **given: Any) -> argparse.Action:
        """Add an argument as `argparse` does, and with it the short name of an option that has one."""
        return super().add_argument(*([_SHORT[names[0]]] if names[0] in _SHORT else []), *names, **given)

    def add_flag(self, name: str, help_: str) -> None:
        """Add an option that is given or not."""
        self.add_argument(name, action="store_true", help=help_)

    def add_shared(self, *names: str, **changed: Any) -> None:
        """Add options of `SHARED`, with `changed` arguments."""
        for name in names:
            self.add_argument(name, **{**SHARED[name], **changed})

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
        """Parse as `argparse` does, and keep what was given as `given`; a region of interest may begin with a minus."""
        words: list[str] = []
        for word in sys.argv[1:] if args is None else args:
            if words and words[-1] == "--roi" and re.match(r"-[\d.]", word):
                words[-1] = f"--roi={word}"
            else:
                words.append(word)
        options = super().parse_args(words, namespace)
        options.given = tuple(words)
        return options

    def error(self, message: str) -> NoReturn:
        """Print one sentence and exit with 2; `--help` has the usage."""
        rest = message.removeprefix("unrecognized arguments: ")
        if rest != message and all(_NUMBER.fullmatch(word) for word in rest.split()):
            message = f"{message} (numbers of one option go together, with commas and without blanks)"
        Console().error(f"{message}; see '{self.prog} --help'.")
        sys.exit(2)


def add_command(commands: Any, name: str, run: Callable[[argparse.Namespace, Console], int]) -> CommandParser:
    """Add a command; its help is the docstring of the function that runs it, which ends with "Examples:"."""
    text, _, examples = inspect.cleandoc(run.__doc__ or "").partition("\n\nExamples:\n")
    epilog = "\n".join(["examples:", *(f"  {PROGRAM} {example.strip()}" for example in examples.splitlines())])
    summary = text.partition("\n")[0].removesuffix(".")
    command: CommandParser = commands.add_parser(name, help=summary, description=text, epilog=epilog)
    command.set_defaults(run=run)
    return command


class _HelpFormatter(argparse.HelpFormatter):
    """Wraps descriptions, and leaves examples as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if text.startswith("examples:") else super()._fill_text(text, width, indent)


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
            if problem is None and option == "output" and (_CONTROL.search(str(path)) or not is_plain(Path(path))):
                problem = "holds a control character, or is not UTF-8"
            if problem:
                name = {"cases": "CASE", "folder": "the folder", "source": "FILE"}.get(option, f"--{option}")
                raise UsageError(f"{name}: {_short(str(path))} {problem}, as no path may: give another.")


def check_folder_name(name: str, option: str) -> None:
    """Refuse a name that some system cannot have as a folder's: results travel between computers.

    Raises:
        UsageError: names the option and the name.
    """
    if _CONTROL.search(name) or re.search(r"[/\\]", name) or _RESERVED.fullmatch(name) or name.endswith((".", " ")):
        message = f"{_short(name)} cannot be the name of a folder, on Windows at least: choose another with {option}."
        raise UsageError(message, "wrong-usage")


def refuse_if(*refusals: tuple[Any, str]) -> None:
    """Refuse a call whose options contradict each other.

    Args:
        refusals: whether it is refused, and why.

    Raises:
        UsageError: the first reason that holds.
    """
    for is_wrong, reason in refusals:
        if is_wrong:
            raise UsageError(reason, "contradicting-options")


def opened_model(bundle: "Bundle", engine: str, console: Console, device: str, head: str | None = None) -> "Model":
    """Load a model into the engine that was asked for, or that suits best, and print which.

    Raises:
        UsageError: the engine is not here.
    """
    from ..inference.model import Model

    model = Model(bundle, device, head, engine)
    facts = {"event": "engine", "model": model.bundle.name, "device": model.device, "engine": model.engine.identity()}
    text = f"{model.bundle.name}: 100% loaded, {model.engine_words}"
    console.step(terminal_line(text), {**facts, "reason": model.engine_reason})
    return model


def named_labels(entries: Sequence[str]) -> dict[str, str]:
    """Read --labels: the structures that each label stands for.

    Raises:
        UsageError: an entry is not LABEL=STRUCTURE, or a label is given twice.
        InputError: the table cannot be read, or lacks a column; labels of a `dataset.json` are not single values.
    """
    from ..inference.given_mask import ALL, label_table

    if len(entries) == 1 and entries[0].isalnum() and label_table(entries[0].lower()).is_file():
        return {ALL: entries[0].lower()}
    pairs = [(label, structure) for label, _, structure in (entry.partition("=") for entry in entries)]
    unjudged = set[str]()
    if len(entries) == 1 and entries[0].lower().endswith(".csv"):
        rows = read_user_table(Path(entries[0]), ("label", "structure"), "give a table of labels")
        pairs = [(row["label"], row["structure"]) for row in rows]
        unjudged = {label for label, structure in pairs if not structure}
    elif len(entries) == 1 and entries[0].lower().endswith(".json"):
        labels = read_json_object(Path(entries[0]), "give the dataset.json of an nnU-Net").get("labels")
        pairs = [(str(value), name) for name, value in labels.items()] if isinstance(labels, dict) else []
        pairs = [(name, value) if name.isdecimal() else (value, name) for value, name in pairs]  # of nnU-Net 1
        pairs = [(value, name) for value, name in pairs if value != "0"]
        if not pairs or not all(value.isdecimal() for value, _ in pairs):
            message = f"{entries[0]} does not give each label one value: give --labels LABEL=STRUCTURE"
            raise InputError(f"{message}.", "unknown-label")
    for label, structure in pairs:
        if label in ("", ALL) or not (structure or label in unjudged) or [pair[0] for pair in pairs].count(label) > 1:
            raise UsageError(f"--labels {label}={structure}: give LABEL=STRUCTURE, each label once.")
    return dict(pairs)


def settings_of(options: argparse.Namespace) -> RunSettings:
    """Take the settings of a run from the options of its command, which have their names.

    Raises:
        UsageError: one is not what it should be.
    """
    given = {each.name: getattr(options, each.name) for each in fields(RunSettings)}
    structures = tuple(name for part in (options.structures or "").split(",") if (name := part.strip()))
    roi = None if options.roi is None else parse_roi(options.roi)
    return RunSettings(**{**given, "roi": roi, "structures": structures})


def setting_words(settings: RunSettings) -> list[str]:
    """Return the options that `settings_of` makes these settings of; none for what is as by default."""
    words = []
    for each in fields(RunSettings):
        value, name = getattr(settings, each.name), f"--{each.name.replace('_', '-')}"
        text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        words += [] if value == each.default else [name if value is True else f"{name}={text}"]
    return words


def asked_cases(paths: Sequence[Path], console: Console) -> list[Path]:
    """List the case folders that a call names, and note those that it leaves out.

    Raises:
        InputError: as `case_folders`.
    """
    folders = case_folders(paths)
    console.note(*deeper_cases(paths))
    return folders


def _short(text: str) -> str:
    """Quoted on one line, and cut where it is long."""
    return repr(text) if len(text) <= _SHOWN else f"{text[:_SHOWN]!r}..."
