"""The networks of an nnU-Net training: imported, each given a head, and run on the cases that neither has seen."""

import shutil
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from SegWithUCore.inference.model import Model
from SegWithUCore.inference.prediction import NetworkView, Prediction
from SegWithUCore.models.bundle import Bundle, check_bundle, write_bundle_json
from SegWithUCore.models.bundle_network import write_weights
from SegWithUCore.models.nnunet_import import NnunetFolder, head_recipe
from SegWithUCore.network.backbones import build_backbone
from SegWithUCore.network.weights import load_state
from SegWithUCore.util.atomic_files import atomic_file, atomic_folder
from SegWithUCore.util.errors import InputError
from SegWithUCore.util.progress import Progress

from .backbone import spec_of
from .calibrate import predict_case
from .dataset import Case, PreparedCase, prepare
from .head import HeadTrainer
from .make_bundle import plain_bundle
from .nnunet_folds import Fold
from .recipe import Recipe, recipe_from_json
from .run_folder import RunFolder

HEAD = {"variant": "context", "feature_channels": 32, "probes": 8, "aleatoric": True}
"""The head that the shipped model has by default; docs/models/train.md says what it brings."""
WINDOWS = 2000
"""Windows that a head is trained with unless the number of epochs is given: the shipped model's best epoch had 1764."""
FOLD_SHARE = 0.0
"""Share of the batches that a network of another fold predicts, which has not seen their case. With 0.5 the head finds
errors worse (`adopt_fold_share.json`): networks that were trained apart have no features in common."""


def adoption_recipe(
    folder: NnunetFolder, about: Mapping[str, str], cases: int, epochs: int | None, fold_share: float = FOLD_SHARE
) -> Recipe:
    """Make the recipe of the heads.

    Args:
        cases: that a head is trained with; the most of all folds.
        epochs: None for as many as make about `WINDOWS` windows.
        fold_share: see `FOLD_SHARE`.
    """
    data = head_recipe(folder, about)
    data["head"] |= HEAD
    data["head_training"] = {
        "epochs": epochs or max(1, round(WINDOWS / max(1, cases))),
        "batch_size": 1,
        "learning_rate": 1.5e-3,
        "final_learning_rate": 5e-5,
        "mirror": False,
        "cross_fit_share": fold_share,
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


def train_fold_head(
    run: RunFolder,
    cases: Sequence[PreparedCase],
    others: Mapping[str, RunFolder],
    again: bool,
    progress: Progress,
) -> None:
    """Train the head of one fold; the last epoch counts, so no case is needed to choose one.

    Args:
        run: holds recipe and network.
        others: by the name of a case, the run whose network has not seen it.
        again: go on after the last finished epoch.
    """
    if not again:
        run.forget("head")
    recipe = run.recipe()
    trainer = HeadTrainer(recipe, cases, [], run)
    if others:
        networks: dict[Path, nn.Module] = {}
        for other in others.values():
            if other.path not in networks:
                networks[other.path] = _frozen(recipe, other)
        own = trainer.network.backbone
        trainer.out_of_fold = [networks[others[c.name].path] if c.name in others else own for c in cases]
    trainer.resume()
    trainer.fit(progress)


def _frozen(recipe: Recipe, run: RunFolder) -> nn.Module:
    network = build_backbone(spec_of(recipe))
    load_state(network, run.load_best("backbone"), str(run.path))
    return network.eval().requires_grad_(False)


def write_plain_bundle(run: RunFolder, target: Path, fingerprint: Mapping[str, Any] | None = None) -> Bundle:
    """Write the network and head of a run as a bundle that is not calibrated; whole or not at all."""
    recipe = run.recipe()
    with atomic_folder(target, overwrite=True) as work:
        digest = write_weights(work, run.load_best("backbone"), {recipe.head["variant"]: run.load_best("head")})
        plain = plain_bundle(recipe, digest, run.facts() | {"fingerprint": fingerprint})
        check_bundle(plain, str(run.path / "run.json"))
        written = write_bundle_json(plain, work)
    return replace(written, folder=target)


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


@dataclass(frozen=True)
class StoredPredictions:
    """Predictions of the unseen cases of all folds, on disk.

    Attributes:
        places: folder of each case's prediction.
    """

    places: Mapping[str, Path]

    def __call__(self, name: str) -> tuple[Prediction, np.ndarray]:
        """Read that of a case, with the true classes."""
        return load_prediction(prediction_file(self.places[name], name))


def head_epochs_kept(run: RunFolder) -> Callable[[], str]:
    """Say what an interrupted training of a head leaves."""

    def words() -> str:
        state = run.load_state("head")
        count = int(state["next_epoch"]) if state else 0
        return "" if not count else "1 epoch" if count == 1 else f"{count} epochs"

    return words


def clear_folder(folder: Path) -> None:
    """Remove a folder of predictions that others follow."""
    shutil.rmtree(folder, ignore_errors=True)
