"""`segwithu segment`: images in, case folders out."""

import argparse
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..io.plain_names import is_plain, plain_name
from ..util.atomic_files import one_writer
from ..util.errors import InputError, OutputError, UsageError
from ..util.failures import failure_sentence
from ..util.process_lock import ProcessLock
from ..util.run_lock import Part, run_lock
from .arguments import (
    add_cohort_options,
    add_engine_option,
    add_network_option,
    add_threads_option,
    check_folder_name,
    opened_model,
)
from .cohort import CohortReporter, Failure, segment_cohort
from .console import Console
from .workers import add_worker_options, workers_request

if TYPE_CHECKING:
    from ..cohort.workers import WorkersRequest
    from ..inference.segment import Job
    from ..io.input_reader import InputReader
    from ..io.inputs import GivenCase
    from ..io.roi import RegionOfInterest
    from ..models.bundle import Bundle

_TABLE = re.compile(r".*\.(csv|tsv|txt):[^:/\\]+", re.IGNORECASE)
MAXIMUM_NAME_BYTES = 200
"""File systems take 255 bytes a name; temporary names need some of them."""


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

    with ReaderProcess() as reader:
        reader.start()  # it is ready when torch is imported
        return _run(options, console, reader)


def _run(options: argparse.Namespace, console: Console, reader: "InputReader") -> int:
    from ..io.header_peek import one_of_forms
    from ..io.roi import RegionOfInterest
    from ..models.registry import resolve_model, unreadable_folders

    options.cases = [*options.cases, *(options.input or [])]
    if not options.cases:
        raise UsageError(
            "There is nothing to segment: give CASE, an image file or a folder; see 'segwithu segment --help'."
        )
    part = None if options.part is None else Part.parse(options.part)
    request = workers_request(options)
    failures: list[Failure] = []
    cases = _found_cases(options, console, failures, reader)
    names = case_names(cases, options)
    region = None if options.roi is None else RegionOfInterest.parse(options.roi)
    options.form = None if options.form is None else one_of_forms(options.form)
    bundle = resolve_model(options.model)
    for problem in unreadable_folders():
        console.note(f"Warning: {problem}.")
    jobs = _jobs(dict(zip(names, cases, strict=True)), bundle.input.channels, region, options, failures)
    if part is not None:
        jobs, failures = _share(jobs, failures, part)
    check_output(options.output)
    if options.dry_run:
        return _forecast(jobs, failures, bundle, options, console, reader)
    if len(jobs) + len(failures) == 1 and part is None and not options.resume and request is None:
        with one_writer(jobs[0].target, overwrite=True) if jobs else nullcontext():  # what is there, `_make` looks for
            return _segment(jobs, failures, bundle, options, console, reader)
    with run_lock(options.output, part) as lock:
        return _segment(jobs, failures, bundle, options, console, reader, lock, request)


def _segment(
    jobs: "Sequence[Job]",
    failures: Sequence[Failure],
    bundle: "Bundle",
    options: argparse.Namespace,
    console: Console,
    reader: "InputReader",
    lock: ProcessLock | None = None,
    request: "WorkersRequest | None" = None,
) -> int:
    """Make the cases; a cohort holds the lock of its folder."""
    from ..cohort.failed_cases import FailedCases
    from ..cohort.one_case import Rules
    from ..cohort.run import Cohort, CohortCounts, ModelSource, run_here, run_on_workers

    reporter = CohortReporter(console, len(jobs) + len(failures), options.debug)
    if options.resume or request is not None:
        reporter.table = FailedCases(options.output)
        for note in reporter.table.notes:
            console.note(f"Warning: {note}")
    for failure in failures:
        reporter.failed_before(failure)
    rules = Rules(options.resume, options.overwrite)

    def run_cases(counts: CohortCounts) -> None:
        cohort = Cohort(options.output, jobs, rules, reporter, counts)
        if request is None:
            begun = [job.target for job in jobs] if options.resume else []
            run_here(cohort, opened_model(bundle, options, console, options.device, begun), reader)
        else:
            source = ModelSource.of(bundle, options.head, options.engine, options.device, options.network)
            run_on_workers(cohort, source, request, console.note, lock, options.threads)

    return segment_cohort(jobs, run_cases, options, reporter)


def _share(jobs: "Sequence[Job]", failures: Sequence[Failure], part: Part) -> "tuple[list[Job], list[Failure]]":
    """Return this part's share of the sorted cases, those that cannot be begun among them."""
    everything: list[Job | Failure] = sorted([*jobs, *failures], key=lambda case: case.name)
    share = part.share(everything)
    return (
        [case for case in share if not isinstance(case, Failure)],
        [case for case in share if isinstance(case, Failure)],
    )


def _forecast(
    jobs: "Sequence[Job]",
    failures: Sequence[Failure],
    bundle: "Bundle",
    options: argparse.Namespace,
    console: Console,
    reader: "InputReader",
) -> int:
    """Print what the cohort would take."""
    from .dry_run import dry_run

    for failure in failures:
        console.error(plain_name(failure_sentence(failure.error)), case=failure.name)
    begun = [job.target for job in jobs] if options.resume else []
    model = opened_model(bundle, options, console, options.device, begun) if jobs else None
    replaced = options.overwrite and not options.resume
    dry_run(jobs, len(failures), model, replaced, options.workers, reader, options.output, console)
    return 0


