"""`segwithu segment`: images in, case folders out; one case or many, here or on workers."""

import argparse
import contextlib
import re
import shlex
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..case.case_file import read_case
from ..case.structures_table import WHOLES
from ..inference.engines import AUTO
from ..io.grid import VoxelGrid
from ..io.inputs import GivenCase, find_input, read_channel
from ..io.roi import RegionOfInterest, voxel_box
from ..models.bundle import Bundle
from ..models.installed import find_models, resolve_model, unreadable_folders
from ..models.proposal import proposal
from ..util.atomic_files import one_writer
from ..util.errors import INTERRUPTED, OutputError, UsageError
from ..util.failures import failure_message
from ..util.input_files import plain_name
from ..util.process_lock import ProcessLock
from ..util.progress import Progress, time_left
from ..util.run_lock import Part, run_lock
from .arguments import CommandParser, add_command, check_folder_name, int_between, opened_model, settings_of
from .case_summary import next_steps, summary
from .console import Console, ReaderLeftError

if TYPE_CHECKING:
    from ..cohort.jobs import AskedCases
    from ..cohort.one_case import Settled, Settling
    from ..inference.case_result import Job
    from ..inference.model import Model

_TABLE = re.compile(r".*\.(csv|tsv|txt):[^:/\\]+", re.IGNORECASE)


def add_commands(commands: Any) -> None:
    """Add `segment`."""
    command = add_command(commands, "segment", run)
    command.add_argument("cases", nargs="+", metavar="CASE", type=Path, help="an image file (NIfTI, NRRD, MHA, MGZ), "
        "the folder of a DICOM series, a folder in nnU-Net naming (CASE_0000.nii.gz), which may hold many cases, or "
        "TABLE.csv:ROLE, the cases of a split table (columns case, role; with a folder images next to it)")  # fmt: skip
    command.add_flag("--each", "CASE is a folder of cases: every image file and every folder in it is one")
    add_options(command)


def add_settings(command: CommandParser) -> None:
    """Add what all three commands take."""
    add, flag = command.add_argument, command.add_flag
    add("--series", action="append", default=[], metavar="[NAME=]UID", help="the DICOM series to read if a folder "
        "has several, by the end of its UID; NAME= for a further channel; single cases only")  # fmt: skip
    add("--name", help="name of the case folder (default: from the file name); one case at a time")
    add("--structures", metavar="NAMES", help="structures to be measured and reviewed, such as "
        "'hippocampus,lateral ventricle' for both sides of both (default: what the model proposes)")  # fmt: skip
    command.add_shared("--overwrite")
    flag("--resume", "skip a case that exists for the same voxels, model, head and region of "
         "interest, as several cases always do; their failures are listed in OUTPUT/failed.csv")  # fmt: skip
    flag("--quiet", "one line a case: whether to look at it")
    flag("--include-image", "copy the image into the case folder")


def add_options(command: CommandParser) -> None:
    """Add what the commands take that run a model."""
    add = command.add_argument
    command.add_shared("--model", "--output", required=False)  # `_model_of` says what is missing
    add("--channel", action="append", default=[], metavar="NAME=FILE", help="a further channel of a single CASE")
    add("--roi", metavar="R,A,S,dR,dA,dS", help="region of interest: centre and edge lengths in mm (RAS)")
    command.add_shared("--head", "--device", "--engine")
    add_settings(command)
    command.add_flag("--unlike-training", "continue although the image is out of distribution")
    command.add_shared("--network", "--threads")
    add("--part", metavar="I/N", help="only the I-th of N equal shares of the cases, such as 3/8")
    add("--workers", type=int_between(1, 10_000), metavar="N", help="share the cases among N workers on this computer")
    add("--scheduler", metavar="ADDRESS", help="share the cases among the workers of a Dask scheduler, tcp://HOST:PORT")


def run(options: argparse.Namespace, console: Console) -> int:
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
    return run_call(Call.of(options, paths=options.cases, tables=tables), console)


