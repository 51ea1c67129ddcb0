"""The cases of `segwithu segment`, reported to people and machines as they are settled."""

import contextlib
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from ..case.case_file import read_case
from ..case.structures_table import OUTSIDE
from ..regions.region import UNCERTAIN
from ..review.flags import rules_of_case
from ..review.worklist import triage_of
from ..util.errors import INTERRUPTED, OutputError
from ..util.failures import failure_sentence
from ..util.input_files import plain_name
from ..util.interruption import says_farewell
from ..util.progress import Progress, time_left
from .console import PLAIN_INTERVAL_S, Console, ReaderLeftError, table

if TYPE_CHECKING:
    from ..cohort.failed_cases import FailedCases
    from ..cohort.jobs import Failure
    from ..cohort.one_case import Settled
    from ..cohort.run import CaseProgress, CohortCounts
    from ..cohort.workers import Workers
    from ..inference.segment import Job


_SHOWN_RUNNING = 4
"""Running cases that a line names."""


class CohortReporter:
    """Prints what happens and keeps the list of failures.

    Attributes:
        total: cases, those that could not be begun among them.
        table: the list of failures, None if none is kept.
    """

    def __init__(self, console: Console, total: int, debug: bool) -> None:
        """Nothing is printed yet."""
        self.console, self.total = console, total
        self.table: FailedCases | None = None
        self._debug, self._settled, self._reported_at = debug, 0, time.monotonic()

    def failed_before(self, failure: "Failure") -> None:
        """Report a case that could not even be begun."""
        trace = "".join(traceback.format_exception(failure.error))
        self._failed(failure.name, failure.given, failure_sentence(failure.error), trace)

    @contextlib.contextmanager
    def progress(self, job: "Job", place: "CaseProgress") -> Iterator[Progress]:
        """Say which case of how many is begun, and about how long all will take."""
        facts = {"case": job.name, "number": place.number, "of": place.total}
        left = None if place.seconds_left is None else round(place.seconds_left, 1)
        self.console.step("", {"event": "case", **facts, "seconds_left": left})
        with self.console.progress(self._title(job.name, place.number, place.seconds_left)) as progress:
            yield progress

    def _title(self, name: str, number: int, seconds: float | None = None) -> str:
        if self.total == 1 or self.console.as_json:
            return name
        return f"{name} ({number} of {self.total}{'' if seconds is None else ', ' + time_left(seconds)})"

    def running(self, counts: "CohortCounts", workers: "Workers") -> None:
        """Say, every second for machines and now and then for people, how far the workers are."""
        hourly, done = counts.cases_per_hour, counts.complete + counts.failed
        left = 3600 * (counts.total - done) / hourly if hourly else None
        cases = sorted(workers.running.values(), key=lambda case: str(case["case"]))
        event = {"event": "workers", "workers": workers.count, "cases": counts.total, "done": counts.finished,
                 "there": counts.skipped, "failed": counts.failed, "running": cases,
                 "cases_per_hour": None if hourly is None else round(hourly, 1),
                 "seconds_left": None if left is None else round(left, 1)}  # fmt: skip
        text = ""
        if time.monotonic() - self._reported_at >= PLAIN_INTERVAL_S:
            self._reported_at = time.monotonic()
            parts = [f"{done} of {counts.total} cases", counted(workers.count, "worker")]
            parts[0] += f", {counts.failed} failed" if counts.failed else ""
            named = [f"{plain_name(str(case['case']))} on {case['host']} ({case['stage']} {case['fraction']:.0%})"
                     for case in cases[:_SHOWN_RUNNING]]  # fmt: skip
            more = len(cases) - _SHOWN_RUNNING
            parts += [f"running: {', '.join(named)}{f' and {more} more' if more > 0 else ''}"] if named else []
            parts += [] if left is None else [f"{hourly:.0f} cases an hour, {time_left(left)}"]
            text = "; ".join(parts)
        self.console.step(text, event)

    def settled(self, job: "Job", settled: "Settled") -> None:
        """Say what became of a case."""
        if settled["state"] == "failed":
            self._failed(job.name, job.files[0], settled["reason"], settled["trace"])
            return
        if settled["state"] == "there":
            text = f"{self._title(job.name, self._settled + 1)}: 100% there already"
            self.console.step(text, {"event": "there", "case": str(job.target)})
        else:
            self._finished(job, settled)
        self._settled += 1
        if self.table is not None:
            self.table.settled(job.name)

    def _finished(self, job: "Job", settled: "Settled") -> None:
        """Print the table of a case, and what it is flagged for."""
        from ..inference.deviation import NOTE

        for severity, sentence in settled["warnings"]:
            self.console.note(f"{'Note' if severity == NOTE else 'Warning'}: {sentence}")
        case, told = read_case(job.target), {sentence for _, sentence in settled["warnings"]}
        flags = case["flags"]
        for flag in flags:
            if flag["sentence"] not in told:
                self.console.note(f"Flagged: {flag['sentence']}")
        ranks = triage_of(case, rules_of_case(case).active).sentences
        data = {"case": str(job.target), "structures": settled["structures"], "seconds": round(settled["seconds"], 2)}
        data |= {"flags": flags, **({"worker": settled["worker"]} if "worker" in settled else {})}
        text = summary(job.name, settled, job.target, ranks)
        self.console.result(text + (next_steps(case, job.target, settled["refused"]) if self.total == 1 else ""), data)

    def _failed(self, name: str, given: Path, reason: str, trace: str) -> None:
        sentence = plain_name(reason)
        self.console.error(sentence, case=name)
        if self._debug:
            self.console.trace(trace)
        self._settled += 1
        if self.table is not None:
            self.table.failed(name, Path(plain_name(str(given))), sentence)


