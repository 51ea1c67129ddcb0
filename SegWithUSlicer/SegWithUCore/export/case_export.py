"""Export cases to one folder that a colleague opens offline: images, maps, regions, reviews, reports, worklist."""

import contextlib
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import SystemRandom
from typing import TYPE_CHECKING, Any

import SimpleITK as sitk

from ..case.case_file import CASE_FILE, read_case, read_description
from ..case.case_image import IMAGE_FILE, OutsideError, case_image, image_among, is_there, trusted_path
from ..case.contents import Contents, case_contents
from ..case.segmentation_file import REVIEWED_PATTERN, check_reviewed, reviewed_name
from ..io.volume import check_file, itk_messages_kept_off_the_terminal
from ..report.case_report import REPORT_FILE, write_report
from ..review.flags import FlagRules, flags_of_case
from ..review.log_format import read_log
from ..review.reviewer import Aliases
from ..review.reviews import LOG_PATTERN
from ..review.worklist import make_worklist
from ..review.worklist_files import write_worklist
from ..util.atomic_files import atomic_file, atomic_folder
from ..util.errors import InputError, OutputError, SegWithUError, UsageError
from ..util.folder_entries import check_link
from ..util.progress import Progress
from ..util.strict_json import to_json
from .anonymous import anonymous_copy
from .each_case import EachCase, each_outcome, exported, free_name, here
from .readme import README, readme

if TYPE_CHECKING:
    from ..cluster.on_worker import Context

_PART_BYTES = 1 << 20


@dataclass(frozen=True)
class ExportSettings:
    """What is exported and how.

    Attributes:
        flagged: only cases that the rules flag.
        anonymous: without names, dates, identifiers and paths.
        keep_comments: in anonymous exports.
        rules: of flags; None for those of each case's model.
        images: where the images of cases lie now that were moved, by case folder.
        image_folders: where the images of all other cases are looked for that do not lie in their case folders.
    """

    flagged: bool = False
    anonymous: bool = False
    keep_comments: bool = False
    rules: FlagRules | None = None
    images: Mapping[Path, Path] = field(default_factory=dict)
    image_folders: Sequence[Path] = ()


@dataclass
class Exported:
    """What was exported.

    Attributes:
        names: of the cases in the export, with the folders that they came from.
        troubles: why others were not exported, one sentence each.
        left_out: files of the exported cases that were not taken along, one sentence each.
        notes: on files that were, one sentence each.
        skipped: cases that no rule flags.
        names_file: keeps which case is which in an anonymous export, beside it; else None.
    """

    names: dict[str, Path] = field(default_factory=dict)
    troubles: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    skipped: int = 0
    names_file: Path | None = None


class NothingExportedError(InputError):
    """No case could be exported.

    Attributes:
        troubles: why, one sentence for each case but the one in the message.
    """

    def __init__(self, found: Exported, cases: int) -> None:
        first, *self.troubles = found.troubles or [f"no rule flags any of the {cases} cases."]
        super().__init__(f"Nothing was exported: {first}")


def export_cases(
    folders: Sequence[Path],
    output: Path,
    settings: ExportSettings,
    report: Progress | None = None,
    each: EachCase = here,
) -> Exported:
    """Write the export folder, whole or not at all; a case that fails does not stop the others.

    Args:
        each: does the cases, in this process or on workers that see the folder of `output`.

    Raises:
        UsageError: the folder's name reveals a case's name.
        NothingExportedError: no case can be exported.
        OutputError: the folder or the file of names exists, or cannot be written.
    """
    found, aliases = Exported(), Aliases()
    if settings.anonymous:
        found.names_file = names_file_of(output, folders)
    with export_folder(output, found, aliases) as work:
        named = named_cases(folders, settings, found)
        if settings.anonymous:
            aliases.reviewers.update(reviewers_of(named.values()).reviewers)
        place = work.absolute()
        arguments = {
            name: (folder.absolute(), place / name, of_case(folder, settings), aliases.reviewers)
            for name, folder in named.items()
        }
        try:
            done = each_outcome(each, arguments, exported_case, named, "exporting", report)
        except OutputError as error:
            raise OutputError(str(error).replace(str(place), str(output)).replace(str(work), str(output))) from error
        for name, folder in named.items():
            value, why = done[name]
            if value is None:
                found.troubles.append(why)
            else:
                found.names[name] = folder.resolve()
                found.left_out += value["left_out"]
                found.notes += [f"{name}: {note}" for note in value["notes"]]
        if not found.names:
            raise NothingExportedError(found, len(folders))
        worklist = make_worklist([work / name for name in found.names], settings.rules)
        write_worklist(worklist, work, settings.anonymous)
        (work / README).write_text(readme(len(found.names), settings.anonymous), encoding="utf-8")
    return found


