"""A model on cases with references: every case segmented as `segment` does, and measured.

Before an evaluation some cases are compared with those that the model was trained with, so that another organ is
refused at once; during it all are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import SimpleITK as sitk

from SegWithUCore.inference.deviation import NOTE, REFUSED, WARNING, Deviation
from SegWithUCore.inference.model import Model
from SegWithUCore.inference.ood_check import input_deviations
from SegWithUCore.inference.prediction import Prediction, predict
from SegWithUCore.inference.preprocessing import assessed_box
from SegWithUCore.metrics.calibration import Reliability
from SegWithUCore.metrics.overlap import Band, class_surface_dice, mean_dice
from SegWithUCore.models.bundle import Bundle
from SegWithUCore.models.quality import checks_lacking
from SegWithUCore.util.errors import InputError
from SegWithUCore.util.progress import Progress, silent

from ..calibration.cases import case_numbers
from ..training.case_reading import read_assessed, read_images
from ..training.dataset import Case
from . import case_metrics

LOOKED_AT = 5
"""Cases that are compared before an evaluation, spread over all of them."""


@dataclass(frozen=True)
class CaseEvaluation:
    """All that is known of a case afterwards.

    Attributes:
        name, group: of the case, and what it is resampled with.
        metrics: what a bundle records, by title.
        detection: error detection by (metric, region, score).
        structures: numbers per structure.
        risk: 1 - mean Dice.
        voxels, errors: of the part that is assessed, by region.
        ood_warnings: how its images differ from the training cases.
    """

    name: str
    group: str
    metrics: dict[str, float]
    detection: dict[tuple[str, str, str], float]
    structures: list[case_metrics.StructureMeasurement]
    risk: float
    voxels: dict[str, int]
    errors: dict[str, int]
    ood_warnings: list[Deviation] = field(default_factory=list)


@dataclass(frozen=True)
class Evaluation:
    """Measured cases.

    Attributes:
        band: around the predicted surface.
        reliability: of the error probability over the voxels of all cases, by region; empty without fitted calibration.
    """

    band: Band = field(default_factory=Band)
    cases: list[CaseEvaluation] = field(default_factory=list)
    reliability: dict[str, Reliability] = field(default_factory=dict)


def evaluate(cases: Sequence[Case], model: Model, band: Band | None = None, progress: Progress = silent) -> Evaluation:
    """Measure every case, one after the other; memory holds one case and counts.

    Raises:
        InputError: an image or reference cannot be used.
    """
    found = Evaluation(band or Band())
    for number, case in enumerate(cases):
        progress("evaluating", number / len(cases), case.name)
        read = read_assessed(case, model.bundle)
        add_case(found, case, predict(read.images, model), read.truth, read.images, model.bundle)
    progress("evaluating", 1.0)
    return found


def add_case(
    found: Evaluation,
    case: Case,
    prediction: Prediction,
    truth: np.ndarray,
    images: Sequence[sitk.Image],
    bundle: Bundle,
) -> None:
    """Measure one case and add it to what was found.

    Args:
        truth: class of each voxel, (z, y, x).
        images: the channels, on the grid of the prediction.
    """
    classes = len(bundle.labels)
    spacing = images[0].GetSpacing()[::-1]
    seen = case_metrics.measure_case(prediction, truth, spacing, bundle, found.band)
    detection = case_metrics.detection_metrics(seen)
    metrics = case_metrics.recorded_metrics(seen, detection, bundle)
    if not found.band.in_slices:
        dice = class_surface_dice(prediction.classes, truth, classes, case_metrics.SURFACE_TOLERANCE_MM, list(spacing))
        metrics |= {f"surface dice {label.name}": each for label, each in zip(bundle.labels[1:], dice, strict=True)}
    scale = 1.0 if bundle.calibration is None else bundle.calibration["tempering_scale"]
    numbers = case_numbers(prediction, truth, scale)
    structures = case_metrics.measure_structures(numbers, bundle.labels, bundle.calibration)
    risk = 1 - mean_dice(prediction.classes, truth, classes)
    masks = {name: np.ones(truth.shape, bool) if mask is None else mask for name, mask in seen.regions.items()}
    for region in case_metrics.POOLED_REGIONS if case_metrics.OUR_SCORE in seen.scores else ():
        counts = found.reliability.setdefault(region, Reliability())
        counts.add(seen.scores[case_metrics.OUR_SCORE][masks[region]], seen.error[masks[region]])
    found.cases.append(
        CaseEvaluation(
            case.name,
            case.group,
            metrics,
            detection,
            structures,
            risk,
            {name: int(np.count_nonzero(mask)) for name, mask in masks.items()},
            {name: int(np.count_nonzero(seen.error & mask)) for name, mask in masks.items()},
            input_deviations(images, bundle),
        )
    )


def ood_check(found: Mapping[str, Sequence[Deviation]], bundle: Bundle) -> dict[str, Any] | None:
    """Summarise the OOD check of an evaluation; None if the model has no OOD reference.

    Args:
        found: deviations of all cases, by name.

    Returns:
        `cases` checked; `lacks`, the parts of the check that the model does not have; `out_of_distribution`, the names
        of cases with a warning or more; `noted`, of those with notes alone; and `found`, all sentences by case.
    """
    if bundle.ood_reference is None:
        return None
    worst = {name: {each.severity for each in its} for name, its in found.items()}
    return {
        "cases": len(found),
        "lacks": checks_lacking(bundle),
        "out_of_distribution": [name for name, severities in worst.items() if severities & {WARNING, REFUSED}],
        "noted": [name for name, severities in worst.items() if severities == {NOTE}],
        "found": {name: [each.to_json() for each in its] for name, its in found.items() if its},
    }


def check_like_training(cases: Sequence[Case], bundle: Bundle) -> list[str]:
    """Compare some cases with the training cases; returns the warnings about them, each once.

    Raises:
        InputError: most of them are out of distribution, or one cannot be read.
    """
    if bundle.ood_reference is None:
        return []
    looked = list(cases)[:: max(1, len(cases) // LOOKED_AT)][:LOOKED_AT]
    refused, notes = [], []
    for case in looked:
        images = read_images(case)
        if len(images) != len(bundle.input.channels):
            continue  # refused when all of them are read
        box = assessed_box(images, bundle.input)
        found = input_deviations([box.crop(image) for image in images], bundle)
        refused += [each.message for each in found if each.severity == REFUSED][:1]
        notes += [f"{case.name}: {each.message}" for each in found]
    if len(refused) * 2 > len(looked):
        raise InputError(
            f"{len(refused)} of {len(looked)} cases that were compared with the training cases of '{bundle.name}' are "
            f"too far out of distribution for meaningful metrics ({refused[0].rstrip('.')}): choose a model for such "
            "images, or continue with --unlike-training.",
            "out-of-distribution",
        )
    return list(dict.fromkeys(notes))
