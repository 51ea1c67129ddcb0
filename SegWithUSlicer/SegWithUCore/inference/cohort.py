"""Many cases one after the other: resumed where they stopped, shared with other processes, each failure its own.

`Cohort` does the work and reports to a `CohortListener`; `staleness_reason` says whether a case folder that exists is
up to date.
"""

import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
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
from ..imaging.input_reader import IN_THIS_PROCESS, InputReader
from ..imaging.roi import RegionOfInterest
from ..imaging.volume import grid_facts
from ..progress import Progress
from ..review.reviews import LOG_PATTERN
from .case_writer import SEGMENTATION_NRRD_FILE, CaseResult
from .claims import Claim, ClaimedError, begun_path, is_claim, sweep_claims
from .model import Model
from .segment import Job, read_channels, segment

LOOK_AGAIN_S = 1.0
"""How often cases that other processes make are looked at when nothing else is left to do."""


@dataclass(frozen=True)
class Rules:
    """How to treat case folders that exist already.

    Attributes:
        resume: leave out cases that are there already as they would be made, and share the rest with other processes.
        overwrite: replace what is there; with `resume` only what would be made otherwise.
        take_over: make cases that a silent process of another computer had claimed, or that processes died of.
    """

    resume: bool = False
    overwrite: bool = False
    take_over: bool = False


@dataclass
class CohortCounts:
    """Counts of finished, skipped and failed cases so far.

    Attributes:
        total: cases of the cohort.
        finished, skipped, failed: made by this process, there already (or made by another process meanwhile), failed.
        seconds: that this process spent on those done.
    """

    total: int
    finished: int = 0
    skipped: int = 0
    failed: int = 0
    seconds: float = 0.0

    @property
    def seconds_per_case(self) -> float | None:
        """Mean of the cases done, None before there is one."""
        return self.seconds / self.finished if self.finished else None

    @property
    def complete(self) -> int:
        """Cases whose folder is there."""
        return self.finished + self.skipped


@dataclass(frozen=True)
class CaseProgress:
    """The position of a case in the cohort.

    Attributes:
        number: of the case, from 1, in the order in which cases are settled.
        seconds_left: for all cases that are still to be made, by all processes that work on them, at this one's pace.
    """

    number: int
    total: int
    seconds_left: float | None


class CohortListener(Protocol):
    """Hears of every case, in the thread that works."""

    def progress(self, job: Job, place: CaseProgress) -> AbstractContextManager[Progress]:
        """Handle the begin of a case; return the listener of its progress."""

    def finished(self, job: Job, result: CaseResult, seconds: float) -> None:
        """Handle a case that was written."""

    def skipped(self, job: Job) -> None:
        """Handle a case that was there already."""

    def failed(self, job: Job, error: Exception) -> None:
        """Handle a case that could not be made."""

    def waiting(self, jobs: Sequence[Job], who: str) -> None:
        """Only cases are left that other processes make, the first by `who`; said once."""


class Cohort:
    """Works through jobs that have one output folder.

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
    ) -> None:
        """Nothing is done yet.

        Args:
            output: the folder that all targets lie in.
            jobs: one a case; their own `overwrite` is not looked at.
            counts: with cases that failed before they could become jobs.
            reader: what reads the images.
        """
        self.counts = counts or CohortCounts(len(jobs))
        self._output, self._jobs, self._model = output, jobs, model
        self._rules, self._listener, self._reader = rules, listener, reader
        self._open = {job.target.name for job in jobs}

    def run(self) -> CohortCounts:
        """Make all cases; whatever happens to one, the others go on.

        Raises:
            KeyboardInterrupt: the case that was being made is gone, and its claim too.
        """
        self._sweep()
        open_jobs, announced = list(self._jobs), False
        while open_jobs:
            claimed = {job.name: error for job in open_jobs if (error := self._settle(job)) is not None}
            left = [job for job in open_jobs if job.name in claimed]
            if len(left) == len(open_jobs):  # all are in other hands
                if not announced:
                    self._listener.waiting(left, claimed[left[0].name].who)
                    announced = True
                time.sleep(LOOK_AGAIN_S)
            open_jobs = left
        self._sweep()
        return self.counts

    def _sweep(self) -> None:
        sweep_leftovers(self._output)
        if self._rules.resume:
            sweep_claims(self._output)

    def _settle(self, job: Job) -> ClaimedError | None:
        """Make a case, or find it made, or fail; a case that a living process makes is left open."""
        begun = time.perf_counter()
        try:
            result = self._make(job)
        except ClaimedError as error:
            if error.worth_waiting:
                return error
            self._fail(job, error)
        except Exception as error:  # noqa: BLE001 - whatever happens to one case, the others go on
            self._fail(job, error)
        else:
            if result is None:
                self.counts.skipped += 1
                self._listener.skipped(job)
            else:
                seconds = time.perf_counter() - begun
                self.counts.finished += 1
                self.counts.seconds += seconds
                self._listener.finished(job, result, seconds)
        self._open.discard(job.target.name)
        return None

    def _fail(self, job: Job, error: Exception) -> None:
        self.counts.failed += 1
        self._listener.failed(job, error)

    def _make(self, job: Job) -> CaseResult | None:
        """Return the result of a case; None if it is there already.

        Raises:
            ClaimedError: another process makes it.
        """
        rules = self._rules
        if not rules.resume:
            if job.target.exists() and not rules.overwrite:
                raise OutputError(f"{job.target} exists already: choose another output folder or pass --overwrite.")
            return self._segmented(replace(job, overwrite=rules.overwrite), None)
        if self._is_there(job):
            return None
        claim = Claim.take(job.target, rules.take_over)
        try:
            if self._is_there(job):  # another process made it between the two looks
                return None
            return self._segmented(replace(job, overwrite=job.target.exists()), claim)
        finally:
            claim.release()

    def _is_there(self, job: Job) -> bool:
        """Whether the case is there as it would be made.

        Raises:
            OutputError: it is there otherwise, and is not to be replaced.
        """
        if not job.target.exists():
            return False
        other = staleness_reason(job, self._model, self._reader)
        if other is None and self._rules.resume:
            begun_path(job.target).unlink(missing_ok=True)  # of a process that died when the case was whole
        if other is not None and not self._rules.overwrite:
            reviewed = " (the reviews in it are lost then)" if any(job.target.glob(LOG_PATTERN)) else ""
            raise OutputError(
                f"{job.target} {other}: choose another output folder, or pass --overwrite to replace it{reviewed}."
            )
        return other is None

    def _segmented(self, job: Job, claim: Claim | None) -> CaseResult:
        with self._listener.progress(job, self._case_progress()) as progress:
            watched = progress if claim is None else claim.watched(progress)
            return segment(job, self._model, watched, self._reader)

    def _case_progress(self) -> CaseProgress:
        counts, pace = self.counts, self.counts.seconds_per_case
        number = counts.complete + counts.failed + 1
        if pace is None:
            return CaseProgress(number, counts.total, None)
        listed = {path.name for path in self._output.iterdir()} if self._output.is_dir() else set()
        to_make = len(self._open - listed if self._rules.resume else self._open)
        processes = max(1, sum(is_claim(name) for name in listed))
        return CaseProgress(number, counts.total, pace * max(1, to_make) / processes)


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
    except (InputError, KeyError, TypeError, AttributeError):
        return "is no whole case folder"
    return reason or _other_input(
        voxels, grid, job, read_channels(job.files, model.bundle, job.series, reader, form=job.form)
    )


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
