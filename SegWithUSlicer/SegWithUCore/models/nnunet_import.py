"""From an nnU-Net result folder (`plans.json`, `dataset.json`, `fold_X/checkpoint_final.pth`) to a model bundle."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..network.backbones import build_backbone
from ..network.weights import checked_tensors, load_plain, load_state, unique_state
from ..util.atomic_files import atomic_folder
from ..util.errors import InputError, UsageError, naming
from ..util.input_files import is_there
from ..util.strict_json import read_json_object
from .bundle import CARD_FILE, Bundle, HeadSpec, check_bundle, write_bundle_json
from .bundle_network import empty_network, write_weights
from .model_card import licence_notice, model_card
from .nnunet_plans import COPY_AGAIN, PLANS_FILE, NnunetModel, nnunet_model

HEAD = {"variant": "paper", "feature_channels": 32, "probes": 8, "aleatoric": True}
"""The paper's head."""
UNTRAINED = (
    "The uncertainty head is untrained: its ranking map follows the softmax margin, its calibration map means nothing "
    "yet; train it with train-head and calibrate."
)
WEIGHTS_ALONE = (
    "ask whoever trained it for a file that torch.save({'network_weights': network.state_dict()}, FILE) writes, and "
    "give that with --checkpoint"
)
UNKNOWN = "unknown: ask whoever trained it"


@dataclass(frozen=True)
class NnunetFolder:
    """A fold of a result folder, read and checked.

    Attributes:
        model: what plans and data set say.
        weights: each tensor once, under the names of the backbone that `model.backbone` describes.
        dataset: `dataset.json`.
        source: result folder and fold.
        files: of the description, for messages.
    """

    model: NnunetModel
    weights: Mapping[str, torch.Tensor]
    dataset: Mapping[str, Any]
    source: str
    files: str = ""


def read_nnunet_folder(
    folder: Path,
    fold: str = "0",
    configuration: str | None = None,
    checkpoint: str = "checkpoint_final.pth",
    orientation: str | None = None,
    modality: str | None = None,
) -> NnunetFolder:
    """Read one fold of an nnU-Net result folder; nothing is unpickled but tensors and plain values.

    Args:
        configuration: None for the one that the folder's name or the checkpoint says.
        orientation, modality: see `nnunet_model`.

    Raises:
        UsageError: no such fold or configuration.
        InputError: a file is missing, unsafe or does not fit, or the model cannot be run as nnU-Net would.
    """
    plans, dataset = _json(folder / PLANS_FILE), _json(folder / "dataset.json")
    place = folder / f"fold_{fold}"
    if not place.is_dir():
        folds = ", ".join(sorted(path.name.removeprefix("fold_") for path in folder.glob("fold_*"))) or "none"
        raise UsageError(f"{folder} has no fold {fold}: choose one of {folds}.")
    content = read_checkpoint(place / checkpoint)
    trained = str((content.get("init_args") or {}).get("configuration") or folder.name.rpartition("__")[2])[:100]
    if configuration is not None and configuration != trained and trained in (plans.get("configurations") or ()):
        raise UsageError(f"{place / checkpoint} was trained as '{trained}', not as '{configuration}'.")
    model = nnunet_model(plans, dataset, configuration or trained, folder, orientation, modality)
    with naming(folder / PLANS_FILE):
        network = build_backbone(model.backbone)
    load_state(network, own_names(content["network_weights"]), str(place / checkpoint))
    return NnunetFolder(
        model,
        unique_state(network),
        dataset,
        f"{folder.resolve().name}, fold {fold}",
        f"{folder / PLANS_FILE} and dataset.json",
    )


