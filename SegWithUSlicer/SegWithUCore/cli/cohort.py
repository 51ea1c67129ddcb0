"""The cases of `segwithu segment` one after the other, reported to people and machines."""

import argparse
import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..case.case_file import read_case
from ..imaging.plain_names import plain_name
from ..progress import Progress, time_left
from ..review.flags import Rule
from .console import Console, failure_sentence, table

if TYPE_CHECKING:
    from ..imaging.input_reader import InputReader
    from ..inference.case_writer import CaseResult
    from ..inference.cohort import CaseProgress, CohortCounts
    from ..inference.failed_cases import FailedCases
    from ..inference.model import Model
    from ..inference.segment import Job
    from ..inference.structures import StructureMetrics


@dataclass(frozen=True)
class Failure:
    """A case that cannot even be begun: its name, what was given for it, and why."""

    name: str
    given: Path
    error: Exception


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
        self._debug, self._settled = debug, 0

    def failed_before(self, failure: Failure) -> None:
        """Report a case that could not even be begun."""
        self._failed(failure.name, failure.given, failure.error)

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

    def finished(self, job: "Job", result: "CaseResult", seconds: float) -> None:
        """Print the table of a case, and what it is flagged for."""
        from ..inference.fingerprint import NOTE

        for warning in result.warnings:
            self.console.note(f"{'Note' if warning.severity == NOTE else 'Warning'}: {warning.sentence}")
        flags = read_case(job.target)["flags"]
        for flag in flags:
            if flag["rule"] != Rule.FINGERPRINT:  # its sentence is among the warnings
                self.console.note(f"Flagged: {flag['sentence']}")
        data = {"case": str(job.target), "structures": structures_json(result), "seconds": round(seconds, 2)}
        data["flags"] = flags
        self.console.result(summary(result, job.target), data)
        self._settle(job.name)

    def skipped(self, job: "Job") -> None:
        """Say that a case was there."""
        text = f"{self._title(job.name, self._settled + 1)}: 100% there already"
        self.console.step(text, {"event": "there", "case": str(job.target)})
        self._settle(job.name)

    def failed(self, job: "Job", error: Exception) -> None:
        """Say why a case failed."""
        self._failed(job.name, job.files[0], error)

    def waiting(self, jobs: "Sequence[Job]", who: str) -> None:
        """Say whom the run waits for."""
        others = f" and {len(jobs) - 1} more" if len(jobs) > 1 else ""
        self.console.note(f"Waiting for {jobs[0].name}{others}, which {who} makes.")

    def _settle(self, name: str) -> None:
        self._settled += 1
        if self.table is not None:
            self.table.settled(name)

    def _failed(self, name: str, given: Path, error: Exception) -> None:
        sentence = plain_name(failure_sentence(error))
        self.console.error(sentence, case=name)
        if self._debug:
            self.console.trace(error)
        self._settled += 1
        if self.table is not None:
            self.table.failed(name, Path(plain_name(str(given))), sentence)


def segment_cohort(
    jobs: "Sequence[Job]",
    model: "Model | None",
    options: argparse.Namespace,
    reporter: CohortReporter,
    reader: "InputReader",
) -> int:
    """Segment all and sum up; returns the exit code.

    Args:
        model: None if there is nothing to be done.
        reader: what reads the images.

    Raises:
        KeyboardInterrupt: a single case was interrupted.
    """
    from ..inference.cohort import Cohort, CohortCounts, Rules

    counts, many = CohortCounts(reporter.total, failed=reporter.total - len(jobs)), reporter.total > 1 or options.resume
    rules = Rules(options.resume, options.overwrite, options.take_over)
    try:
        if model is not None:
            Cohort(options.output, jobs, model, rules, reporter, counts, reader).run()
    except KeyboardInterrupt:
        if not many:
            raise
        reporter.console.error(
            f"cancelled after {counts.complete} of {counts.total} cases, nothing half-written was left behind; run the "
            "same command with --resume to go on."
        )
        reporter.console.step("", _counts_json(counts, interrupted=True))
        return 1
    finally:
        if reporter.table is not None:
            reporter.table.write()
    if many:
        reporter.console.result(_summed_up(counts), _counts_json(counts, interrupted=False))
    if counts.failed and many:
        where = f"{reporter.table.path}" if reporter.table is not None else "above"
        others = "" if counts.failed == counts.total else "; the others are complete"
        reporter.console.error(f"{counts.failed} of {counts.total} cases failed, see {where}{others}.")
    return 1 if counts.failed else 0


