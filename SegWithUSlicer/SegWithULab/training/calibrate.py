"""The calibration block of a bundle, fitted on predictions; and the fingerprint of its training cases."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import softmax

from SegWithUCore.calibration.case_level import (
    ProbabilitySums,
    VolumeInterval,
    Volumes,
    fit_volume_interval,
    probability_sums,
    soft_dice,
)
from SegWithUCore.calibration.error_probability import ErrorProbability, fit_percentiles, fit_with_directions
from SegWithUCore.calibration.flag_limits import FlagCase, fit_flag_limit
from SegWithUCore.calibration.predicted_dice import DiceFit, DicePairs, fit_predicted_dice
from SegWithUCore.calibration.stage_two import StageTwo
from SegWithUCore.calibration.temperature_scaling import fit_temperature
from SegWithUCore.inference.model import Model
from SegWithUCore.inference.ood_channels import MINIMUM_CASES, fit_appearance, fit_quality
from SegWithUCore.inference.prediction import Prediction, error_probability, predict, tempered_logits
from SegWithUCore.inference.structures import CaseLevelCalibration
from SegWithUCore.inference.uncertainty_maps import FittedCalibration
from SegWithUCore.metrics.overlap import dice_of
from SegWithUCore.models.input_spec import Label
from SegWithUCore.models.quality import IMAGE_QUALITY, QUALITY, measured_quality
from SegWithUCore.regions.region import UNCERTAIN
from SegWithUCore.review.flags import FIGURE_DIGITS, finite_share

from .case_reading import read_assessed
from .dataset import Case, PreparedCase, left_right_axis
from .recipe import Recipe


@dataclass(frozen=True)
class CaseNumbers:
    """What a case says about each class, background included; arrays have one entry a class.

    Attributes:
        sums: of its tempered probabilities, in voxels.
        predicted, true: number of voxels.
        dice: of prediction and reference, NaN where neither has the class.
        voxel_mm3: volume of one voxel.
    """

    sums: ProbabilitySums
    predicted: np.ndarray
    true: np.ndarray
    dice: np.ndarray
    voxel_mm3: float

    def confidence(self, index: int) -> float:
        """Soft Dice confidence of class `index`."""
        return soft_dice(self.sums.expected[index], self.sums.inside[index], self.predicted[index])

    def segmented_mm3(self, index: int) -> float:
        """Return the predicted volume of class `index`."""
        return float(self.predicted[index]) * self.voxel_mm3

    def volumes_mm3(self, index: int) -> tuple[float, float, float]:
        """Return expected, ambiguous and true volume of class `index`."""
        voxels = np.asarray([self.sums.expected[index], self.sums.ambiguous[index], self.true[index]])
        expected, ambiguous, true = (voxels * self.voxel_mm3).tolist()
        return expected, ambiguous, true


def case_numbers(prediction: Prediction, truth: np.ndarray, scale: float) -> CaseNumbers:
    """Numbers of one case.

    Args:
        truth: class of each voxel.
        scale: the refitted tempering scale.
    """
    classes = range(prediction.logits.shape[0])
    return CaseNumbers(
        probability_sums(softmax(tempered_logits(prediction, scale), 0), prediction.classes),
        np.asarray([np.count_nonzero(prediction.classes == index) for index in classes]),
        np.asarray([np.count_nonzero(truth == index) for index in classes]),
        np.asarray([dice_of(prediction.classes == index, truth == index) for index in classes]),
        prediction.voxel_mm3,
    )


def structure_quality(cases: Sequence[CaseNumbers], labels: Sequence[Label]) -> dict[str, dict[str, Any]]:
    """Make the block `quality` of a calibration: what unseen cases say of each structure."""
    columns = enumerate(zip(*(zip(case.dice, case.true, case.predicted, strict=True) for case in cases), strict=True))
    return {str(labels[index].value): measured_quality(column).to_json() for index, column in columns if index}


@dataclass(frozen=True)
class FurtherCases:
    """Cases that networks of other folds predicted, which have not seen them.

    Attributes:
        networks: that predicted each.
        weight: each counts as so many cases that the network itself predicted.
    """

    numbers: Sequence[CaseNumbers]
    patients: Sequence[str]
    networks: Sequence[str]
    weight: float


def fit_case_level(
    cases: Sequence[CaseNumbers],
    labels: Sequence[Label],
    patients: Sequence[str] | None = None,
    further: FurtherCases | None = None,
) -> CaseLevelCalibration:
    """Fit every structure that enough cases have; background has no numbers.

    Args:
        patients: of each case; None if every case stands alone.
        further: cases of other networks, which predicted Dice is fitted on too; intervals are of the own alone.
    """
    intervals: dict[int, VolumeInterval] = {}
    for index, label in enumerate(labels[1:], 1):
        expected, ambiguous, true = np.asarray([case.volumes_mm3(index) for case in cases]).T
        segmented = np.asarray([case.segmented_mm3(index) for case in cases])
        interval = fit_volume_interval(Volumes(expected, ambiguous, segmented, true), patients=patients)
        intervals |= {label.value: interval} if interval is not None else {}
    return CaseLevelCalibration(intervals, dice_fit(cases, labels, patients, further).lines)


def dice_fit(
    cases: Sequence[CaseNumbers],
    labels: Sequence[Label],
    patients: Sequence[str] | None = None,
    further: FurtherCases | None = None,
) -> DiceFit:
    """Fit the predicted Dice of all structures together; see `fit_case_level`."""
    names = [str(number) for number in range(len(cases))] if patients is None else list(patients)
    weights, networks = [1.0] * len(cases), list[str | None]([None] * len(cases))
    if further is not None:
        cases, names = [*cases, *further.numbers], [*names, *further.patients]
        weights += [further.weight] * len(further.numbers)
        networks += further.networks
    pairs = {
        label.value: DicePairs([case.confidence(index) for case in cases], [case.dice[index] for case in cases])
        for index, label in enumerate(labels[1:], 1)
    }
    return fit_predicted_dice(pairs, names, weights, networks)


def flag_case(
    case: CaseNumbers,
    labels: Sequence[Label],
    patient: str | None = None,
    weight: float = 1.0,
    network: str | None = None,
) -> FlagCase:
    """Return what the limit of flags is fitted on; what is given as in `FlagCase`."""
    classes = range(1, len(labels))
    soft = [each for each in (case.confidence(index) for index in classes) if np.isfinite(each)]
    known = [float(case.dice[index]) for index in classes if np.isfinite(case.dice[index])]
    return FlagCase(min(soft, default=float("nan")), min(known, default=float("nan")), weight, patient, network)


def triage_figures(
    cases: Sequence[CaseNumbers],
    wrong_voxels: Sequence[float],
    numbers: CaseLevelCalibration,
    labels: Sequence[Label],
) -> dict[str, list[float]]:
    """Return what `review.worklist` reads of a case, of all calibration cases, each sorted.

    Args:
        wrong_voxels: so many are expected to be wrong in each case, background included.
    """
    found: dict[str, list[float]] = {"wrong_share": [], "wrong_mm3": [], "predicted_dice": []}
    for case, voxels in zip(cases, wrong_voxels, strict=True):
        wrong = voxels * case.voxel_mm3
        found["wrong_mm3"].append(wrong)
        found["wrong_share"].append(finite_share(wrong, float(case.predicted[1:].sum()) * case.voxel_mm3))
        dice = [
            line(case.confidence(index))
            for index, label in enumerate(labels[1:], 1)
            if (line := numbers.dice.get(label.value)) is not None and np.isfinite(case.confidence(index))
        ]
        found["predicted_dice"] += [min(dice)] if dice else []
    return {name: sorted(round(value, FIGURE_DIGITS) for value in values) for name, values in found.items() if values}


WINDOW_PERCENTILES = (50.0, 99.95)
"""Display window of ranking and calibration maps: dark for the calm half of all voxels, bright for one in 2000."""


def predict_case(case: Case, model: Model) -> tuple[Prediction, np.ndarray]:
    """Prediction of a case, and the true class of each voxel (z, y, x), both of the part that is assessed.

    Raises:
        InputError: as `read_assessed`, or the model wants another number of channels.
    """
    read = read_assessed(case, model.bundle)
    return predict(read.images, model), read.truth


def fitted(
    predictions: Sequence[Prediction],
    truths: Sequence[np.ndarray],
    labels: Sequence[Label],
    table: ErrorProbability | None = None,
    stage: StageTwo | None = None,
    patients: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Fit the calibration block of a bundle, with baselines to be measured against.

    The head learns to soften on training cases, where the backbone is wrong too rarely. The scale, one number fitted on
    cases it has never seen, corrects that. `rivals` holds the baselines: the temperature of temperature scaling, and
    an error probability from 1 - maximum softmax, fitted as ours is from the ranking map (isotonic, then by direction).

    Args:
        table: of the ranking map, fitted on the same cases; None to fit it here.
        stage: stage two of the error probability, whose values sources are then fitted on.
        patients: of each case; None if every case stands alone.
    """
    errors = [p.classes != truth for p, truth in zip(predictions, truths, strict=True)]
    table = table or _error_probability([p.ranking for p in predictions], predictions, errors)
    scale = fit_temperature([tempered_logits(p) for p in predictions], truths)
    cases = [case_numbers(p, t, scale) for p, t in zip(predictions, truths, strict=True)]
    numbers = fit_case_level(cases, labels, patients)
    names = [None] * len(cases) if patients is None else patients
    chances = [_chances(p, table, stage) for p in predictions]
    unsure = [1 - softmax(p.logits.astype(np.float64), 0).max(0) for p in predictions]
    return {
        "cases": len(predictions),
        "error_probability": table.to_json(),
        "sources": _sources(predictions, chances),
        "tempering_scale": scale,
        **numbers.to_json(),
        QUALITY: structure_quality(cases, labels),
        "flags": {
            **fit_flag_limit([flag_case(case, labels, name) for case, name in zip(cases, names, strict=True)]),
            "figures": triage_figures(cases, [float(c.sum(dtype=np.float64)) for c in chances], numbers, labels),
        },
        "rivals": {
            "temperature": fit_temperature([p.logits for p in predictions], truths),
            "maximum_softmax": _error_probability(unsure, predictions, errors).to_json(),
        },
    }


