"""`segwithu segment`: images in, case folders out; one case or many, here or on workers."""

import contextlib
import re
import shlex
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..case.case_file import read_case
from ..inference.engines import AUTO
from ..util.atomic_files import one_writer
from ..util.errors import INTERRUPTED, InputError, OutputError, UsageError
from ..util.failures import failure_message
from ..util.input_files import plain_name
from ..util.process_lock import ProcessLock
from ..util.progress import Progress, time_left
from ..util.run_lock import Part, run_lock
from .arguments import CommandParser, add_command, check_folder_name, int_between, opened_model
from .case_summary import next_steps, summary
from .console import Console, ReaderLeftError

if TYPE_CHECKING:
    import argparse

    from ..cohort.jobs import Failure
    from ..cohort.one_case import Settled
    from ..inference.given_mask import MaskFile
    from ..inference.segment import Job
    from ..io.inputs import GivenCase
    from ..models.bundle import Bundle

_TABLE = re.compile(r".*\.(csv|tsv|txt):[^:/\\]+", re.IGNORECASE)


def add_commands(commands: Any) -> None:
    """Add `segment` and `judge`."""
    command = add_command(commands, "segment", run)
    command.add_argument("cases", nargs="+", metavar="CASE", type=Path, help="an image file (NIfTI, NRRD or MHA), the "
        "folder of a DICOM series, a folder in nnU-Net naming (CASE_0000.nii.gz), which may hold many cases, or "
        "TABLE.csv:ROLE, the cases of a split table (columns case, role; with a folder images next to it)")  # fmt: skip
    command.add_flag("--each", "CASE is a folder of cases: every image file and every folder in it is one")
    _add_options(command)
    command = add_command(commands, "judge", run_judge)
    command.add_argument("image", type=Path, help="an image as for segment, or TABLE.csv with the columns image and "
        "mask, and case for other names than the files'")  # fmt: skip
    command.add_argument("mask", nargs="?", type=Path, help="the segmentation: a label map on the image's grid (NIfTI, "
        "NRRD, MHA, .seg.nrrd, DICOM SEG), or a folder with one file per structure")  # fmt: skip
    command.add_argument("--labels", nargs="+", default=[], metavar="LABEL=STRUCTURE", help="what labels (values, or "
        "names of segments or files) mean to the model, such as 5=liver; all others are left out")  # fmt: skip
    _add_options(command)


def _add_options(command: CommandParser) -> None:
    """Add what both commands take."""
    add, flag = command.add_argument, command.add_flag
    command.add_shared("--model", "--output", required=False)  # `_model_of` says what is missing
    add("--channel", action="append", default=[], metavar="NAME=FILE", help="a further channel of a single CASE")
    add("--series", action="append", default=[], metavar="[NAME=]UID", help="the DICOM series to read if a folder "
        "has several, by the end of its UID; NAME= for a further channel; single cases only")  # fmt: skip
    add("--name", help="name of the case folder (default: from the file name); one case at a time")
    add("--roi", metavar="R,A,S,dR,dA,dS", help="region of interest: centre and edge lengths in mm (RAS)")
    command.add_shared("--head", "--device", "--engine", "--overwrite")
    flag("--resume", "skip a case that exists for the same voxels, model, head and region of "
         "interest, as several cases always do; their failures are listed in OUTPUT/failed.csv")  # fmt: skip
    add("--passes", type=int, choices=(1, 2, 4), default=1, help="average the error probability of so many passes, "
        "mirrored and shifted; the segmentation is that of the first (default: 1)")  # fmt: skip
    flag("--quiet", "one line a case: whether to look at it")
    flag("--include-image", "copy the image into the case folder")
    flag("--unlike-training", "continue although the image is out of distribution")
    command.add_shared("--network", "--threads")
    add("--part", metavar="I/N", help="only the I-th of N equal shares of the cases, such as 3/8")
    add(
        "--workers",
        type=int_between(1, 10_000),
        metavar="N",
        help="share the cases among N workers on this computer",
    )
    add("--scheduler", metavar="ADDRESS", help="share the cases among the workers of a Dask scheduler, tcp://HOST:PORT")


