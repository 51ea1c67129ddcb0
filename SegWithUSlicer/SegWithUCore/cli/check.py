"""`segwithu check`: whether inputs, finished cases and models are whole, without segmenting anything."""

import argparse
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..util.errors import InputError, UsageError
from ..util.input_files import is_there
from ..util.paths import BUNDLE_FILE
from .console import Console, table

if TYPE_CHECKING:
    from ..case.check_files import Checked
    from ..io.input_reader import InputReader


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
    from ..case.check_files import Outcome
    from ..io.reader_process import ReaderProcess

    console.started()
    found: list[Checked] = []
    with ReaderProcess() as reader:
        for one in _each(options, reader):
            found.append(one)
            _say(one, console)
    rows = [[str(one.source), one.kind, str(one.outcome)] for one in found]
    counts = Counter(str(one.outcome) for one in found)
    text = f"{table(['what', 'kind', 'outcome'], rows, words=(0, 1, 2))}\n{_summed_up(counts)}"
    console.result(text, {"checked": len(found), "outcomes": dict(counts)})
    return 1 if counts[Outcome.REFUSED] or counts[Outcome.CHANGED] else 0


def _each(options: argparse.Namespace, reader: "InputReader") -> "Iterator[Checked]":
    from ..case.check_files import check_paths

    for place in options.places:
        folder = _model_folder(place)
        yield from check_paths([place], options.images, reader) if folder is None else [_check_model(folder)]


def _model_folder(place: Path) -> Path | None:
    """Find the folder of a model that is named, or lies there; None for anything else."""
    from ..models.registry import resolve_model

    if not is_there(place / BUNDLE_FILE) and is_there(place):
        return None
    try:
        return resolve_model(str(place)).folder
    except UsageError:
        return None
    except InputError:
        return place


def _check_model(folder: Path) -> "Checked":
    """Check that a model is whole."""
    from ..case.check_files import Checked, Outcome
    from ..models.bundle_files import check_whole

    try:
        bundle = check_whole(folder)
    except InputError as error:
        return Checked(folder, "model", Outcome.REFUSED, (str(error),))
    facts = {"model": bundle.name, "version": bundle.about["version"]}
    return Checked(folder, "model", Outcome.WHOLE, (), facts)


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
