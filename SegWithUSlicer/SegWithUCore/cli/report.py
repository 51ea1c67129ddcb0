"""`segwithu report`: one HTML page about a segmented case."""

import argparse
from pathlib import Path
from typing import Any

from ..util.errors import SegWithUError, UsageError
from ..util.failures import failure_sentence
from .arguments import add_flag_options, flag_rules
from .console import Console
from .workers import add_share_option, own_share


def add_commands(commands: Any) -> None:
    """Add `report`."""
    command = commands.add_parser(
        "report",
        examples=("report results/case_1", "report results/case_1 --anonymous --output case.html"),
        help="write a report of a segmented case as one HTML page",
        description="Write one HTML page about a case: figures, flags, pictures of its regions in three planes, "
        "verdicts, audit trail, versions and hashes. It loads nothing from elsewhere.",
    )
    command.add_argument("cases", nargs="+", type=Path, metavar="CASE", help="case folders that segment wrote")
    command.add_argument("--image", type=Path, help="where the image of the case lies now, if it was moved")
    command.add_argument("--output", type=Path, metavar="FILE", help="the page (default: report.html in the case)")
    command.add_argument("--anonymous", action="store_true", help="without names, dates, paths and comments")
    command.add_argument("--keep-comments", action="store_true", help="with --anonymous: keep the comments as they are")
    add_flag_options(command)
    add_share_option(command)
    command.set_defaults(run=run_report)


def run_report(options: argparse.Namespace, console: Console) -> int:
    """Write the reports; 1 if a case could not be reported."""
    from ..export.case_export import write_anonymous_report
    from ..report.case_report import REPORT_FILE, write_report

    console.started()
    if options.keep_comments and not options.anonymous:
        raise UsageError("--keep-comments goes with --anonymous: without it the comments are there anyway.")
    for option in ("image", "output"):
        if getattr(options, option) and len(options.cases) > 1:
            raise UsageError(f"--{option} goes with one CASE.")
    rules, failed = flag_rules(options), 0
    for folder in own_share(options, options.cases):
        target = options.output or folder / REPORT_FILE
        try:
            if options.anonymous:
                write_anonymous_report(folder, target, options.image, rules, options.keep_comments)
            else:
                write_report(folder, target, options.image, rules)
        except SegWithUError as error:
            console.error(failure_sentence(error))
            failed += 1
        else:
            console.result(f"Written to {target}.", {"case": str(folder), "report": str(target)})
    return 1 if failed else 0
