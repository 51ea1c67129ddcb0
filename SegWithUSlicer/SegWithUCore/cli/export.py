"""`segwithu report`, `export` and `export-dicom`: pages, folders and DICOM objects of cases that are read elsewhere."""

import argparse
import os
from pathlib import Path
from typing import Any

from ..review.worklist_files import path_outside, read_worklist
from ..util.errors import SegWithUError, UsageError
from ..util.failures import failure_message
from ..util.paths import stored_path
from .arguments import add_command, asked_cases, refuse_if
from .console import Console

_MOST_ROWS = 30
_FACE = "a face, or burnt-in text, may be recognisable"


def add_commands(commands: Any) -> None:
    """Add the three commands."""
    report = add_command(commands, "report", run_report)
    report.add_argument("cases", nargs="+", type=Path, metavar="CASE", help="case folders that segment wrote")
    report.add_argument("--image", type=Path, help="current path of the image, if it was moved")
    report.add_shared("--output", required=False, help="the page (default: report.html in the case)")
    _add_export(commands)
    dicom = add_command(commands, "export-dicom", run_dicom)
    dicom.add_argument("cases", nargs="+", type=Path, metavar="CASES", help="case folders, or folders of them")
    dicom.add_shared("--output", help="folder to create")
    dicom.add_argument("--source", type=Path, metavar="FOLDER", help="current folder of the DICOM series (single case)")
    dicom.add_argument("--reviewer", metavar="NAME", help="only this reviewer's version, with the verdicts")


def _add_export(commands: Any) -> None:
    command = add_command(commands, "export", run_export)
    add, flag = command.add_argument, command.add_flag
    add("cases", nargs="*", type=Path, metavar="CASES", help="case folders, or folders of them")
    add("--list", type=Path, metavar="FILE", dest="worklist", help="cases of a worklist.json")
    command.add_shared("--output", help="folder to create")
    flag("--flagged", "only cases that the rules flag")
    flag("--anonymous", "without reviews, names, dates, identifiers and paths; DIR-names.json keeps the real names")
    form = command.add_mutually_exclusive_group()
    form.add_argument("--page", action="store_true", help="write an anonymous HTML file per case and an index instead")
    form.add_argument("--bids", action="store_true", help="write BIDS derivatives instead")
    form.add_argument("--nnunet", action="store_true", help="write corrected cases as a data set of nnU-Net instead")
    add("--reviewer", metavar="NAME", help="with --nnunet: whose review counts (default: the only one)")
    image = command.add_mutually_exclusive_group()
    image.add_argument("--with-image", action="store_true", help=f"with --page: include the image; {_FACE}")
    image.add_argument("--without-image", action="store_true", help="with --page: contours and maps alone")
    flag("--own-list", "FILE of --list is yours: also follow paths in it that lead out of its folder")
    add("--images", type=Path, nargs="+", default=[], metavar="FOLDER", help="folders that contain moved images")


def run_report(options: argparse.Namespace, console: Console) -> int:
    """Write a report of a segmented case as one HTML page.

    Write one self-contained HTML page about a case: metrics, flags, pictures of its regions in three planes, verdicts,
    versions and hashes.

    Examples:
    report results/case_1
    report results/case_1 --output case.html
    """
    from ..report.case_report import REPORT_FILE, write_report

    console.started()
    refuse_if(
        ((options.image or options.output) and len(options.cases) > 1, "--image and --output go with one CASE."),
    )
    failed = 0
    for folder in options.cases:
        target = options.output or folder / REPORT_FILE
        try:
            write_report(folder, target, options.image)
        except SegWithUError as error:
            console.error(failure_message(error))
            failed += 1
        else:
            console.result(f"Written to {target}.", {"case": str(folder), "report": str(target)})
    return 1 if failed else 0


