"""Export cases of a list from Slicer by `segwithu export`, and the scene as one file."""

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import slicer

from SegWithUCore.case.case_file import read_case
from SegWithUCore.review.flags import FlagRules
from SegWithUCore.review.worklist_files import FORMAT
from SegWithUCore.util.atomic_files import TEMPORARY_PREFIX
from SegWithUCore.util.errors import InputError, OutputError

from ..i18n import _
from ..run.command import CommandEnd, CommandProcess
from ..run.private_folder import PrivateFolder
from .moved_images import MovedImages

FOLDER_NAME = "segwithu-export"


@dataclass(frozen=True)
class ExportRequest:
    """Cases to export, and how.

    Attributes:
        folders: the cases.
        output: the folder to be made.
        anonymous: without names, dates, identifiers and paths.
        keep_comments: of an anonymous export.
        rules: of flags; None for those of each case's model.
    """

    folders: Sequence[Path]
    output: Path
    anonymous: bool = False
    keep_comments: bool = False
    rules: FlagRules | None = None

    @property
    def names_file(self) -> Path:
        """Where an anonymous export keeps who is who."""
        return self.output.with_name(f"{self.output.name}-names.json")


def free_folder(parent: Path) -> Path:
    """Return a new folder name for an export; neither it nor its file of names exists yet."""
    number = 1
    while True:
        found = parent / (FOLDER_NAME if number == 1 else f"{FOLDER_NAME}-{number}")
        if not found.exists() and not ExportRequest((), found).names_file.exists():
            return found
        number += 1


class ExportJob:
    """Runs exports in a child process, one at a time.

    Args:
        process: that runs the command.
        new_folder: makes a private folder.
        moved: knows where images lie that were moved.
    """

    def __init__(self, process: CommandProcess, new_folder: Callable[[], PrivateFolder], moved: MovedImages) -> None:
        self._process, self._new_folder, self._moved = process, new_folder, moved

    def without_image(self, folders: Sequence[Path]) -> list[Path]:
        """List the cases whose images cannot be found; damaged cases are reported by the export itself."""
        return [folder for folder in folders if self._lacks_image(folder)]

    def start(
        self, request: ExportRequest, on_progress: Callable[[float, str], None], on_end: Callable[[CommandEnd], None]
    ) -> None:
        """Begin; everything else comes through the callbacks."""
        private = self._new_folder()
        listed = private.path / "cases.json"
        listed.write_text(json.dumps({"format": FORMAT, "cases": [self._row(f) for f in request.folders]}), "utf-8")
        arguments = ["export", "--list", str(listed), "--own-list", "--output", str(request.output)]
        arguments += ["--anonymous"] if request.anonymous else []
        arguments += ["--keep-comments"] if request.anonymous and request.keep_comments else []
        if request.rules is not None:
            rules = private.path / "rules.json"
            rules.write_text(json.dumps(request.rules.to_json()), "utf-8")
            arguments += ["--rules", str(rules)]
        had_names = request.names_file.exists()

        def end(ended: CommandEnd) -> None:
            private.remove()
            if not request.output.exists() and not had_names:
                with suppress(OSError):  # there is no such folder: then there is no file of names either
                    request.names_file.unlink()
            on_end(ended)

        self._process.start(arguments, request.output, on_progress, end)

    def _lacks_image(self, folder: Path) -> bool:
        try:
            case = read_case(folder)
            return not self._moved.is_at_recorded_path(folder, case) and self._moved.find(folder, case) is None
        except InputError:
            return False

    def _row(self, folder: Path) -> Mapping[str, Any]:
        row = {"folder": str(folder.absolute())}
        try:
            image = self._moved.find(folder, read_case(folder))
        except InputError:  # reported by the export, which reads the case too
            image = None
        return row if image is None else {**row, "image": str(image)}


def export_text(request: ExportRequest, ended: CommandEnd) -> str:
    """Return the message about the end of an export."""
    if ended.cancelled:
        return _("Export cancelled: nothing was written.")
    if ended.result is None:
        return " ".join(ended.errors)
    done = ended.result.get("exported") or []
    lines = [
        _("{count} of {all} cases are in {folder}.").format(
            count=len(done), all=len(request.folders), folder=request.output
        )
    ]
    if request.anonymous:
        lines.append(_("Who is who is in {file}: keep that file to yourself.").format(file=request.names_file))
        if request.keep_comments:
            lines.append(_("The comments are in it as they were written: read them before you send it."))
    return " ".join([*lines, *ended.errors])


def save_bundle(target: Path) -> Path:
    """Save the scene; an earlier file is replaced only by a whole one.

    Raises:
        OutputError: the folder cannot be written to, or the disk is full.
    """
    failed = _("Cannot write {path}: free some space or choose another place.").format(path=target)
    scene = slicer.mrmlScene
    try:
        work = Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX, dir=target.parent))
    except OSError as error:
        raise OutputError(failed) from error
    location = scene.GetURL(), scene.GetRootDirectory()
    try:
        # Under its own name in a folder beside: Slicer names the folder inside the bundle after the file.
        made = work / target.name
        if not slicer.util.saveScene(str(made)) or not made.is_file() or not made.stat().st_size:
            raise OutputError(failed)
        made.replace(target)
        location = str(target), str(target.parent)
    except OSError as error:
        raise OutputError(failed) from error
    finally:
        # Slicer remembers where it saved and offers that folder again.
        scene.SetURL(location[0] or "")
        scene.SetRootDirectory(location[1] or "")
        shutil.rmtree(work, ignore_errors=True)
    return target
