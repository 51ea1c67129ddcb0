"""Cases in one folder that a colleague opens elsewhere, offline: images, maps, regions, reviews, reports, worklist."""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import SystemRandom

import SimpleITK as sitk

from ..errors import InputError, OutputError, SegWithUError, UsageError
from ..imaging.volume import check_file
from ..progress import Progress
from ..review.anonymous import Aliases
from ..review.case_file import CASE_FILE, read_case
from ..review.flags import FlagRules, flags_of_case
from ..review.worklist import make_worklist
from ..review.worklist_files import write_worklist
from ..whole_files import TEMPORARY_PREFIX, sweep_leftovers, whole_file, whole_folder
from .anonymous_case import anonymous_copy
from .case_input import IMAGE_FILE, case_image
from .case_report import write_report
from .export_readme import README, readme

_LEFT_BEHIND = (".lock", ".html")
"""Endings of files that belong to where they lie."""


@dataclass(frozen=True)
class ExportSettings:
    """What is exported and how.

    Attributes:
        flagged: only cases that the rules flag.
        anonymous: without names, dates, identifiers and paths.
        keep_comments: in anonymous exports.
        rules: of flags; None for those of each case's model.
        images: where the images of cases lie now that were moved, by case folder.
        names_file: keeps which case is which in an anonymous export; None for `<output>-names.json` beside it.
    """

    flagged: bool = False
    anonymous: bool = False
    keep_comments: bool = False
    rules: FlagRules | None = None
    images: Mapping[Path, Path] = field(default_factory=dict)
    names_file: Path | None = None


@dataclass
class Exported:
    """What was exported.

    Attributes:
        names: of the cases in the export, with the folders that they came from.
        troubles: why others were not exported, one sentence each.
        skipped: cases that no rule flags.
        names_file: of an anonymous export, else None.
    """

    names: dict[str, Path] = field(default_factory=dict)
    troubles: list[str] = field(default_factory=list)
    skipped: int = 0
    names_file: Path | None = None


def export_cases(
    folders: Sequence[Path], output: Path, settings: ExportSettings, report: Progress | None = None
) -> Exported:
    """Write the export folder, whole or not at all; a case that fails does not stop the others.

    Raises:
        UsageError: the file of names would lie in the export, or the folder's name tells a case's name.
        InputError: nothing can be exported.
        OutputError: the folder or the file of names exists, or cannot be written.
    """
    found, aliases = Exported(), Aliases()
    if settings.anonymous:
        found.names_file = _names_file(output, settings, folders)
    sweep_leftovers(output.parent)
    with whole_folder(output) as work:
        order = list(folders)
        if settings.anonymous:  # numbers in the order of names would tell something of the names
            SystemRandom().shuffle(order)
        for number, folder in enumerate(order):
            if report is not None:
                report("exporting", number / len(folders), folder.name)
            _export_one(folder, work, settings, found, aliases)
        if not found.names:
            why = found.troubles[0] if found.troubles else f"no rule flags any of the {len(folders)} cases."
            raise InputError(f"Nothing was exported: {why}")
        worklist = make_worklist([work / name for name in found.names], settings.rules)
        write_worklist(worklist, work, settings.anonymous)
        (work / README).write_text(readme(len(found.names), settings.anonymous), encoding="utf-8")
        if found.names_file is not None:
            _write_names(found.names_file, found, aliases)
    return found


def _export_one(folder: Path, work: Path, settings: ExportSettings, found: Exported, aliases: Aliases) -> None:
    try:
        if settings.flagged and not flags_of_case(folder, settings.rules):
            found.skipped += 1
            return
        name = f"case-{len(found.names) + 1:03d}" if settings.anonymous else _free_name(folder, found)
        target, image_file = work / name, settings.images.get(folder)
        try:
            if settings.anonymous:
                anonymous_copy(folder, target, name, image_file, settings.keep_comments, aliases)
            else:
                _copy(folder, target, image_file)
            write_report(target, rules=settings.rules)
        except BaseException:
            shutil.rmtree(target, ignore_errors=True)
            raise
        found.names[name] = folder.resolve()
    except OutputError:
        raise
    except SegWithUError as error:
        found.troubles.append(str(error))


def _copy(folder: Path, target: Path, image_file: Path | None) -> None:
    """All files of a case, and the image that it was made from."""
    image = case_image(folder, read_case(folder), image_file)
    target.mkdir()
    for path in sorted(folder.iterdir()):
        if path.is_file() and not path.name.startswith(TEMPORARY_PREFIX) and path.suffix not in _LEFT_BEHIND:
            shutil.copyfile(path, target / path.name)
    if not (target / IMAGE_FILE).is_file():
        try:
            sitk.WriteImage(image, str(target / IMAGE_FILE), useCompression=True)
            check_file(target / IMAGE_FILE)
        except (RuntimeError, InputError) as error:
            raise OutputError(f"Cannot write the image of {folder}: the disk is full or read-only.") from error


def _free_name(folder: Path, found: Exported) -> str:
    """The name of a case folder, with a number where two have it; upper and lower case are one on many systems."""
    wanted, taken = folder.resolve().name, {name.casefold() for name in found.names}
    names = [wanted, *(f"{wanted}-{number}" for number in range(2, len(taken) + 3))]
    return next(name for name in names if name.casefold() not in taken)


def _names_file(output: Path, settings: ExportSettings, folders: Sequence[Path]) -> Path:
    path = settings.names_file or output.with_name(f"{output.name}-names.json")
    if path.resolve().is_relative_to(output.resolve()):
        raise UsageError(f"{path} would lie in the export, which must not tell names: give another place.")
    if path.exists():
        raise OutputError(f"{path} tells who is who in an earlier export: give --names another place.")
    for folder in folders:
        if (folder / CASE_FILE).is_file() and folder.resolve().name.casefold() in output.name.casefold():
            raise UsageError(f"The output folder {output.name} tells the name of a case: give it another name.")
    return path


def _write_names(path: Path, found: Exported, aliases: Aliases) -> None:
    content = {
        "format": "segwithu-names",
        "note": "Stays with the sender: tells which case and reviewer of the anonymous export is which.",
        "cases": {name: str(folder) for name, folder in found.names.items()},
        "reviewers": {alias: reviewer for reviewer, alias in aliases.reviewers.items()},
    }
    with whole_file(path) as work:
        work.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        if os.name == "posix":
            work.chmod(0o600)