@contextlib.contextmanager
def export_folder(output: Path, found: Exported, aliases: Aliases) -> Iterator[Path]:
    """Yield a folder that becomes the export, together with its file of names, or neither; raises as they do."""
    with contextlib.ExitStack() as undo:
        with atomic_folder(output) as work:
            yield work
            if found.names_file is not None:
                write_names(found.names_file, found, aliases)
                undo.callback(found.names_file.unlink, missing_ok=True)
        undo.pop_all()


def named_cases(folders: Sequence[Path], settings: ExportSettings, found: Exported) -> dict[str, Path]:
    """Name the cases that are to be exported, before any of them is.

    Args:
        found: is told how many are skipped, and why others cannot be exported.
    """
    order, named = list(folders), dict[str, Path]()
    if settings.anonymous:  # numbers in the order of names would reveal something of the names
        SystemRandom().shuffle(order)
    for folder in order:
        try:
            if settings.flagged and not flags_of_case(folder, settings.rules):
                found.skipped += 1
                continue
            check_link(folder, "take it out")
            if folder.is_symlink():
                raise InputError(f"{folder} is a link to {folder.resolve()}: give that folder itself.")
            case_contents(folder)
        except SegWithUError as error:
            sentence = str(error)
            found.troubles.append(sentence if str(folder) in sentence else f"{folder}: {sentence}")
            continue
        named[f"case-{len(named) + 1:03d}" if settings.anonymous else free_name(folder, named)] = folder
    return named


def reviewers_of(folders: Iterable[Path]) -> Aliases:
    """Give each reviewer of the cases one alias; a log that cannot be read fails with its case."""
    aliases = Aliases()
    for folder in folders:
        with contextlib.suppress(SegWithUError):
            for path in case_contents(folder).reviews:
                if path.match(LOG_PATTERN):
                    for event in read_log(path).events:
                        aliases.reviewer(event.reviewer)
                elif reviewed_name(path):
                    aliases.reviewer_of_file(reviewed_name(path))
    return aliases


def of_case(folder: Path, settings: ExportSettings) -> ExportSettings:
    """Leave out of the settings what is said of other cases."""
    moved = settings.images.get(folder)
    return replace(settings, images={} if moved is None else {folder.absolute(): moved.absolute()})


def exported_case(
    _context: "Context", folder: Path, target: Path, settings: ExportSettings, reviewers: Mapping[str, str]
) -> dict[str, Any]:
    """Export one case, here or on a worker; its copy is whole or absent.

    Args:
        target: the folder to be made; its name is the case's in the export.
        reviewers: names and aliases, of anonymous exports.

    Raises:
        InputError: it cannot be exported.
    """

    def write() -> dict[str, Any]:
        contents, image_file = case_contents(folder), image_file_of(folder, settings)
        left_out = list(contents.left_out)
        notes = _check_versions(contents, folder)
        try:
            if settings.anonymous:
                aliases = Aliases(dict(reviewers))
                anonymous_copy(folder, target, target.name, image_file, settings.keep_comments, aliases)
            else:
                _copy(contents, folder, target, image_file)
            left_out += _report(target, settings)
        except BaseException:
            shutil.rmtree(target, ignore_errors=True)
            raise
        return {"left_out": left_out, "notes": notes}

    return exported(write, folder, {str(target): str(folder)})


def _check_versions(contents: Contents, folder: Path) -> list[str]:
    """Check that the reviewers' versions of the segmentation belong to the case, and return notes on them.

    Raises:
        InputError: as `check_reviewed`.
    """
    case = read_case(folder)
    paths = [path for path in contents.reviews if path.match(REVIEWED_PATTERN)]
    return [note for path in paths if (note := check_reviewed(path, folder, case))]


