"""`segwithu report`, `export` and `export-dicom`: pages, folders and DICOM objects of cases that are read elsewhere."""

import argparse
import contextlib
import os
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from ..export.formats import FACE, ExportFormat, ExportSettings, ExportWriter
from ..review.worklist_files import path_outside, read_worklist
from ..util import plugins
from ..util.errors import UsageError
from ..util.paths import stored_path
from .arguments import CommandParser, add_command, asked_cases, refuse_if
from .console import Console, table

_MOST_ROWS = 30


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
    flag("--flagged", "only flagged cases: those whose status is not green, or with a verdict that wants attention")
    flag("--anonymous", "without reviews, names, dates, identifiers and paths; DIR-names.json keeps the real names")
    flag("--own-list", "FILE of --list is yours: also follow paths in it that lead out of its folder")
    add("--images", type=Path, nargs="+", default=[], metavar="FOLDER", help="folders that contain moved images")
    command.set_defaults(formats={}, chosen=[])
    for name, made in FORMATS.items():
        _add_format(command, name, made)


def _add_format(command: CommandParser, name: str, made: ExportFormat) -> None:
    """Add the option of a format, and those that it has alone."""
    command.add_argument(f"--{name}", action="append_const", dest="chosen", const=name, help=made.help)
    own = [
        command.add_argument(option, **{**given, "help": f"with --{name}: {given['help']}"})
        for option, given in made.options.items()
    ]
    command.get_default("formats")[name] = made, own


def add_plugins(command: CommandParser) -> None:
    """Add the formats of installed packages to `export`; one that cannot be used is refused when it is chosen."""
    for name in plugins.plugin_names(plugins.EXPORTS):
        try:
            _add_format(command, name, plugins.named_part(plugins.EXPORTS, name, FORMATS, ExportFormat))
        except Exception as error:  # noqa: BLE001 - of `named_part`, or of argparse about names that are taken
            problem = error
            if not isinstance(error, UsageError):
                package = plugins.plugin_package(plugins.EXPORTS, name, FORMATS)
                what = f"The export '{name}' of the package {package} has unusable options ({error})"
                problem = UsageError(f"{what}: update or remove the package.", "broken-plugin")
            command.get_default("formats")[name] = problem, []
            command.epilog = f"{command.epilog}\n\n--{name} cannot be used: {problem}"
            with contextlib.suppress(argparse.ArgumentError):  # there is such an option already
                command.add_argument(f"--{name}", action="append_const", dest="chosen", const=name, help="see below")


def _ours(module: str, name: str) -> Callable[..., ExportWriter]:
    """Name a writer of ours, whose file is imported when it is used."""
    return lambda *given: getattr(import_module(module, __package__), name)(*given)


FOLDER = ExportFormat("", _ours("..export.case_export", "FolderExport"), anonymous="asked")
FORMATS = {
    "page": ExportFormat(
        "write an anonymous HTML file per case and an index instead",
        _ours("..web.single_file", "PageExport"),
        {
            "--with-image": {"action": "store_true", "help": f"include the image; {FACE}"},
            "--without-image": {"action": "store_true", "help": "contours and maps alone"},
        },
        anonymous="always",
    ),
    "bids": ExportFormat("write BIDS derivatives instead", _ours("..export.bids", "BidsExport"), anonymous="asked"),
    "nnunet": ExportFormat(
        "write finished structures as a data set of nnU-Net instead",
        _ours("..export.nnunet", "NnunetExport"),
        {"--reviewer": {"metavar": "NAME", "help": "whose review counts (default: the only one)"}},
        anonymous="asked",
    ),
}
"""Besides the folder for a colleague; installed packages may bring more."""


def run_report(options: argparse.Namespace, console: Console) -> int:
    """Write a report of a segmented case as one HTML page.

    Write one self-contained HTML page about a case: metrics, flags, pictures of its regions in three planes, verdicts,
    versions and hashes. Print the metrics of its structures, which are those after a review.

    Examples:
    report results/case_1
    report results/case_1 --output case.html
    """
    from ..report.case_report import REPORT_FILE, write_report
    from ..report.tables import structures_table
    from ..review.reviewed_case import read_shown_case

    console.started()
    is_one = len(options.cases) == 1
    refuse_if(((options.image or options.output) and not is_one, "--image and --output go with one CASE."))
    for folder in options.cases:
        target = options.output or folder / REPORT_FILE
        with console.case_by_case():
            write_report(folder, target, options.image)
            shown = structures_table(read_shown_case(folder))
            text = f"{table(shown.header, shown.rows)}\nWritten to {target}."
            console.result(text, {"case": str(folder), "report": str(target)})
    return 1 if console.failures else 0


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
    from ..export.case_export import export_cases

    console.started()
    made, own = _format_of(options)
    folders, images, troubles = _asked(options, console)
    console.error(*troubles)
    if not folders:
        return 1
    settings = ExportSettings(options.flagged, options.anonymous, images, options.images, own)
    with console.progress("export") as progress:
        found = export_cases(made, folders, options.output, settings, progress)
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
    data = {"exported": sorted(found.names), "not_flagged": found.skipped, "failed": failed}
    data |= {"left_out": found.left_out, "notes": found.notes, "output": str(options.output)}
    console.result("\n".join([text, *found.viewers]), {**data, "viewers": found.viewers})
    return 1 if failed else 0


def _format_of(options: argparse.Namespace) -> tuple[ExportFormat, dict[str, Any]]:
    """Return the format that is asked for, and the values of its own options, by name.

    Raises:
        UsageError: options contradict each other, or the format cannot be used.
    """
    chosen = list(dict.fromkeys(options.chosen))
    made, own = options.formats[chosen[0]] if chosen else (FOLDER, [])
    if isinstance(made, UsageError):
        raise made
    others = [(name, action) for name, (_, actions) in options.formats.items() if name not in chosen
              for action in actions if getattr(options, action.dest) != action.default]  # fmt: skip
    refuse_if(
        (not options.cases and options.worklist is None, "Nothing to export: give CASES, or a worklist with --list."),
        (options.own_list and options.worklist is None, "--own-list goes with --list."),
        (len(chosen) > 1, f"Give one of --{' and --'.join(chosen)}."),
        *((True, f"{action.option_strings[-1]} goes with --{name}.") for name, action in others),
        (options.anonymous and made.anonymous == "never", f"--anonymous does not go with --{''.join(chosen[:1])}."),
        *((not folder.is_dir(), f"--images {folder} is not a folder.") for folder in options.images),
    )
    return made, {action.dest: getattr(options, action.dest) for action in own}


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
