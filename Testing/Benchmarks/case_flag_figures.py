"""Figures of a whole case that `case_flags.py` compares, lower for worse."""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage
from scipy.special import softmax

from SegWithUCore.inference.prediction import tempered_logits
from SegWithUCore.metrics.overlap import Band
from SegWithUCore.metrics.patients import patient_folds
from SegWithULab.calibration.cases import CalibrationCase, fit_table
from SegWithULab.calibration.fit_second_stage import features_of, fit_second_stage, table_probability

FOLDS = 5
UNCERTAIN, SMOOTHED = 0.25, 2.0
FIGURES = (
    "lowest soft Dice of plain softmax",
    "lowest soft Dice of the error probability",
    "largest expected wrong share of a structure",
    "expected wrong share of the case",
    "expected wrong volume of a structure",
    "ambiguous share of a structure",
    "error probability in the band",
    "uncertain share of the band",
    "wrong volume over surface",
    "spatial mass ratio (Moran)",
    "Moran's I of the error probability",
    "largest uncertain cluster",
    "peak of the smoothed error probability",
    "calibration map in the band",
    "epistemic map in the band",
    "segmented volume (no uncertainty)",
    "contrast with the surroundings (image alone)",
)


def out_of_fold_chances(cases: Sequence[CalibrationCase]) -> list[np.ndarray]:
    """Error probability with a second stage that was fitted on other patients."""
    folds = patient_folds([case.patient for case in cases], FOLDS, 7)
    found: dict[int, np.ndarray] = {}
    for fold in range(FOLDS):
        others = [case for case, its in zip(cases, folds, strict=True) if its != fold]
        table = fit_table(others)
        fitted = fit_second_stage(others, table)
        assert fitted is not None
        for number in np.flatnonzero(folds == fold).tolist():
            chance = table_probability(cases[number], table)
            voxels, features = features_of(cases[number], chance, fitted.stage.pairs, fitted.stage.axes)
            chance[voxels] = fitted.stage.probability(features)
            found[number] = chance
    return [found[number] for number in range(len(cases))]


def distance_of(case: CalibrationCase) -> np.ndarray:
    """Distance to the predicted boundary, mm."""
    return Band().distance(case.prediction.classes, case.view.spacing_mm)


def figures_of(case: CalibrationCase, chance: np.ndarray, scale: float) -> dict[str, float]:
    """Compute `FIGURES` of a case from its error probability."""
    p, classes = case.prediction, case.prediction.classes
    tempered, plain = softmax(tempered_logits(p, scale), 0), softmax(p.logits.astype(float), 0)
    own = np.take_along_axis(tempered, classes[None].astype(np.int64), 0)[0]
    refitted = tempered * (chance / np.maximum(1 - own, 1e-9))
    np.put_along_axis(refitted, classes[None].astype(np.int64), (1 - chance)[None], 0)
    masks = {index: classes == index for index in range(1, len(plain)) if (classes == index).any()}
    inside, band = classes > 0, distance_of(case) <= Band().width
    surface = sum(int((mask & ~ndimage.binary_erosion(mask)).sum()) for mask in masks.values())
    wrong, size = float(chance.sum()), int(inside.sum())
    clusters, count = ndimage.label(chance > UNCERTAIN, np.ones((3, 3, 3)))
    largest = float(np.max(ndimage.sum(chance, clusters, range(1, count + 1)))) if count else 0.0
    image, moran = case.view.image[0], _moran(chance)
    values = (
        min(_soft_dice(plain[index], mask) for index, mask in masks.items()),
        min(_soft_dice(refitted[index], mask) for index, mask in masks.items()),
        -max(float(chance[mask].mean()) for mask in masks.values()),
        -wrong / size,
        -max(float(chance[mask].sum()) for mask in masks.values()),
        -max(_ambiguous_share(tempered[index]) for index in masks),
        -float(chance[band].mean()),
        -float((chance[band] > UNCERTAIN).mean()),
        -wrong / surface,
        -wrong * moran / size,
        -moran,
        -largest / size,
        -float(ndimage.gaussian_filter(chance.astype(float), SMOOTHED).max()),
        -float(np.log1p(p.calibration[band]).mean()),
        epistemic_in_band(case),
        float(size),
        float(image[inside].mean() - image[band & ~inside].mean()),
    )
    return dict(zip(FIGURES, values, strict=True))


def epistemic_in_band(case: CalibrationCase) -> float:
    """Minus the mean log of the model part near the predicted surface."""
    return -float(np.log(case.prediction.epistemic[distance_of(case) <= Band().width] + 1e-6).mean())


def _soft_dice(probability: np.ndarray, mask: np.ndarray) -> float:
    return float(2 * probability[mask].sum() / (probability.sum() + mask.sum()))


def _ambiguous_share(probability: np.ndarray) -> float:
    return float((probability * (1 - probability)).sum() / probability.sum())


def _moran(values: np.ndarray) -> float:
    """Moran's I over neighbours that share a face."""
    around, pairs, products = values - values.mean(), 0, 0.0
    for axis in range(values.ndim):
        first, second = np.delete(around, -1, axis), np.delete(around, 0, axis)
        products, pairs = products + float((first * second).sum()), pairs + first.size
    return products / pairs / float(around.var())
