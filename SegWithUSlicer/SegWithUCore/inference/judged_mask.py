"""Judge a segmentation that was made elsewhere by the probabilities of a model.

The model is run as for `segment`. Its error probability q and the shares of the other classes give a probability of
every class of a voxel: 1 - q for the class that it predicts, q times its share for each other. The error probability of
the given mask is 1 minus the probability of the classes that its label stands for: q where both agree, 1 - q where the
mask has the runner-up of two classes. The mask replaces the model's segmentation in one place (`judged`), so all that
reads case folders works unchanged.
"""

from dataclasses import replace

import numpy as np

from ..calibration.per_structure import soft_dice
from ..models.quality import EMPTY_KIND
from ..util.errors import InputError
from ..util.plane_files import plane_pieces
from .case_writer import CaseResult
from .deviation import JUDGED_KIND, NOTE, WARNING, Deviation
from .given_mask import GivenMask, listed
from .memory_prediction import check_regions_fit
from .structures import StructureMetrics, class_sums
from .uncertainty_maps import regions_of_maps

POOR_AGREEMENT = 0.6
"""Dice of mask and model below which the mask may be of another patient or place: so have 9 of 15 masks of other
patients on crops around the same structure (Testing/Benchmarks/results/judge.json)."""
MUCH_WRONG = 1.5
"""Expected wrong volume of a mask over that of the model's own segmentation above which the case is to be looked at."""
_OF_MODEL = ("volume", "predicted Dice", EMPTY_KIND)
"""Warnings about the segmentation of the model, which is not the one that is shown."""


def judged(result: CaseResult, mask: GivenMask) -> CaseResult:
    """Put a mask in the place of the segmentation of the model that judges it.

    Args:
        result: of the model, its maps with `share` and `rival` of this mask.
        mask: on the whole grid.

    Raises:
        InputError: no voxel of the mask agrees with the model.
    """
    maps, own = result.maps, mask.part(result.box).indices
    probability, share, rival = maps.error_probability, maps.share, maps.rival
    assert probability is not None and share is not None and rival is not None
    agreed = predicted = 0
    wrong = own_wrong = 0.0
    for planes in plane_pieces(own.shape):
        before, label = probability[planes], mask.label_of[maps.classes[planes]]
        agrees = label == own[planes]
        right = before * share[planes]
        error = np.clip(np.where(agrees, before - right, 1 - right), 0, 1)
        wrong += float(error[before >= 0].sum())
        own_wrong += float(before[before >= 0].sum())
        inside = (before >= 0) & (own[planes] > 0)
        agreed += int(np.count_nonzero(agrees & inside))
        predicted += int(np.count_nonzero(label)) + int(np.count_nonzero(inside))
        probability[planes] = np.where(before < 0, before, error)  # type: ignore[index]  # last: `before` may be a view
    if not agreed:
        message = f"No voxel of {mask.file.path} has, where the model looked, the label that the model gives it"
        raise InputError(f"{message}: check that it is of this patient.", "no-overlap")
    maps = replace(maps, classes=own, runner_up=rival, model_percentile=None, data_percentile=None)
    check_regions_fit(probability, result.files[0], result.bundle)
    changed = replace(result, maps=maps, mask=mask, bundle=replace(result.bundle, labels=mask.labels))
    return replace(
        changed,
        structures=_structures(result, changed, mask),
        regions=regions_of_maps(maps, mask.labels, result.box.crop_grid(result.grid)),
        warnings=_warnings(result, mask, 2 * agreed / predicted, (wrong, own_wrong)),
    )


