"""`segwithu`: segmentation with uncertainty from the command line."""

import argparse
import signal
import sys
import traceback
from collections.abc import Sequence
from types import FrameType

from .. import __version__
from ..errors import SegWithUError
from . import demo, evaluate, models, segment, train
from .console import Console

COMMANDS = (segment, models, train, evaluate, demo)


def parser() -> argparse.ArgumentParser:
    """The whole command line; each command's module adds its part."""
    top = argparse.ArgumentParser(
        prog="segwithu",
        description="Segment medical images and say where the segmentation may be wrong. "
        "For research, not for clinical use.",
    )
    top.add_argument("--version", action="version", version=f"segwithu-slicer {__version__}")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="print JSON lines for machines instead of words")
    common.add_argument("--debug", action="store_true", help="show the Python traceback of an error")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in COMMANDS:
        module.add_commands(commands, common)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0 done, 1 the work failed, 2 the call is wrong."""
    options = parser().parse_args(arguments)
    console = Console(options.json)
    signal.signal(signal.SIGTERM, _interrupt)  # clean up as for Ctrl-C when a scheduler stops us
    try:
        return int(options.run(options, console))
    except KeyboardInterrupt:
        console.error("cancelled; nothing half-written was left behind.")
        return 1
    except SegWithUError as error:
        console.error(str(error))
        code = error.exit_code
    except MemoryError:
        console.error("there is not enough memory for this: give a smaller region of interest with --roi.")
        code = 1
    except Exception as error:  # noqa: BLE001 - the last resort of a program: say it in one sentence
        console.error(f"unexpected {type(error).__name__}: {error} (run again with --debug and report it).")
        code = 1
    if options.debug:
        traceback.print_exc()
    return code


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