def _found_cases(
    options: argparse.Namespace, console: Console, failures: list[Failure], reader: "InputReader"
) -> "list[GivenCase]":
    """Find the cases in the arguments; print kinds of folders, note arguments without any case as failures."""
    from ..io.inputs import find_input

    cases: list[GivenCase] = []
    for path in _case_paths(options, console, failures, reader):
        if _TABLE.fullmatch(path.name) and not path.exists():
            cases += _table_cases(path)
            continue
        try:
            given = find_input(path, reader)
        except Exception as error:  # noqa: BLE001 - whatever one place holds, the others go on
            failures.append(Failure(plain_name(path.name), path, error))
            continue
        if given.kind:
            console.note(f"{path}: {given.kind}.")
        cases += given.cases
    return _usable(cases, failures) if options.each else cases


def _table_cases(table: Path) -> "list[GivenCase]":
    """Return the cases that a split table gives a role: `TABLE.csv:ROLE`."""
    from SegWithULab.training.dataset import find_images

    from ..io.inputs import GivenCase

    given = []
    for name, channels in find_images(str(table)):
        numbered = dict(enumerate(channels)) if len(channels) > 1 else {}
        given.append(GivenCase(name, channels[0], numbered))
    return given


def _case_paths(
    options: argparse.Namespace, console: Console, failures: list[Failure], reader: "InputReader"
) -> list[Path]:
    """Return the arguments, or with `--each` what lies in those that are folders of cases; not the output folder."""
    from ..io.inputs import FolderOfCases, cases_in

    if not options.each:
        return list(options.cases)
    if options.name or options.channel or options.series:
        raise UsageError("--name, --channel and --series go with a single case: leave out --each.")
    paths: list[Path] = []
    for path in options.cases:
        try:
            found = cases_in(path, reader) if path.is_dir() else FolderOfCases([path])
        except Exception as error:  # noqa: BLE001 - as above
            failures.append(Failure(plain_name(path.name), path, error))
            continue
        paths += found.paths
        if found.left_out:
            console.note(f"{path}: left out: {found.left_out}.")
    output = os.path.realpath(options.output)  # unlike Path.resolve, also of a link to itself
    return [path for path in paths if os.path.realpath(path) != output]


def _jobs(
    cases: "dict[str, GivenCase]",
    channels: Sequence[str],
    region: "RegionOfInterest | None",
    options: argparse.Namespace,
    failures: list[Failure],
) -> "list[Job]":
    """Make the job of each case; a case with other channels than the model's is a failure."""
    from ..inference.segment import Job
    from ..io.inputs import channel_inputs

    jobs = []
    for name, case in cases.items():
        try:
            inputs = channel_inputs(case, options.channel, options.series, channels)
        except InputError as error:
            failures.append(Failure(name, case.source, error))
            continue
        jobs.append(
            Job(
                name,
                [given.path for given in inputs],
                options.output / name,
                region,
                unlike_training=options.unlike_training,
                include_image=options.include_image,
                series=[given.series for given in inputs],
                form=options.form,
            )
        )
    return jobs


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
    if options.name is not None:
        check_folder_name(options.name, "--name")
    counts = Counter(name.casefold() for name in names)
    problem = next(filter(None, (_name_problem(name, counts) for name in names)), None)
    if problem:
        raise UsageError(problem)
    return names


def _usable(cases: "Sequence[GivenCase]", failures: list[Failure]) -> "list[GivenCase]":
    """Return the cases whose names can be those of case folders; the others are failures."""
    counts = Counter(case.name.casefold() for case in cases)
    problems = [_name_problem(case.name, counts) for case in cases]
    for case, problem in zip(cases, problems, strict=True):
        if problem:
            failures.append(Failure(case.name, case.source, InputError(f"{case.source}: {problem}")))
    return [case for case, problem in zip(cases, problems, strict=True) if not problem]


def _name_problem(name: str, counts: Mapping[str, int]) -> str | None:
    """Say why a case folder cannot have a name, None if it can; `counts` of cases by their names, case folded."""
    if counts[name.casefold()] > 1:
        return f"Two cases would both be named '{name}': give them one by one with --name."
    if not name or Path(name).name != name or name.startswith(".") or not is_plain(Path(name)):
        return f"'{name}' cannot be the name of a case folder: choose another with --name."
    if len(os.fsencode(name)) > MAXIMUM_NAME_BYTES:
        return f"'{name[:20]}...' is too long for the name of a case folder: choose another with --name."
    return None


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
    if not is_plain(folder):
        raise OutputError(f"{folder} has a name that is not UTF-8: give another folder for --output.")
    if not os.access(existing, os.W_OK):
        raise OutputError(f"{existing} cannot be written to: give another folder for --output.")
