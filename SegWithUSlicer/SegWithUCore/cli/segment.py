"""`segwithu segment`: images in, case folders out."""

import argparse
import os
import re
import traceback
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError, OutputError, UsageError
from .console import Console, failure_sentence, table

if TYPE_CHECKING:
    from ..inference.case_folder import CaseResult
    from ..inference.case_inputs import GivenCase
    from ..inference.region import Region
    from ..inference.segment import Job, Model

MAXIMUM_NAME_BYTES = 200
"""File systems take 255 bytes a name; temporary names need some of them."""


def add_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add `segment`."""
    command = commands.add_parser(
        "segment",
        parents=[common],
        help="segment images with uncertainty",
        description="Segment each CASE in a single forward pass and write OUTPUT/<name>/ with the segmentation, the "
        "calibration and ranking maps and the error probability, all on the image's own grid.",
    )
    command.add_argument(
        "cases",
        nargs="+",
        metavar="CASE",
        type=Path,
        help="an image file (NIfTI, NRRD or MHA), the folder of a DICOM series, or a folder in nnU-Net naming "
        "(CASE_0000.nii.gz, CASE_0001.nii.gz), which may hold many cases",
    )
    command.add_argument("--model", required=True, help="name of an installed model, or a bundle's folder")
    command.add_argument("--output", required=True, type=Path, help="folder that receives one folder a case")
    command.add_argument(
        "--channel",
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="a further channel of a model with several (CASE is the first): an image file or the folder of a DICOM "
        "series; one case at a time",
    )
    command.add_argument(
        "--series",
        action="append",
        default=[],
        metavar="[NAME=]UID",
        help="the series to take from a DICOM folder with several, by the end of its UID; NAME for the folder of a "
        "further channel; one case at a time",
    )
    command.add_argument("--name", help="name of the case folder (default: from the file name); one case at a time")
    command.add_argument(
        "--roi",
        metavar="R,A,S,dR,dA,dS",
        help="region of interest: centre and edge lengths in mm along the patient's right, anterior and superior",
    )
    command.add_argument("--head", help="uncertainty head other than the model's default")
    command.add_argument("--device", default="auto", help="auto (default), cpu, cuda or mps")
    command.add_argument("--overwrite", action="store_true", help="replace existing case folders")
    command.add_argument("--include-image", action="store_true", help="put a copy of the image into the case folder")
    command.add_argument(
        "--unlike-training", action="store_true", help="go on although the image is unlike the training cases"
    )
    # Else argparse takes "--roi -28,-22,..." for an unknown option, and every centre in the left half begins so.
    command._negative_number_matcher = re.compile(r"^-[\d.][\d.,eE+ -]*$")
    command.set_defaults(run=run)


def run(options: argparse.Namespace, console: Console) -> int:
    """Segment all cases; a failed case does not stop the others."""
    from ..inference.device import choose_device
    from ..inference.region import Region
    from ..inference.segment import Model
    from ..models.registry import resolve_model
    from ..whole_files import sweep_leftovers

    cases, unusable = _found_cases(options, console)
    names = case_names(cases, options)
    region = None if options.roi is None else Region.parse(options.roi)
    bundle = resolve_model(options.model)
    jobs = _jobs(dict(zip(names, cases, strict=True)), bundle.input.channels, region, options, console)
    check_output(options.output)
    failed = unusable + len(cases) - len(jobs)
    if jobs:
        sweep_leftovers(options.output)
        model = Model(bundle, choose_device(options.device), options.head)
        failed += sum(not _one_case(job, model, console, options.debug) for job in jobs)
    if failed and unusable + len(cases) > 1:
        console.error(f"{failed} of {unusable + len(cases)} cases failed, see above; the others are complete.")
    return 1 if failed else 0


def _found_cases(options: argparse.Namespace, console: Console) -> "tuple[list[GivenCase], int]":
    """The cases that the arguments hold, and how many arguments hold none; kinds of folders are printed."""
    from ..inference.case_inputs import find_input

    cases: list[GivenCase] = []
    unusable = 0
    for path in options.cases:
        try:
            given = find_input(path)
        except InputError as error:
            _tell(error, console, options.debug)
            unusable += 1
            continue
        if given.kind:
            console.note(f"{path}: {given.kind}.")
        cases += given.cases
    return cases, unusable


def _jobs(
    cases: "dict[str, GivenCase]",
    channels: Sequence[str],
    region: "Region | None",
    options: argparse.Namespace,
    console: Console,
) -> "list[Job]":
    """What is to be done for each case, by its name; a case with other channels than the model's is told and left."""
    from ..inference.case_inputs import channel_inputs
    from ..inference.segment import Job

    jobs = []
    for name, case in cases.items():
        try:
            inputs = channel_inputs(case, options.channel, options.series, channels)
        except InputError as error:
            _tell(error, console, options.debug)
            continue
        jobs.append(
            Job(
                name,
                [given.path for given in inputs],
                options.output / name,
                region,
                options.overwrite,
                options.unlike_training,
                options.include_image,
                series=[given.series for given in inputs],
            )
        )
    return jobs


