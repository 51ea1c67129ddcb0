"""Process one case of a cohort (computed, skipped because it is up to date, or failed), and all cases in turn."""

import time
import traceback
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..case.case_file import CHANGED_FILE, read_case
from ..case.case_files import SEGMENTATIONS, case_file, named_files
from ..case.case_image import IMAGE_FILE, voxel_hash
from ..inference.case_result import CaseResult, Job
from ..inference.case_writer import model_facts
from ..inference.deviation import is_refused
from ..inference.model import Model
from ..inference.segment import read_channels, segment
from ..io.volume import grid_facts
from ..review.reviews import LOG_PATTERN
from ..util.atomic_files import exists_error, remove_leftovers
from ..util.errors import InputError, OutputError
from ..util.failures import failure_message
from ..util.progress import Progress, silent
from ..util.strict_json import shown

# The states of a settled case.
FINISHED, SKIPPED, FAILED = "done", "there", "failed"
# In mm, and for cosines: the loss of formats with single precision.
GRID_TOLERANCE = 1e-4
ENGINE = "engine"
_LONGEST_TRACE = 20_000
# The outcome of a case; see `settle`.
Settled = dict[str, Any]
# Cases as they are settled.
Settling = Generator[tuple[Job, Settled], None, None]
# Called when a case begins to be computed; gives the listener of its progress.
Listening = Callable[[Job], AbstractContextManager[Progress]]


@dataclass(frozen=True)
class Rules:
    """How to treat case folders that exist already.

    Attributes:
        resume: leave out cases that are there already as they would be made.
        overwrite: replace what is there; with `resume` only what would be made otherwise.
    """

    resume: bool = False
    overwrite: bool = False


def settle_all(jobs: Sequence[Job], output: Path, model: Model, rules: Rules, listening: Listening) -> Settling:
    """Settle cases one after the other in this process; a fault of one does not stop the others."""
    remove_leftovers(output)
    for job in jobs:
        yield job, settle(job, model, rules, listening)
    remove_leftovers(output)


def settle(job: Job, model: Model, rules: Rules, listening: Listening = lambda _job: nullcontext(silent)) -> Settled:
    """Make a case, or find it made, or fail.

    It may be called again for the same case, also after its process was killed: with `rules.resume` a case that is
    there as it would be made is left as it is.

    Args:
        job: its own `overwrite` is not looked at.
        listening: to the computation; not called for a case that is there.

    Returns:
        "state" (`FINISHED`, `SKIPPED` or `FAILED`), "seconds"; of a finished case what `case_facts` returns; of a
        failed one what `failed` returns.
    """
    started = time.perf_counter()
    try:
        result = _make(job, model, rules, listening)
    except Exception as error:  # noqa: BLE001 - a fault of one case does not stop the others
        return failed(error)
    facts = {"state": SKIPPED} if result is None else {"state": FINISHED, **case_facts(result)}
    return {**facts, "seconds": time.perf_counter() - started}


def failed(error: Exception) -> Settled:
    """Return the message and the traceback of a failed case."""
    trace = "".join(traceback.format_exception(error))[-_LONGEST_TRACE:]
    return {"state": FAILED, "reason": failure_message(error), "trace": trace, "seconds": 0.0}


def case_facts(result: CaseResult) -> dict[str, Any]:
    """Return what is reported of a result: its structures, warnings and how far it was assessed; no arrays."""
    return {
        "structures": [structure.to_json() for structure in result.assessed.structures],
        "warnings": [(warning.severity, warning.message) for warning in result.warnings],
        "refused": is_refused(result.warnings),
    }