@dataclass(frozen=True)
class Call:
    """What a call of one of the commands asks for, besides its cases; the names are those of the options."""

    cases: "AskedCases"
    model: str | None
    output: Path | None
    overwrite: bool
    resume: bool
    part: Part | None
    workers: int | None
    scheduler: str | None
    network: str | None
    threads: int | None
    quiet: bool
    debug: bool
    given: Sequence[str]

    @classmethod
    def of(cls, options: argparse.Namespace, **found: Any) -> "Call":
        """Take what the options say.

        Raises:
            UsageError: one is not what it should be.
        """
        from ..cohort.jobs import AskedCases

        part = None if options.part is None else Part.parse(options.part)
        if options.name is not None:
            check_folder_name(options.name, "--name")
        given = {**vars(options), **found, "part": part, "settings": settings_of(options)}
        given["cases"] = AskedCases(**{own.name: given[own.name] for own in fields(AskedCases) if own.name in given})
        return cls(**{own.name: given[own.name] for own in fields(cls)})


def run_call(call: Call, console: Console, model: "Model | None" = None) -> int:
    """Make the case folders of all three commands; without a model that is given, by the one that is asked for."""
    from ..cohort.jobs import Failure, check_failed_file, jobs_of
    from ..cohort.workers import uses_workers

    console.started()
    on_workers, part = uses_workers(call.workers, call.scheduler), call.part
    bundle, output = _model_of(call, console) if model is None else (model.bundle, call.output or Path())
    console.warn(*(f"{problem}." for problem in unreadable_folders()))
    jobs, failures = jobs_of(call.cases, output, bundle.input.channels, console.note)
    found: list[Job | Failure] = [*jobs, *failures]
    if part is not None:
        found = part.share(sorted(found, key=lambda case: case.name))
    failures = [case for case in found if isinstance(case, Failure)]
    jobs = [case for case in found if not isinstance(case, Failure)]
    several, listed = len(found) > 1 or part is not None, None
    if call.resume or on_workers or several:
        listed = output / f"failed{'' if part is None else f'-{part.number}-of-{part.count}'}.csv"
        check_failed_file(listed)
    writer: AbstractContextManager[ProcessLock | None] = nullcontext()
    if listed is not None:
        writer = run_lock(output, part)
    elif jobs:
        writer = one_writer(jobs[0].target, overwrite=True)  # `settle` looks at what is there
    with writer as lock:
        if lock is not None and lock.left_by is not None:
            what = "was killed, for instance by the system for lack of memory"
            console.warn(f"an earlier run ({lock.left_by}) {what}.")
        tally = _Tally(console, len(found), call.debug, listed, call.quiet)
        for failure in failures:
            tally.failed(failure.name, failure.given, failure_message(failure.error), repr(failure.error))
        resume = call.resume or (several and not call.overwrite)
        settled = None
        if jobs:
            call = replace(call, resume=resume)
            settled = _settled(call, model or bundle, jobs, output, tally, lock if on_workers else None)
        return _segmented(settled, tally, output)


def _settled(
    call: Call,
    model: "Model | Bundle",
    jobs: "Sequence[Job]",
    output: Path,
    tally: "_Tally",
    lock: ProcessLock | None,
) -> "Settling":
    """Load the model, if it is not loaded, and begin to make the cases.

    Raises:
        UsageError: there is no such engine.
    """
    from ..cohort.one_case import Rules, settle_all
    from ..cohort.workers import Setup, settle_on_workers
    from ..inference.engines.choice import engine_of_cases
    from ..inference.model import Model

    rules, settings, console = Rules(call.resume, call.overwrite), call.cases.settings, tally.console
    if isinstance(model, Model):
        return settle_all(jobs, output, model, rules, tally.listening)
    if call.resume and settings.engine == AUTO:  # a resumed cohort keeps its engine
        settings = replace(settings, engine=engine_of_cases([job.target for job in jobs]) or AUTO)
    if lock is not None:
        setup = Setup.of(model, settings, network=call.network, threads=call.threads)
        return settle_on_workers(jobs, output, setup, rules, call.workers, call.scheduler, console.note, lock)
    try:
        model = opened_model(model, settings.engine, console, settings.device, settings.head)
    except UsageError as error:
        known = f"The cases there were made with {settings.engine}, but: " if settings != call.cases.settings else ""
        raise UsageError(f"{known}{error}") from error
    return settle_all(jobs, output, model, rules, tally.listening)


