"""A case of a mask alone, without any model: its structures, their volumes, and the regions that its shape gives.

The place of the model has a description of what the masks hold (`model_of_masks`), so that all that runs, resumes and
reads cases works unchanged; there are no maps.
"""

from collections.abc import Iterator, Mapping, Sequence
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
from .given_mask import NO_MODEL, GivenMask, listed
from .model import Model
from .structures import StructureMetrics, whole_metrics
from .uncertainty_maps import VoxelMaps

# Fewer do not say what is usual among them.
LEAST_MASKS = 8
# So many scaled median absolute deviations from the median are usual. With 3.5, a customary limit, 5 of 15 masks drawn
# by hand were flagged for one of 14 structures, with 5 one; planted faults (half a putamen) lie beyond both.
USUAL_MADS = 5.0
# Of the logarithm of a volume and of an asymmetry, so that masks that are nearly alike do not make outliers.
LEAST_MAD = 0.02


def structure_labels(masks: Sequence[Mapping[str, str]]) -> tuple[Label, ...]:
    """Return the structures of some masks, background first; of a name the lowest value counts.

    Args:
        masks: of each, the structures by label value, or by name of a segment or file; "" for none.

    Raises:
        InputError: no label stands for a structure.
    """
    every = {pair for mask in masks for pair in mask.items()}
    values, pairs = {0: "background"}, {pair for pair in every if pair[1]}
    numbered = sorted((int(key), name) for key, name in pairs if key.isdecimal())
    for value, name in [*numbered, *((0, name) for name in sorted({name for _, name in pairs}))]:
        if name not in values.values():
            values[value if value not in values else max(values) + 1] = name
    if not 1 < len(values) <= 256:
        found = f"{len(values) - 1} structures, not 1 to 255 (labels: {listed(sorted({key for key, _ in every}))})"
        raise InputError(f"The masks have {found}: say with --labels what labels stand for.", "unknown-label")
    return tuple(Label(value, name, distinct_color(value)) for value, name in values.items())


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
    measured, usual = [_measures(each) for each in volumes if any(each.values())], dict[str, Any]()
    for name in dict.fromkeys(name for each in measured for name in each) if len(measured) >= LEAST_MASKS else ():
        found = [each[name] for each in measured if name in each]
        if 2 * len(found) > len(measured):
            middle = float(np.median(found))
            half = USUAL_MADS * max(1.4826 * float(np.median(np.abs(np.subtract(found, middle)))), LEAST_MAD)
            usual[name] = {"low": middle - half, "high": middle + half, "having": len(found), "of": len(measured)}
    parts = (tuple(labels), BackboneSpec(MASK_ALONE), (head,))
    return Model(Bundle(None, about, spec, *parts, "0" * 64, ood_reference=usual))


def _measures(volumes: Mapping[str, float]) -> dict[str, float]:
    """Return the logarithms of the volumes of what is drawn, and the asymmetry, -2 to 2, of what both sides have."""
    drawn = {name: volume for name, volume in volumes.items() if volume}
    uneven = {f"asymmetry of {name}": float(asymmetry(drawn[left], drawn[right])) / 100
              for name, (left, right) in side_pairs(drawn).items()}  # fmt: skip
    return {name: float(np.log(volume)) for name, volume in drawn.items()} | uneven


def reviewed_mask(
    job: Job, model: Model, source: CaseInput, image: sitk.Image, masks: Sequence[GivenMask], progress: Progress
) -> CaseResult:
    """Make the result of a mask without a model.

    Args:
        masks: the mask and, where there is one, that of another reader: the regions are where both differ.
    """
    labels, grid = model.bundle.labels, source.grid
    names, matrix = {each.value: each.name for each in labels}, ijk_to_ras(grid)
    voxel_mm3 = float(np.prod(grid.spacing))
    drawn, *others = [mask_classes(mask, labels) for mask in masks]
    mask = replace(masks[0], indices=drawn, labels=labels, label_of=np.arange(len(labels), dtype=np.uint8))
    voxels = zip(labels, np.bincount(drawn.ravel(), minlength=len(labels)).tolist(), strict=True)
    structures = [StructureMetrics(label, count, count * voxel_mm3) for label, count in voxels]
    progress("finding regions", 0.5)
    table = np.array([label.value for label in labels], np.min_scalar_type(max(names)))
    values, sides = table[drawn], side_values(names)
    if others:
        differs = (drawn != others[0]).astype(np.float32)
        regions = without_probability(find_regions(Assessed(differs, values, table[others[0]], names, matrix)))
    else:
        regions = find_in_mask(values, names, sides, matrix)
    warnings = [*_notes(masks), *_unusual(structures, model.bundle.ood_reference or {})]
    plane = middle_plane(values, sides, matrix)
    if plane is not None and plane[0] < 0:
        text = "What is called left lies on the right of what is called right: sides or coordinates are exchanged."
        warnings.append(Deviation(WARNING, text, MISPLACED_KIND))
    sums = ProbabilitySums.zeros(len(labels))
    maps = VoxelMaps(drawn, drawn, None, None, None, None, None, sums)
    box = AssessedBox(whole_grid(grid), sitk.GetArrayFromImage(image), grid, maps, structures, warnings, {})
    totals, asymmetries = whole_metrics(structures, sums, (), voxel_mm3)
    return CaseResult(job, model.identity, source, labels, box, regions, totals, asymmetries, warnings, mask=mask)


def mask_classes(mask: GivenMask, labels: Sequence[Label]) -> np.ndarray:
    """Return the index in `labels` of each voxel of a mask that was read with them, uint8 (z, y, x)."""
    class_of = np.zeros(len(mask.labels), np.uint8)
    class_of[mask.label_of[1:]] = np.arange(1, len(labels))
    class_of[0] = 0
    return class_of[mask.indices]


def _notes(masks: Sequence[GivenMask]) -> Iterator[Deviation]:
    """Say that no model was run, and what was left out."""
    first, *others = [mask.file.path.name for mask in masks]
    text = f"the regions follow from the shape of {first} alone; an even outline at the wrong place is not found."
    if others:
        text = f"the segmentation is {first}, the regions are where {others[0]} differs."
    yield Deviation(NOTE, f"No model was run: {text}", JUDGED_KIND)
    for mask in masks:
        if mask.left_out:
            text = f"Labels of {mask.file.path.name} that were taken as background ({len(mask.left_out)}): "
            yield Deviation(NOTE, f"{text}{listed(mask.left_out)}.", JUDGED_KIND)


def _unusual(structures: Sequence[StructureMetrics], usual: Mapping[str, Any]) -> Iterator[Deviation]:
    """Say what is unusual among the masks."""
    own = _measures({metrics.label.name: metrics.volume_mm3 for metrics in structures[1:]})
    values = {metrics.label.name: metrics.label.value for metrics in structures[1:]}
    for name, span in usual.items():
        if name in own and not span["low"] <= own[name] <= span["high"]:
            shown, low, high = (_shown(each, name in values) for each in (own[name], span["low"], span["high"]))
            text = f"The {name} is unusual: {shown}, in most of the {span['of']} masks {low} to {high}; check the mask."
            yield Deviation(WARNING, text, "volume", values.get(name))
        elif name in values and name not in own:
            text = f"The {name} is not drawn, but {span['having']} of the {span['of']} masks have it."
            yield Deviation(WARNING, text, "volume", values[name])


def _shown(measure: float, is_volume: bool) -> str:
    return f"{np.exp(measure):.0f} mm³" if is_volume else f"{100 * measure:+.0f} %"
