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
from .flags import Flag, case_flags, rules_of_case
from .reviewer import version_path
from .reviews import Review, read_reviews
from .status import with_status

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
    """What a reader's work changes in the figures of a segmentation, in voxels.

    Attributes:
        voxels: how many more are drawn as each label value, which is the index.
        wrong: by label value before the edit, the error probability of voxels that count as right now, summed; without
            those of `settled`.
        uncertain: likewise how many of these were above `UNCERTAIN`.
        in_regions: the error probability that is left in each region; the index is its id, 0 outside of all.
        edited: label values that gained or lost voxels.
        settled: label values of which nothing is unknown any more: finished structures, with all of them background.
        removed_regions: ids of those whose expected wrong volume lies in changed voxels, by `REMOVED_SHARE`.
    """

    voxels: Sequence[int]
    wrong: Sequence[float]
    uncertain: Sequence[int]
    in_regions: Sequence[float]
    edited: Sequence[int]
    settled: Sequence[int]
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
    """Measure what a reader's work changes, all volumes (z, y, x) of one shape.

    Args:
        drawn, edited: label values before and after the edit.
        error_probability: of `drawn`, 0 to 1; negative where not assessed.
        runner_up: label values of the second most probable class; that of `drawn` where nothing competes.
        regions: id of the region of each voxel, or 0.
        values: all label values.
        accepted: ids of regions that count as right.
        finished: label values of structures that count as right, and with them background whose runner-up they are:
            what the segmentation may have missed of them.
    """
    count, ids = 1 + max(values), 1 + max(int(regions.max()), *accepted, 0)
    removed = removed_regions(error_probability, regions, drawn != edited)
    settled = sorted({0, *finished} if {0, *finished}.issuperset(values) else finished)
    is_accepted, is_finished = np.isin(np.arange(ids), [*accepted]), np.isin(np.arange(count), settled)
    voxels, uncertain, wrong = np.zeros(count, int), np.zeros(count, int), np.zeros(count)
    left, touched = np.zeros(ids), set[int]()
    for planes in plane_pieces(drawn.shape):
        old, q, region = (each[planes].ravel() for each in (drawn, error_probability, regions))
        differs = old != (new := edited[planes].ravel())
        is_settled, is_missed = is_finished[old], is_finished[runner_up[planes].ravel()] & (old == 0)
        is_right = differs | is_accepted[region] | is_settled | is_missed
        lost, gained = (np.bincount(each[differs], minlength=count) for each in (old, new))
        voxels += gained - lost
        touched.update(np.flatnonzero(gained + lost).tolist())
        right, inside = np.flatnonzero(is_right & ~is_settled & (q > 0)), np.flatnonzero((region > 0) & (q > 0))
        wrong += np.bincount(old[right], q[right], count)
        uncertain += np.bincount(old[right][q[right] > UNCERTAIN], minlength=count)
        inside = inside[~is_right[inside]]
        left += np.bincount(region[inside], q[inside], ids)
    return EditedFigures(
        voxels.tolist(), wrong.tolist(), uncertain.tolist(), left.tolist(), sorted(touched), settled, removed
    )


def removed_regions(error_probability: np.ndarray, regions: np.ndarray, differs: np.ndarray) -> list[int]:
    """Return the ids of the regions whose expected wrong volume lies in changed voxels, by `REMOVED_SHARE`.

    Args:
        error_probability, regions: as for `edited_figures`.
        differs: where the edit changed the label; of the same shape.
    """
    inside = (regions > 0) & (error_probability > 0)
    before = np.bincount(regions[inside], error_probability[inside])
    changed = np.bincount(regions[inside & differs], error_probability[inside & differs], len(before))
    return [int(each) for each in np.flatnonzero((changed > 0) & (changed >= REMOVED_SHARE * before))]


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
    worked = [each for each in reviews if _version(each).is_file() or _finished(case, each)]
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


def flags_of_case(folder: Path) -> list[Flag]:
    """Find the flags of a case folder, of what `shown_case` shows.

    Raises:
        InputError: it is not a case folder, or damaged.
    """
    case = read_shown_case(folder)
    with naming_case(folder):
        found = read_reviews(folder, case)
        return case_flags(case, rules_of_case(case), found.reviews, found.regions)


