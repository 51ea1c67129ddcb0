"""`segwithu check`: whether inputs, finished cases and models are whole, without segmenting anything."""

import argparse
from collections import Counter
from pathlib import Path
from typing import Any

from .console import Console, table


def add_commands(commands: Any) -> None:
    """Add `check`."""
    command = commands.add_parser(
        "check",
        examples=("check DATA",),
        help="read inputs, finished cases and models only to know whether they are whole",
        description="Read images, DICOM series, finished case folders and models as the other commands would, and say "
        "what is wrong with each; nothing is segmented or written. Of a finished case its volumes are read and, where "
        "it is found, the image that it was made from. "
        "Exit code 1 where one is refused or changed.",
    )
    command.add_argument(
        "places",
        nargs="+",
        type=Path,
        metavar="INPUT|CASE|MODEL",
        help="image files, folders of DICOM series or in nnU-Net naming, case folders, or folders of any of these; and "
        "models by name or folder",
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
    from ..case.check_files import BAD, Checked, check_paths
    from ..io.reader_process import ReaderProcess

    console.started()
    found: list[Checked] = []
    with ReaderProcess() as reader:
        for one in check_paths(options.places, options.images, reader):
            found.append(one)
            facts = {"source": str(one.source), "kind": one.kind, "outcome": str(one.outcome), **one.facts}
            console.step("", {"event": "checked", **facts, "warnings": list(one.sentences)})
            for sentence in one.sentences:
                if one.outcome in BAD:
                    console.error(sentence, source=str(one.source))
                else:
                    console.note(sentence)
    rows = [[str(one.source), one.kind, str(one.outcome)] for one in found]
    counts = Counter(str(one.outcome) for one in found)
    summed_up = ", ".join(f"{count} {name}" for name, count in counts.most_common())
    text = f"{table(['what', 'kind', 'outcome'], rows, words=(0, 1, 2))}\n{len(found)} checked: {summed_up}."
    console.result(text, {"checked": len(found), "outcomes": dict(counts)})
    return 1 if any(one.outcome in BAD for one in found) else 0
