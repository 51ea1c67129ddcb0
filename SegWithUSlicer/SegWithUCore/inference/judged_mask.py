"""Judge a segmentation that was made elsewhere by the probabilities of a model.

The model is run as for `segment`. Its error probability q and the shares of the other classes give a probability of
every class of a voxel: 1 - q for the class that it predicts, q times its share for each other. The error probability of
the given mask is 1 minus the probability of the classes that its label stands for: q where both agree, 1 - q where the
mask has the runner-up of two classes. The mask replaces the model's segmentation in one place (`judged`), so all that
reads case folders works unchanged.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..calibration.per_structure import soft_dice
from ..io.grid import VoxelGrid
from ..metrics.overlap import joint_counts
from ..models.bundle import Bundle
from ..models.quality import EMPTY_KIND, emptiness
from ..network.specs import MASK_ALONE
from ..util.errors import InputError
from ..util.plane_files import plane_pieces
from .case_result import AssessedBox
from .deviation import JUDGED_KIND, NOTE, WARNING, Deviation, by_importance
from .given_mask import ALL, GivenMask, listed
from .mask_agreement import structure_findings
from .preprocessing import AROUND_MASK
from .structures import StructureMetrics, class_sums

MUCH_WRONG = 1.5
"""Expected wrong volume of a mask over that of the model's own segmentation above which the case is to be looked at."""
LEAST_SHARE = 0.0005
"""Of a mask; less of it outside of where the model looked is a note, as it reads 0.0 %."""
MUCH_UNCLEAR = 0.01
"""Of a structure: where the model draws more of it in voxels that were not judged, no volume is expected."""
_BEHIND = ("expected_interval_mm3", "calibration_cases", "held", "held_of")
_OF_MODEL = ("volume", "predicted Dice", EMPTY_KIND)
"""Warnings about the segmentation of the model, which is not the one that is shown."""


def judged(
    found: AssessedBox, mask: GivenMask, bundle: Bundle, grid: VoxelGrid, totals: Sequence[Mapping[str, Any]] = ()
) -> AssessedBox:
    """Put a mask in the place of the segmentation of the model that judges it.

    Args:
        found: of the model, its maps with `share` and `rival` of this mask.
        mask: on the whole grid.
        bundle: the model; its labels are those of `found`.
        grid: the whole grid.
        totals: of the model.

    Raises:
        InputError: no voxel of the mask lies where the model draws a structure.
    """
    maps, part = found.maps, mask.part(found.box)
    own, unjudged = part.indices, part.unjudged
    probability, share, rival = maps.error_probability, maps.share, maps.rival
    assert probability is not None and share is not None and rival is not None
    count, voxel_mm3 = len(mask.labels), float(np.prod(grid.spacing))
    joint, lost, wrong, own_wrong = np.zeros((count, count), np.int64), np.zeros(count, np.int64), 0.0, 0.0
    for planes in plane_pieces(own.shape):
        before, label = probability[planes], mask.label_of[maps.classes[planes]]
        agrees = label == own[planes]
        right = before * share[planes]
        error = np.clip(np.where(agrees, before - right, 1 - right), 0, 1)
        counted = before >= 0
        if unjudged is not None:
            error[unjudged[planes]] = 0
            counted &= ~unjudged[planes]
        wrong += float(error[counted].sum())
        own_wrong += float(before[counted].sum())
        lost += np.bincount(label[(before >= 0) & ~counted], minlength=count)
        joint += joint_counts(label[counted], own[planes][counted], count)
        probability[planes] = np.where(before < 0, before, error)  # type: ignore[index]  # last: `before` may be a view
    if not joint[1:, 1:].any():
        message = f"No voxel of {mask.file.path} lies where the model draws a structure that the mask names"
        raise InputError(f"{message}: check that it is of this patient, and its sides.", "no-overlap")
    maps = replace(maps, classes=own, runner_up=rival, model_percentile=None, data_percentile=None)
    whole, changed = np.bincount(mask.indices.ravel(), minlength=count), replace(found, maps=maps)
    return replace(
        changed,
        structures=_structures(changed, mask, whole, lost > MUCH_UNCLEAR * whole, voxel_mm3, totals),
        warnings=_warnings(found, mask, bundle, joint, whole, (wrong * voxel_mm3, own_wrong * voxel_mm3)),
    )