def with_figures(case: Mapping[str, Any], figures: EditedFigures, reviewer: str) -> dict[str, Any]:
    """Put the figures of an edited segmentation into the content of `case.json`, as `reviewed_case` says."""
    voxel_mm3 = prod(float(edge) for edge in case["input"]["grid"]["spacing_mm"])
    edited, read = set(figures.edited) - {0}, set(figures.settled) - {0}
    parts = {str(entry["name"]): {int(entry["value"])} for entry in case["structures"]}
    parts |= {str(entry["name"]): set(map(int, entry["of"])) for entry in case.get(TOTALS) or []}
    counts = {int(entry["value"]): entry["voxels"] + figures.voxels[entry["value"]] for entry in case["structures"]}
    volumes = {name: voxel_mm3 * sum(counts[value] for value in own) for name, own in parts.items()}

    def kept(entry: Mapping[str, Any], own: set[int], **measured: Any) -> dict[str, Any]:
        mark = {"read_by": reviewer} if own <= read else {"edited": True} if own & edited else {}
        return {**entry, **(dict.fromkeys(_OF_DRAWN & entry.keys()) if mark else {}), **mark, **measured}

    gone: dict[str, Sequence[float]] = {"expected_wrong_mm3": figures.wrong, "uncertain_mm3": figures.uncertain}
    structures = []
    for entry in case["structures"]:
        name, value = str(entry["name"]), int(entry["value"])
        doubt = {
            key: 0.0 if value in figures.settled else max(0.0, entry[key] - right[value] * voxel_mm3)
            for key, right in gone.items()
        }
        share = doubt["uncertain_mm3"] / volumes[name] if volumes[name] else 0.0
        sizes = {"voxels": counts[value], "volume_mm3": volumes[name]}
        structures.append(kept(entry, parts[name], **sizes, **doubt, uncertain_share=share))
    totals = [kept(each, parts[each["name"]], volume_mm3=volumes[each["name"]]) for each in case.get(TOTALS) or []]
    before, asymmetries = {each["name"]: each for each in case.get(ASYMMETRIES) or []}, []
    for name, sides in side_pairs(parts).items() if ASYMMETRIES in case else ():
        percent = float(asymmetry(*(volumes[side] for side in sides)))
        own = kept(before.get(name, {"name": name}), parts[sides[0]] | parts[sides[1]], percent=percent)
        asymmetries += [own] if isfinite(percent) else []
    in_regions = [wrong * voxel_mm3 for wrong in figures.in_regions]
    warnings = (case.get("ood") or {}).get("warnings") or []
    return with_status({
        **case,
        "reviewed_by": reviewer,
        "structures": structures,
        **{key: each for key, each in ((TOTALS, totals), (ASYMMETRIES, asymmetries)) if key in case},
        "regions": {
            **case["regions"],
            "expected_wrong_mm3": fsum(each["expected_wrong_mm3"] for each in structures),
            "expected_wrong_in_regions_mm3": fsum(in_regions),
            "left_mm3": in_regions,
            "removed": list(figures.removed_regions),
        },
        # Those about a structure are about the segmentation before the edit.
        "ood": {"warnings": [each for each in warnings if each.get("structure") not in edited | read]},
    })  # fmt: skip


def _finished(case: Mapping[str, Any], review: Review) -> set[int]:
    return {int(each["value"]) for each in case["structures"] if each["name"] in review.state.finished}


def _version(review: Review) -> Path:
    return version_path(review.path.parent, review.path.name)


def measured_volumes(folder: Path, case: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Read the volumes (z, y, x) that figures are measured on, by file name; raises as `case_volume`."""
    files = (SEGMENTATION_FILE, ERROR_PROBABILITY_FILE, REGION_LABELS_FILE, RUNNER_UP_FILE)
    there = [name for name in files if name in named_files(case)]  # no runner-up in cases of earlier versions
    return {name: sitk.GetArrayFromImage(case_volume(folder, case, name)) for name in there}


def _figures(
    folder: Path,
    case: Mapping[str, Any],
    review: Review,
    measure: bool,
    volumes: Mapping[str, np.ndarray] | None,
) -> EditedFigures:
    """Measure a reviewer's work, or take what was stored of it: a worklist reads many cases."""
    path, accepted, finished = _version(review), sorted(review.state.seen_ids), sorted(_finished(case, review))
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
