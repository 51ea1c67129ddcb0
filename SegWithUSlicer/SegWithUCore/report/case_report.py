"""The report of a case folder as one HTML page, from `templates/case.html`: nothing is loaded from elsewhere.

The overview of a folder of cases: `index.html` with a preview of each case, and `structures.csv`.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import SimpleITK as sitk

from ..case.case_file import SEGMENTATION_FILE, is_mask_alone, lost_maps, naming_case, placed_boxes, read_case
from ..case.case_files import case_file, case_volume, named_files, shown_files
from ..case.case_folders import REVIEWED_PATTERN, case_contents, case_folders, checked_file, holds_cases
from ..case.case_image import ELSEWHERE, OTHER_IMAGE, case_image
from ..case.case_regions import ERROR_PROBABILITY_FILE
from ..case.pictures import BOX_COLOUR, PREVIEW_FILE, TINT_FROM, Grid, strongest_tint, tint_stops
from ..case.region_files import REGION_LABELS_FILE
from ..case.segmentation_file import read_reviewed, reviewed_name
from ..case.structures_table import STRUCTURES_FILE, write_structures_of
from ..io.grid import VoxelGrid
from ..io.volume import ras_to_lps
from ..regions.region import Region, why
from ..review.flags import Flag, case_flags, rules_of_case, structures_of
from ..review.reviewed_case import read_shown_case, shown_case
from ..review.reviewer import safe_reviewer_name
from ..review.reviews import CaseReviews, Review, disagreements, read_reviews
from ..review.status import status_of
from ..review.worklist import WorklistEntry, counts_text, entry_of, read_for_worklist, worklist_of
from ..util.atomic_files import write_text
from ..util.errors import InputError
from .pictures import REGION_COLOUR, REVIEWED_COLOURS, PlanePicture, Volumes, pictures_around
from .render import render
from .tables import case_facts, hash_facts, reviews_table, signed_table, structures_table

REPORT_FILE = "report.html"
SHOWN_REGIONS = 12
# Structures in the legend.
MOST_NAMED = 60
# Regions on which reviewers disagree that are listed.
MOST_LISTED = 100


@dataclass
class _Drawn:
    """The pictures of a report.

    Attributes:
        regions: three cuts of each region with pictures, by its id; empty if there is no image.
        overview: three cuts of the whole segmentation.
        reviewed: reviewers whose contours are drawn, in the order of their line styles.
        notes: what could not be read or drawn, one sentence each.
    """

    regions: Mapping[int, Sequence[PlanePicture]] = field(default_factory=dict)
    overview: Sequence[PlanePicture] = ()
    reviewed: Sequence[str] = ()
    notes: list[str] = field(default_factory=list)


def write_report(folder: Path, output: Path | None = None, image_file: Path | None = None) -> Path:
    """Write the report of a case and return its path; without the image it has no pictures, and a note.

    Args:
        output: None for `report.html` in the case folder.
        image_file: current path of the image, if it was moved.

    Raises:
        InputError: the case is damaged, or `image_file` is not its image.
        OutputError: the page cannot be written.
    """
    case_contents(folder)  # nothing is read through a link that leads elsewhere
    case = read_case(folder)
    with naming_case(folder):
        for name in shown_files(folder, case):
            case_file(folder, case, name)
        page = _page(folder, case, image_file)
    target = output or folder / REPORT_FILE
    write_text(target, page)
    return target


def _page(folder: Path, case: dict[str, Any], image_file: Path | None) -> str:
    found = read_reviews(folder, case)
    case, unmeasured = shown_case(folder, case, found.reviews)
    regions, reviews, structures = found.regions, found.reviews, structures_of(case)
    removed = (case.get("regions") or {}).get("removed") or ()
    left = [region for region in regions if region.id not in removed]
    shown = _in_order_of_need(left, reviews)[:SHOWN_REGIONS]
    drawn = _drawn(folder, case, found, shown, image_file)
    flags = case_flags(case, rules_of_case(case), reviews)
    status = status_of(case, flags)
    hashes = hash_facts(case)
    notes = [*found.notes, *unmeasured, *lost_maps(folder, case).values(), *drawn.notes]
    differing = [f"{region.rank}" for region in disagreements(regions, reviews)[:MOST_LISTED]]
    versions = ", ".join(f"{name} {version}" for name, version in (case.get("versions") or {}).items())
    return render(
        "case.html",
        heading=str(case["name"]),
        title=f"{case['name']}: segmentation report",
        status=replace(status, reason=_typeset(status.reason)),
        lead=[_lead(case, entry_of(folder, case, found, reviews))],
        flags=[*_flags(case, flags, status.reason), *(("note", note) for note in notes)],
        structures=structures_table(case),
        named=[(str(entry["name"]), tuple(map(int, entry["color"][:3]))) for entry in structures][:MOST_NAMED],
        overview=drawn.overview,
        boxes=bool(placed_boxes(case)),
        reviewed=drawn.reviewed,
        calibrated=case.get("regions") is not None,
        top=strongest_tint(case),
        cards=[_card(case, region, reviews, drawn) for region in shown],
        regions=len(left),
        others=len(left) - len(shown),
        reviews=reviews_table(regions, reviews),
        signed=signed_table({**case, "asked": found.asked or case.get("asked")}, reviews),
        disagreements=", ".join(differing) or "none",
        facts=case_facts(case),
        versions=[("Versions", versions), *hashes],
        hashes=[name for name, _ in hashes],
        BOX_COLOUR=BOX_COLOUR,
        REGION_COLOUR=REGION_COLOUR,
        REVIEWED_COLOURS=REVIEWED_COLOURS,
        TINT_FROM=TINT_FROM,
        TINT_STOPS=tint_stops(),
    )


def _in_order_of_need(regions: Sequence[Region], reviews: Sequence[Review]) -> list[Region]:
    """Sort regions whose verdict of a reviewer wants attention first, then by expected wrong volume."""
    urgent = {id_ for review in reviews for id_, verdict in review.verdicts(regions).items() if verdict.wants_attention}
    return sorted(regions, key=lambda region: (region.id not in urgent, region.rank))


def _lead(case: Mapping[str, Any], entry: WorklistEntry) -> str:
    task = case["model"]["task"]
    if case.get("regions") is None:
        return f"{task} The model is not calibrated: nothing says how much may be wrong."
    if is_mask_alone(case):
        return f"{task} {entry.open_regions} of {entry.regions} regions are open."
    wrong = f"{entry.metrics['wrong_mm3']:.0f} mm³ of what is measured is expected to be wrong"
    return f"{task} {wrong}; {entry.open_regions} of {entry.regions} regions are open."


def _flags(case: Mapping[str, Any], flags: Sequence[Flag], said: str) -> list[tuple[str, str]]:
    """Kind and message of each flag, and of each other warning, but for what is said already."""
    flagged = {said, *(flag.message for flag in flags)}
    warnings = [w for w in (case.get("ood") or {}).get("warnings") or [] if w["message"] not in flagged]
    items = [(flag.rule.value, flag.message) for flag in flags if flag.message != said]
    items += [(str(warning["severity"]), str(warning["message"])) for warning in warnings]
    return [(kind, _typeset(sentence)) for kind, sentence in items]


def _typeset(text: str) -> str:
    """Write units as print has them: a number and its per cent stay together."""
    return text.replace("mm3", "mm³").replace(" %", "\u00a0%")


def _card(case: Mapping[str, Any], region: Region, reviews: Sequence[Review], drawn: _Drawn) -> dict[str, Any]:
    """Build the report entry of one region with its pictures."""
    r, a, s = region.peak_ras_mm
    wrong, peak, numbers = region.expected_wrong_mm3, region.peak, f"{region.volume_mm3:.0f} mm³"
    if wrong is not None and peak is not None:
        numbers = f"{wrong:.0f} mm³ expected wrong of {numbers} · highest error probability {peak:.2f}"
    numbers += f" at R {r:.1f}, A {a:.1f}, S {s:.1f} mm"
    reason = why(region, case.get("roi") is not None)
    given = ((one.reviewer, one.state.verdict_of(region.id), one.state.comment_of(region.id)) for one in reviews)
    return {
        "region": region,
        "why": f"{_typeset(reason[:1].upper() + reason[1:])}.",
        "numbers": numbers,
        "pictures": drawn.regions.get(region.id, ()),
        "verdicts": [
            (reviewer, verdict.value if verdict else "no verdict", comment or "")
            for reviewer, verdict, comment in given
            if verdict is not None or comment
        ],
    }


def _drawn(
    folder: Path, case: dict[str, Any], found: CaseReviews, shown: Sequence[Region], image_file: Path | None
) -> _Drawn:
    try:
        image = case_image(folder, case, image_file)
    except InputError as error:
        if image_file is not None or error.code == ELSEWHERE:
            raise
        why_not = "the image is not here." if case.get("anonymous") else str(error)
        return _Drawn(notes=[f"There are no pictures: {why_not}"])
    reviewed, notes = _reviewed(folder, case, found, image)
    labels, risk, region_labels = (
        sitk.GetArrayFromImage(case_volume(folder, case, file)) if file in named_files(case) else None
        for file in (SEGMENTATION_FILE, ERROR_PROBABILITY_FILE, REGION_LABELS_FILE)
    )
    assert labels is not None
    grid, values = Grid.of(VoxelGrid.of(image)), sitk.GetArrayViewFromImage(image)
    colours = {int(entry["value"]): np.clip(entry["color"], 0, 255) for entry in structures_of(case)}
    tint, boxes = strongest_tint(case), placed_boxes(case)
    volumes = Volumes(values, labels, risk, reviewed, region_labels, grid, colours, tint, boxes)
    regions = {}
    for region in shown:
        i, j, k = image.TransformPhysicalPointToIndex(ras_to_lps(region.peak_ras_mm))
        regions[region.id] = pictures_around(volumes, (k, j, i), max(region.size_mm), region.id)
    return _Drawn(regions, _overview(volumes), list(reviewed), notes)


def _overview(volumes: Volumes) -> list[PlanePicture]:
    """Cuts through the middle of all structures, or of the image where none was found.

    Where boxes were placed, nothing may lie in the middle: the cuts are those with most voxels of structures.
    """
    where = np.argwhere(volumes.labels > 0)
    low, high = (where.min(0), where.max(0)) if len(where) else (np.zeros(3), np.asarray(volumes.labels.shape) - 1)
    extent = float(((high - low + 1) * volumes.grid.spacing_zyx).max())
    middle = np.rint(where.mean(0) if len(where) else (low + high) / 2).astype(int).tolist()
    fullest = [int(np.bincount(where[:, axis]).argmax()) for axis in range(3)] if len(where) else middle
    return pictures_around(volumes, middle, extent, at_zyx=fullest if volumes.boxes else middle)


def _reviewed(
    folder: Path, case: Mapping[str, Any], found: CaseReviews, grid: sitk.Image
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Labels of each reviewer who changed them, by the name in the log where there is one; and notes."""
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
            if error.code in (ELSEWHERE, OTHER_IMAGE):
                raise
            notes.append(str(error).replace(f"{folder}{os.sep}", ""))
    return versions, notes