def _model_of(call: Call, console: Console) -> tuple[Bundle, Path]:
    """Return the model and the output; without --model, list those that are installed, and propose one.

    Raises:
        UsageError: one of both is missing. No model is run that the user did not name.
        InputError: the first image cannot be read.
    """
    if call.model is not None:
        if call.output is None:
            raise UsageError("--output is missing: give the folder to write.")
        return resolve_model(call.model), call.output
    names = dict.fromkeys(found.bundle.name for found in find_models() if found.bundle)
    bundles = [resolve_model(name) for name in names]
    console.note(*(f"{bundle.name}: {bundle.about['task']}" for bundle in bundles))
    if not bundles:
        raise UsageError("--model is missing, and none is installed: see 'segwithu models --help'.", "no-model")
    found = _proposed(call, bundles)
    given = [*call.given, "--model", found[0].name if found else "NAME"]
    given += [] if call.output else ["--output", "results"]
    wanted = f"{found[0].name} is proposed, for {found[1]}" if found else "choose one"
    raise UsageError(f"--model is missing: {wanted}. Type: {shlex.join(['segwithu', *given])}", "no-model")


def _proposed(call: Call, bundles: Sequence[Bundle]) -> tuple[Bundle, str] | None:
    """Propose a model for the first image, and say why."""
    if len(bundles) == 1:
        return bundles[0], "it is the only one installed"
    asked = call.cases
    if asked.each:
        return None
    first = (asked.tables.get(asked.paths[0]) or find_input(asked.paths[0]).cases)[0]
    series = next((uid for uid in asked.series if "=" not in uid), None)
    grid = VoxelGrid.of(read_channel(first.numbered.get(0, first.source), series).image)
    if asked.settings.roi is not None:
        grid = voxel_box(RegionOfInterest.of(asked.settings.roi), grid).crop_grid(grid)
    return proposal(bundles, grid, max(len(first.numbered), 1 + len(asked.channel)))


def _cases_of(table: Path) -> list[GivenCase]:
    """Return the cases that a split table gives a role: `TABLE.csv:ROLE`."""
    from SegWithULab.training.dataset import find_images

    found = find_images(str(table))
    return [GivenCase(name, files[0], dict(enumerate(files)) if len(files) > 1 else {}) for name, files in found]


def _segmented(settled: "Settling | None", tally: "_Tally", output: Path) -> int:
    """Settle all cases and sum up; returns the exit code.

    Raises:
        KeyboardInterrupt: a single case was interrupted.
    """
    from ..cohort.jobs import write_failed

    many = tally.listed is not None
    if many:
        tally.console.on_cancel = tally.cut_short
    try:
        with nullcontext(()) if settled is None else closing(settled) as found:
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

        case, known = read_case(job.target), {sentence for _, sentence in settled["warnings"]}
        notes = [f"{'Note' if how == NOTE else 'Warning'}: {sentence}" for how, sentence in settled["warnings"]]
        notes += [f"Flagged: {flag['message']}" for flag in case["flags"] if flag["message"] not in known]
        data = {"case": str(job.target), "structures": settled["structures"], "seconds": round(settled["seconds"], 2)}
        data |= {"flags": case["flags"], "light": case["light"], **{name: case[name] for name in WHOLES}}
        data |= {"worker": settled["worker"]} if "worker" in settled else {}
        text = f"{case['name']}: {case['light']['level']}"
        if not self._quiet:
            text = summary(case, job.target, settled["refused"])
            text += next_steps(case, job.target) if self.total == 1 and not settled["refused"] else ""
        notes = [] if self._quiet else notes
        if self.console.as_json:  # programs take the last line, people the first
            self.console.note(*notes)
        self.console.result(text, data)
        if not self.console.as_json:
            self.console.note(*notes)

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
