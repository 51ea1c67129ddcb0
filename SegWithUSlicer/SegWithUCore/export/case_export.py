"""Export cases to one folder that a colleague opens offline: images, maps, regions, reviews, reports, worklist.

What other viewers need of a case: names and colours of labels for ITK-SNAP, and the commands that open it.
"""

import contextlib
import shlex
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from random import SystemRandom
from typing import Any

from ..case.case_file import CASE_FILE, SEGMENTATION_FILE, naming_case, read_case, read_description
from ..case.case_files import check_files, derived_notes, is_volume
from ..case.case_folders import REVIEWED_PATTERN, Contents, case_contents
from ..case.case_image import IMAGE_FILE, case_image, find_image
from ..case.case_regions import ERROR_PROBABILITY_FILE
from ..case.segmentation_file import check_reviewed
from ..case.structures_table import STRUCTURES_FILE, write_structures
from ..io.volume import check_file
from ..models.input_spec import Label
from ..report.case_report import REPORT_FILE, write_report
from ..review.worklist import make_worklist, read_for_worklist
from ..review.worklist_files import write_worklist
from ..util.atomic_files import atomic_file, atomic_folder
from ..util.errors import InputError, OutputError, SegWithUError, UsageError
from ..util.folder_entries import check_link
from ..util.progress import Progress, in_turn, silent
from ..util.strict_json import to_json
from .anonymous import anonymous_copy, write_volume
from .formats import Exported, ExportFormat, ExportSettings, ExportWriter

LABELS_FILE = "itksnap_labels.txt"


def label_description(case: Mapping[str, Any]) -> str:
    """Make a label description file of ITK-SNAP."""
    rows = ["# ITK-SnAP Label Description File\n# IDX   -R-  -G-  -B-  -A--  VIS MSH  LABEL\n"]
    for label in map(Label.from_json, case["structures"]):
        red, green, blue = label.color if label.value else (0, 0, 0)
        name, shown = label.name.replace('"', "'") if label.value else "Clear Label", int(label.value != 0)
        rows.append(f'{label.value:5d} {red:5d} {green:4d} {blue:4d} {shown:8d} {shown:2d} {shown:2d}    "{name}"\n')
    return "".join(rows)


def viewer_commands(folder: Path, case: Mapping[str, Any]) -> list[str]:
    """Return the commands that open an exported case in ITK-SNAP and FSLeyes."""
    image, drawn, risk, labels = (
        shlex.quote(str(folder / name)) for name in (IMAGE_FILE, SEGMENTATION_FILE, ERROR_PROBABILITY_FILE, LABELS_FILE)
    )
    facts = case["maps"].get("error_probability")
    overlay = f" -o {risk}" if facts else ""
    colours = f" {risk} -cm hot -dr {facts['lower_threshold']:g} {facts['window'][1]:g}" if facts else ""
    return [f"itksnap -g {image} -s {drawn} -l {labels}{overlay}", f"fsleyes {image} {drawn} -ot label{colours}"]


_SHOWN = 5
README = "README.txt"
_README = """\
SegWithU: {cases} to review. For research, not for clinical use.

worklist.csv lists the cases in the order of review, with the reasons for their flags. Open report.html in the folder of
a case with a browser, or the folder in 3D Slicer with the SegWithU extension and your own name. It holds the image, the
segmentation, the error probability (-1: not assessed), the regions to review, and reviews. Verdicts are written into
the folder: send it back for segwithu merge-reviews THIS_FOLDER --into THEIR_CASES, which loses nothing.
"""
_README_ANONYMOUS = """
Reviews, names, dates, identifiers and paths were left out, but not text burnt into an image or a face in a head scan.
Review under a name that you may share.
"""


def export_cases(
    made: ExportFormat, folders: Sequence[Path], output: Path, settings: ExportSettings, progress: Progress = silent
) -> Exported:
    """Write an export and its file of names, whole or not at all; a case that fails does not stop the others.

    Raises:
        UsageError: the folder's name reveals a case's name, or is not one of the format.
        InputError: no case can be exported.
        OutputError: the folder or the file of names exists, or cannot be written.
    """
    if made.anonymous == "always":
        settings = replace(settings, anonymous=True)
    found = Exported(names_file=names_file_of(output, folders) if settings.anonymous else None)
    with contextlib.ExitStack() as undo:
        with atomic_folder(output) as work:
            writer, named = made.writer(work, output, settings, found), named_cases(folders, settings, found)
            for name, folder in in_turn(named.items(), "exporting", progress, lambda pair: pair[1].name):
                with exported(folder, work / name, found):
                    writer.add(name, folder)
            writer.finish()
            if not found.names:
                reasons = " ".join(found.troubles[:_SHOWN]) or f"none is flagged of the {len(folders)} cases."
                raise InputError(f"Nothing was exported: {reasons}")
            if found.names_file is not None:
                write_names(found.names_file, found)
                undo.callback(found.names_file.unlink, missing_ok=True)
        undo.pop_all()
    return found


@contextlib.contextmanager
def exported(folder: Path, target: Path, found: Exported) -> Iterator[None]:
    """Note that a case was exported, or why not; its copy is whole or absent. A fault of writing ends the export."""
    try:
        yield
        found.names[target.name] = folder.resolve()
    except OutputError:
        raise
    except SegWithUError as error:
        shutil.rmtree(target, ignore_errors=True)
        found.troubles.append(naming(str(error).replace(str(target), str(folder)), folder))


def naming(sentence: str, folder: Path) -> str:
    """Name the case folder in a sentence that does not."""
    return sentence if str(folder) in sentence else f"{folder}: {sentence}"


