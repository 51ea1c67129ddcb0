"""A case of a mask alone, without any model: its structures, their volumes, and the regions that its shape gives.

The place of the model has a description of what the masks hold (`model_of_masks`), so that all that runs, resumes and
reads cases works unchanged; there are no maps.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import SimpleITK as sitk

from ..calibration.per_structure import ProbabilitySums, asymmetry
from ..case.case_regions import ijk_to_ras
from ..io.roi import whole_grid
from ..models.bundle import Bundle, HeadSpec
from ..models.input_spec import InputSpec, Label, Normalisation, distinct_color, side_pairs, side_values
from ..models.quality import MISPLACED_KIND
from ..network.specs import MASK_ALONE, BackboneSpec
from ..regions.find_regions import Assessed, find_regions, without_probability
from ..regions.mask_findings import find_in_mask, middle_plane
from ..util.errors import InputError
from ..util.progress import Progress
from ..version import __version__
from .case_result import AssessedBox, CaseInput, CaseResult, Job
from .deviation import JUDGED_KIND, NOTE, WARNING, Deviation
from .given_mask import GivenMask, listed
from .model import Model
from .structures import StructureMetrics, whole_metrics
from .uncertainty_maps import VoxelMaps

NO_MODEL = "no model"
LEAST_MASKS = 8
"""Fewer do not say what is usual among them."""
USUAL_MADS = 3.5
"""So many scaled median absolute deviations from the median are usual, a customary limit of outliers."""
LEAST_MAD = 0.02
"""Of the logarithm of a volume and of an asymmetry, so that masks that are nearly alike do not make outliers."""
NO_SHAPE = "nothing says how much of it is wrong, and an even outline at the wrong place is not found"


def structure_labels(masks: Sequence[Mapping[str, str]]) -> tuple[Label, ...]:
    """Return the structures of some masks, background first; of a name the lowest value counts.

    Args:
        masks: of each, the structures by label value, or by name of a segment or file.

    Raises:
        InputError: no label stands for a structure.
    """
    values, others = {0: "background"}, set[str]()
    for key, name in sorted((pair for mask in masks for pair in mask.items() if pair[1]), key=_by_number):
        if key.isdecimal() and name not in values.values():
            values[int(key)] = name
        others |= set() if key.isdecimal() else {name}
    for name in sorted(others - set(values.values())):
        values[max(values) + 1] = name
    if len(values) == 1:
        raise InputError("No label of the masks stands for a structure: give --labels.", "unknown-label")
    return tuple(Label(value, name, distinct_color(value)) for value, name in values.items())


def _by_number(pair: tuple[str, str]) -> tuple[int, str]:
    return (int(pair[0]) if pair[0].isdecimal() else 0), pair[0]


def model_of_masks(labels: Sequence[Label], volumes: Sequence[Mapping[str, float]]) -> Model:
    """Describe masks in the place of a model.

    Args:
        labels: of `structure_labels`.
        volumes: of each mask, mm3 by structure: what is usual among them, if they are `LEAST_MASKS`.
    """
    about = {"name": NO_MODEL, "version": __version__, "task": "Review of a mask without a model.",
             "licence_weights": "none", "licence_data": "none", "data": "none", "citation": "none"}  # fmt: skip
    spec = InputSpec(("image",), "OT", "xyz", None, (128,) * 3, Normalisation("range", 0.0, 99.5))
    head = HeadSpec("none", "softmax", ("mask",), 1, 0, aleatoric=False)
    usual: dict[str, Any] = {"volumes_mm3": {}, "asymmetries": {}}
    if len(volumes) >= LEAST_MASKS:
        for label in labels[1:]:
            found = np.log([mask[label.name] for mask in volumes if mask.get(label.name)])
            if len(found) > len(volumes) / 2:
                counts = {"cases": len(volumes), "having": len(found)}
                usual["volumes_mm3"][str(label.value)] = {**_range(found, np.exp), **counts}
        for name, (left, right) in side_pairs(label.name for label in labels).items():
            both = [(mask[left], mask[right]) for mask in volumes if mask.get(left) and mask.get(right)]
            if len(both) >= LEAST_MASKS:
                share = np.array([float(asymmetry(*pair)) / 100 for pair in both])
                usual["asymmetries"][name] = {**_range(share, lambda end: 100 * end), "cases": len(both)}
    parts = (tuple(labels), BackboneSpec(MASK_ALONE), (head,))
    return Model(Bundle(None, about, spec, *parts, "0" * 64, ood_reference=usual))


def _range(values: np.ndarray, scale: Any) -> dict[str, float]:
    middle = float(np.median(values))
    half = USUAL_MADS * max(1.4826 * float(np.median(np.abs(values - middle))), LEAST_MAD)
    return {"low": float(scale(middle - half)), "high": float(scale(middle + half))}


def reviewed_mask(
    job: Job, model: Model, source: CaseInput, image: sitk.Image, masks: Sequence[GivenMask], progress: Progress
) -> CaseResult:
    """Make the result of a mask without a model.

    Args:
        masks: the mask and, where there is one, that of another reader: the regions are where both differ.
    """
    labels, grid = model.bundle.labels, source.grid
    voxel_mm3, names, matrix = (
        float(np.prod(grid.spacing)),
        {each.value: each.name for each in labels},
        ijk_to_ras(grid),
    )
    drawn, *others = [mask_classes(mask, labels) for mask in masks]
    mask = replace(masks[0], indices=drawn, labels=labels, label_of=np.arange(len(labels), dtype=np.uint8))
    voxel_mm3 = float(np.prod(grid.spacing))
    voxels = zip(labels, np.bincount(drawn.ravel(), minlength=len(labels)).tolist(), strict=True)
    structures = [StructureMetrics(label, count, count * voxel_mm3) for label, count in voxels]
    progress("finding regions", 0.5)
    table = np.array([label.value for label in labels])
    values, sides = table[drawn], side_values(names)
    warnings = [*_warnings(masks, structures, model.bundle), *_exchanged(middle_plane(values, sides, matrix))]
    sums = ProbabilitySums.zeros(len(labels))
    maps = VoxelMaps(drawn, drawn, None, None, None, None, None, sums)
    box = AssessedBox(whole_grid(grid), sitk.GetArrayViewFromImage(image), grid, maps, structures, warnings, {})
    totals, asymmetries = whole_metrics(structures, sums, (), voxel_mm3)
    if others:
        differs = (drawn != others[0]).astype(np.float32)
        regions = without_probability(find_regions(Assessed(differs, values, table[others[0]], names, matrix)))
    else:
        regions = find_in_mask(values, names, sides, matrix)
    return CaseResult(job, model.identity, source, labels, box, regions, totals, asymmetries, warnings, mask=mask)


def mask_classes(mask: GivenMask, labels: Sequence[Label]) -> np.ndarray:
    """Return the index in `labels` of each voxel of a mask that was read with them, uint8 (z, y, x)."""
    class_of = np.zeros(len(mask.labels), np.uint8)
    class_of[mask.label_of[1:]] = np.arange(1, len(labels))
    class_of[0] = 0
    return class_of[mask.indices]


def _warnings(masks: Sequence[GivenMask], structures: Sequence[StructureMetrics], bundle: Bundle) -> list[Deviation]:
    """Say that no model was run, what was left out, and what is unusual among the masks."""
    name, usual = masks[0].file.path.name, bundle.ood_reference or {}
    text = f"No model was run: the regions follow from the shape of {name} alone; {NO_SHAPE}."
    if len(masks) > 1:
        text = f"No model was run: the segmentation is {name}, the regions are where {masks[1].file.path.name} differs."
    found = [Deviation(NOTE, text, JUDGED_KIND)]
    for mask in masks:
        if mask.left_out:
            text = f"Labels of {mask.file.path.name} that were taken as background ({len(mask.left_out)}): "
            found.append(Deviation(NOTE, f"{text}{listed(mask.left_out)}.", JUDGED_KIND))
    volumes = {metrics.label.name: metrics.volume_mm3 for metrics in structures}
    for metrics in structures[1:]:
        span, label, volume = usual["volumes_mm3"].get(str(metrics.label.value)), metrics.label, metrics.volume_mm3
        if span is None or span["low"] <= volume <= span["high"]:
            continue
        size = "small" if volume < span["low"] else "large"
        text = f"The {label.name} is unusually {size}: {volume:.0f} mm3, in most of the {span['cases']} masks "
        text += f"{span['low']:.0f} to {span['high']:.0f} mm3; check the mask."
        if not volume:
            text = f"The {label.name} is not drawn, but {span['having']} of the {span['cases']} masks have it."
        found.append(Deviation(WARNING, text, "volume", label.value))
    for pair, (left, right) in side_pairs(volumes).items():
        span = usual["asymmetries"].get(pair)
        if span is not None and volumes[left] and volumes[right]:
            percent = float(asymmetry(volumes[left], volumes[right]))
            if not span["low"] <= percent <= span["high"]:
                text = f"The asymmetry of the {pair} is unusual: {percent:+.0f} %, in most of the {span['cases']} "
                text += f"masks {span['low']:+.0f} to {span['high']:+.0f} %; check both sides."
                found.append(Deviation(WARNING, text, "volume"))
    return found


def _exchanged(plane: np.ndarray | None) -> list[Deviation]:
    """Warn of sides that are exchanged: what is called left lies on the patient's right."""
    if plane is None or plane[0] > 0:
        return []
    text = "What is called left lies on the right of what is called right: the sides or the coordinates are exchanged."
    return [Deviation(WARNING, text, MISPLACED_KIND)]