def _structures(
    found: AssessedBox,
    mask: GivenMask,
    whole: np.ndarray,
    is_unclear: np.ndarray,
    voxel_mm3: float,
    totals: Sequence[Mapping[str, Any]],
) -> list[StructureMetrics]:
    """Metrics of the mask's labels; the expected volume is the model's, with the interval of a structure or total.

    Voxels are counted in the whole image, those expected to be wrong where the model looked.

    Args:
        found: with the structures of the model and the maps of the mask.
        is_unclear: of each label, whether too much of what the model draws was not judged to expect a volume.
    """
    maps, count = found.maps, len(mask.labels)
    assert maps.error_probability is not None
    parts = zip(found.assessed(maps.classes), found.assessed(maps.error_probability), strict=True)
    sums = [class_sums(replace(maps, classes=own, error_probability=error), count) for own, error in parts]
    seen, uncertain, wrong = (np.sum(each, 0) for each in zip(*sums, strict=True))
    structures = []
    for index, label in enumerate(mask.labels):
        members = [metrics for metrics, own in zip(found.structures, mask.label_of, strict=True) if own == index]
        voxels = int(whole[index] if index else seen[index])
        values = {metrics.label.value for metrics in members}
        wholes: Sequence[Mapping[str, Any]] = [metrics.to_json() for metrics in members]
        if len(members) > 1:
            wholes = [total for total in totals if set(total["of"]) == values][:1] or wholes
        wholes = [{}] if is_unclear[index] else wholes
        known = [whole.get("expected_volume_mm3") for whole in wholes]
        volume = None if None in known or not known else float(sum(known))  # type: ignore[arg-type]
        dice = None
        if volume is not None and index and volume + seen[index]:
            dice = min(1.0, soft_dice(volume / voxel_mm3, float(seen[index] - wrong[index]), float(seen[index])))
        structures.append(StructureMetrics(
            label, voxels, voxels * voxel_mm3, volume, float(wrong[index]) * voxel_mm3,
            int(uncertain[index]) / max(int(seen[index]), 1), int(uncertain[index]) * voxel_mm3,
            dice_estimate=dice, **{key: wholes[0].get(key) for key in _BEHIND if len(wholes) == 1},
        ))  # fmt: skip
    return structures


def _warnings(
    box: AssessedBox,
    mask: GivenMask,
    bundle: Bundle,
    joint: np.ndarray,
    whole: np.ndarray,
    wrong_mm3: tuple[float, float],
) -> list[Deviation]:
    """Say what the probabilities mean, where the mask hardly agrees with the model, and what of it was not judged.

    Args:
        joint: voxels by the model's label and the mask's.
        whole: voxels of each label in the whole image.
        wrong_mm3: what is expected to be wrong of the mask, and of the model's own segmentation.
    """
    name, model = mask.file.path.name, bundle.name
    names = {
        label.value: [old.name for old, own in zip(bundle.labels, mask.label_of, strict=True) if own == index]
        for index, label in enumerate(mask.labels)
    }
    meant = ", ".join(f"{value} = {' + '.join(each)}" for value, each in names.items() if value)
    shown = f"What is shown is disagreement with the model '{model}', whose probabilities are calibrated for its own "
    shown += "segmentations."
    if bundle.backbone.kind == MASK_ALONE:
        shown = (
            f"The probabilities of the model '{model}', which has no network, are calibrated for masks of its source. "
        )
        shown += f"What lies further than {AROUND_MASK} voxels from the mask is not assessed."
    text = f"The segmentation is {name}, made elsewhere ({meant}). {shown}"
    found = [Deviation(NOTE, text, JUDGED_KIND)]
    rare = {int(own) - 1 for label, own in zip(bundle.labels, mask.label_of, strict=True)
            if emptiness(bundle, label).expected is False}  # fmt: skip
    found += structure_findings(name, mask.labels[1:], joint, whole[1:].tolist(), rare)
    mask_mm3, own_mm3 = wrong_mm3
    if mask_mm3 > MUCH_WRONG * own_mm3:
        text = f"About {mask_mm3:.0f} mm3 of {name} are likely wrong, of the model's own segmentation {own_mm3:.0f} mm3"
        found.append(Deviation(WARNING, f"{text}: look at the regions.", JUDGED_KIND))
    if mask.left_out:
        text = f"Labels of {name} that were taken as background ({len(mask.left_out)}): {listed(mask.left_out)}."
        found.append(Deviation(NOTE if ALL in mask.file.names else WARNING, text, JUDGED_KIND))
    if mask.unclear:
        text = f"Labels of {name} that may be a structure, and were not judged: {listed(mask.unclear)}."
        found.append(Deviation(NOTE, text, JUDGED_KIND))
    if lacking := names[0][1:]:
        text = f"{name} lacks structures of the model, which were not judged ({listed(lacking)})"
        severity, advice = (NOTE, "") if mask.file.names else (WARNING, ": match its labels with structures")
        found.append(Deviation(severity, f"{text}{advice}.", JUDGED_KIND))
    total = int(whole[1:].sum())
    if outside := total - int(joint[:, 1:].sum()):
        part, of = (f"{voxels * np.prod(box.world.spacing) / 1000:.3g}" for voxels in (outside, total))
        text = f"{part} of the {of} mL of {name} lie outside of where the model looked: they were not judged"
        severity = NOTE if outside < LEAST_SHARE * total else WARNING
        found.append(Deviation(severity, f"{text}.", JUDGED_KIND))
    values = {old.value: mask.labels[own].value for old, own in zip(bundle.labels, mask.label_of, strict=True)}
    kept = [each for each in box.warnings if each.kind not in _OF_MODEL]
    return by_importance([*found, *(replace(each, structure=values.get(each.structure or 0) or None) for each in kept)])