def _chances(prediction: Prediction, table: ErrorProbability, stage: StageTwo | None) -> np.ndarray:
    """Error probability of each voxel; without an image to look at, that of the table."""
    if prediction.view is None:
        return table(prediction.ranking, prediction.classes, prediction.runner_up)
    found = FittedCalibration(table, stage_two=stage)
    chances = error_probability(found, prediction.view, prediction.logits, prediction.head_maps)
    assert chances is not None
    return chances


def _error_probability(
    scores: Sequence[np.ndarray], predictions: Sequence[Prediction], errors: Sequence[np.ndarray]
) -> ErrorProbability:
    classes, runner_ups = [p.classes for p in predictions], [p.runner_up for p in predictions]
    return fit_with_directions(scores, errors, classes, runner_ups)


def _sources(predictions: Sequence[Prediction], chances: Sequence[np.ndarray]) -> dict[str, list[float] | None]:
    """Percentiles of model and data part among uncertain voxels; see `calibration.error_probability`."""
    uncertain = [chance > UNCERTAIN for chance in chances]
    data = [p.aleatoric for p in predictions if p.aleatoric is not None]
    return {
        "model": fit_percentiles([p.epistemic for p in predictions], uncertain),
        "data": fit_percentiles(data, uncertain) if data else None,
    }