def _make(job: Job, model: Model, rules: Rules, listening: Listening) -> CaseResult | None:
    """Return the result of a case; None if it is there already.

    Raises:
        OutputError: it is there, as it would be made or otherwise, and is not to be replaced.
    """
    there = job.target.exists()
    if there and not rules.resume and not rules.overwrite:
        raise exists_error(job.target)
    if there and rules.resume:
        other = staleness(job, model)
        if other is None:
            return None
        kind, difference = other
        reviewed = any(job.target.glob(LOG_PATTERN))
        if reviewed and kind == ENGINE:
            message = f"{job.target} {difference}, but has reviews: choose another output folder, or delete it."
            raise OutputError(message, "reviewed-case")
        if not rules.overwrite:
            way_out = f"or replace it{', with its reviews,' if reviewed else ''} by --overwrite"
            raise OutputError(f"{job.target} {difference}: choose another output folder, {way_out}.", "case-outdated")
    with listening(job) as progress:
        return segment(replace(job, overwrite=there if rules.resume else rules.overwrite), model, progress)


def staleness(job: Job, model: Model) -> tuple[str, str] | None:
    """Say why the existing case folder does not match this job: what differs, and a clause; None if it matches.

    Settings are compared first. Then the images are read, and known by their voxels and grid as everywhere: paths and
    dates change when a cohort is copied, and reading takes a hundredth of the time that segmenting does.

    Raises:
        InputError: an image of the job cannot be read, or the segmentation was edited, which would be lost.
    """
    name = ""
    try:
        case = read_case(job.target)
        before, now = _settings_of_case(case), _settings_of_job(job, model)
        voxels = [channel["voxels_sha256"] for channel in case["input"]["channels"]]
        grid: Mapping[str, Any] = dict(case["input"]["grid"])
        changed = [name for name in now if before[name] != now[name]]
        same = not changed or changed == [ENGINE]  # else the images need not be read
        for name in dict.fromkeys([*SEGMENTATIONS, *(named_files(case) if same else ())]):
            case_file(job.target, case, name)
    except (InputError, KeyError, TypeError, AttributeError) as error:
        if name in SEGMENTATIONS and isinstance(error, InputError) and error.code == CHANGED_FILE:
            raise
        return "folder", f"lacks {name} as it was written" if name else "is not a complete case folder"
    image = job.target / IMAGE_FILE
    if job.settings.include_image and not (image.is_file() and image.stat().st_size):
        return "folder", f"lacks {IMAGE_FILE}"
    if same:
        images = [volume.image for volume in read_channels(job, model.bundle)]
        if [voxel_hash(image) for image in images] != voxels:
            return "voxels", f"was made of other voxels than {' and '.join(map(str, job.files))} hold"
        if not _same_grid(grid, grid_facts(images[0])):
            return "grid", f"lies on another grid than {job.files[0]}"
    for name in changed:
        return name, f"was made with another {name} ({shown(before[name])} instead of {shown(now[name])})"
    return None


def _settings_of_case(case: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a result depends on besides the images, the engine last: whatever else differs weighs more."""
    model, roi, engine = case["model"], case["roi"], case["engine"]
    return {
        "model": [model["name"], model["version"]],
        "weights file": model["weights_sha256"],
        "calibration": model["calibration_sha256"],
        "network file": model["network_sha256"],
        "head": model["head"],
        "package of the head": (plugin := model.get("plugin")) and [plugin["name"], plugin["version"]],
        "region of interest": None if roi is None else [*roi["centre_ras_mm"], *roi["size_mm"]],
        "mask": {key: judged[key] for key in ("sha256", "labels")} if (judged := case.get("judged")) else None,
        "choice of structures": case.get("asked_as") or [],
        "number of passes": case.get("passes", 1),  # earlier versions offered 2 and 4
        ENGINE: [engine[name] for name in ("name", "version", "precision", "graphs_sha256")],
    }


def _settings_of_job(job: Job, model: Model) -> dict[str, Any]:
    return _settings_of_case(
        {
            "model": model_facts(model.identity),
            "roi": None if job.roi is None else job.roi.to_json(),
            "judged": None if job.mask is None else job.mask.facts(),
            "asked_as": list(job.settings.structures),
            "engine": model.engine.identity(),
        }
    )


def _same_grid(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    if before.keys() != now.keys() or any(np.shape(before[key]) != np.shape(now[key]) for key in now):
        return False
    return all(np.allclose(before[key], now[key], rtol=0, atol=GRID_TOLERANCE) for key in now)
