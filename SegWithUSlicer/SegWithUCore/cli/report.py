"""`segwithu report`: one HTML page about a segmented case."""

import argparse
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..util.errors import UsageError
from .arguments import add_flag_options, flag_rules
from .console import Console
from .workers import add_share_option, add_worker_options, each_case, own_share

if TYPE_CHECKING:
    from ..cluster.on_worker import Context
    from ..review.flags import FlagRules

ALIAS = "case-001"
"""What an anonymous report calls its case."""


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
    add_worker_options(command)
    command.set_defaults(run=run_report)


def run_report(options: argparse.Namespace, console: Console) -> int:
    """Write the reports; 1 if a case could not be reported."""
    from ..cluster.tasks import Task
    from ..report.case_report import REPORT_FILE

    console.started()
    if options.keep_comments and not options.anonymous:
        raise UsageError("--keep-comments goes with --anonymous: without it the comments are there anyway.")
    for option in ("image", "output"):
        if getattr(options, option) and len(options.cases) > 1:
            raise UsageError(f"--{option} goes with one CASE.")
    rules, folders = flag_rules(options), own_share(options, options.cases)
    targets = {str(folder): options.output or folder / REPORT_FILE for folder in folders}
    comments = options.keep_comments if options.anonymous else None
    tasks = [Task(str(f), (f.absolute(), targets[str(f)].absolute(), options.image, rules, comments)) for f in folders]
    failed = 0
    for answer in each_case(tasks, report_of_case, options, console):
        if answer.value is None:
            console.error(answer.reason)
            failed += 1
            continue
        target = targets[answer.task.name]
        console.result(f"Written to {target}.", {"case": answer.task.name, "report": str(target)})
    return 1 if failed else 0


def report_of_case(
    _context: "Context",
    folder: Path,
    target: Path,
    image: Path | None,
    rules: "FlagRules | None",
    keep_comments: bool | None,
) -> dict[str, Any]:
    """Write the report of one case, here or on a worker.

    Args:
        keep_comments: of an anonymous report; None for one with names.
    """
    from ..report.case_report import write_report

    if keep_comments is None:
        write_report(folder, target, image, rules)
        return {}
    from ..export.anonymous import anonymous_copy

    with tempfile.TemporaryDirectory() as private:
        copy = anonymous_copy(folder, Path(private) / ALIAS, ALIAS, image, keep_comments, image_needed=False)
        write_report(copy, target, None, rules)
    return {}
