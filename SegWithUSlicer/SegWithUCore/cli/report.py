"""`segwithu report`: one page about a segmented case that opens anywhere, offline, and prints on A4."""

import argparse
import tempfile
from pathlib import Path
from typing import Any

from ..errors import UsageError
from .console import Console
from .flag_options import add_flag_options, flag_rules

ALIAS = "case-001"
"""What an anonymous report calls its case."""


def add_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add `report`."""
    command = commands.add_parser(
        "report",
        parents=[common],
        help="write a report of a segmented case as one HTML page",
        description="Write one HTML page about a case: figures, flags, pictures of its regions in three planes, "
        "verdicts, audit trail, versions and hashes. It loads nothing from elsewhere.",
    )
    command.add_argument("case", type=Path, metavar="CASE", help="case folder that segment wrote")
    command.add_argument("--image", type=Path, help="where the image of the case lies now, if it was moved")
    command.add_argument("--output", type=Path, metavar="FILE", help="the page (default: report.html in the case)")
    command.add_argument("--regions", type=int, default=12, metavar="N", help="regions with pictures (12)")
    command.add_argument("--anonymous", action="store_true", help="without names, dates, paths and comments")
    command.add_argument("--keep-comments", action="store_true", help="with --anonymous: keep the comments as they are")
    add_flag_options(command)
    command.set_defaults(run=run)


def run(options: argparse.Namespace, console: Console) -> int:
    """Write the report."""
    from ..report.case_report import REPORT_FILE, write_report

    console.started()
    if options.regions < 0:
        raise UsageError(f"--regions {options.regions}: give a number of regions that is not negative.")
    if options.keep_comments and not options.anonymous:
        raise UsageError("--keep-comments goes with --anonymous: without it the comments are there anyway.")
    rules, target = flag_rules(options), options.output or options.case / REPORT_FILE
    if options.anonymous:
        from ..export.anonymous import anonymous_copy

        with tempfile.TemporaryDirectory() as private:
            copy = anonymous_copy(
                options.case,
                Path(private) / ALIAS,
                ALIAS,
                options.image,
                options.keep_comments,
                image_needed=False,
            )
            write_report(copy, target, None, rules, options.regions)
    else:
        write_report(options.case, target, options.image, rules, options.regions)
    console.result(f"Written to {target}.", {"case": str(options.case), "report": str(target)})
    return 0