def _report(target: Path, settings: ExportSettings) -> list[str]:
    """Write the report; a Slicer in which the engine is not installed exports without, and says so."""
    try:
        write_report(target, rules=settings.rules)
    except ModuleNotFoundError as error:
        return [f"{REPORT_FILE} of {target.name}: it needs the package {error.name}, which is missing here."]
    return []


def image_file_of(folder: Path, settings: ExportSettings) -> Path | None:
    """Where the image of a case lies that is neither in its folder nor where this user segmented it; None if it is.

    Raises:
        InputError: it is not in the folders of images.
    """
    if folder in settings.images or not settings.image_folders:
        return settings.images.get(folder)
    case = read_case(folder)
    with contextlib.suppress(OutsideError):  # another user wrote where: it is looked for in the folders given
        if is_there(trusted_path(folder, case)):
            return None
    found = image_among(settings.image_folders, folder, case)
    if found is None:
        where = ", ".join(map(str, settings.image_folders))
        raise InputError(f"The image of {folder} is not in {where}: give another folder with --images.")
    return found


def _copy(contents: Contents, folder: Path, target: Path, image_file: Path | None) -> None:
    """Copy the known files of a case, and the image that it was made from.

    Raises:
        InputError: `case.json` or a volume is damaged, or is none.
    """
    image = case_image(folder, read_description(folder).raw, image_file)
    target.mkdir()
    for path in (*contents.model.values(), *contents.reviews):
        if path.name.endswith((".nii.gz", ".nrrd")):
            check_file(path)
        _copy_file(path, target / path.name)
    if not (target / IMAGE_FILE).is_file():
        try:
            with itk_messages_kept_off_the_terminal():
                sitk.WriteImage(image, str(target / IMAGE_FILE), useCompression=True)
            check_file(target / IMAGE_FILE)  # the image libraries report no error on a full disk
        except (RuntimeError, InputError) as error:
            raise OutputError(f"Cannot write the image of {folder}: the disk is full or read-only.") from error


def _copy_file(source: Path, target: Path) -> None:
    """Copy a file, and distinguish which of the two sides fails.

    Raises:
        InputError: it cannot be read.
        OSError: the copy cannot be written, which `atomic_folder` says in words.
    """
    try:
        with source.open("rb") as read, target.open("wb") as written:
            while True:
                try:
                    part = read.read(_PART_BYTES)
                except OSError as error:
                    raise InputError(f"{source} cannot be read ({error.strerror}): check the disk.") from error
                if not part:
                    return
                written.write(part)
    except PermissionError as error:
        raise InputError(f"{source} cannot be copied ({error.strerror}): check its permissions.") from error


def names_file_of(output: Path, folders: Sequence[Path]) -> Path:
    """Where an anonymous export keeps who is who.

    Raises:
        UsageError: the export's name reveals a case's name.
        OutputError: it exists.
    """
    path = output.with_name(f"{output.name}-names.json")
    if path.exists():
        raise OutputError(
            f"{path} tells who is who in an earlier export: move it, or give --output another name.",
            "names-file-exists",
        )
    for folder in folders:
        if (folder / CASE_FILE).is_file() and folder.resolve().name.casefold() in output.name.casefold():
            raise UsageError(f"The output folder {output.name} tells the name of a case: give it another name.")
    return path


def write_names(path: Path, found: Exported, aliases: Aliases) -> None:
    """Write who is who, for nobody but this user to read.

    Raises:
        OutputError: it cannot be written.
    """
    content = {
        "format": "segwithu-names",
        "note": "Stays with the sender: tells which case and reviewer of the anonymous export is which.",
        "cases": {name: str(folder) for name, folder in found.names.items()},
        "reviewers": {alias: reviewer for reviewer, alias in aliases.reviewers.items()},
    }
    with atomic_file(path, overwrite=False) as work:
        work.touch(mode=0o600)  # before it holds a name; Windows knows no such modes
        work.write_text(to_json(content) + "\n", encoding="utf-8")
