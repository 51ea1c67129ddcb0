"""One case of a cohort: made, or found made as it would be made now, or failed."""

import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from ..case.case_file import SEGMENTATION_FILE, read_case
from ..case.case_image import IMAGE_FILE, voxel_hash
from ..case.region_files import REGION_LABELS_FILE, REGIONS_FILE
from ..inference.case_writer import SEGMENTATION_NRRD_FILE, CaseResult
from ..inference.deviation import is_refused
from ..inference.model import Model
from ..inference.segment import Job, read_channels, segment
from ..io.input_reader import IN_THIS_PROCESS, InputReader
from ..io.roi import RegionOfInterest
from ..io.volume import grid_facts
from ..review.reviews import LOG_PATTERN
from ..util.atomic_files import exists_error
from ..util.errors import InputError, OutputError
from ..util.failures import failure_sentence
from ..util.memory import NotEnoughMemoryError
from ..util.progress import Progress, silent

FINISHED, SKIPPED, FAILED = "done", "there", "failed"
"""What can become of a case: `state` of `settle`."""
GRID_TOLERANCE = 1e-4
"""mm, and cosines: what formats with single precision lose of a header."""
OTHER_ENGINE = "was made with the engine"
"""How a reason begins that is about the engine alone."""
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
    """How to treat case folders that exist already.

    Attributes:
        resume: leave out cases that are there already as they would be made.
        overwrite: replace what is there; with `resume` only what would be made otherwise.
    """

    resume: bool = False
    overwrite: bool = False


def settle(
    job: Job,
    model: Model,
    rules: Rules,
    listening: Listening = silently,
    reader: InputReader = IN_THIS_PROCESS,
) -> Settled:
    """Make a case, or find it made, or fail; whatever happens to it, others go on.

    It may be called again for the same case, also after its process was killed: with `rules.resume` a case that is
    there as it would be made is left as it is.

    Args:
        job: its own `overwrite` is not looked at.
        listening: to the computation; not called for a case that is there.
        reader: what reads the images.

    Returns:
        "case", "state" (`FINISHED`, `SKIPPED` or `FAILED`), "seconds"; of a finished case what `case_facts` returns; of
        a failed one "reason", a sentence, "trace", and whether it was "short_of_memory".
    """
    begun = time.perf_counter()
    facts: Settled = {"case": job.name}
    try:
        result = _make(job, model, rules, listening, reader)
    except Exception as error:  # noqa: BLE001 - whatever happens to one case, the others go on
        facts |= failed(error) | {"short_of_memory": isinstance(error, NotEnoughMemoryError)}
    else:
        facts |= {"state": SKIPPED} if result is None else {"state": FINISHED, **case_facts(result)}
    return {**facts, "seconds": time.perf_counter() - begun}


def failed(error: Exception) -> Settled:
    """Return what is told of a case that failed."""
    trace = "".join(traceback.format_exception(error))[-_LONGEST_TRACE:]
    return {"state": FAILED, "reason": failure_sentence(error), "trace": trace, "seconds": 0.0}


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


def _make(job: Job, model: Model, rules: Rules, listening: Listening, reader: InputReader) -> CaseResult | None:
    """Return the result of a case; None if it is there already.

    Raises:
        OutputError: it is there, as it would be made or otherwise, and is not to be replaced.
    """
    there = job.target.exists()
    if there and not rules.resume and not rules.overwrite:
        raise exists_error(job.target)
    if there and rules.resume:
        other = staleness_reason(job, model, reader)
        if other is None:
            return None
        reviewed = any(job.target.glob(LOG_PATTERN))
        if reviewed and other.startswith(OTHER_ENGINE):
            raise OutputError(
                f"{job.target} {other}, which is no reason to lose the reviews in it: it stays; choose another output "
                "folder, or delete it to have it made again.",
                "case-reviewed",
            )
        if not rules.overwrite:
            lost = " (the reviews in it are lost then)" if reviewed else ""
            raise OutputError(
                f"{job.target} {other}: choose another output folder, or pass --overwrite to replace it{lost}.",
                "case-outdated",
            )
    with listening() as progress:
        return segment(replace(job, overwrite=there if rules.resume else rules.overwrite), model, progress, reader)


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
            or _other_region(case["region_of_interest"], job.roi)
        )
        voxels = [channel["voxels_sha256"] for channel in case["input"]["channels"]]
        grid: Mapping[str, Any] = dict(case["input"]["grid"])
        engine = _other_engine(case, model)
    except (InputError, KeyError, TypeError, AttributeError):
        return "is no whole case folder"
    if reason:
        return reason
    images = [volume.image for volume in read_channels(job, model.bundle, reader)]
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


def _other_engine(case: Mapping[str, Any], model: Model) -> str | None:
    """Compare engine, version, precision and graphs."""
    before, now = case["engine"], model.engine.identity()
    told, asked = (f"{each['name']} {each['version']}" for each in (before, now))
    if told != asked:
        return f"{OTHER_ENGINE} {told} instead of {asked}"
    if before["precision"] != now["precision"]:
        return f"{OTHER_ENGINE} {told} in {before['precision']} instead of {now['precision']}"
    return f"{OTHER_ENGINE} {told} and other graphs" if before["graphs_sha256"] != now["graphs_sha256"] else None


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
