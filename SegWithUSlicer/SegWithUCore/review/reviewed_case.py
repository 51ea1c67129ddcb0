"""The figures of a case as they are after a reviewer's work: of the edited segmentation, and of what is still unknown.

A voxel that the reader changed, or that lies in what the reader accepted, corrected or finished, counts as right.
"""

import hashlib
import json
import os
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from math import fsum, isfinite, prod
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from ..calibration.per_structure import asymmetry
from ..case.case_file import CONTENT_SHA256, SEGMENTATION_FILE, naming_case, read_case
from ..case.case_files import case_volume, named_files
from ..case.case_folders import checked_file
from ..case.case_image import case_grid
from ..case.case_regions import ERROR_PROBABILITY_FILE, RUNNER_UP_FILE
from ..case.region_files import REGION_LABELS_FILE
from ..case.segmentation_file import read_reviewed
from ..case.structures_table import WHOLES
from ..models.input_spec import side_pairs
from ..regions.region import UNCERTAIN
from ..util.atomic_files import write_text
from ..util.errors import InputError, OutputError
from ..util.plane_files import plane_pieces
from ..util.strict_json import read_json_object, to_json, typed
from .reviewer import stored_path, version_path
from .reviews import Review, read_reviews
from .status import with_status
from .verdicts import SEEN

TOTALS, ASYMMETRIES = WHOLES
REMOVED_SHARE = 0.9
"""Of the expected wrong volume of a region, which an edit of so much of it removes."""
_OF_DRAWN = {
    *("expected_volume_mm3", "expected_interval_mm3", "interval_percent", "calibration_cases", "held", "held_of"),
    *("predicted_dice", "predicted_dice_informative", "dice_estimate", "dice_cases", "soft_dice"),
}
"""What the model says of a segmentation of its own as a whole: of an edited one nothing is fitted."""


@dataclass(frozen=True)
class EditedFigures:
    """Figures of an edited segmentation, in voxels.

    Attributes:
        voxels: drawn as each label value after the edit, which is the index.
        wrong: likewise the error probability, summed over voxels that do not count as right.
        uncertain: likewise how many of these are above `UNCERTAIN`.
        in_regions: the error probability that is left in each region; the index is its id, 0 outside of all.
        edited: label values that gained or lost voxels.
        removed_regions: ids of those whose expected wrong volume lies in changed voxels, by `REMOVED_SHARE`.
    """

    voxels: Sequence[int]
    wrong: Sequence[float]
    uncertain: Sequence[int]
    in_regions: Sequence[float]
    edited: Sequence[int]
    removed_regions: Sequence[int]


def edited_figures(
    drawn: np.ndarray,
    edited: np.ndarray,
    error_probability: np.ndarray,
    runner_up: np.ndarray,
    regions: np.ndarray,
    values: Collection[int],
    accepted: Collection[int] = (),
    finished: Collection[int] = (),
) -> EditedFigures:
    """Measure an edited segmentation, all volumes (z, y, x) of one shape.

    Args:
        drawn, edited: label values before and after the edit.
        error_probability: of `drawn`, 0 to 1; negative where not assessed.
        runner_up: label values of the second most probable class; that of `drawn` where nothing competes.
        regions: id of the region of each voxel, or 0.
        values: all label values.
        accepted: ids of regions that count as right.
        finished: label values of structures that count as right, and with them background whose runner-up they are,
            where the segmentation may have missed them; with all structures all background counts as right.
    """
    count, ids = 1 + max(values), 1 + max(int(regions.max()), *accepted, 0)
    done = {0, *finished} if {0, *finished}.issuperset(values) else finished
    is_accepted, is_finished = np.isin(np.arange(ids), [*accepted]), np.isin(np.arange(count), [*done])
    voxels, uncertain, wrong = np.zeros(count, int), np.zeros(count, int), np.zeros(count)
    before, changed, left, touched = np.zeros(ids), np.zeros(ids), np.zeros(ids), set[int]()
    for planes in plane_pieces(drawn.shape):
        old, new, q = drawn[planes].ravel(), edited[planes].ravel(), error_probability[planes].ravel()
        differs, doubtful = old != new, np.flatnonzero(q > 0)
        voxels += np.bincount(new, minlength=count)
        touched.update(old[differs].tolist(), new[differs].tolist())
        old, differs, q = old[doubtful], differs[doubtful], q[doubtful]
        region, rival = regions[planes].ravel()[doubtful], runner_up[planes].ravel()[doubtful]
        is_open = ~(differs | is_accepted[region] | is_finished[old] | ((old == 0) & is_finished[rival]))
        before += np.bincount(region, q, ids)
        changed += np.bincount(region[differs], q[differs], ids)
        left += np.bincount(region[is_open], q[is_open], ids)
        wrong += np.bincount(old[is_open], q[is_open], count)
        uncertain += np.bincount(old[is_open & (q > UNCERTAIN)], minlength=count)
    removed = np.flatnonzero((changed > 0) & (changed >= REMOVED_SHARE * before) & (np.arange(ids) > 0)).tolist()
    return EditedFigures(voxels.tolist(), wrong.tolist(), uncertain.tolist(), left.tolist(), sorted(touched), removed)