def run(options: "argparse.Namespace", console: Console) -> int:
    """Segment images with uncertainty.

    Segment each CASE in a single forward pass and write OUTPUT/<name>/ with the segmentation, the calibration and
    ranking maps and the error probability, all on the image's own grid. Without --model nothing is run: the installed
    models are named, and one is proposed by the size of the image.

    Examples:
    segment head.nii.gz --model brain --output results
    segment brain.nii.gz --model hippocampus --output results --roi -28,-22,-14,36,50,36
    segment DATA --each -m hippocampus -o results --quiet
    segment DATA/split.csv:test -m my_model -o results
    """
    tables = {path: _cases_of(path) for path in options.cases if _TABLE.fullmatch(path.name) and not path.exists()}
    return _run(options, console, options.cases, tables, {})


def run_judge(options: "argparse.Namespace", console: Console) -> int:
    """Judge a segmentation that was made elsewhere.

    Run the model on IMAGE, and write OUTPUT/<name>/ as segment does, with MASK as the segmentation and the probability
    that it is wrong: its disagreement with the model. Review, worklist, report and export work as after segment.

    Examples:
    judge head.nii.gz mask.nii.gz -m hippocampus -o judged --labels "17=left hippocampus" "53=right hippocampus"
    judge ct.nii.gz total_segmentator_output -m my_model -o judged --labels liver=liver
    judge TABLE.csv -m hippocampus -o judged --resume
    """
    from ..inference.given_mask import MaskFile

    names = {}
    for entry in options.labels:
        label, _, structure = entry.partition("=")
        if not label or not structure or label in names:
            raise UsageError(f"--labels {entry}: give LABEL=STRUCTURE, each label once.")
        names[label] = structure
    rows = _masks_of(options.image, options.mask)
    masks = {case.name: MaskFile(mask, names) for case, mask in rows}
    options.each = False
    return _run(options, console, [options.image], {options.image: [case for case, _ in rows]}, masks)


def _masks_of(image: Path, mask: Path | None) -> "list[tuple[GivenCase, Path]]":
    """Return each case with its mask: of one image, or of the rows of a table.

    Raises:
        UsageError: there is no mask.
        InputError: the table lacks a column or a cell, or a file is missing.
    """
    from ..io.inputs import GivenCase, case_name, find_input
    from ..util.csv_files import read_user_table

    if mask is not None:
        cases = find_input(image).cases
        if len(cases) > 1:
            raise UsageError(f"{image} holds {len(cases)} cases, but one mask was given: use a table of both.")
        return [(cases[0], mask)]
    wanted = "give IMAGE MASK, or a CSV table with the columns image and mask"
    if image.suffix.lower() != ".csv":
        raise UsageError(f"There is no mask for {image}: {wanted}.")
    found = []
    rows = read_user_table(image, ("image", "mask"), wanted)
    if not rows:
        raise UsageError(f"{image} has no rows: {wanted}.", "no-data-set")
    for number, row in enumerate(rows, 2):
        if not row["image"] or not row["mask"]:
            raise InputError(f"{image}: row {number} lacks image or mask: {wanted}.")
        file, own = (image.parent / row[key] for key in ("image", "mask"))
        found.append((GivenCase(row.get("case") or case_name(file), file), own))
    if len({case.name for case, _ in found}) < len(found):
        raise InputError(f"{image} names two cases alike: add a column case with different names.")
    return found


