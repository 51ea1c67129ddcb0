"""Many cases one after the other: resumed where they stopped, each failure its own.

`settle` does one case, here or on a worker of a cluster; `Cohort` goes through all of them in this process and reports
to a `CohortListener`; `staleness_reason` says whether a case folder that exists is up to date.
"""

import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import SimpleITK as sitk

from ..atomic_files import sweep_leftovers
from ..case.case_file import read_case
from ..case.case_image import IMAGE_FILE, voxel_hash
from ..case.case_regions import SEGMENTATION_FILE
from ..case.region_files import REGION_LABELS_FILE, REGIONS_FILE
from ..errors import InputError, OutputError
from ..failures import failure_sentence
from ..imaging.input_reader import IN_THIS_PROCESS, InputReader
from ..imaging.roi import RegionOfInterest
from ..imaging.volume import grid_facts
from ..progress import Progress, silent
from ..review.reviews import LOG_PATTERN
from ..run_lock import RunLock
from .case_writer import SEGMENTATION_NRRD_FILE, CaseResult
from .deaths import DEATHS_AT_MOST, DeadlyCaseError, begin, deaths_of, ended
from .engines import TORCH
from .fingerprint import is_refused
from .memory_prediction import RunMemory
from .model import Model
from .segment import Job, predicted_memory, read_channels, segment

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
    if reviewed and other.startswith(_OTHER_ENGINE):
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


GRID_TOLERANCE = 1e-4
"""mm, and cosines: what formats with single precision lose of a header."""


def staleness_reason(job: Job, model: Model, reader: InputReader = IN_THIS_PROCESS) -> str | None:
    """Say why the existing case folder does not match this job; None if it does.

    Settings are compared first. Then the images are read, and known by their voxels and grid as everywhere: paths and
    dates change when a cohort is copied, and reading takes a hundredth of the time that segmenting does.

    Args:
        reader: what reads the images.

    Returns:
        Words that follow the folder's name.

    Raises:
        InputError: an image of the job cannot be read.
    """
    try:
        case = read_case(job.target)
        reason = (
            _missing_file(job, case)
            or _other_model(case["model"], model)
            or _other_region(case["region_of_interest"], job.region)
        )
        voxels = [channel["voxels_sha256"] for channel in case["input"]["channels"]]
        grid: Mapping[str, Any] = dict(case["input"]["grid"])
        engine = _other_engine(case, model)
    except (InputError, KeyError, TypeError, AttributeError):
        return "is no whole case folder"
    if reason:
        return reason
    images = read_channels(job.files, model.bundle, job.series, reader, form=job.form)
    return _other_input(voxels, grid, job, images) or engine  # the engine last: what else is other weighs more


def _missing_file(job: Job, case: Mapping[str, Any]) -> str | None:
    names = [SEGMENTATION_FILE, SEGMENTATION_NRRD_FILE, *(entry["file"] for entry in case["maps"].values())]
    names += [REGIONS_FILE, REGION_LABELS_FILE] if case["regions"] is not None else []
    names += [IMAGE_FILE] if job.include_image else []
    missing = next((name for name in names if not _has_content(job.target / name)), None)
    return f"lacks {missing}" if missing else None


def _has_content(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0


def _other_model(made_with: Mapping[str, Any], model: Model) -> str | None:
    bundle = model.bundle
    before, now = (f"'{made_with['name']}' {made_with['version']}", f"'{bundle.name}' {bundle.about['version']}")
    if before != now:
        return f"was made with the model {before} instead of {now}"
    hashes = (made_with["weights_sha256"], made_with["calibration_sha256"], made_with["network_sha256"])
    if hashes != (bundle.weights_sha256, bundle.calibration_sha256, model.network_sha256):
        return f"was made with other weights or another calibration of the model {now}"
    if made_with["head"] != model.head.name:
        return f"was made with the head '{made_with['head']}' instead of '{model.head.name}'"
    return None


_OTHER_ENGINE = "was made with the engine"
"""How a reason begins that is about the engine alone."""


def _other_engine(case: Mapping[str, Any], model: Model) -> str | None:
    """Compare engine, version, precision and graphs; a folder from before there were engines counts as torch's."""
    before, now = case.get("engine"), model.engine.identity()
    if before is None:
        return None if now["name"] == TORCH else f"{_OTHER_ENGINE} {TORCH} instead of {now['name']}"
    told, asked = (f"{each['name']} {each['version']}" for each in (before, now))
    if told != asked:
        return f"{_OTHER_ENGINE} {told} instead of {asked}"
    if before["precision"] != now["precision"]:
        return f"{_OTHER_ENGINE} {told} in {before['precision']} instead of {now['precision']}"
    return f"{_OTHER_ENGINE} {told} and other graphs" if before["graphs_sha256"] != now["graphs_sha256"] else None


def _other_region(made_of: Mapping[str, Any] | None, region: RegionOfInterest | None) -> str | None:
    before = None if made_of is None else (*made_of["centre_ras_mm"], *made_of["size_mm"])
    now = None if region is None else (*region.centre_ras_mm, *region.size_mm)
    return None if before == now else f"was made of {_region_text(before)} instead of {_region_text(now)}"


def _region_text(box: tuple[float, ...] | None) -> str:
    return "the whole image" if box is None else f"the region {','.join(f'{number:g}' for number in box)}"


def _other_input(voxels: list[str], grid: Mapping[str, Any], job: Job, images: Sequence[sitk.Image]) -> str | None:
    for path, image, before in zip(job.files, images, voxels, strict=False):
        if voxel_hash(image) != before:
            return f"was made from other voxels than {path} holds"
    now = grid_facts(images[0])
    same = len(voxels) == len(images) and now.keys() == grid.keys()
    if same and all(np.shape(grid[key]) == np.shape(now[key]) for key in now):
        same = all(np.allclose(grid[key], now[key], rtol=0, atol=GRID_TOLERANCE) for key in now)
    return None if same else f"lies on another grid than {job.files[0]}"
