"""Many cases one after the other: resumed where they stopped, each failure its own.

`settle` does one case, here or on a worker of a cluster; `Cohort` goes through all of them in this process and reports
to a `CohortListener`.
"""

import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from ..io.input_reader import IN_THIS_PROCESS, InputReader
from ..review.reviews import LOG_PATTERN
from ..util.atomic_files import sweep_leftovers
from ..util.errors import OutputError
from ..util.failures import failure_sentence
from ..util.progress import Progress, silent
from ..util.run_lock import RunLock
from .case_writer import CaseResult
from .deaths import DEATHS_AT_MOST, DeadlyCaseError, begin, deaths_of, ended
from .deviation import is_refused
from .is_up_to_date import OTHER_ENGINE, staleness_reason
from .memory_prediction import RunMemory
from .model import Model
from .segment import Job, predicted_memory, segment

FINISHED, SKIPPED, FAILED = "done", "there", "failed"
"""What can become of a case: `state` of `settle`."""
_LONGEST_TRACE = 20_000
Settled = dict[str, Any]
"""What became of a case, small and plain; see `settle`."""
Listening = Callable[[], AbstractContextManager[Progress]]
"""Called when a case begins to be computed; gives the listener of its progress."""


def silently() -> AbstractContextManager[Progress]:
    """Listen to nothing."""
    return nullcontext(silent)


@dataclass(frozen=True)
class Rules:
    """How to treat case folders that exist already, and cases that kill their process.

    Attributes:
        resume: leave out cases that are there already as they would be made.
        overwrite: replace what is there; with `resume` only what would be made otherwise.
        count_deaths: refuse a case at which `DEATHS_AT_MOST` processes died.
        run: whose processes' deaths are forgiven when its user ends it.
    """

    resume: bool = False
    overwrite: bool = False
    count_deaths: bool = False
    run: str = ""


@dataclass
class CohortCounts:
    """Counts of finished, skipped and failed cases so far.

    Attributes:
        total: cases of the cohort.
        finished, skipped, failed: made by this run, there already, failed.
        seconds: that this run spent on those done, those of all its workers added up.
        elapsed_s: since its workers stand; None if it has none.
    """

    total: int
    finished: int = 0
    skipped: int = 0
    failed: int = 0
    seconds: float = 0.0
    elapsed_s: float | None = None

    @property
    def seconds_per_case(self) -> float | None:
        """Mean of the cases done, None before there is one."""
        return self.seconds / self.finished if self.finished else None

    @property
    def cases_per_hour(self) -> float | None:
        """Throughput of this run, None before a case is done."""
        spent = self.seconds if self.elapsed_s is None else self.elapsed_s
        return 3600 * self.finished / spent if self.finished and spent > 0 else None

    @property
    def complete(self) -> int:
        """Cases whose folder is there."""
        return self.finished + self.skipped

    def add(self, settled: Settled) -> None:
        """Count what became of a case."""
        if settled["state"] == FINISHED:
            self.finished += 1
            self.seconds += settled["seconds"]
        elif settled["state"] == SKIPPED:
            self.skipped += 1
        else:
            self.failed += 1


@dataclass(frozen=True)
class CaseProgress:
    """The position of a case in the cohort.

    Attributes:
        number: of the case, from 1, in the order in which cases are settled.
        seconds_left: for all cases that are still to be made, at the pace so far.
    """

    number: int
    total: int
    seconds_left: float | None


class CohortListener(Protocol):
    """Hears of every case, in the thread that works."""

    def progress(self, job: Job, place: CaseProgress) -> AbstractContextManager[Progress]:
        """Handle the begin of a case; return the listener of its progress."""

    def settled(self, job: Job, settled: Settled) -> None:
        """Handle what became of a case, as `settle` returns it."""


class Admission(Protocol):
    """Lets cases that share a computer begin when there is room for them."""

    def __call__(self, memory: RunMemory | None, progress: Progress) -> AbstractContextManager[None]:
        """Wait until a case with this predicted memory may begin, and hold its room."""


def settle(
    job: Job,
    model: Model,
    rules: Rules,
    listening: Listening = silently,
    reader: InputReader = IN_THIS_PROCESS,
    admission: Admission | None = None,
) -> Settled:
    """Make a case, or find it made, or fail; whatever happens to it, others go on.

    It may be called again for the same case, also after its process was killed: with `rules.resume` a case that is
    there as it would be made is left as it is.

    Args:
        job: its own `overwrite` is not looked at.
        listening: to the computation; not called for a case that is there.
        reader: what reads the images.
        admission: whom to ask before the computation.

    Returns:
        "case", "state" (`FINISHED`, `SKIPPED` or `FAILED`), "seconds"; of a finished case what `case_facts` returns; of
        a failed one "reason", a sentence, and "trace".
    """
    begun = time.perf_counter()
    facts: Settled = {"case": job.name}
    try:
        result = _make(job, model, rules, listening, reader, admission)
    except Exception as error:  # noqa: BLE001 - whatever happens to one case, the others go on
        trace = "".join(traceback.format_exception(error))[-_LONGEST_TRACE:]
        facts |= {"state": FAILED, "reason": failure_sentence(error), "trace": trace}
    else:
        facts |= {"state": SKIPPED} if result is None else {"state": FINISHED, **case_facts(result)}
    return {**facts, "seconds": time.perf_counter() - begun}