INDEX_FILE = "index.html"
_FILES = (PREVIEW_FILE, REPORT_FILE)


def write_cohort_overview(output: Path) -> list[str]:
    """Write `structures.csv` and `index.html` about all cases in a folder, each whole or not at all.

    Returns:
        A sentence for each case that cannot be read.

    Raises:
        OutputError: the folder cannot be written to.
    """
    try:
        folders = case_folders([output])
    except InputError as error:  # there may be no case, for reasons that the run has reported
        return [str(error)] if holds_cases(output) else []
    troubles = write_structures_of(folders, output / STRUCTURES_FILE, read_shown_case)
    # The run wrote or compared their files.
    worklist = worklist_of([read_for_worklist(folder) for folder in folders])
    rows = [_row(entry) for entry in worklist.entries if not entry.trouble]
    page = render(
        "cohort.html",
        title=f"{output.resolve().name}: {len(rows)} cases",
        heading=output.resolve().name,
        alerts=worklist.warnings,
        lead=[f"{counts_text(worklist.entries)}.", worklist.order],
        rows=rows,
        table=STRUCTURES_FILE,
    )
    write_text(output / INDEX_FILE, page)
    return list(dict.fromkeys([*troubles, *(entry.trouble for entry in worklist.entries if entry.trouble)]))


def _row(entry: WorklistEntry) -> dict[str, Any]:
    """Make the content of a case on the page; links are relative to it, "" for none."""
    folder = entry.folder
    preview, report = (f"{quote(folder.name)}/{file}" if (folder / file).is_file() else "" for file in _FILES)
    return {
        "name": entry.name,
        "folder": quote(folder.name),
        "preview": preview,
        "report": report,
        "share": entry.share_text,
        "status": entry.status,
        "structures": [[row[0], row[1], row[-1]] for row in structures_table(read_shown_case(folder)).rows],
    }
