"""A bundle calibrated on other cases, whatever its weights come from; no torch where an engine does without."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..atomic_files import atomic_folder
from ..inference.engines import TORCH
from ..inference.model import Model
from ..models.bundle import CARD_FILE, LICENCE_FILE, Bundle, write_bundle_json
from ..models.graph_files import graphs_lacking, read_graph_file
from ..models.graphs import GRAPH_FILES
from ..models.model_card import model_card
from ..models.training_record import TRAINING_FOLDER, TrainingRecord, write_record
from ..models.weights_file import verify_weights, weights_path
from ..progress import Progress, silent
from .calibrate import display_windows, fitted, predict_case
from .dataset import Case


def recalibrate(
    bundle: Bundle,
    cases: Sequence[Case],
    target: Path,
    overwrite: bool = False,
    device: str = "cpu",
    progress: Progress = silent,
    engine: str = TORCH,
    record: TrainingRecord | None = None,
) -> Bundle:
    """Write a bundle with the same weights, graphs and fingerprint, calibrated on `cases`; whole or not at all.

    Figures that were measured with the earlier calibration do not come along.

    Args:
        bundle: read from a folder; its default head is calibrated.
        engine: what predicts the cases.
        record: of the training, with what has seen the cases; None for the model's own.

    Raises:
        InputError: damaged weights or graphs, an unusable case, or cases that hold no errors to fit on.
        OutputError: `target` exists or cannot be written.
        UsageError: the engine is not there.
    """
    verify_weights(bundle)
    weights = weights_path(bundle)
    graphs = bundle.graphs if graphs_lacking(bundle) is None else None
    with atomic_folder(target, overwrite) as work:
        shutil.copyfile(weights, work / weights.name)
        for name in GRAPH_FILES if graphs is not None else ():
            (work / name).write_bytes(read_graph_file(bundle, name))
        if (weights.parent / TRAINING_FOLDER).is_dir():
            shutil.copytree(weights.parent / TRAINING_FOLDER, work / TRAINING_FOLDER)
        if record is not None:
            write_record(work, record)
        plain = replace(bundle, calibration=None, display=None, figures=None, graphs=graphs)
        written = calibrated(plain, cases, work, device, progress, engine)
        licence = weights.with_name(LICENCE_FILE)
        if licence.is_file():
            shutil.copyfile(licence, work / LICENCE_FILE)
    return replace(written, folder=target)


def calibrated(
    plain: Bundle, cases: Sequence[Case], work: Path, device: str, progress: Progress, engine: str = TORCH
) -> Bundle:
    """Calibrate the bundle whose weights lie in `work`, and write description and card there."""
    bundle = write_bundle_json(plain, work)
    model = Model(bundle, device, engine=engine)
    values = [label.value for label in bundle.labels]
    predictions, truths = [], []
    for number, case in enumerate(cases):
        progress("predicting the calibration cases", number / len(cases), case.name)
        prediction, truth = predict_case(case, model, values)
        predictions.append(prediction)
        truths.append(truth)
    progress("fitting", 1.0)
    calibration = fitted(predictions, truths, bundle.labels)
    written = write_bundle_json(replace(bundle, calibration=calibration, display=display_windows(predictions)), work)
    (work / CARD_FILE).write_text(model_card(written), encoding="utf-8")
    return written
