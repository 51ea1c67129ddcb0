"""`segwithu export-dicom`: results as DICOM objects for an archive."""

import argparse
from pathlib import Path
from typing import Any

from ..case.case_file import case_folders
from ..errors import UsageError
from .console import Console


def add_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add `export-dicom`."""
    command = commands.add_parser(
        "export-dicom",
        parents=[common],
        help="write results of cases that were made from DICOM as DICOM objects",
        description="Write DICOM Segmentations (the model's, and each reviewer's version) and the error probability as "
        "a Parametric Map, which refer to the series that was segmented. They carry its patient, and the reviewer's "
        "name. Needs the package highdicom: pip install 'highdicom>=0.28'.",
    )
    command.add_argument("cases", nargs="+", type=Path, metavar="CASES", help="case folders, or folders of them")
    command.add_argument("--output", type=Path, required=True, metavar="DIR", help="the folder to be made")
    command.add_argument(
        "--source",
        type=Path,
        metavar="FOLDER",
        help="where the DICOM series of the one CASE lies now, if it was moved; its voxels must be the same",
    )
    command.add_argument("--anonymous", action="store_true", help=argparse.SUPPRESS)
    command.set_defaults(run=run)


def run(options: argparse.Namespace, console: Console) -> int:
    """Write the objects; 1 where a case could not be exported."""
    from ..export.dicom import export_dicom

    if options.anonymous:
        raise UsageError(
            "DICOM objects name the patient of their series, so --anonymous cannot be kept: de-identify the series "
            "with your archive's tool and give it with --source, or use 'segwithu export --anonymous'."
        )
    folders = case_folders(options.cases)
    if options.source and len(folders) > 1:
        raise UsageError("--source goes with one CASE.")
    with console.progress("export-dicom") as report:
        found = export_dicom(folders, options.output, options.source, report)
        report("done", 1.0)
    for note in found.notes:
        console.note(note)
    for sentence in found.troubles:
        console.error(sentence)
    lines = [f"{name}: {', '.join(files)}" for name, files in found.files.items()]
    lines.append(f"{len(found.files)} of {len(folders)} cases are in {options.output}.")
    data = {"exported": found.files, "failed": len(found.troubles), "output": str(options.output)}
    console.result("\n".join(lines), data)
    return 1 if found.troubles else 0