def own_names(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Names without what compiling (`_orig_mod.`) and training on several devices (`module.`) put before them."""
    return {re.sub(r"^(module\.|_orig_mod\.)+", "", name): tensor for name, tensor in weights.items()}


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read an nnU-Net checkpoint without running any code of the file.

    nnU-Net logs its losses as numpy scalars, so the plain numbers of numpy are let in; every other class is refused.

    Raises:
        InputError: missing, damaged, or holding anything else.
    """
    if not is_there(path):
        raise InputError(f"{path} does not exist: check the folder, or name another file with --checkpoint.")
    content = load_plain(path, WEIGHTS_ALONE, _numpy_scalars())
    weights = content.get("network_weights") if isinstance(content, dict) else None
    if not isinstance(weights, Mapping) or not isinstance(content.get("init_args", {}), Mapping | None):
        raise InputError(f"{path} is not an nnU-Net checkpoint: it has no 'network_weights'.")
    checked_tensors(weights, str(path))
    return content


def about_of(folder: NnunetFolder, given: Mapping[str, str | None]) -> dict[str, str]:
    """Make the `about` block: what the user gave, else what `dataset.json` says, else that it is unknown.

    Raises:
        UsageError: a name that no folder can have.
    """
    model, dataset = folder.model, folder.dataset
    name = given.get("name") or re.sub(r"[^A-Za-z0-9_.-]+", "-", re.sub(r"^Dataset\d+_", "", model.name)) or "nnunet"
    structures = ", ".join(label.name for label in model.labels[1:])
    licence = str(dataset.get("licence") or dataset.get("license") or UNKNOWN)
    found = {
        "name": name,
        "version": "1.0.0",
        "task": f"{structures} in {', '.join(model.input.channels)} images ({folder.source} of an nnU-Net model).",
        "licence_weights": UNKNOWN,
        "licence_data": licence,
        "data": str(dataset.get("name") or model.name),
        "citation": str(dataset.get("reference") or "Isensee et al., nnU-Net, Nature Methods 18, 203-211 (2021)"),
    }
    about = {**found, **{key: value for key, value in given.items() if value}}
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", about["name"]):
        raise UsageError(f"'{about['name']}' cannot name a model: use letters, digits, '.', '_' and '-'.")
    return about


def write_nnunet_bundle(
    folder: NnunetFolder, about: Mapping[str, str], target: Path, overwrite: bool = False
) -> Bundle:
    """Write a bundle with the imported backbone and an untrained head; whole or not at all.

    Raises:
        InputError: the description and the weights do not fit together.
        OutputError: `target` exists or cannot be written.
    """
    model = folder.model
    bundle = Bundle(
        folder=None,
        about={**about, "notes": " ".join([UNTRAINED, *model.notes])},
        input=model.input,
        labels=model.labels,
        backbone=model.backbone,
        heads=(HeadSpec("paper", taps=model.taps, **HEAD),),  # type: ignore[arg-type]
        weights_sha256="0" * 64,
    )
    check_bundle(bundle, folder.files)
    torch.manual_seed(0)
    with naming(folder.files):
        head = empty_network(bundle).head_state()
    with atomic_folder(target, overwrite) as work:
        digest = write_weights(work, folder.weights, {"paper": head})
        written = write_bundle_json(replace(bundle, weights_sha256=digest), work, folder.files)
        (work / CARD_FILE).write_text(model_card(written), encoding="utf-8")
        (work / "LICENSE.txt").write_text(licence_notice(written.about), encoding="utf-8")
    return replace(written, folder=target)


def head_recipe(folder: NnunetFolder, about: Mapping[str, str]) -> dict[str, Any]:
    """Make a recipe for `train-head`: the imported backbone is in the run already."""
    model = folder.model
    return {
        "about": {**about, "notes": " ".join(model.notes)},
        "input": model.input.to_json(),
        "labels": [label.to_json() for label in model.labels],
        "backbone": {"kind": model.backbone.kind, "arguments": dict(model.backbone.arguments)},
        "head": {**HEAD, "taps": list(model.taps)},
        "head_training": {"batch_size": 2, "mirror": False},
    }


def _numpy_scalars() -> list[Any]:
    scalar = np.float64(0).__reduce__()[0]
    names = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")  # before and since numpy 2
    kinds = [type(np.dtype(kind)) for kind in ("float16", "float32", "float64", "int32", "int64", "bool")]
    return [*((scalar, name) for name in names), np.dtype, *kinds]


def _json(path: Path) -> dict[str, Any]:
    if not is_there(path):
        raise InputError(
            f"{path.parent} is not an nnU-Net result folder: it has no {path.name}; give the folder that holds "
            "plans.json, dataset.json and fold_0."
        )
    return read_json_object(path, COPY_AGAIN)
