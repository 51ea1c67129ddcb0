"""`segwithu segment`: images in, case folders out."""

import argparse
import re
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..util.atomic_files import one_writer
from ..util.errors import UsageError
from ..util.failures import failure_sentence
from ..util.input_files import plain_name
from ..util.run_lock import Part, run_lock
from .arguments import (
    add_cohort_options,
    add_engine_option,
    add_network_option,
    add_threads_option,
    check_folder_name,
    opened_model,
)
from .cohort import CohortReporter, segment_cohort
from .console import Console
from .dry_run import dry_run
from .workers import add_worker_options, workers_request

if TYPE_CHECKING:
    from ..cohort.jobs import Asked
    from ..cohort.run import CohortCounts
    from ..io.inputs import GivenCase
    from ..util.process_lock import ProcessLock

_TABLE = re.compile(r".*\.(csv|tsv|txt):[^:/\\]+", re.IGNORECASE)


def add_commands(commands: Any) -> None:
    """Add `segment`."""
    command = commands.add_parser(
        "segment",
        examples=(
            "segment brain.nii.gz --model hippocampus --output results --roi -28,-22,-14,36,50,36",
            "segment -i DATA --each -m hippocampus -o results --resume",
            "segment DATA/split.csv:test -m my_model -o results",
        ),
        help="segment images with uncertainty",
        description="Segment each CASE in a single forward pass and write OUTPUT/<name>/ with the segmentation, the "
        "calibration and ranking maps and the error probability, all on the image's own grid.",
    )
    command.add_argument(
        "cases",
        nargs="*",
        metavar="CASE",
        type=Path,
        help="an image file (NIfTI, NRRD or MHA), the folder of a DICOM series, a folder in nnU-Net naming "
        "(CASE_0000.nii.gz, CASE_0001.nii.gz), which may hold many cases, or TABLE.csv:ROLE, the cases of a split "
        "table (columns case, role; images in the folder images beside it)",
    )
    command.add_argument("-i", "--input", nargs="+", metavar="CASE", type=Path, help="the same as CASE")
    command.add_argument(
        "--each", action="store_true", help="CASE is a folder of cases: every image file and every folder in it is one"
    )
    command.add_argument("--model", required=True, help="name of an installed model, or a bundle's folder")
    command.add_argument("--output", required=True, type=Path, help="folder that receives one folder a case")
    _add_image_options(command)
    command.add_argument("--head", help="uncertainty head other than the model's default")
    command.add_argument("--device", default="auto", help="auto (default), cpu, cuda or mps")
    add_engine_option(command)
    command.add_argument("--overwrite", action="store_true", help="replace existing case folders")
    command.add_argument(
        "--resume",
        action="store_true",
        help="go on where an earlier run stopped: leave out cases that are there already, made of the same voxels with "
        "the same model, head and region (others are errors, or replaced with --overwrite); failures are listed in "
        "OUTPUT/failed.csv",
    )
    command.add_argument("--include-image", action="store_true", help="put a copy of the image into the case folder")
    command.add_argument(
        "--unlike-training", action="store_true", help="go on although the image is unlike the training cases"
    )
    add_network_option(command)
    add_threads_option(command)
    add_cohort_options(command)
    add_worker_options(command)
    command.set_defaults(run=run)


def _add_image_options(command: argparse.ArgumentParser) -> None:
    """Add what a single case needs, and where the region of interest lies."""
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
    command.add_argument(
        "--form",
        metavar="sform|qform",
        help="which of two places counts, of NIfTI files whose header has two (else the one that Slicer uses); --roi "
        "wants it for such files",
    )


def run(options: argparse.Namespace, console: Console) -> int:
    """Segment all cases; a failed case does not stop the others."""
    from ..io.reader_process import ReaderProcess

    part = None if options.part is None else Part.parse(options.part)
    request = workers_request(options)
    with ReaderProcess() as reader:
        reader.start()  # it is ready when these and torch are imported
        from ..cohort.failed_cases import FailedCases
        from ..cohort.jobs import check_output, jobs_of, share_of
        from ..cohort.one_case import Rules
        from ..cohort.run import Cohort, ModelSource, run_here, run_on_workers
        from ..models.installed import resolve_model, unreadable_folders

        asked, bundle = _asked(options), resolve_model(options.model)
        for problem in unreadable_folders():
            console.note(f"Warning: {problem}.")
        jobs, failures = jobs_of(asked, bundle.input.channels, reader, console.note)
        if part is not None:
            jobs, failures = share_of(part, jobs, failures)
        check_output(options.output)
        begun = [job.target for job in jobs] if options.resume else []
        model = partial(opened_model, bundle, options.engine, console, options.device, options.head, begun)
        if options.dry_run:
            for failure in failures:
                console.error(plain_name(failure_sentence(failure.error)), case=failure.name)
            replaced = options.overwrite and not options.resume
            opened = model() if jobs else None
            dry_run(jobs, len(failures), opened, replaced, options.workers, reader, options.output, console)
            return 0
        listed = options.resume or request is not None
        writer: AbstractContextManager[ProcessLock | None] = nullcontext()
        if len(jobs) + len(failures) > 1 or part is not None or listed:
            writer = run_lock(options.output, part)
        elif jobs:
            writer = one_writer(jobs[0].target, overwrite=True)  # `run_here` looks at what is there
        with writer as lock:
            reporter = CohortReporter(console, len(jobs) + len(failures), options.debug)
            if listed:
                reporter.table = FailedCases(options.output)
                for note in reporter.table.notes:
                    console.note(f"Warning: {note}")
            for failure in failures:
                reporter.failed_before(failure)

            def run_cases(counts: "CohortCounts") -> None:
                cohort = Cohort(options.output, jobs, Rules(options.resume, options.overwrite), reporter, counts)
                if request is None:
                    run_here(cohort, model(), reader)
                else:
                    source = ModelSource.of(bundle, options.head, options.engine, options.device, options.network)
                    run_on_workers(cohort, source, request, console.note, lock, options.threads)

            return segment_cohort(jobs, run_cases, options.output, reporter)


def _asked(options: argparse.Namespace) -> "Asked":
    """Read what the options say of the cases.

    Raises:
        UsageError: there is no case, or an option is none.
    """
    from ..cohort.jobs import Asked
    from ..io.roi import RegionOfInterest
    from ..io.volume import one_of_forms

    paths = [*options.cases, *(options.input or [])]
    if not paths:
        raise UsageError(
            "There is nothing to segment: give CASE, an image file or a folder; see 'segwithu segment --help'."
        )
    if options.name is not None:
        check_folder_name(options.name, "--name")
    return Asked(
        paths,
        options.output,
        {path: _cases_of(path) for path in paths if _TABLE.fullmatch(path.name) and not path.exists()},
        options.each,
        options.name,
        options.channel,
        options.series,
        None if options.roi is None else RegionOfInterest.parse(options.roi),
        None if options.form is None else one_of_forms(options.form),
        options.unlike_training,
        options.include_image,
    )


def _cases_of(table: Path) -> "list[GivenCase]":
    """Return the cases that a split table gives a role: `TABLE.csv:ROLE`."""
    from SegWithULab.training.dataset import find_images

    from ..io.inputs import GivenCase

    found = find_images(str(table))
    return [GivenCase(name, files[0], dict(enumerate(files)) if len(files) > 1 else {}) for name, files in found]
