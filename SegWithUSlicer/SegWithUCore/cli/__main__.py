"""`segwithu`: segmentation with uncertainty from the command line."""

import argparse
import os
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import NoReturn

from ..util.errors import INTERRUPTED, SegWithUError
from ..util.failures import failure_message
from ..util.interruption import heard_soon
from ..util.memory import keep_freed_memory
from ..util.processor import use_threads
from ..version import __version__
from . import calibrate, demo, evaluate, export, import_model, masks, models, review, segment, train, train_model
from .arguments import PROGRAM, CommandParser, check_arguments
from .console import CANCELLED, Console, ReaderLeftError, reader_left, silence

COMMANDS = (segment, masks, review, export, models, import_model, train_model, train, calibrate, evaluate, demo)
READER_LEFT = 141


def parser(
    with_plugins: bool = False, modules: Sequence[ModuleType] = COMMANDS, program: str = PROGRAM
) -> CommandParser:
    """Build the whole command line; each command's module adds its part.

    Args:
        modules: that add commands.
        program: how it is called.
        with_plugins: with the export formats of installed packages, which are imported for it.
    """
    top = CommandParser(
        prog=program,
        shared=False,
        description="Segment medical images and say where the segmentation may be wrong. "
        "For research, not for clinical use.",
    )
    top.add_argument("--version", action="version", version=f"segwithu {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in modules:
        module.add_commands(commands)
    if with_plugins:
        export.add_plugins(top.commands["export"])
    return top


def main(
    arguments: Sequence[str] | None = None, modules: Sequence[ModuleType] = COMMANDS, program: str = PROGRAM
) -> int:
    """Run a command of these modules; returns the exit code.

    0 done, 1 the work failed, 2 the call is wrong, 130 it was cancelled by Ctrl-C or SIGTERM, 141 (as of programs that
    the signal SIGPIPE ends) the reader of the output has ended.
    """
    try:
        try:
            words = sys.argv[1:] if arguments is None else arguments
            return _run(parser(list(words[:1]) == ["export"], modules, program).parse_args(words))
        finally:
            sys.stdout.flush()  # what argparse printed
    except ReaderLeftError:
        return READER_LEFT
    except KeyboardInterrupt:
        if arguments is None:
            _end_at_once()
        return INTERRUPTED
    except OSError as error:
        if not reader_left(error):
            raise
        silence(sys.stdout)
        return READER_LEFT


def _end_at_once() -> NoReturn:
    """End a cancelled program: nothing is left to do, and taking torch down takes seconds on a busy computer."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(INTERRUPTED)


def _run(options: argparse.Namespace) -> int:
    console = Console(options.json)
    keep_freed_memory()
    try:
        with heard_soon(lambda: console.on_cancel()):
            check_arguments(options)
            if getattr(options, "network", None):
                from ..network.backbones.user_network import register_network

                register_network(options.network)
            if hasattr(options, "threads"):
                use_threads(options.threads)
            return int(options.run(options, console))
    except KeyboardInterrupt as interrupt:
        if not isinstance(interrupt, ReaderLeftError):
            console.error(CANCELLED)
        raise
    except Exception as error:  # noqa: BLE001 - the last resort of a program: say it in one sentence
        console.error(failure_message(error))
        if options.debug:
            console.trace(error)
        return error.exit_code if isinstance(error, SegWithUError) else 1


if __name__ == "__main__":
    sys.exit(main())
