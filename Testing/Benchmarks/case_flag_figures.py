"""Figures of a whole case that `case_flags.py` compares, lower for worse."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy import ndimage
from scipy.special import softmax
from stage_two import Measured

from SegWithUCore.inference.prediction import tempered_logits
from SegWithUCore.metrics.overlap import Band
from SegWithULab.training.fit_stage_two import (
    doubt_features,
    fit_stage_two,
    fit_table,
    folds_of,
    steps_of,
    table_probability,
)

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


def out_of_fold_chances(cases: Sequence[Measured], cache: Path | None) -> list[np.ndarray]:
    """Error probability with a stage two that was fitted on other patients."""
    folds = folds_of([case.group for case in cases], 7, FOLDS)
    found: dict[int, np.ndarray] = {}
    for fold in range(FOLDS):
        own = np.flatnonzero(folds == fold).tolist()
        file = cache / f"chances_{fold}.npz" if cache else None
        if file is not None and file.is_file():
            with np.load(file) as kept:
                found |= {number: kept[str(number)] for number in own}
            continue
        others = [case for case, its in zip(cases, folds, strict=True) if its != fold]
        table = fit_table(others)
        fitted = fit_stage_two(others, table)
        assert fitted is not None
        for number in own:
            chance = table_probability(cases[number].prediction, table)
            steps = steps_of(cases[number], fitted.stage.axes)
            voxels, features = doubt_features(cases[number], chance, fitted.stage.pairs, steps)
            chance[voxels] = fitted.stage.probability(features)
            found[number] = chance
        if file is not None:
            np.savez(file, **{str(number): found[number] for number in own})
    return [found[number] for number in range(len(cases))]


def figures_of(case: Measured, chance: np.ndarray, scale: float) -> dict[str, float]:
    """Compute `FIGURES` of a case from its error probability."""
    p, classes = case.prediction, case.prediction.classes
    tempered, plain = softmax(tempered_logits(p, scale), 0), softmax(p.logits.astype(float), 0)
    own = np.take_along_axis(tempered, classes[None].astype(np.int64), 0)[0]
    refitted = tempered * (chance / np.maximum(1 - own, 1e-9))
    np.put_along_axis(refitted, classes[None].astype(np.int64), (1 - chance)[None], 0)
    masks = {index: classes == index for index in range(1, len(plain)) if (classes == index).any()}
    inside, band = classes > 0, case.distance <= Band().width
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


def epistemic_in_band(case: Measured) -> float:
    """Minus the mean log of the model part near the predicted surface."""
    return -float(np.log(case.prediction.epistemic[case.distance <= Band().width] + 1e-6).mean())


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
