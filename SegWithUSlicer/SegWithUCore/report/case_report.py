"""Write the HTML report of a case folder."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from ..case.case_file import SEGMENTATION_FILE, naming_case, read_case
from ..case.case_image import ELSEWHERE, case_image
from ..case.case_regions import ERROR_PROBABILITY_FILE
from ..case.contents import case_contents, checked_file
from ..case.pictures import Grid
from ..case.region_files import REGION_LABELS_FILE, check_region_files
from ..case.segmentation_file import OF_ANOTHER, REVIEWED_PATTERN, read_reviewed, reviewed_name
from ..io.grid import VoxelGrid
from ..io.volume import ras_to_lps, read_file
from ..regions.region import Region
from ..review.flags import FlagRules, case_flags, check_limits, no_flag_sentence, rules_of_case
from ..review.reviewer import safe_reviewer_name
from ..review.reviews import CaseReviews, read_reviews
from ..review.worklist import triage_of
from ..util.atomic_files import atomic_file
from ..util.errors import InputError
from .page import Report, in_order_of_need, report_page
from .pictures import PlanePicture, Volumes, pictures_around

REPORT_FILE = "report.html"
SHOWN_REGIONS = 12


@dataclass(frozen=True)
class _Drawn:
    """What the report has of pictures, and why it has none."""

    regions: Mapping[int, Sequence[PlanePicture]]
    overview: Sequence[PlanePicture]
    reviewed: Sequence[str]
    notes: Sequence[str]


def write_report(
    folder: Path,
    output: Path | None = None,
    image_file: Path | None = None,
    rules: FlagRules | None = None,
) -> Path:
    """Write the report of a case and return its path; without the image it has no pictures, and says so.

    Args:
        output: None for `report.html` in the case folder.
        image_file: where the image lies now, if it was moved.
        rules: of flags; None for those of the case's model.

    Raises:
        InputError: the case is damaged, or `image_file` is not its image.
        OutputError: the page cannot be written.
    """
    case_contents(folder)  # nothing is read through a link that leads elsewhere
    case = read_case(folder)
    with naming_case(folder):
        if case.get("regions") is not None:
            check_region_files(folder, case)
        page = report_page(_report(folder, case, image_file, rules))
    target = output or folder / REPORT_FILE
    with atomic_file(target) as work:
        work.write_text(page, encoding="utf-8", errors="backslashreplace")  # names may hold half characters
    return target


def _report(folder: Path, case: dict[str, Any], image_file: Path | None, rules: FlagRules | None) -> Report:
    found = read_reviews(folder, case)
    shown = in_order_of_need(found.regions, found.reviews)[:SHOWN_REGIONS]
    top = _top(case)
    used = rules or rules_of_case(case)
    if rules is not None:
        check_limits([case], rules)
    drawn = _drawn(folder, case, found, shown, top, image_file)
    return Report(
        case=case,
        flags=case_flags(case, used, found.reviews, found.regions),
        no_flag=no_flag_sentence(used.active),
        ranks=triage_of(case, used.active).sentences,
        regions=found.regions,
        shown=shown,
        pictures=drawn.regions,
        overview=drawn.overview,
        top=top,
        reviews=found.reviews,
        reviewed=drawn.reviewed,
        notes=[*found.notes, *drawn.notes],
    )


def _top(case: Mapping[str, Any]) -> float:
    """Error probability of the strongest tint: the end of the window that Slicer shows the map with."""
    window = ((case.get("maps") or {}).get("error_probability") or {}).get("window") or [0.0, 0.5]
    return float(window[1])


def _drawn(
    folder: Path,
    case: dict[str, Any],
    found: CaseReviews,
    shown: Sequence[Region],
    top: float,
    image_file: Path | None,
) -> _Drawn:
    try:
        image = case_image(folder, case, image_file)
    except InputError as error:
        if image_file is not None or error.code == ELSEWHERE:
            raise
        why = "the image is not here." if case.get("anonymous") else str(error)
        return _Drawn({}, [], [], [f"There are no pictures: {why}"])
    reviewed, notes = _reviewed(folder, case, found, image)
    files = (SEGMENTATION_FILE, ERROR_PROBABILITY_FILE, REGION_LABELS_FILE)
    labels, risk, region_labels = (_array(folder / file) for file in files)
    if labels is None:
        raise InputError(f"{folder / SEGMENTATION_FILE} is missing: segment the case again.")
    for file, array in zip(files, (labels, risk, region_labels), strict=True):
        if array is not None and array.shape != image.GetSize()[::-1]:
            raise InputError(f"{folder / file} is not on the image's grid: segment the case again.")
    grid = Grid.of(VoxelGrid.of(image))
    volumes = Volumes(sitk.GetArrayViewFromImage(image), labels, risk, reviewed, region_labels, grid, top)
    pictures = {
        region.id: pictures_around(volumes, _peak(image, region), max(region.size_mm), region.id) for region in shown
    }
    return _Drawn(pictures, _overview(volumes), list(reviewed), notes)


def _overview(volumes: Volumes) -> list[PlanePicture]:
    """Cuts through the middle of all structures, or of the image where none was found."""
    where = np.argwhere(volumes.labels > 0)
    low, high = (where.min(0), where.max(0)) if len(where) else (np.zeros(3), np.asarray(volumes.labels.shape) - 1)
    extent = float(((high - low + 1) * volumes.grid.spacing_zyx).max())
    middle = np.rint(where.mean(0) if len(where) else (low + high) / 2).astype(int).tolist()
    return pictures_around(volumes, middle, extent)


def _reviewed(
    folder: Path, case: Mapping[str, Any], found: CaseReviews, grid: sitk.Image
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Labels of each reviewer who changed them, by the name in the log where there is one."""
    names = {safe_reviewer_name(review.reviewer): review.reviewer for review in found.reviews}
    versions: dict[str, np.ndarray] = {}
    notes: list[str] = []
    for path in sorted(folder.glob(REVIEWED_PATTERN)):
        name = reviewed_name(path)
        try:
            checked_file(folder, path.name)
            versions[names.get(name, name) or "reviewer"], note = read_reviewed(path, grid, case)
            notes += [note] if note else []
        except InputError as error:
            if error.code in (ELSEWHERE, OF_ANOTHER):
                raise
            notes.append(str(error).replace(f"{folder}{os.sep}", ""))
    return versions, notes


def _peak(image: sitk.Image, region: Region) -> tuple[int, int, int]:
    i, j, k = image.TransformPhysicalPointToIndex(ras_to_lps(region.peak_ras_mm))
    return k, j, i


def _array(path: Path) -> np.ndarray | None:
    return _whole_array(path) if path.is_file() else None


def _whole_array(path: Path) -> np.ndarray:
    array: np.ndarray = sitk.GetArrayFromImage(read_file(path))
    return array