def _run(
    options: "argparse.Namespace",
    console: Console,
    paths: list[Path],
    tables: "dict[Path, list[GivenCase]]",
    masks: "dict[str, MaskFile]",
) -> int:
    """Make the case folders of both commands.

    Args:
        paths: that cases are found in.
        tables: the cases of those paths that are tables.
        masks: to judge, by the name of the case.
    """
    from ..cohort.jobs import Failure, check_failed_file
    from ..cohort.one_case import Rules, settle_all
    from ..cohort.workers import Setup, settle_on_workers, uses_workers
    from ..inference.engines.choice import engine_of_cases
    from ..models.installed import unreadable_folders

    part = None if options.part is None else Part.parse(options.part)
    on_workers = uses_workers(options.workers, options.scheduler)
    bundle = _model_of(options, console, paths, tables)
    for problem in unreadable_folders():
        console.note(f"Warning: {problem}.")
    found = _cases(options, bundle, console, paths, tables, masks)
    if part is not None:
        found = part.share(sorted(found, key=lambda case: case.name))
    failures = [case for case in found if isinstance(case, Failure)]
    jobs = [case for case in found if not isinstance(case, Failure)]
    listed: Path | None = None
    several = len(found) > 1 or part is not None
    resume = options.resume or (several and not options.overwrite)
    if options.resume or on_workers or several:
        listed = options.output / f"failed{'' if part is None else f'-{part.number}-of-{part.count}'}.csv"
        check_failed_file(listed)
    many = listed is not None
    writer: AbstractContextManager[ProcessLock | None] = nullcontext()
    if many:
        writer = run_lock(options.output, part)
    elif jobs:
        writer = one_writer(jobs[0].target, overwrite=True)  # `settle` looks at what is there
    with writer as lock:
        if lock is not None and lock.left_by is not None:
            what = "was killed, for instance by the system for lack of memory"
            console.note(f"Warning: an earlier run ({lock.left_by}) {what}.")
        tally = _Tally(console, len(found), options.debug, listed, options.quiet)
        for failure in failures:
            tally.failed(failure.name, failure.given, failure_message(failure.error), repr(failure.error))
        engine = options.engine
        if resume and engine == AUTO:  # a resumed cohort keeps its engine
            engine = engine_of_cases([job.target for job in jobs]) or AUTO
        rules = Rules(resume, options.overwrite)
        settled: Any = (None for _ in range(0))
        if on_workers and jobs:
            more = {"network": options.network, "threads": options.threads}
            setup = Setup.of(bundle, options.head, engine, options.device, **more)
            where = (options.workers, options.scheduler)
            settled = settle_on_workers(jobs, options.output, setup, rules, *where, console.note, lock)
        elif jobs:
            try:
                model = opened_model(bundle, engine, console, options.device, options.head)
            except UsageError as error:
                known = "" if engine == options.engine else f"The cases there were made with {engine}, but: "
                raise UsageError(f"{known}{error}") from error
            settled = settle_all(jobs, options.output, model, rules, tally.listening)
        return _segmented(settled, tally, options.output, many)


def _model_of(
    options: "argparse.Namespace", console: Console, paths: list[Path], tables: "dict[Path, list[GivenCase]]"
) -> "Bundle":
    """Return the model of `--model`; without it, list those that are installed, and propose one for a first image.

    Raises:
        UsageError: it or the output is missing. No model is run that the user did not name.
        InputError: the first image cannot be read.
    """
    from ..inference.ood_check import why_proposed
    from ..io.grid import VoxelGrid
    from ..io.inputs import find_input, read_channel
    from ..io.roi import RegionOfInterest, voxel_box
    from ..models.installed import find_models, resolve_model

    if options.model is not None and options.output is not None:
        return resolve_model(options.model)
    if options.model is not None:
        raise UsageError("--output is missing: give the folder to write.")
    names = dict.fromkeys(found.bundle.name for found in find_models() if found.bundle)
    bundles = [resolve_model(name) for name in names]
    console.note(*(f"{bundle.name}: {bundle.about['task']}" for bundle in bundles))
    if not bundles:
        raise UsageError("--model is missing, and none is installed: see 'segwithu models --help'.", "no-model")
    reasons = [(bundle, "it is the only one installed") for bundle in bundles if len(bundles) == 1]
    if not options.each and len(bundles) > 1:
        first = (tables.get(paths[0]) or find_input(paths[0]).cases)[0]
        series = next((uid for uid in options.series if "=" not in uid), None)
        grid = VoxelGrid.of(read_channel(first.numbered.get(0, first.source), series).image)
        if options.roi is not None:
            grid = voxel_box(RegionOfInterest.parse(options.roi), grid).crop_grid(grid)
        count = max(len(first.numbered), 1 + len(options.channel))
        reasons = [
            (bundle, reason)
            for bundle in sorted(bundles, key=lambda each: each.placement is None or not each.placement.is_whole)
            if len(bundle.input.channels) == count and (reason := why_proposed(grid, bundle))
        ]
    proposed, reason = reasons[0] if reasons else (None, "")
    given = [*options.given, "--model", proposed.name if proposed else "NAME"]
    given += [] if options.output else ["--output", "results"]
    wanted = f"{proposed.name} is proposed, for {reason}" if proposed else "choose one"
    raise UsageError(f"--model is missing: {wanted}. Type: {shlex.join(['segwithu', *given])}", "no-model")