def free_name(folder: Path, taken: Iterable[str]) -> str:
    """Name a case folder, with a number where two have its name; upper and lower case are one on many systems."""
    wanted, folded = folder.resolve().name, {name.casefold() for name in taken}
    names = [wanted, *(f"{wanted}-{number}" for number in range(2, len(folded) + 3))]
    return next(name for name in names if name.casefold() not in folded)


def named_cases(folders: Sequence[Path], settings: ExportSettings, found: Exported) -> dict[str, Path]:
    """Name the cases that are to be exported, before any of them is.

    Args:
        found: gets how many are skipped, and why others cannot be exported.
    """
    order, named = list(folders), dict[str, Path]()
    if settings.anonymous:  # numbers in the order of names would reveal something of the names
        SystemRandom().shuffle(order)
    for folder in order:
        try:
            if settings.flagged and not read_for_worklist(folder).is_flagged:
                found.skipped += 1
                continue
            check_link(folder, "take it out")
            if folder.is_symlink():
                raise InputError(f"{folder} is a link to {folder.resolve()}: give that folder itself.")
            case_contents(folder)
        except SegWithUError as error:
            found.troubles.append(naming(str(error), folder))
            continue
        named[f"case-{len(named) + 1:03d}" if settings.anonymous else free_name(folder, named)] = folder
    return named


class FolderExport(ExportWriter):
    """Case folders with images, reports and a worklist."""

    def add(self, name: str, folder: Path) -> None:
        """Copy a case.

        Raises:
            InputError: it cannot be exported; among others, a reviewer's version belongs to another case.
        """
        target, contents, image_file = self.work / name, case_contents(folder), image_file_of(folder, self.settings)
        left_out, notes = list(contents.left_out), list[str]()
        if self.settings.anonymous:
            anonymous_copy(folder, target, name, image_file)
        else:
            case, versions = read_case(folder), [path for path in contents.reviews if path.match(REVIEWED_PATTERN)]
            notes = [f"{name}: {note}" for path in versions if (note := check_reviewed(path, folder, case))]
            left_out += _copy(contents, folder, target, image_file)
        (target / LABELS_FILE).write_text(label_description(read_case(target)), encoding="utf-8")
        try:
            write_report(target)
        except ModuleNotFoundError as error:  # a Slicer in which the engine is not installed exports without
            left_out.append(f"{REPORT_FILE} of {name}: it needs the package {error.name}, which is missing here.")
        self.found.left_out += left_out
        self.found.notes += notes

    def finish(self) -> None:
        """Write the worklist and the text for the colleague."""
        names, anonymous = self.found.names, self.settings.anonymous
        write_worklist(make_worklist([self.work / name for name in names]), self.work, anonymous)
        text = _README.format(cases=f"{len(names)} segmented case(s)") + (_README_ANONYMOUS if anonymous else "")
        (self.work / README).write_text(text, encoding="utf-8")
        for name in sorted(names)[:1]:
            self.found.viewers = viewer_commands(self.output / name, read_case(self.work / name))


def image_file_of(folder: Path, settings: ExportSettings) -> Path | None:
    """Return where the image of a case lies; None for in its folder, or where this user segmented it.

    Raises:
        InputError: it is not in the folders of images.
    """
    if folder in settings.images or not settings.image_folders:
        return settings.images.get(folder)
    found = find_image(folder, read_case(folder), settings.image_folders)
    if found is None:
        where = ", ".join(map(str, settings.image_folders))
        raise InputError(f"The image of {folder} is not in {where}: give another folder with --images.")
    return found[0]


def _copy(contents: Contents, folder: Path, target: Path, image_file: Path | None) -> list[str]:
    """Copy the known files of a case, and the image that it was made from; returns the notes of `derived_notes`.

    Raises:
        InputError: a file is missing, damaged, or not the one that `case.json` speaks of.
        OSError: a copy cannot be written, which `atomic_folder` says in words.
    """
    case = read_description(folder).raw
    image = case_image(folder, case, image_file)
    with naming_case(folder):
        check_files(folder, case)
        notes = derived_notes(folder, case)
    for path in contents.reviews:
        if is_volume(path.name):
            check_file(path)
    target.mkdir()
    for path in (*contents.model.values(), *contents.reviews):
        if path.name not in notes:
            shutil.copyfile(path, target / path.name)
    if STRUCTURES_FILE in notes:
        write_structures(case, target / STRUCTURES_FILE)
    if not (target / IMAGE_FILE).is_file():
        write_volume(image, target / IMAGE_FILE)
    return list(notes.values())


def names_file_of(output: Path, folders: Sequence[Path]) -> Path:
    """Where an anonymous export keeps who is who.

    Raises:
        UsageError: the export's name reveals a case's name.
        OutputError: it exists.
    """
    path = output.with_name(f"{output.name}-names.json")
    if path.exists():
        message = f"{path} names the cases of an earlier export: move it, or give --output another name."
        raise OutputError(message, "exists-already")
    for folder in folders:
        if (folder / CASE_FILE).is_file() and folder.resolve().name.casefold() in output.name.casefold():
            raise UsageError(f"The output folder {output.name} tells the name of a case: give it another name.")
    return path


def write_names(path: Path, found: Exported) -> None:
    """Write the real names of the cases, readable by this user only.

    Raises:
        OutputError: it cannot be written.
    """
    content = {
        "format": "segwithu-names",
        "note": "Stays with the sender: names the cases of the anonymous export.",
        "cases": {name: str(folder) for name, folder in found.names.items()},
    }
    with atomic_file(path, overwrite=False) as work:
        work.touch(mode=0o600)  # before it holds a name; Windows knows no such modes
        work.write_text(to_json(content) + "\n", encoding="utf-8")