def run_export(options: argparse.Namespace, console: Console) -> int:
    """Export cases to one folder for a colleague.

    Write one folder with the cases, their images, maps, regions and reviews, a report of each and a worklist. It
    opens offline and without torch, also in ITK-SNAP and FSLeyes. Or write
    pages for any browser (--page), BIDS derivatives (--bids), or the cases whose review is finished as a data set of
    nnU-Net, with a worklist of the others (--nnunet, --output Dataset101_NAME).

    Examples:
    export results --output for_colleague --flagged --anonymous
    export results --output derivatives --bids
    export results --output nnUNet_raw/Dataset101_Hippocampus --nnunet
    export results --output pages --page --without-image
    """
    from ..export.case_export import ExportSettings, export_cases, viewer_commands

    console.started()
    _check_options(options)
    folders, images, troubles = _asked(options, console)
    if options.with_image:
        console.note(f"The pages contain the image: {_FACE}. Names, dates, identifiers and paths are left out.")
    console.error(*troubles)
    if not folders:
        return 1
    with_image = options.with_image or not options.page
    settings = ExportSettings(options.flagged, options.anonymous, with_image, images, options.images, options.reviewer)
    export = export_cases
    if options.page:
        from ..web.single_file import export_pages as export
    elif options.bids:
        from ..export.bids import export_bids as export
    elif options.nnunet:
        from ..export.nnunet import export_nnunet as export
    with console.progress("export") as progress:
        found = export(folders, options.output, settings, progress)
        progress("done", 1.0)
    console.error(*found.troubles)
    for message in found.left_out[:_MOST_ROWS]:
        console.note(f"Left out: {message}")
    if len(found.left_out) > _MOST_ROWS:
        console.note(f"Left out: {len(found.left_out) - _MOST_ROWS} more files; --json lists all.")
    console.note(*found.notes)
    failed = len(found.troubles) + len(troubles)
    text = f"{len(found.names)} of {len(folders) + len(troubles)} cases were exported to {options.output}."
    if found.names_file is not None:
        text += f" Who is who is in {found.names_file}: keep that file to yourself."
    viewers = viewer_commands(options.output / min(found.names)) if export is export_cases else []
    data = {"exported": sorted(found.names), "not_flagged": found.skipped, "failed": failed}
    data |= {"left_out": found.left_out, "notes": found.notes, "output": str(options.output)}
    console.result("\n".join([text, *viewers]), {**data, "viewers": viewers})
    return 1 if failed else 0


def _check_options(options: argparse.Namespace) -> None:
    """Refuse options that contradict each other, and ask whether an image may leave the house before it is written.

    Raises:
        UsageError: which and why.
    """
    chosen = options.with_image or options.without_image
    refuse_if(
        (not options.cases and options.worklist is None, "Nothing to export: give CASES, or a worklist with --list."),
        (options.own_list and options.worklist is None, "--own-list goes with --list."),
        (options.reviewer and not options.nnunet, "--reviewer goes with --nnunet."),
        (chosen and not options.page, "--with-image and --without-image go with --page."),
        (options.page and not chosen, f"--page needs --with-image ({_FACE}) or --without-image."),
        *((not folder.is_dir(), f"--images {folder} is not a folder.") for folder in options.images),
    )


def _asked(options: argparse.Namespace, console: Console) -> tuple[list[Path], dict[Path, Path], list[str]]:
    """Find the case folders, where their images lie now as far as they were moved, and why others are not opened."""
    images: dict[Path, Path] = {}
    folders = asked_cases(options.cases, console) if options.cases else []
    troubles = []
    for row, folder in read_worklist(options.worklist) if options.worklist is not None else []:
        outside = None if options.own_list else path_outside(options.worklist, row)
        if outside is not None:
            troubles.append(
                f"{options.worklist} leads to {outside}, outside its folder, and this user did not write so: name the "
                "cases themselves, or say with --own-list that the list is yours."
            )
            continue
        folders.append(folder)
        if row.get("image"):
            images[folder] = stored_path(options.worklist.parent, row["image"])
    return list({os.path.realpath(folder): folder for folder in folders}.values()), images, troubles


def run_dicom(options: argparse.Namespace, console: Console) -> int:
    """Write the results of DICOM cases as DICOM objects.

    Write DICOM Segmentations (the model's, and each reviewer's version), the error probability as a Parametric Map,
    and a Structured Report (TID 1500) with volumes, flags and, of one reviewer, the verdicts. They refer to the series
    that was segmented and contain the patient's and the reviewer's name: de-identify the series with your archive's
    tool first. Needs highdicom: pip install 'highdicom>=0.28'.

    Examples:
    export-dicom results/case_1 --output dicom --source STUDY
    export-dicom results --output dicom --reviewer "A. Smith"
    """
    from ..export.dicom import export_dicom

    folders = asked_cases(options.cases, console)
    if options.source and len(folders) > 1:
        raise UsageError("--source goes with one CASE.", "contradicting-options")
    with console.progress("export-dicom") as progress:
        found = export_dicom(folders, options.output, options.source, options.reviewer, progress)
        progress("done", 1.0)
    console.note(*found.notes)
    console.error(*found.troubles)
    lines = [f"{name}: {', '.join(files)}" for name, files in found.files.items()]
    lines.append(f"{len(found.files)} of {len(folders)} cases were exported to {options.output}.")
    data = {"exported": found.files, "failed": len(found.troubles), "output": str(options.output)}
    console.result("\n".join(lines), data)
    return 1 if found.troubles else 0
