"""`segwithu check`: whether inputs and finished cases are whole, without segmenting anything."""

import argparse
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .console import Console, table

if TYPE_CHECKING:
    from ..case.check_files import Checked


def add_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add `check`."""
    command = commands.add_parser(
        "check",
        parents=[common],
        help="read inputs and finished cases only to know whether they are whole",
        description="Read images, DICOM series and finished case folders as the other commands would, and say what is "
        "wrong with each; nothing is segmented or written. Of a finished case its volumes are read and, where it is "
        "found, the image that it was made from: earlier versions took some damaged images without a word. "
        "Exit code 1 where one is refused or changed.",
    )
    command.add_argument(
        "places",
        nargs="+",
        type=Path,
        metavar="INPUT|CASE",
        help="image files, folders of DICOM series or in nnU-Net naming, case folders, or folders of any of these",
    )
    command.add_argument(
        "--images",
        action="append",
        default=[],
        type=Path,
        metavar="FOLDER",
        help="folder in which the images of finished cases lie; without, only those inside the case folders are read",
    )
    command.set_defaults(run=run)


def run(options: argparse.Namespace, console: Console) -> int:
    """Check all, print a table; 1 where something is refused or changed."""
    from ..case.check_files import Outcome, check_paths
    from ..imaging.reader_process import ReaderProcess

    console.started()
    found: list[Checked] = []
    with ReaderProcess() as reader:
        for one in check_paths(options.places, options.images, reader):
            found.append(one)
            _say(one, console)
    rows = [[str(one.source), one.kind, str(one.outcome)] for one in found]
    counts = Counter(str(one.outcome) for one in found)
    text = f"{table(['what', 'kind', 'outcome'], rows, words=(0, 1, 2))}\n{_summed_up(counts)}"
    console.result(text, {"checked": len(found), "outcomes": dict(counts)})
    return 1 if counts[Outcome.REFUSED] or counts[Outcome.CHANGED] else 0


def _say(one: "Checked", console: Console) -> None:
    from ..case.check_files import Outcome

    facts = {"source": str(one.source), "kind": one.kind, "outcome": str(one.outcome), **one.facts}
    console.step("", {"event": "checked", **facts, "warnings": list(one.sentences)})
    for sentence in one.sentences:
        if one.outcome in (Outcome.REFUSED, Outcome.CHANGED):
            console.error(sentence, source=str(one.source))
        else:
            console.note(sentence)


def _summed_up(counts: Counter[str]) -> str:
    return f"{counts.total()} checked: " + ", ".join(f"{count} {name}" for name, count in counts.most_common()) + "."