def reviewed_case(folder: Path, case: Mapping[str, Any], review: Review, may_measure: bool = True) -> dict[str, Any]:
    """Return the content of `case.json` as it is after a reviewer's work; never written, and no base of a review.

    Structures, totals and asymmetries are of the reviewer's version of the segmentation, or of the case's own if there
    is none. One that was edited has `edited`, a finished one `read_by`, the reviewer; neither has an interval or
    a predicted Dice any more. `regions` has the expected wrong volume left in each (`left_mm3`; the index is its id),
    and the ids of those that an edit has `removed`.

    Args:
        case: the content of its `case.json`, with regions.
        may_measure: whether volumes may be read for it; False in Slicer's window, where stored figures must do.

    Raises:
        InputError: a volume of the case, or the reviewer's version, is missing, damaged, or of another image; or
            there are no stored figures.
    """
    with naming_case(folder):
        finished = _finished(case, review)
        return with_figures(case, _figures(folder, case, review, finished, may_measure), finished, review.reviewer)


def shown_case(
    folder: Path, case: dict[str, Any], reviews: Sequence[Review], may_measure: bool = True
) -> tuple[dict[str, Any], list[str]]:
    """Return the content of `case.json` as it is to be shown, with notes: after the work of its one reviewer.

    Args:
        reviews: those that count. Of several who edited or finished something nobody says whose holds: the case stays
            as the model made it, with a note.
        may_measure: as for `reviewed_case`.
    """
    worked = [each for each in reviews if _version(each).is_file() or _finished(case, each)]
    worked = worked or [each for each in reviews if each.state.seen_ids]
    if not worked:
        return case, []
    why = f"{', '.join(each.reviewer for each in worked)} have worked on this case."
    try:
        if len(worked) == 1:
            return reviewed_case(folder, case, worked[0], may_measure), []
    except InputError as error:
        why = str(error).replace(f"{folder}{os.sep}", "")
    return case, [f"The figures are of the segmentation before the review: {why}"]


def read_shown_case(folder: Path) -> dict[str, Any]:
    """Read a case as `shown_case`.

    Raises:
        InputError: it is not a case folder, or damaged.
    """
    case = read_case(folder)
    with naming_case(folder):
        return shown_case(folder, case, read_reviews(folder, case).reviews)[0]