def _tell(error: Exception, console: Console, debug: bool) -> None:
    console.error(failure_sentence(error))
    if debug:
        traceback.print_exception(error)


def _one_case(job: "Job", model: "Model", console: Console, debug: bool) -> bool:
    from ..inference.segment import segment

    try:
        if job.target.exists() and not job.overwrite:
            raise OutputError(f"{job.target} exists already: choose another output folder or pass --overwrite.")
        with console.progress(job.name) as progress:
            result = segment(job, model, progress)
    except Exception as error:  # noqa: BLE001 - whatever happens to one case, the others go on
        _tell(error, console, debug)
        return False
    for warning in result.warnings:
        console.note(f"Warning: {warning.sentence}")
    console.result(summary(result, job.target), {"case": str(job.target), "structures": structures_json(result)})
    return True


def case_names(cases: "Sequence[GivenCase]", options: argparse.Namespace) -> list[str]:
    """Folder name of each case.

    Raises:
        UsageError: equal names, or options that need a single case.
    """
    numbered = next((case.source for case in cases if case.numbered), None)
    if len(options.cases) > 1 and (options.name or options.channel or options.series):
        raise UsageError("--name, --channel and --series go with a single case: segment the cases one by one.")
    if numbered and (options.channel or options.series):
        raise UsageError(f"--channel and --series do not go with {numbered}: the numbers of its files say the channel.")
    if len(cases) > 1 and options.name:
        raise UsageError(f"--name goes with a single case, but {numbered} holds {len(cases)}: leave it out.")
    names = [case.name for case in cases] if options.name is None else [options.name for _ in cases]
    repeated = [name for name, count in Counter(name.casefold() for name in names).items() if count > 1]
    if repeated:
        raise UsageError(f"Two cases would both be named '{repeated[0]}': give them one by one with --name.")
    for name in names:
        if not name or Path(name).name != name or name.startswith("."):
            raise UsageError(f"'{name}' cannot be the name of a case folder: choose another with --name.")
        if len(os.fsencode(name)) > MAXIMUM_NAME_BYTES:
            raise UsageError(f"'{name[:20]}...' is too long for the name of a case folder: choose another with --name.")
    return names


def check_output(folder: Path) -> None:
    """Find out before the work whether results can be written.

    Raises:
        OutputError: the place is no folder or not writable.
    """
    existing = folder
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir():
        raise OutputError(f"{existing} is a file: give a folder for --output.")
    if not os.access(existing, os.W_OK):
        raise OutputError(f"{existing} cannot be written to: give another folder for --output.")


def summary(result: "CaseResult", target: Path) -> str:
    """The table of one case."""
    calibrated = result.maps.error_probability is not None
    header = ["structure", "volume mm3", "expected wrong mm3", "error prob. > 0.25"]
    rows = []
    for figures in [*result.structures[1:], result.structures[0]]:
        name = figures.label.name if figures.label.value else "outside (missed tissue)"
        volume = f"{figures.volume_mm3:.0f}" if figures.label.value else ""
        wrong, uncertain = "not calibrated", "not calibrated"
        if figures.expected_wrong_mm3 is not None and figures.uncertain_mm3 is not None:
            share = f"{figures.uncertain_share:.1%} = " if figures.label.value else ""
            wrong, uncertain = f"{figures.expected_wrong_mm3:.0f}", f"{share}{figures.uncertain_mm3:.0f} mm3"
        rows.append([name, volume, wrong, uncertain])
    text = f"{result.name}\n{table(header, rows)}\n"
    if not calibrated:
        text += "This head is not calibrated: the ranking map orders voxels, but has no probabilities.\n"
    return f"{text}written to {target}\n"


def structures_json(result: "CaseResult") -> list[dict[str, Any]]:
    """Figures per structure for machines."""
    return [figures.to_json() for figures in result.structures]
