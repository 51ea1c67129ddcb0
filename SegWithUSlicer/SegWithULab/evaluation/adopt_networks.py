"""The networks of an nnU-Net training: imported, each given a head, and run on the cases that neither has seen."""

import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np
import torch

from SegWithUCore.inference.model import Model
from SegWithUCore.inference.prediction import NetworkView, Prediction
from SegWithUCore.models.nnunet_import import NnunetFolder, head_recipe
from SegWithUCore.util.atomic_files import atomic_file
from SegWithUCore.util.errors import InputError
from SegWithUCore.util.progress import Progress

from ..calibration.cases import predict_case
from ..training.dataset import Case, PreparedCase, prepare
from ..training.head import HeadTrainer
from ..training.recipe import Recipe, recipe_from_json
from ..training.run_folder import RunFolder
from .adopt_folds import Fold

HEAD = {"variant": "context", "feature_channels": 32, "probes": 8, "aleatoric": True}
"""The head that the shipped model has by default; docs/models/train.md says what it brings."""
WINDOWS = 2000
"""Windows that a head is trained with unless the number of epochs is given: the shipped model's best epoch had 1764."""


def adoption_recipe(folder: NnunetFolder, about: Mapping[str, str], cases: int, epochs: int | None) -> Recipe:
    """Make the recipe of the heads.

    Args:
        cases: that a head is trained with; the most of all folds.
        epochs: None for as many as make about `WINDOWS` windows.
    """
    data = head_recipe(folder, about)
    data["head"] |= HEAD
    data["head_training"] = {
        "epochs": epochs or max(1, round(WINDOWS / max(1, cases))),
        "batch_size": 1,
        "learning_rate": 1.5e-3,
        "final_learning_rate": 5e-5,
        "mirror": False,
        "cross_fit_share": 0.0,  # heads trained on other folds' networks found errors worse where measured
        "seed": 1,
    }
    return recipe_from_json(data, folder.source)


def check_alike(folders: Sequence[NnunetFolder]) -> None:
    """Refuse folds of different trainings.

    Raises:
        InputError: names the first that differs.
    """
    for other in folders[1:]:
        if (other.model.backbone, other.model.input) != (folders[0].model.backbone, folders[0].model.input):
            raise InputError(
                f"{other.source} has another network or input than {folders[0].source}: give folds of one training."
            )


def begin_fold(run: RunFolder, recipe: Recipe, folder: NnunetFolder) -> None:
    """Put an imported network into a run as if the run had trained it; a head on the same network stays."""
    run.path.mkdir(parents=True, exist_ok=True)
    if not _holds(run, folder.weights):
        run.forget("backbone")
    run.start(recipe, {"origin": f"imported from the nnU-Net result folder {folder.source}"})
    run.save_best("backbone", folder.weights)


def _holds(run: RunFolder, weights: Mapping[str, torch.Tensor]) -> bool:
    try:
        known = run.load_best("backbone")
    except InputError:  # none yet, or damaged
        return False
    return known.keys() == weights.keys() and all(torch.equal(known[name], tensor) for name, tensor in weights.items())


class PreparedCases:
    """Cases on the working grid, each read once and kept.

    Args:
        cases: by name.
    """

    def __init__(self, cases: Mapping[str, Case], recipe: Recipe) -> None:
        self.cases, self.recipe = cases, recipe
        self._kept: dict[str, PreparedCase] = {}

    def __call__(self, names: Sequence[str], progress: Progress) -> list[PreparedCase]:
        """Return some of them in the order given."""
        lacking = [name for name in names if name not in self._kept]
        for number, name in enumerate(lacking):
            progress("reading", number / len(lacking), name)
            self._kept[name] = prepare(self.cases[name], self.recipe.input, self.recipe.label_values)
        return [self._kept[name] for name in names]


def train_fold_head(run: RunFolder, cases: Sequence[PreparedCase], again: bool, progress: Progress) -> None:
    """Train the head of one fold; the last epoch counts, so no case is needed to choose one.

    Args:
        run: holds recipe and network.
        again: go on after the last finished epoch.
    """
    if not again:
        run.forget("head")
    trainer = HeadTrainer(run.recipe(), cases, [], run)
    trainer.resume()
    trainer.fit(progress)


def predict_fold(fold: Fold, cases: Mapping[str, Case], model: Model, folder: Path, progress: Progress) -> None:
    """Predict a fold's unseen cases, each into a file of its own; those that are there already are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(fold.unseen):
        progress("predicting", number / len(fold.unseen), name)
        if not prediction_file(folder, name).is_file():
            save_prediction(prediction_file(folder, name), *predict_case(cases[name], model))


def prediction_file(folder: Path, name: str) -> Path:
    """Where the prediction of a case is kept; a long name is cut, and its hash keeps names apart."""
    return folder / f"{name[:80]}_{zlib.crc32(name.encode()):08x}.npz"


_VALUES = [field.name for field in fields(Prediction) if field.name not in ("error_probability", "view")]
"""What is kept of a prediction beside what the network saw: not what a calibration makes of it."""
_VIEW = [field.name for field in fields(NetworkView)]
PREDICTION_FORMAT = 3
"""Predictions of format 1 lack what the network saw, which stage two of the error probability needs; those of format 2
were kept with references taken voxel by voxel, wherever their headers put them."""


def save_prediction(path: Path, prediction: Prediction, truth: np.ndarray) -> None:
    """Write a prediction and the true classes, whole or not at all."""
    assert prediction.view is not None
    values = {name: getattr(prediction, name) for name in _VALUES}
    values |= {f"view_{name}": np.asarray(getattr(prediction.view, name)) for name in _VIEW}
    with atomic_file(path) as work, work.open("wb") as file:
        np.savez(file, truth=truth, **{name: value for name, value in values.items() if value is not None})


def load_prediction(path: Path) -> tuple[Prediction, np.ndarray]:
    """Read what `save_prediction` wrote.

    Raises:
        InputError: the file is damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as data:
            values = {name: data.get(name) for name in _VALUES}
            truth, view = data["truth"], {name: data[f"view_{name}"] for name in _VIEW}
        seen = NetworkView(view.pop("image"), **{name: tuple(numbers.tolist()) for name, numbers in view.items()})
        return Prediction(**{**values, "voxel_mm3": float(values["voxel_mm3"]), "view": seen}), truth
    except (OSError, ValueError, KeyError, TypeError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is damaged ({error}): remove its folder, and run the same command again.") from error


def head_epochs_kept(run: RunFolder) -> Callable[[], str]:
    """Say what an interrupted training of a head leaves."""

    def words() -> str:
        state = run.load_state("head")
        count = int(state["next_epoch"]) if state else 0
        return "" if not count else "1 epoch" if count == 1 else f"{count} epochs"

    return words
