"""What is fitted on calibration cases: error probability, tempering scale, numbers per structure, limits of flags."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import softmax

from ..calibration.error_probability import ErrorProbability, fit_with_directions
from ..calibration.flag_limits import fit_flag_rules
from ..calibration.sources import fit_percentiles
from ..calibration.temperature_scaling import fit_temperature
from ..imaging.volume import read_image, read_labels
from ..inference.prediction import Prediction, predict, tempered_logits
from ..inference.preprocessing import assessed_box
from ..inference.segment import Model
from ..inference.structures import UNCERTAIN_ABOVE
from ..models.labels import Label
from .calibrate import case_numbers, fit_numbers, flag_figures
from .dataset import Case, class_indices

WINDOW_PERCENTILES = (50.0, 99.95)
"""Display window of ranking and calibration maps: dark for the calm half of all voxels, bright for one in 2000."""


def predict_case(case: Case, model: Model, label_values: Sequence[int]) -> tuple[Prediction, np.ndarray]:
    """Prediction of a case, and the true class of each voxel (z, y, x), both of the part that is assessed."""
    images = [read_image(path) for path in case.channels]
    reference = class_indices(read_labels(case.reference), label_values, case.reference)
    box = assessed_box(images, model.bundle.input)
    return predict([box.crop(image) for image in images], model), reference[box.slices_zyx]


def fitted(predictions: Sequence[Prediction], truths: Sequence[np.ndarray], labels: Sequence[Label]) -> dict[str, Any]:
    """The calibration block of a bundle, with rivals to be measured against.

    The head learns to temper on cases that the backbone has learnt by heart and where it is wrong too rarely; the
    scale, one number fitted on cases it has never seen, makes up for that. `rivals` holds the temperature of
    temperature scaling, and the error probability that is made of 1 - maximum softmax as ours is made of the
    ranking map: isotonic, then by direction.
    """
    errors = [p.classes != truth for p, truth in zip(predictions, truths, strict=True)]
    table = _error_probability([p.ranking for p in predictions], predictions, errors)
    scale = fit_temperature([tempered_logits(p) for p in predictions], truths)
    cases = [case_numbers(p, t, scale) for p, t in zip(predictions, truths, strict=True)]
    numbers = fit_numbers(cases, labels)
    chances = [table(p.ranking, p.classes, p.runner_up) for p in predictions]
    unsure = [1 - softmax(p.logits.astype(np.float64), 0).max(0) for p in predictions]
    return {
        "cases": len(predictions),
        "error_probability": table.to_json(),
        "sources": _sources(predictions, chances),
        "tempering_scale": scale,
        **numbers.to_json(),
        "flags": fit_flag_rules(
            [
                flag_figures(case, p.classes, chance, numbers, labels)
                for case, p, chance in zip(cases, predictions, chances, strict=True)
            ]
        ),
        "rivals": {
            "temperature": fit_temperature([p.logits for p in predictions], truths),
            "maximum_softmax": _error_probability(unsure, predictions, errors).to_json(),
        },
    }


def _error_probability(
    scores: Sequence[np.ndarray], predictions: Sequence[Prediction], errors: Sequence[np.ndarray]
) -> ErrorProbability:
    classes, runner_ups = [p.classes for p in predictions], [p.runner_up for p in predictions]
    return fit_with_directions(scores, errors, classes, runner_ups)


def _sources(predictions: Sequence[Prediction], chances: Sequence[np.ndarray]) -> dict[str, list[float] | None]:
    """Percentiles of model and data part among uncertain voxels; see `calibration.sources`."""
    uncertain = [chance > UNCERTAIN_ABOVE for chance in chances]
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
