"""The figures of a case as they are after a reviewer's work: of the edited segmentation, and of what is still unknown.

A voxel that the reader changed, or that lies in what the reader accepted, corrected or finished, counts as right.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from ..case.case_file import CONTENT_SHA256, SEGMENTATION_FILE, is_mask_alone, naming_case, read_case
from ..case.case_files import case_volume, named_files
from ..case.case_folders import checked_file
from ..case.case_image import case_grid
from ..case.case_regions import ERROR_PROBABILITY_FILE, RUNNER_UP_FILE
from ..case.region_files import REGION_LABELS_FILE
from ..case.segmentation_file import read_reviewed
from ..util.atomic_files import write_text
from ..util.errors import InputError, OutputError
from ..util.strict_json import read_json_object, to_json, typed
from .edited_figures import EditedFigures, edited_figures, with_figures
from .reviewer import version_path
from .reviews import Review, read_reviews

_MEASURED = (SEGMENTATION_FILE, ERROR_PROBABILITY_FILE, REGION_LABELS_FILE, RUNNER_UP_FILE)


def reviewed_case(
    folder: Path,
    case: Mapping[str, Any],
    review: Review,
    measure: bool = True,
    volumes: Mapping[str, np.ndarray] | None = None,
) -> dict[str, Any]:
    """Return the content of `case.json` as it is after a reviewer's work; never written, and no base of a review.

    Structures, totals and asymmetries are of the reviewer's version of the segmentation, or of the case's own if there
    is none. One that was edited has `edited`, a finished one `read_by`, the reviewer; neither has an interval or
    a predicted Dice any more. `reviewed_by` is the reviewer, and `regions` has the expected wrong volume left in each
    (`left_mm3`; the index is its id) and the ids of those that an edit has `removed`.

    Args:
        case: the content of its `case.json`, with regions.
        measure: whether volumes may be read for it; False in Slicer's window, where stored figures must do.
        volumes: what `measured_volumes` reads, where that is at hand.

    Raises:
        InputError: a volume of the case, or the reviewer's version, is missing, damaged, or of another image; or
            there are no stored figures.
    """
    with naming_case(folder):
        return with_figures(case, _figures(folder, case, review, measure, volumes), review.reviewer)


def shown_case(
    folder: Path, case: dict[str, Any], reviews: Sequence[Review], measure: bool = True
) -> tuple[dict[str, Any], list[str]]:
    """Return the content of `case.json` as it is to be shown, with notes: after the work of its one reviewer.

    Args:
        reviews: those that count. Of several who edited or finished something nobody says whose holds: the case stays
            as the model made it, with a note.
        measure: as for `reviewed_case`.
    """
    worked = [each for each in reviews if each.version_file or _finished(case, each)]
    worked = worked or [each for each in reviews if each.state.seen_ids]
    if not worked:
        return case, []
    why = f"{' and '.join(each.reviewer for each in worked)} have worked on this case."
    try:
        if len(worked) == 1:
            return reviewed_case(folder, case, worked[0], measure), []
    except InputError as error:
        why = str(error).replace(f"{folder}{os.sep}", "").replace(f"{folder}: ", "")  # a report tells no path
    return case, [f"The figures are of the segmentation before the review: {why}"]


def read_shown_case(folder: Path) -> dict[str, Any]:
    """Read a case as `shown_case`.

    Raises:
        InputError: it is not a case folder, or damaged.
    """
    case = read_case(folder)
    with naming_case(folder):
        return shown_case(folder, case, read_reviews(folder, case).reviews)[0]


def _finished(case: Mapping[str, Any], review: Review) -> set[int]:
    return {int(each["value"]) for each in case["structures"] if each["name"] in review.state.finished}


def measured_volumes(folder: Path, case: Mapping[str, Any], files: Sequence[str] = _MEASURED) -> dict[str, np.ndarray]:
    """Read the volumes (z, y, x) that figures are measured on, by file name; raises as `case_volume`.

    Of a mask alone the error probability, which nobody knows, is 0.
    """
    there = [name for name in files if name in named_files(case)]  # no runner-up in cases of earlier versions
    found = {name: sitk.GetArrayFromImage(case_volume(folder, case, name)) for name in there}
    if is_mask_alone(case):
        found[ERROR_PROBABILITY_FILE] = np.zeros(found[REGION_LABELS_FILE].shape, np.float32)
    return found


def _figures(
    folder: Path, case: Mapping[str, Any], review: Review, measure: bool, volumes: Mapping[str, np.ndarray] | None
) -> EditedFigures:
    """Measure a reviewer's work, or take what was stored of it: a worklist reads many cases."""
    path = version_path(review.path.parent, review.path.name)
    accepted, finished = sorted(review.state.seen_ids), sorted(_finished(case, review))
    version = checked_file(path.parent, path.name) if os.path.lexists(path) else None
    changed = "" if version is None else hashlib.sha256(version.read_bytes()).hexdigest()
    facts = [case.get(CONTENT_SHA256, case), accepted, finished, changed]
    of = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    store = review.path.with_name(f"reviewed.{review.path.stem.removeprefix('review.')}.json")
    with suppress(InputError, LookupError, ValueError):  # else it is measured again
        if (content := read_json_object(store))["of"] == of:
            return typed(EditedFigures, content["figures"])
    if not measure:
        raise InputError(f"The work of {review.reviewer} is not measured yet: segwithu report or worklist does it.")
    volumes = measured_volumes(folder, case) if volumes is None else volumes
    drawn, q, regions = (volumes[name] for name in (SEGMENTATION_FILE, ERROR_PROBABILITY_FILE, REGION_LABELS_FILE))
    edited = drawn if version is None else read_reviewed(version, case_grid(folder, case), case)[0]
    values = [int(each["value"]) for each in case["structures"]]
    found = edited_figures(drawn, edited, q, volumes.get(RUNNER_UP_FILE, drawn), regions, values, accepted, finished)
    with suppress(OutputError):  # in a folder that is read-only it is measured each time
        write_text(store, to_json({"of": of, "figures": asdict(found)}, indent=None) + "\n")
    return found
