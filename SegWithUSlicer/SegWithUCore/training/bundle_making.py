"""From a finished run to a model bundle: weights, fitted calibration, fingerprint."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.special import softmax

from ..calibration.error_probability import fit_error_probability
from ..calibration.tempering import fit_temperature
from ..inference.prediction import Prediction, predict, tempered_logits
from ..inference.segment import Model
from ..inference.volume import read_image, read_labels
from ..models.bundle import CARD_FILE, LICENCE_FILE, Bundle, HeadSpec, write_bundle_json, write_weights
from ..models.model_card import licence_notice, model_card
from ..network.own_networks import is_own, network_file, network_sha256
from ..progress import Progress, silent
from ..whole_files import whole_folder
from .backbone_training import spec_of
from .cases import Case, PreparedCase, class_indices
from .foreign_backbone import foreign_licence
from .recipe import Recipe
from .run_folder import RunFolder

WINDOW_PERCENTILES = (50.0, 99.95)
"""Display window of ranking and calibration maps: dark for the calm half of all voxels, bright for one in 2000."""


def training_fingerprint(cases: Sequence[PreparedCase]) -> dict[str, Any]:
    """Ranges over the training cases that inputs are compared with."""
    extents, spacings = np.array([c.extents_mm for c in cases]), np.array([c.spacing_mm for c in cases])
    return {
        "cases": len(cases),
        "field_of_view_mm": {"low": extents.min(0).tolist(), "high": extents.max(0).tolist()},
        "spacing_mm": {"low": spacings.min(0).tolist(), "high": spacings.max(0).tolist()},
    }


def make_bundle(
    run: RunFolder,
    cases: Sequence[Case],
    target: Path,
    overwrite: bool = False,
    device: str = "cpu",
    progress: Progress = silent,
) -> Bundle:
    """Write the bundle of a run, calibrated on `cases`; whole or not at all.

    Raises:
        InputError: the run is unfinished, a case is unusable, or the cases hold no errors to fit on.
        OutputError: `target` exists or cannot be written.
    """
    recipe = run.recipe()
    backbone, head = run.load_best("backbone"), run.load_best("head")
    with whole_folder(target, overwrite) as work:
        digest = write_weights(work, backbone, {recipe.head["variant"]: head})
        bundle = write_bundle_json(plain_bundle(recipe, digest, run.facts()), work)
        model = Model(bundle, torch.device(device))
        predictions, truths = [], []
        for number, case in enumerate(cases):
            progress("predicting the calibration cases", number / len(cases), case.name)
            prediction, truth = predict_case(case, model, recipe.label_values)
            predictions.append(prediction)
            truths.append(truth)
        progress("fitting", 1.0)
        calibrated = replace(bundle, calibration=fitted(predictions, truths), display=display_windows(predictions))
        written = write_bundle_json(calibrated, work)
        (work / CARD_FILE).write_text(model_card(written), encoding="utf-8")
        (work / LICENCE_FILE).write_text(licence_notice(written.about) + foreign_licence(run), encoding="utf-8")
    return replace(written, folder=target)


def predict_case(case: Case, model: Model, label_values: Sequence[int]) -> tuple[Prediction, np.ndarray]:
    """Prediction of a case, and the true class of each voxel (z, y, x)."""
    images = [read_image(path) for path in case.channels]
    reference = class_indices(read_labels(case.reference), label_values, case.reference)
    return predict(images, model), reference


def fitted(predictions: Sequence[Prediction], truths: Sequence[np.ndarray]) -> dict[str, Any]:
    """The calibration block: error probability, tempering scale, and rivals to be measured against.

    The head learns to temper on cases that the backbone has learnt by heart and where it is wrong too rarely; the
    scale, one number fitted on cases it has never seen, makes up for that. `rivals` holds the temperature of
    temperature scaling, and the error probability that isotonic regression makes of 1 - maximum softmax probability.
    """
    errors = [p.classes != truth for p, truth in zip(predictions, truths, strict=True)]
    unsure = [1 - softmax(p.logits.astype(np.float64), 0).max(0) for p in predictions]
    return {
        "cases": len(predictions),
        "error_probability": fit_error_probability([p.ranking for p in predictions], errors).to_json(),
        "tempering_scale": fit_temperature([tempered_logits(p) for p in predictions], truths),
        "rivals": {
            "temperature": fit_temperature([p.logits for p in predictions], truths),
            "maximum_softmax": fit_error_probability(unsure, errors).to_json(),
        },
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
