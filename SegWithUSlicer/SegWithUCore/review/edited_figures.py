"""Figures of a segmentation after a reader's work, on arrays: of what was edited, and of what is still unknown.

A voxel that the reader changed, or that lies in what the reader accepted, corrected or finished, counts as right.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import fsum, isfinite, prod
from typing import Any

import numpy as np

from ..calibration.per_structure import asymmetry
from ..case.case_file import is_mask_alone
from ..case.structures_table import WHOLES
from ..models.input_spec import side_pairs
from ..regions.region import UNCERTAIN
from ..util.plane_files import plane_pieces
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
    inside, weight = regions > 0, error_probability
    if weight.any():
        inside &= weight > 0
    else:  # of a mask alone
        weight = np.ones(regions.shape, np.float32)
    before = np.bincount(regions[inside], weight[inside])
    changed = np.bincount(regions[inside & differs], weight[inside & differs], len(before))
    return [int(each) for each in np.flatnonzero((changed > 0) & (changed >= REMOVED_SHARE * before))]


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
    structures, is_alone = [], is_mask_alone(case)
    for entry in case["structures"]:
        name, value = str(entry["name"]), int(entry["value"])
        doubt = {
            key: 0.0 if value in figures.settled else max(0.0, entry[key] - right[value] * voxel_mm3)
            for key, right in gone.items()
            if not is_alone
        }
        if doubt:
            doubt["uncertain_share"] = doubt["uncertain_mm3"] / volumes[name] if volumes[name] else 0.0
        structures.append(kept(entry, parts[name], voxels=counts[value], volume_mm3=volumes[name], **doubt))
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
            **({} if is_alone else {
                "expected_wrong_mm3": fsum(each["expected_wrong_mm3"] for each in structures),
                "expected_wrong_in_regions_mm3": fsum(in_regions),
                "left_mm3": in_regions,
            }),
            "removed": list(figures.removed_regions),
        },
        # Those about a structure are about the segmentation before the edit.
        "ood": {"warnings": [each for each in warnings if each.get("structure") not in edited | read]},
    })  # fmt: skip