def display_windows(predictions: Sequence[Prediction]) -> dict[str, list[float]]:
    """Window of each map over all calibration cases; error probability spans 0 to 0.5 in every model."""
    windows: dict[str, list[float]] = {"error_probability": [0.0, 0.5]}
    for name in ("ranking", "calibration"):
        values = np.concatenate([np.ravel(getattr(p, name)) for p in predictions])
        windows[name] = [float(v) for v in np.percentile(values, WINDOW_PERCENTILES)]
    return windows


def training_fingerprint(
    train: Sequence[PreparedCase], select: Sequence[PreparedCase], recipe: Recipe
) -> dict[str, Any]:
    """Compute the fingerprint block: ranges and averages of training cases; limits include validation cases.

    Returns:
        `cases`, `field_of_view_mm` and `spacing_mm` of the training cases; `channels`, for each channel's look, and
        `quality` likewise (None for too few cases); `volumes_mm3`, the volumes of each structure in the references
        (empty for too few cases).
    """
    extents, spacings = np.array([c.extents_mm for c in train]), np.array([c.given_spacing_mm for c in train])
    both = [*train, *select]
    return {
        "cases": len(train),
        "field_of_view_mm": {"low": extents.min(0).tolist(), "high": extents.max(0).tolist()},
        "spacing_mm": {"low": spacings.min(0).tolist(), "high": spacings.max(0).tolist()},
        "channels": {name: _look(number, train, select, recipe) for number, name in enumerate(recipe.input.channels)},
        IMAGE_QUALITY: quality_of(train, select, recipe.input.channels, _mirror_axis(recipe)),
        "volumes_mm3": {
            str(value): _volumes(index, both)
            for index, value in enumerate(recipe.label_values)
            if index > 0 and len(train) >= MINIMUM_CASES
        },
    }


def _look(
    channel: int, train: Sequence[PreparedCase], select: Sequence[PreparedCase], recipe: Recipe
) -> dict[str, Any] | None:
    others = [c.features[channel] for c in select] + [c.off_centre_features[channel] for c in [*train, *select]]
    return fit_appearance(
        [c.features[channel] for c in train],
        others,
        _mirror_axis(recipe),
        recipe.input.channel_normalisations[channel].kind == "fixed",
    )


def quality_of(
    train: Sequence[PreparedCase], select: Sequence[PreparedCase], channels: Sequence[str], mirror_axis: int | None
) -> dict[str, Any]:
    """Fit the block `quality` of a fingerprint: shading, sharpness and brightness of each channel."""
    both = [*train, *select]
    return {
        name: fit_quality(
            [case.features[number] for case in train],
            [*(case.features[number] for case in select), *(case.off_centre_features[number] for case in both)],
            mirror_axis,
        )
        for number, name in enumerate(channels)
    }


def _mirror_axis(recipe: Recipe) -> int | None:
    # With axes taken as they are stored ("xyz") nobody knows which is left and right.
    mirrored = recipe.backbone_training.mirror and not recipe.input.orientation.islower()
    return left_right_axis(recipe.input.orientation) if mirrored else None


def _volumes(index: int, cases: Sequence[PreparedCase]) -> Mapping[str, float]:
    """Smallest and largest volume of a class in the references, 0 where a case lacks it."""
    volumes = [float((case.labels == index).sum() * np.prod(case.spacing_mm)) for case in cases]
    return {"cases": len(cases), "low": min(volumes), "high": max(volumes)}
