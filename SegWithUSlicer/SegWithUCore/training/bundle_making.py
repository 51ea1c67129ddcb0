"""From a finished run to a model bundle: weights, fitted calibration, fingerprint."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.special import softmax

from ..calibration.directions import fit_directions
from ..calibration.error_probability import ErrorProbability, fit_error_probability
from ..calibration.sources import fit_percentiles
from ..calibration.tempering import fit_temperature
from ..inference.prediction import Prediction, predict, tempered_logits
from ..inference.preprocessing import assessed_box
from ..inference.segment import Model
from ..inference.structures import UNCERTAIN_ABOVE
from ..inference.volume import read_image, read_labels
from ..models.bundle import CARD_FILE, LICENCE_FILE, Bundle, HeadSpec, write_bundle_json, write_weights
from ..models.labels import Label
from ..models.model_card import licence_notice, model_card
from ..network.own_networks import is_own, network_file, network_sha256
from ..progress import Progress, silent
from ..whole_files import whole_folder
from .backbone_training import spec_of
from .cases import Case, class_indices
from .foreign_backbone import foreign_licence
from .number_fitting import case_numbers, fit_numbers
from .recipe import Recipe
from .run_folder import RunFolder

WINDOW_PERCENTILES = (50.0, 99.95)
"""Display window of ranking and calibration maps: dark for the calm half of all voxels, bright for one in 2000."""


def make_bundle(
    run: RunFolder,
    cases: Sequence[Case],
    target: Path,
    overwrite: bool = False,
    device: str = "cpu",
    progress: Progress = silent,
    fingerprint: Mapping[str, Any] | None = None,
) -> Bundle:
    """Write the bundle of a run, calibrated on `cases`; whole or not at all.

    Args:
        fingerprint: instead of the one that the run noted when its backbone was trained.

    Raises:
        InputError: the run is unfinished, a case is unusable, or the cases hold no errors to fit on.
        OutputError: `target` exists or cannot be written.
    """
    recipe = run.recipe()
    backbone, head = run.load_best("backbone"), run.load_best("head")
    with whole_folder(target, overwrite) as work:
        digest = write_weights(work, backbone, {recipe.head["variant"]: head})
        facts = run.facts() | ({"fingerprint": fingerprint} if fingerprint else {})
        bundle = write_bundle_json(plain_bundle(recipe, digest, facts), work)
        model = Model(bundle, torch.device(device))
        predictions, truths = [], []
        for number, case in enumerate(cases):
            progress("predicting the calibration cases", number / len(cases), case.name)
            prediction, truth = predict_case(case, model, recipe.label_values)
            predictions.append(prediction)
            truths.append(truth)
        progress("fitting", 1.0)
        calibration = fitted(predictions, truths, bundle.labels)
        calibrated = replace(bundle, calibration=calibration, display=display_windows(predictions))
        written = write_bundle_json(calibrated, work)
        (work / CARD_FILE).write_text(model_card(written), encoding="utf-8")
        (work / LICENCE_FILE).write_text(licence_notice(written.about) + foreign_licence(run), encoding="utf-8")
    return replace(written, folder=target)


def predict_case(case: Case, model: Model, label_values: Sequence[int]) -> tuple[Prediction, np.ndarray]:
    """Prediction of a case, and the true class of each voxel (z, y, x), both of the part that is assessed."""
    images = [read_image(path) for path in case.channels]
    reference = class_indices(read_labels(case.reference), label_values, case.reference)
    box = assessed_box(images, model.bundle.input)
    return predict([box.crop(image) for image in images], model), reference[box.slices_zyx]


def fitted(predictions: Sequence[Prediction], truths: Sequence[np.ndarray], labels: Sequence[Label]) -> dict[str, Any]:
    """The calibration block: error probability, tempering scale, numbers per structure, rivals to be measured against.

    The head learns to temper on cases that the backbone has learnt by heart and where it is wrong too rarely; the
    scale, one number fitted on cases it has never seen, makes up for that. `rivals` holds the temperature of
    temperature scaling, and the error probability that isotonic regression makes of 1 - maximum softmax probability.
    """
    errors = [p.classes != truth for p, truth in zip(predictions, truths, strict=True)]
    table = _error_probability(predictions, errors)
    scale = fit_temperature([tempered_logits(p) for p in predictions], truths)
    numbers = fit_numbers([case_numbers(p, t, scale) for p, t in zip(predictions, truths, strict=True)], labels)
    unsure = [1 - softmax(p.logits.astype(np.float64), 0).max(0) for p in predictions]
    return {
        "cases": len(predictions),
        "error_probability": table.to_json(),
        "sources": _sources(predictions, table),
        "tempering_scale": scale,
        **numbers.to_json(),
        "rivals": {
            "temperature": fit_temperature([p.logits for p in predictions], truths),
            "maximum_softmax": fit_error_probability(unsure, errors).to_json(),
        },
    }


def _error_probability(predictions: Sequence[Prediction], errors: Sequence[np.ndarray]) -> ErrorProbability:
    plain = fit_error_probability([p.ranking for p in predictions], errors)
    directions = fit_directions(
        [plain.table(p.ranking) for p in predictions],
        errors,
        [p.classes for p in predictions],
        [p.runner_up for p in predictions],
    )
    return replace(plain, directions=tuple(directions))


def _sources(predictions: Sequence[Prediction], table: ErrorProbability) -> dict[str, list[float] | None]:
    """Percentiles of model and data part among uncertain voxels; see `calibration.sources`."""
    uncertain = [table(p.ranking, p.classes, p.runner_up) > UNCERTAIN_ABOVE for p in predictions]
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


def plain_bundle(recipe: Recipe, digest: str, facts: Mapping[str, Any], trained: bool = True) -> Bundle:
    """The bundle of a recipe before anything is fitted.

    Args:
        digest: hash of the weights file.
        facts: `fingerprint`, None where unknown; `origin` of a backbone that was not trained here.
        trained: whether the head was.
    """
    head, backbone = recipe.head, spec_of(recipe)
    spec = HeadSpec(
        name=head["variant"],
        variant=head["variant"],
        taps=tuple(head["taps"]),
        feature_channels=head["feature_channels"],
        probes=head["probes"],
        aleatoric=head["aleatoric"],
        trained=trained,
    )
    about = dict(recipe.about) | ({"origin": facts["origin"]} if "origin" in facts else {})
    if is_own(backbone.kind):
        about |= {"network_file": network_file(backbone.kind).name, "network_sha256": network_sha256(backbone.kind)}
    return Bundle(
        folder=None,
        about=about,
        input=recipe.input,
        labels=recipe.labels,
        backbone=backbone,
        heads=(spec,),
        weights_sha256=digest,
        fingerprint=facts["fingerprint"],
    )