def _cases(
    options: "argparse.Namespace",
    bundle: "Bundle",
    console: Console,
    paths: list[Path],
    tables: "dict[Path, list[GivenCase]]",
    masks: "dict[str, MaskFile]",
) -> "list[Job | Failure]":
    """Find the cases that the options name.

    Raises:
        UsageError: an option is not a region or name, or needs a single case.
    """
    from ..cohort.jobs import jobs_of
    from ..io.roi import RegionOfInterest

    if options.name is not None:
        check_folder_name(options.name, "--name")
    jobs, failures = jobs_of(
        paths,
        options.output,
        bundle.input.channels,
        console.note,
        tables=tables,
        each=options.each,
        name=options.name,
        channels=options.channel,
        series=options.series,
        roi=None if options.roi is None else RegionOfInterest.parse(options.roi),
        unlike_training=options.unlike_training,
        include_image=options.include_image,
        passes=options.passes,
    )
    if masks:  # --name renames the only one
        jobs = [replace(job, mask=next(iter(masks.values())) if options.name else masks[job.name]) for job in jobs]
    return [*jobs, *failures]


def _cases_of(table: Path) -> "list[GivenCase]":
    """Return the cases that a split table gives a role: `TABLE.csv:ROLE`."""
    from SegWithULab.training.dataset import find_images

    from ..io.inputs import GivenCase

    found = find_images(str(table))
    return [GivenCase(name, files[0], dict(enumerate(files)) if len(files) > 1 else {}) for name, files in found]


def _segmented(settled: Any, tally: "_Tally", output: Path, many: bool) -> int:
    """Settle all cases and sum up; returns the exit code.

    Raises:
        KeyboardInterrupt: a single case was interrupted.
    """
    from ..cohort.jobs import write_failed

    if many:
        tally.console.on_cancel = tally.cut_short
    try:
        with closing(settled) as found:
            for each in found:
                tally.settled(*each)
    except KeyboardInterrupt as interrupt:
        if not many or isinstance(interrupt, ReaderLeftError):
            raise
        tally.cut_short()
        return INTERRUPTED
    finally:
        if tally.listed is not None:
            write_failed(tally.listed, tally.failures)
    if many:
        tally.sum_up(output)
    return 1 if tally.counts["failed"] else 0