def summary(result: "CaseResult", target: Path) -> str:
    """Make the table of one case."""
    from ..inference.fingerprint import is_refused

    refused = is_refused(result.warnings)
    rows = [_row(metrics, refused) for metrics in [*result.structures[1:], result.structures[0]]]
    header = ["structure", "volume mm3", "expected mm3", "predicted Dice", "wrong mm3", "error prob. > 0.25"]
    text = f"{result.name}\n{table(header, rows)}\n{_footnotes(result.structures[1:])}"
    if refused:
        text += "Not assessed: the image is too far from the training cases for figures to mean anything.\n"
    elif result.maps.error_probability is None:
        text += "This head is not calibrated: the ranking map orders voxels, but has no probabilities.\n"
    return f"{text}written to {target}\n"


def structures_json(result: "CaseResult") -> list[dict[str, Any]]:
    """Metrics per structure for machines."""
    return [structure.to_json() for structure in result.structures]


def _summed_up(counts: "CohortCounts") -> str:
    parts = [f"{counts.finished} case{'' if counts.finished == 1 else 's'} done"]
    if counts.skipped:
        parts.append(f"{counts.skipped} {'was' if counts.skipped == 1 else 'were'} there already")
    if counts.failed:
        parts.append(f"{counts.failed} failed")
    pace = counts.seconds_per_case
    return ", ".join(parts) + ("." if pace is None else f"; {pace:.1f} s a case, {3600 / pace:.0f} cases an hour.")


def _counts_json(counts: "CohortCounts", interrupted: bool) -> dict[str, Any]:
    pace = counts.seconds_per_case
    return {
        "event": "cohort",
        "cases": counts.total,
        "done": counts.finished,
        "there": counts.skipped,
        "failed": counts.failed,
        "seconds_per_case": None if pace is None else round(pace, 3),
        "cases_per_hour": None if pace is None else round(3600 / pace, 1),
        "interrupted": interrupted,
    }


def _row(metrics: "StructureMetrics", refused: bool) -> list[str]:
    is_structure = metrics.label.value != 0
    name = metrics.label.name if is_structure else "outside (missed tissue)"
    volume = f"{metrics.volume_mm3:.0f}" if is_structure else ""
    if refused or metrics.expected_wrong_mm3 is None or metrics.uncertain_mm3 is None:
        words = "not assessed" if refused else "not calibrated"
        return [name, volume, *[words if is_structure else ""] * 2, words, words]
    share = f"{metrics.uncertain_share:.1%} = " if is_structure else ""
    return [
        name,
        volume,
        _expected(metrics) if is_structure else "",
        _dice(metrics) if is_structure else "",
        f"{metrics.expected_wrong_mm3:.0f}",
        f"{share}{metrics.uncertain_mm3:.0f} mm3",
    ]


def _expected(metrics: "StructureMetrics") -> str:
    if metrics.expected_volume_mm3 is None:
        return "not assessed"
    volume = f"{metrics.expected_volume_mm3:.0f}"
    if metrics.expected_interval_mm3 is None:
        return volume
    low, high = metrics.expected_interval_mm3
    return f"{volume} ({low:.0f} to {high:.0f})"


def _dice(metrics: "StructureMetrics") -> str:
    if metrics.predicted_dice is not None:
        return f"{metrics.predicted_dice:.2f}"
    return "not informative" if metrics.predicted_dice_informative is False else "not assessed"


def _footnotes(structures: "Sequence[StructureMetrics]") -> str:
    counts = {metrics.calibration_cases for metrics in structures if metrics.calibration_cases is not None}
    if not counts:
        return ""
    return f"In brackets the 90 % interval of the true volume, from {max(counts)} calibration cases.\n"