def case_facts(result: CaseResult) -> dict[str, Any]:
    """Return what is told of a result: its structures, warnings and how far it was assessed; no arrays."""
    return {
        "structures": [structure.to_json() for structure in result.structures],
        "warnings": [(warning.severity, warning.sentence) for warning in result.warnings],
        "refused": is_refused(result.warnings),
        "calibrated": result.maps.error_probability is not None,
        "device": result.device,
        "peak_memory_mb": result.peak_memory_mb,
    }


def _make(
    job: Job, model: Model, rules: Rules, listening: Listening, reader: InputReader, admission: Admission | None
) -> CaseResult | None:
    """Return the result of a case; None if it is there already."""
    if rules.resume:
        if _is_there(job, model, rules, reader):
            return None
    elif job.target.exists() and not rules.overwrite:
        raise exists_error(job.target)
    job = replace(job, overwrite=job.target.exists() if rules.resume else rules.overwrite)
    if not rules.count_deaths:
        return _segmented(job, model, listening, reader, admission)
    if (deaths := deaths_of(job.target)) >= DEATHS_AT_MOST:
        memory = predicted_memory(job, model, reader)
        raise DeadlyCaseError(job.target, deaths, None if memory is None else memory.words)
    begin(job.target, rules.run)
    try:
        return _segmented(job, model, listening, reader, admission)
    finally:
        ended(job.target)


def exists_error(target: Path) -> OutputError:
    """Make the error of a case folder that is there and is not to be replaced."""
    return OutputError(f"{target} exists already: choose another output folder or pass --overwrite.")


def _segmented(
    job: Job, model: Model, listening: Listening, reader: InputReader, admission: Admission | None
) -> CaseResult:
    with listening() as progress:
        if admission is None:
            return segment(job, model, progress, reader)
        with admission(predicted_memory(job, model, reader), progress):
            return segment(job, model, progress, reader)


def _is_there(job: Job, model: Model, rules: Rules, reader: InputReader) -> bool:
    """Whether the case is there as it would be made.

    Raises:
        OutputError: it is there otherwise, and is not to be replaced.
    """
    if not job.target.exists():
        return False
    other = staleness_reason(job, model, reader)
    if other is None:
        ended(job.target)  # a process died when the case was whole
        return True
    reviewed = any(job.target.glob(LOG_PATTERN))
    if reviewed and other.startswith(OTHER_ENGINE):
        raise OutputError(
            f"{job.target} {other}, which is no reason to lose the reviews in it: it stays; choose another output "
            "folder, or delete it to have it made anew."
        )
    if not rules.overwrite:
        lost = " (the reviews in it are lost then)" if reviewed else ""
        raise OutputError(
            f"{job.target} {other}: choose another output folder, or pass --overwrite to replace it{lost}."
        )
    return False


class Cohort:
    """Works through jobs that have one output folder, one after the other in this process.

    Attributes:
        counts: what became of them so far.
    """

    def __init__(
        self,
        output: Path,
        jobs: Sequence[Job],
        model: Model,
        rules: Rules,
        listener: CohortListener,
        counts: CohortCounts | None = None,
        reader: InputReader = IN_THIS_PROCESS,
        lock: RunLock | None = None,
    ) -> None:
        """Nothing is done yet.

        Args:
            output: the folder that all targets lie in.
            jobs: one a case; their own `overwrite` is not looked at.
            counts: with cases that failed before they could become jobs.
            reader: what reads the images.
            lock: looked at before each case.
        """
        self.counts = counts or CohortCounts(len(jobs))
        self._output, self._jobs, self._model = output, jobs, model
        self._rules, self._listener, self._reader, self._lock = rules, listener, reader, lock
        listed = {path.name for path in output.iterdir()} if rules.resume and output.is_dir() else set()
        self._missing = {job.target.name for job in jobs} - listed

    def run(self) -> CohortCounts:
        """Make all cases; whatever happens to one, the others go on.

        Raises:
            KeyboardInterrupt: the case that was being made is gone.
            LockLostError: another run took the folder over.
        """
        sweep_leftovers(self._output)
        for job in self._jobs:
            if self._lock is not None:
                self._lock.check()
            settled = settle(job, self._model, self._rules, self._listening(job), self._reader)
            self._missing.discard(job.target.name)
            self.counts.add(settled)
            self._listener.settled(job, settled)
        sweep_leftovers(self._output)
        return self.counts

    def _listening(self, job: Job) -> Listening:
        return lambda: self._listener.progress(job, self._case_progress())

    def _case_progress(self) -> CaseProgress:
        counts, pace = self.counts, self.counts.seconds_per_case
        number = counts.complete + counts.failed + 1
        left = None if pace is None else pace * max(1, len(self._missing))
        return CaseProgress(number, counts.total, left)