class _Tally:
    """Counts and prints what becomes of the cases, and keeps the list of failures.

    Attributes:
        total: cases, including those that could not be started.
        counts: of cases by what became of them.
        failures: name, what was given and reason of each case that failed.
        listed: the file that lists them; None for none.
    """

    def __init__(self, console: Console, total: int, debug: bool, listed: Path | None, quiet: bool = False) -> None:
        self.console, self.total, self.listed, self._debug, self._quiet = console, total, listed, debug, quiet
        self.failures: list[tuple[str, Path, str]] = []
        self.counts = {"done": 0, "there": 0, "failed": 0}
        self._begun = time.monotonic()

    @property
    def _number(self) -> int:
        return sum(self.counts.values())

    def _pace(self) -> tuple[float | None, float | None]:
        """Return cases an hour, and the seconds that are left; None before a case is done."""
        hours = (time.monotonic() - self._begun) / 3600
        hourly = self.counts["done"] / hours if self.counts["done"] and hours > 0 else None
        return hourly, None if hourly is None else round(3600 * (self.total - self._number) / hourly, 1)

    def _title(self, name: str, left: float | None = None) -> str:
        if self.total == 1 or self.console.as_json:
            return name
        return f"{name} ({self._number + 1} of {self.total}{'' if left is None else ', ' + time_left(left)})"

    @contextlib.contextmanager
    def listening(self, job: "Job") -> Iterator[Progress]:
        """Print which case of how many is started, and the estimated time for all."""
        left = self._pace()[1]
        facts = {"case": job.name, "number": self._number + 1, "of": self.total, "seconds_left": left}
        self.console.step("", {"event": "case", **facts})
        with self.console.progress(self._title(job.name, left), left is None) as progress:
            yield progress

    def settled(self, job: "Job", settled: "Settled") -> None:
        """Say what became of a case."""
        if settled["state"] == "failed":
            self.failed(job.name, job.files[0], settled["reason"], settled["trace"])
            return
        if settled["state"] == "there":
            text = f"{self._title(job.name)}: 100% there already"
            self.console.step(text, {"event": "there", "case": str(job.target)})
        else:
            self._finished(job, settled)
        self.counts[settled["state"]] += 1

    def _finished(self, job: "Job", settled: "Settled") -> None:
        """Print the table of a case, and what it is flagged for."""
        from ..inference.deviation import NOTE

        for severity, sentence in () if self._quiet else settled["warnings"]:
            self.console.note(f"{'Note' if severity == NOTE else 'Warning'}: {sentence}")
        case, known = read_case(job.target), {sentence for _, sentence in settled["warnings"]}
        for flag in () if self._quiet else case["flags"]:
            if flag["message"] not in known:
                self.console.note(f"Flagged: {flag['message']}")
        data = {"case": str(job.target), "structures": settled["structures"], "seconds": round(settled["seconds"], 2)}
        data |= {"flags": case["flags"], "light": case["light"]}
        data |= {"worker": settled["worker"]} if "worker" in settled else {}
        text = summary(case, job.target, settled["refused"])
        if self._quiet:
            self.console.result(f"{case['name']}: {case['light']['level']}", data)
            return
        self.console.result(
            text + (next_steps(case, job.target) if self.total == 1 and not settled["refused"] else ""), data
        )

    def failed(self, name: str, given: Path, reason: str, trace: str) -> None:
        """Say why a case failed, and note it in the list."""
        sentence = plain_name(reason)
        self.console.error(sentence, case=name)
        if self._debug:
            self.console.trace(trace)
        self.counts["failed"] += 1
        self.failures.append((name, Path(plain_name(str(given))), sentence))

    def cut_short(self) -> None:
        """Say what an interrupted run leaves."""
        whole = self.counts["done"] + self.counts["there"]
        self.console.error(
            f"cancelled after {whole} of {self.total} cases, partial output was removed; run the same command, "
            "without --overwrite, to continue."
        )
        self.console.step("", self._summed_up(interrupted=True))

    def sum_up(self, output: Path) -> None:
        """Print the counts, write the overview of the cohort, and say where it is."""
        hourly, overview = self._pace()[0], _overview(output)
        parts = ", ".join(f"{count} {state}" for state, count in self.counts.items())
        pace = "." if hourly is None else f"; {hourly:.0f} cases an hour."
        self.console.result(f"{self.total} cases: {parts}{pace}\n{overview}".rstrip(), self._summed_up())
        if self.counts["failed"]:
            where = self.listed or "above"
            self.console.error(f"{self.counts['failed']} of {self.total} cases failed, see {where}.")

    def _summed_up(self, interrupted: bool = False) -> dict[str, Any]:
        hourly = self._pace()[0]
        pace = {"cases_per_hour": None if hourly is None else round(hourly, 1), "interrupted": interrupted}
        return {"event": "cohort", "cases": self.total, **self.counts, **pace}


def _overview(output: Path) -> str:
    """Write the table of all structures and the page of previews; return where it is. Faults there fail no case."""
    try:
        from ..report.case_report import INDEX_FILE, write_cohort_overview

        troubles = write_cohort_overview(output) if output.is_dir() else []
    except (ModuleNotFoundError, OutputError) as error:
        return f"Warning: no overview: {failure_message(error)}"
    left = f" {len(troubles)} folders that cannot be read are left out there." if troubles else ""
    return f"Look at {output / INDEX_FILE}.{left}" if (output / INDEX_FILE).is_file() else ""
