"""Whether a case folder that exists is what a job would make, so that a cohort may leave it out."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from ..case.case_file import SEGMENTATION_FILE, read_case
from ..case.case_image import IMAGE_FILE, voxel_hash
from ..case.region_files import REGION_LABELS_FILE, REGIONS_FILE
from ..io.input_reader import IN_THIS_PROCESS, InputReader
from ..io.roi import RegionOfInterest
from ..io.volume import grid_facts
from ..util.errors import InputError
from .case_writer import SEGMENTATION_NRRD_FILE
from .model import Model
from .segment import Job, read_channels

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


OTHER_ENGINE = "was made with the engine"
"""How a reason begins that is about the engine alone."""


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