def segment_cohort(
    jobs: "Sequence[Job]",
    run_cases: "Callable[[CohortCounts], object]",
    output: Path,
    reporter: CohortReporter,
) -> int:
    """Segment all and sum up; returns the exit code.

    Args:
        run_cases: settles the jobs and counts them.
        output: the folder of all cases.

    Raises:
        KeyboardInterrupt: a single case was interrupted.
    """
    from ..cohort.run import CohortCounts

    console, failures = reporter.console, reporter.table
    counts = CohortCounts(reporter.total, failed=reporter.total - len(jobs))
    many = reporter.total > 1 or failures is not None

    def cut_short() -> None:
        console.error(
            f"cancelled after {counts.complete} of {counts.total} cases, partial output was removed; run the same "
            "command with --resume to go on."
        )
        console.step("", _counts_json(counts, interrupted=True))
        if failures is not None:
            failures.write()

    try:
        if jobs:
            with says_farewell(cut_short) if many else contextlib.nullcontext():
                run_cases(counts)
    except BaseException as error:
        if many and isinstance(error, KeyboardInterrupt) and not isinstance(error, ReaderLeftError):
            cut_short()
            return INTERRUPTED
        if failures is not None:
            failures.write()
        raise
    if failures is not None:
        failures.write()
    if many:
        parts = [f"{counted(counts.finished, 'case')} done"]
        if counts.skipped:
            parts.append(f"{counts.skipped} {'was' if counts.skipped == 1 else 'were'} there already")
        parts += [f"{counts.failed} failed"] if counts.failed else []
        pace, hourly = counts.seconds_per_case, counts.cases_per_hour
        end = "." if pace is None or hourly is None else f"; {pace:.1f} s a case, {hourly:.0f} cases an hour."
        where = _overview(output)
        text = f"{', '.join(parts)}{end}" + (f"\n{where}" if where else "")
        console.result(text, _counts_json(counts, interrupted=False))
    if counts.failed and many:
        listed = f"{failures.path}" if failures is not None else "above"
        others = "" if counts.failed == counts.total else "; the others are complete"
        console.error(f"{counts.failed} of {counts.total} cases failed, see {listed}{others}.")
    return 1 if counts.failed else 0