def with_figures(
    case: Mapping[str, Any], figures: EditedFigures, finished: Collection[int], reviewer: str
) -> dict[str, Any]:
    """Put the figures of an edited segmentation into the content of `case.json`, as `reviewed_case` says.

    Args:
        finished: label values of the structures that the reviewer has finished.
    """
    voxel_mm3 = prod(float(edge) for edge in case["input"]["grid"]["spacing_mm"])
    edited, read = set(figures.edited) - {0}, set(finished)
    parts = {str(entry["name"]): {int(entry["value"])} for entry in case["structures"]}
    parts |= {str(entry["name"]): set(map(int, entry["of"])) for entry in case.get(TOTALS) or []}
    volumes = {name: voxel_mm3 * sum(figures.voxels[value] for value in own) for name, own in parts.items()}

    def kept(entry: Mapping[str, Any], own: set[int], **measured: Any) -> dict[str, Any]:
        mark = {"read_by": reviewer} if own <= read else {"edited": True} if own & edited else {}
        return {**entry, **(dict.fromkeys(_OF_DRAWN & entry.keys()) if mark else {}), **mark, **measured}

    structures = []
    for entry in case["structures"]:
        name, value = str(entry["name"]), int(entry["value"])
        count, above, wrong = (each[value] for each in (figures.voxels, figures.uncertain, figures.wrong))
        doubt = {} if entry.get("expected_wrong_mm3") is None else {
            "expected_wrong_mm3": wrong * voxel_mm3,
            "uncertain_mm3": above * voxel_mm3,
            "uncertain_share": above / count if count else 0.0,
        }  # fmt: skip
        structures.append(kept(entry, parts[name], voxels=count, volume_mm3=volumes[name], **doubt))
    totals = [kept(each, parts[each["name"]], volume_mm3=volumes[each["name"]]) for each in case.get(TOTALS) or []]
    before, asymmetries = {each["name"]: each for each in case.get(ASYMMETRIES) or []}, []
    for name, (left, right) in side_pairs(parts).items() if ASYMMETRIES in case else ():
        percent = float(asymmetry(volumes[left], volumes[right]))
        own = kept(before.get(name, {"name": name}), parts[left] | parts[right], percent=percent)
        asymmetries += [own] if isfinite(percent) else []
    in_regions = [wrong * voxel_mm3 for wrong in figures.in_regions]
    warnings = (case.get("ood") or {}).get("warnings") or []
    return with_status({
        **case,
        "structures": structures,
        **{key: each for key, each in ((TOTALS, totals), (ASYMMETRIES, asymmetries)) if key in case},
        "regions": {
            **case["regions"],
            "expected_wrong_mm3": fsum(figures.wrong) * voxel_mm3,
            "expected_wrong_in_regions_mm3": fsum(in_regions[1:]),
            "left_mm3": in_regions,
            "removed": list(figures.removed_regions),
        },
        # Those about a structure are about the segmentation before the edit.
        "ood": {"warnings": [each for each in warnings if each.get("structure") not in edited | read]},
    })  # fmt: skip


def _finished(case: Mapping[str, Any], review: Review) -> set[int]:
    """Label values of the structures with an explicit verdict that counts as seen."""
    verdicts = {int(each["value"]): review.state.structure(str(each["name"])) for each in case["structures"]}
    return {value for value, one in verdicts.items() if one.explicit and one.verdict in SEEN}


def _version(review: Review) -> Path:
    return version_path(review.path.parent, review.path.name)


def _figures(
    folder: Path, case: Mapping[str, Any], review: Review, finished: Collection[int], may_measure: bool
) -> EditedFigures:
    """Measure a reviewer's work, or take what was stored of it: a worklist reads many cases."""
    version, accepted = _version(review), sorted(review.state.seen_ids)
    changed = hashlib.sha256(version.read_bytes()).hexdigest() if version.is_file() else None
    facts = [case.get(CONTENT_SHA256, case), accepted, sorted(finished), changed]
    of, store = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest(), stored_path(review.path)
    with suppress(InputError, LookupError, ValueError):  # else it is measured again
        if (content := read_json_object(store))["of"] == of:
            return typed(EditedFigures, content["figures"])
    if not may_measure:
        raise InputError(f"The work of {review.reviewer} is not measured yet: run segwithu worklist {folder}.")
    files = (SEGMENTATION_FILE, ERROR_PROBABILITY_FILE, REGION_LABELS_FILE, RUNNER_UP_FILE)
    there = [name for name in files if name in named_files(case)]  # no runner-up in cases of earlier versions
    volumes = {name: sitk.GetArrayFromImage(case_volume(folder, case, name)) for name in there}
    drawn, q, regions = (volumes[name] for name in files[:3])
    grid, edited = case_grid(folder, case), drawn
    if changed is not None:
        edited = read_reviewed(checked_file(version.parent, version.name), grid, case)[0]
    values = [int(each["value"]) for each in case["structures"]]
    found = edited_figures(drawn, edited, q, volumes.get(RUNNER_UP_FILE, drawn), regions, values, accepted, finished)
    with suppress(OutputError):  # in a folder that is read-only it is measured each time
        write_text(store, to_json({"of": of, "figures": asdict(found)}) + "\n")
    return found