def _structures(result: CaseResult, changed: CaseResult, mask: GivenMask) -> list[StructureMetrics]:
    """Metrics of the mask's labels; the expected volume is the model's, with its interval for a single structure.

    Voxels are counted in the whole image, those expected to be wrong where the model looked.
    """
    maps, count, voxel_mm3 = changed.maps, len(mask.labels), float(np.prod(result.grid.spacing))
    assert maps.error_probability is not None
    parts = zip(changed.assessed_parts(maps.classes), changed.assessed_parts(maps.error_probability), strict=True)
    sums = [class_sums(replace(maps, classes=own, error_probability=error), count) for own, error in parts]
    seen, uncertain, wrong = (np.sum(each, 0) for each in zip(*sums, strict=True))
    whole, found = np.bincount(mask.indices.ravel(), minlength=count), []
    for index, label in enumerate(mask.labels):
        members = [metrics for metrics, own in zip(result.structures, mask.label_of, strict=True) if own == index]
        voxels = int(whole[index] if index else seen[index])
        known = [metrics.expected_volume_mm3 for metrics in members]
        volume = None if None in known or not known else float(sum(known))  # type: ignore[arg-type]
        dice = None
        if volume is not None and index and volume + seen[index]:
            dice = soft_dice(volume / voxel_mm3, float(seen[index] - wrong[index]), float(seen[index]))
        alone = members[0] if len(members) == 1 else None
        found.append(StructureMetrics(
            label, voxels, voxels * voxel_mm3, volume, float(wrong[index]) * voxel_mm3,
            int(uncertain[index]) / max(int(seen[index]), 1), int(uncertain[index]) * voxel_mm3,
            alone.expected_interval_mm3 if alone else None, dice_estimate=dice,
            calibration_cases=alone.calibration_cases if alone else None,
        ))  # fmt: skip
    return found


def _warnings(result: CaseResult, mask: GivenMask, agreement: float, wrong: tuple[float, float]) -> list[Deviation]:
    """Say what the probabilities mean, what of the mask was not judged, and where it hardly agrees with the model.

    Args:
        agreement: Dice of both.
        wrong: voxels that are expected to be wrong, of the mask and of the model's own segmentation.
    """
    name, model = mask.file.path.name, result.bundle.name
    names = {
        label.value: [old.name for old, own in zip(result.bundle.labels, mask.label_of, strict=True) if own == index]
        for index, label in enumerate(mask.labels)
    }
    meant = ", ".join(f"{value} = {' + '.join(each)}" for value, each in names.items() if value)
    found = [Deviation(
        NOTE, f"The segmentation is {name}, made elsewhere ({meant}). What is shown is disagreement with the model "
        f"'{model}', whose probabilities are calibrated for its own segmentations.", JUDGED_KIND)]  # fmt: skip
    total = int(np.count_nonzero(mask.indices))
    boxes = result.parts or [result.box]
    outside = total - sum(int(np.count_nonzero(mask.indices[box.slices_zyx])) for box in boxes)
    if outside:
        text = (
            f"{outside} of the {total} voxels of {name} ({outside / total:.1%}) lie outside of where the model looked"
        )
        found.append(Deviation(WARNING, f"{text}: they were not judged.", JUDGED_KIND))
    if mask.left_out:
        text = f"{len(mask.left_out)} label(s) of {name} were left out: {listed(mask.left_out)}"
        found.append(Deviation(WARNING, f"{text}.", JUDGED_KIND))
    if agreement < POOR_AGREEMENT:
        text = f"{name} and the model hardly agree (Dice {agreement:.2f}): check that it is of this patient"
        found.append(Deviation(WARNING, f"{text}, and that the model suits the image.", JUDGED_KIND))
    if wrong[0] > MUCH_WRONG * wrong[1]:
        mask_mm3, own_mm3 = (each * float(np.prod(result.grid.spacing)) for each in wrong)
        text = f"About {mask_mm3:.0f} mm3 of {name} are likely wrong, of the model's own segmentation {own_mm3:.0f} mm3"
        found.append(Deviation(WARNING, f"{text}: look at the regions.", JUDGED_KIND))
    seen = set(np.unique(mask.indices).tolist())
    found += [
        Deviation(WARNING, f"{name} has no voxel of {label.name}.", EMPTY_KIND, label.value)
        for index, label in enumerate(mask.labels)
        if index not in seen
    ]
    values = {old.value: mask.labels[own].value for old, own in zip(result.bundle.labels, mask.label_of, strict=True)}
    kept = [each for each in result.warnings if each.kind not in _OF_MODEL]
    return [*found, *(replace(each, structure=values.get(each.structure or 0) or None) for each in kept)]