def counted(count: int, noun: str) -> str:
    """Return a number with its noun: "1 case", "2 cases"."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _overview(output: Path) -> str:
    """Write the table of all structures and the page of previews; return where it is. Faults there fail no case."""
    if not output.is_dir():
        return ""
    try:
        from ..report.cohort_page import INDEX_FILE, write_cohort_overview

        troubles = write_cohort_overview(output)
    except ModuleNotFoundError as error:
        return f"There is no index.html of {output}, since the package {error.name} is missing."
    except OutputError as error:
        return f"Warning: {error}"
    left = f" {len(troubles)} folders that cannot be read are left out there." if troubles else ""
    return f"Look at {output / INDEX_FILE}.{left}" if (output / INDEX_FILE).is_file() else ""


def summary(name: str, facts: Mapping[str, Any], target: Path, ranks: Sequence[str] = ()) -> str:
    """Make the table of one case.

    Args:
        facts: as `cohort.one_case.case_facts` returns them.
        ranks: how the case compares with the calibration cases, one sentence each.
    """
    outside, *structures = facts["structures"]
    rows = [_row(metrics, facts["refused"]) for metrics in [*structures, outside]]
    header = ["structure", "volume mm3", "expected mm3", "predicted Dice", "wrong mm3", f"error prob. > {UNCERTAIN:g}"]
    text = f"{name}\n{table(header, rows)}\n{_footnotes(structures)}"
    if facts["refused"]:
        text += "Not assessed: the image is too far from the training cases for figures to mean anything.\n"
    elif not facts["calibrated"]:
        text += "This head is not calibrated: the ranking map orders voxels, but has no probabilities.\n"
    text += "".join(f"{sentence}\n" for sentence in ranks)
    return f"{text}written to {target}\n"


def next_steps(case: Mapping[str, Any], target: Path, refused: bool = False) -> str:
    """Say where the picture of a case is, how many regions are worth a look, and which commands show them.

    Args:
        case: the content of its `case.json`.
        refused: the image is too far from the training cases for figures to mean anything.
    """
    from ..case.pictures import PREVIEW_FILE

    place, found, text = quote(str(target)), case.get("regions"), ""
    if found and found["count"] and not refused:
        count = f"{counted(found['count'], 'region')} worth a look"
        inside, wrong = found["expected_wrong_in_regions_mm3"], found["expected_wrong_mm3"]
        text = f"{count}, with {inside:.0f} of the {wrong:.0f} mm3 that are expected to be wrong.\n"
        text += f"  list them    segwithu regions {place}\n  review them  segwithu web {place} --open\n"
    preview = target / PREVIEW_FILE
    return f"{text}  picture      {preview}\n" if preview.is_file() else text


def _counts_json(counts: "CohortCounts", interrupted: bool) -> dict[str, Any]:
    pace, hourly = counts.seconds_per_case, counts.cases_per_hour
    return {
        "event": "cohort",
        "cases": counts.total,
        "done": counts.finished,
        "there": counts.skipped,
        "failed": counts.failed,
        "seconds_per_case": None if pace is None else round(pace, 3),
        "cases_per_hour": None if hourly is None else round(hourly, 1),
        "interrupted": interrupted,
    }


def _row(metrics: Mapping[str, Any], refused: bool) -> list[str]:
    is_structure = metrics["value"] != 0
    name = metrics["name"] if is_structure else OUTSIDE
    volume = f"{metrics['volume_mm3']:.0f}" if is_structure else ""
    if refused or metrics["expected_wrong_mm3"] is None or metrics["uncertain_mm3"] is None:
        words = "not assessed" if refused else "not calibrated"
        return [name, volume, *[words if is_structure else ""] * 2, words, words]
    share = f"{100 * metrics['uncertain_share']:.1f} % = " if is_structure else ""
    return [
        name,
        volume,
        _expected(metrics) if is_structure else "",
        _dice(metrics) if is_structure else "",
        f"{metrics['expected_wrong_mm3']:.0f}",
        f"{share}{metrics['uncertain_mm3']:.0f} mm3",
    ]


def _expected(metrics: Mapping[str, Any]) -> str:
    if metrics["expected_volume_mm3"] is None:
        return "not assessed"
    volume = f"{metrics['expected_volume_mm3']:.0f}"
    if metrics["expected_interval_mm3"] is None:
        return volume
    low, high = metrics["expected_interval_mm3"]
    return f"{volume} ({low:.0f} to {high:.0f})"


def _dice(metrics: Mapping[str, Any]) -> str:
    if metrics["predicted_dice"] is not None:
        return f"{metrics['predicted_dice']:.2f}"
    return "not informative" if metrics["predicted_dice_informative"] is False else "not assessed"


def _footnotes(structures: Sequence[Mapping[str, Any]]) -> str:
    counts = {metrics["calibration_cases"] for metrics in structures if metrics["calibration_cases"] is not None}
    if not counts:
        return ""
    return f"In brackets the 90 % interval of the true volume, from {max(counts)} calibration cases.\n"
