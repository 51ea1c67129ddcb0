"""From an nnU-Net result folder (`plans.json`, `dataset.json`, `fold_X/checkpoint_final.pth`) to a model bundle."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..network.backbones import build_backbone
from ..network.backbones.nnunet import LAYERS, MeanOfFolds, check_architecture, default_taps, network_name
from ..network.segwithu import SegWithU
from ..network.specs import BackboneSpec
from ..network.weights import checked_tensors, load_plain, load_state, unique_state
from ..util.atomic_files import atomic_folder
from ..util.errors import InputError, UsageError, naming, wrong_values_named
from ..util.input_files import is_there
from ..util.strict_json import check_schema, read_json_object, schema, shown
from .bundle import LICENCE_FILE, Bundle, HeadSpec, check_bundle
from .bundle_network import empty_network, write_weights
from .input_spec import InputSpec, Label, NnunetPreparation, Normalisation, distinct_color
from .model_card import licence_notice, write_description

READERS = {"SimpleITKIO": "", "NibabelIO": "", "SimpleITKIOWithReorient": "RAS", "NibabelIOWithReorient": "RAS"}
"""Axes that nnU-Net's readers hand to the network; empty: as the file has them."""
NORMALISATIONS = {
    "NoNormalization": Normalisation("none"),
    "RescaleTo01Normalization": Normalisation("range", 0, 100),
    "RGBTo01Normalization": Normalisation("fixed", 0.0, 255.0, 0.0, 255.0),
    "ZScoreNormalization": Normalisation("volume", 0.0, 100.0),  # no clipping: the percentiles 0 and 100
    "CTNormalization": Normalisation("fixed"),
}
"""By nnU-Net's names; the constants of CT images are in the plans."""
RESAMPLING = "resample_data_or_seg_to_shape"
PLANS_FILE, DATASET_FILE = "plans.json", "dataset.json"
MEAN = "mean"
COPY_AGAIN = "copy it again from its source"


@dataclass(frozen=True)
class NnunetModel:
    """A model as its nnU-Net folder describes it.

    Attributes:
        name: of the data set.
        notes: sentences on what this program does otherwise than nnU-Net.
    """

    name: str
    input: InputSpec
    labels: tuple[Label, ...]
    backbone: BackboneSpec
    taps: tuple[str, ...]
    notes: tuple[str, ...]


def nnunet_model(
    plans: Mapping[str, Any],
    dataset: Mapping[str, Any],
    configuration: str,
    folder: Path,
    orientation: str | None = None,
    modality: str | None = None,
    folds: int = 1,
) -> NnunetModel:
    """Read the model that plans and data set describe; `folder` names them in messages.

    Args:
        folds: networks of which it gives the mean.
        orientation: letters towards which the axes of the training images run, where the plans do not define them.
        modality: DICOM modality; guessed from the normalisation where None.

    Raises:
        UsageError: no such configuration.
        InputError: something that cannot be run as nnU-Net would.
    """
    path = folder / PLANS_FILE
    _check_block("plans", plans, path)
    _check_block("dataset", dataset, folder / DATASET_FILE)
    with wrong_values_named(folder, COPY_AGAIN, problem=f"has a wrong entry in {PLANS_FILE} or {DATASET_FILE}"):
        settings = _configuration(plans, configuration, path)
        within = f"configurations/{configuration}/"
        _check_block("configuration", settings, path, within)
        named, schemes = dataset["channel_names"], settings["normalization_schemes"]
        names = [str(named[key]) for key in sorted(named, key=int)]
        channels = tuple(f"{name} {index + 1}" if names.count(name) > 1 else name for index, name in enumerate(names))
        _check_supported(plans, settings, len(channels), path)
        if len(settings["patch_size"]) == 2:
            settings = _of_slices(plans, settings)
        architecture, how = settings["architecture"], settings["resampling_fn_data_kwargs"]
        kwargs, patch = architecture["arch_kwargs"], [int(n) for n in settings["patch_size"]]
        check_architecture(kwargs, str(path), COPY_AGAIN, f"{within}architecture/arch_kwargs/")
        strides = [math.prod(int(s if isinstance(s, int) else s[axis]) for s in kwargs["strides"]) for axis in range(3)]
        if any(size % step for size, step in zip(patch, strides, strict=True)):
            raise _refusal(path, "patch_size", patch, f"multiples of the strides {strides}")
        normalisations = tuple(_normalisation(plans, settings, index) for index in range(len(channels)))
        # nnU-Net's axes are z, y, x of the file, then reordered by `transpose_forward`.
        own, forward = READERS[plans["image_reader_writer"]] or orientation or "xyz", plans["transpose_forward"]
        spec = InputSpec(
            channels=channels,
            modality=modality or ("CT" if "CTNormalization" in schemes else "MR"),
            orientation="".join(own[2 - int(axis)] for axis in reversed(forward)),
            spacing_mm=_xyz([float(v) for v in settings["spacing"]]),
            window=_xyz(patch),
            normalisation=normalisations[0] if len(set(normalisations)) == 1 else normalisations,
            nnunet=NnunetPreparation(int(how.get("order", 3)), how.get("force_separate_z", False)),
        )
        labels = _labels(dataset, folder / DATASET_FILE)
        arguments = {
            "network": network_name(architecture["network_class_name"]),
            "in_channels": len(channels),
            "num_classes": len(labels),
            "architecture": dict(kwargs),
        }
        taps = default_taps(kwargs)
        if folds > 1:
            arguments, taps = {**arguments, "folds": folds}, tuple(f"folds.0.{tap}" for tap in taps)
        backbone = BackboneSpec("nnunet", arguments, size_divisor=math.gcd(*strides))
        return NnunetModel(str(plans["dataset_name"]), spec, labels, backbone, taps, _notes(spec, folds))


def _of_slices(plans: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Turn the settings of a 2D configuration into those of 3D windows of one slice, which give the same logits."""
    architecture, kwargs = settings["architecture"], dict(settings["architecture"]["arch_kwargs"])
    kwargs |= {name: [[1, *step] for step in kwargs[name]] for name in ("kernel_sizes", "strides")}
    layers = {name: kwargs[name] for name in LAYERS if isinstance(kwargs.get(name), str)}
    kwargs |= {name: layer.replace("2d", "3d") for name, layer in layers.items()}
    thickness = (plans.get("original_median_spacing_after_transp") or [1.0])[0]
    sizes = {"patch_size": [1, *settings["patch_size"]], "spacing": [thickness, *settings["spacing"]]}
    return {**settings, **sizes, "architecture": {**architecture, "arch_kwargs": kwargs}}


def _refusal(path: Path, key: str, value: Any, wanted: str) -> InputError:
    """Return the refusal of a model that this program cannot run as nnU-Net does."""
    return InputError(f"{path} has {shown(value)} at {key}, not {wanted}: it cannot be imported.", "unsupported-nnunet")


def _check_block(name: str, data: Mapping[str, Any], path: Path, within: str = "") -> None:
    schemas = schema(Path(__file__).with_name("nnunet_plans.schema.json"))
    wanted = {"$defs": schemas["$defs"], **schemas[name]}
    check_schema(dict(data), wanted, str(path), COPY_AGAIN, "what nnU-Net writes", within)


def _configuration(plans: Mapping[str, Any], name: str, path: Path) -> dict[str, Any]:
    """Return a configuration with what it inherits."""
    known, found, following, seen = plans["configurations"], dict[str, Any](), name, list[str]()
    while following is not None:
        if following not in known:
            raise UsageError(f"{path} has no configuration '{following}': choose one of {', '.join(known)}.")
        if following in seen:
            raise _refusal(path, "inherits_from", following, "a configuration that does not inherit from this one")
        seen.append(following)
        found = {**known[following], **found}
        following = known[following].get("inherits_from")
    return found


def _check_supported(plans: Mapping[str, Any], settings: Mapping[str, Any], channels: int, path: Path) -> None:
    """Refuse what this program does not do as nnU-Net does."""
    schemes, reader, patch = settings["normalization_schemes"], plans["image_reader_writer"], settings["patch_size"]
    preprocessor = settings.get("preprocessor_name", "DefaultPreprocessor")
    resampling = (settings["resampling_fn_data"], settings["resampling_fn_data_kwargs"].get("order_z", 0))
    known, masks = len(schemes) == channels and NORMALISATIONS.keys() >= set(schemes), settings["use_mask_for_norm"]
    checks = (
        ("previous_stage", (stage := settings.get("previous_stage")), not stage, "none: a cascade"),
        ("patch_size", patch, len(patch) == 2 or patch[0] > 1, "two sizes, or three above 1"),
        ("preprocessor_name", preprocessor, preprocessor == "DefaultPreprocessor", "DefaultPreprocessor"),
        ("resampling_fn_data", list(resampling), resampling == (RESAMPLING, 0), f"{RESAMPLING} with order_z 0"),
        ("image_reader_writer", reader, reader in READERS, f"one of {', '.join(READERS)}"),
        ("normalization_schemes", schemes, known, f"{channels} of {', '.join(NORMALISATIONS)}"),
        ("use_mask_for_norm", masks, len(masks) == channels, "one for each channel"),
        ("architecture", None, bool(settings.get("architecture")), "the network, which nnU-Net writes since 2.3"),
    )
    for key, value, is_so, wanted in checks:
        if not is_so:
            raise _refusal(path, key, value, wanted)


def _labels(dataset: Mapping[str, Any], path: Path) -> tuple[Label, ...]:
    given = dataset["labels"]
    values = [-1 if isinstance(value, list) else int(value) for value in given.values()]
    if "ignore" in given or sorted(values) != list(range(len(values))) or len(values) < 2:
        wanted = "labels 0, 1, 2, ... without a gap, regions of several labels or an ignore label"
        raise _refusal(path, "labels", dict(given), wanted)
    ordered = sorted(zip(values, given, strict=True))
    return tuple(Label(value, name, distinct_color(value)) for value, name in ordered)


def _normalisation(plans: Mapping[str, Any], settings: Mapping[str, Any], channel: int) -> Normalisation:
    scheme = settings["normalization_schemes"][channel]
    found = NORMALISATIONS[scheme]
    if scheme == "ZScoreNormalization":
        return replace(found, nonzero_only=bool(settings["use_mask_for_norm"][channel]))
    if scheme == "CTNormalization":
        seen = plans["foreground_intensity_properties_per_channel"][str(channel)]
        names = ("percentile_00_5", "percentile_99_5", "mean", "std")
        low, high, mean, std = (float(seen[name]) for name in names)
        return Normalisation("fixed", low, high, mean, std)
    return found


def _xyz(values: Sequence[Any]) -> tuple[Any, Any, Any]:
    z, y, x = values
    return x, y, z


def _notes(spec: InputSpec, folds: int) -> tuple[str, ...]:
    mean = f"The mean of {folds} folds in one pass; nnU-Net averages mirrored passes, too."
    notes = [mean if folds > 1 else "One fold in one pass; nnU-Net averages mirrored passes and folds."]
    if spec.window[2] > 1:
        notes.append("Logits are resampled linearly along all axes; where slices are thick, nnU-Net takes the nearest.")
    if spec.orientation.islower():
        notes.append("Images must be stored with the axes of the training images (or import again with --orientation).")
    return tuple(notes)


HEAD = {"variant": "paper", "feature_channels": 32, "probes": 8, "aleatoric": True}
"""The paper's head."""
UNTRAINED = (
    "The uncertainty head is untrained: its ranking map follows the softmax margin, its calibration map means nothing "
    "yet; train it with train-head and calibrate."
)
WEIGHTS_ALONE = (
    "ask its author for a file that torch.save({'network_weights': network.state_dict()}, FILE) writes, and "
    "give that with --checkpoint"
)
UNKNOWN = "unknown: ask its author"


@dataclass(frozen=True)
class NnunetFolder:
    """A fold of a result folder, or the mean of all, read and checked.

    Attributes:
        model: what plans and data set say.
        weights: each tensor once, under the names of the backbone that `model.backbone` describes.
        dataset: `dataset.json`.
        source: result folder and folds.
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
    """Read one fold of an nnU-Net result folder, or all; nothing is unpickled but tensors and plain values.

    Args:
        fold: its name, or `MEAN` for the mean of the logits of all numbered ones.
        configuration: None for the one that the folder's name or the checkpoint says.
        orientation, modality: see `nnunet_model`.

    Raises:
        UsageError: no such fold or configuration.
        InputError: a file is missing, unsafe or does not fit, or the model cannot be run as nnU-Net would.
    """
    plans, dataset = _json(folder / PLANS_FILE), _json(folder / DATASET_FILE)
    known = sorted(path.name.removeprefix("fold_") for path in folder.glob("fold_*"))
    folds = [name for name in known if name.isdigit()] if fold == MEAN else [fold]
    if not folds or not set(folds) <= set(known):
        raise UsageError(f"{folder} has no fold {fold}: choose one of {', '.join(known) or 'none'}.")
    files = [folder / f"fold_{name}" / checkpoint for name in folds]
    content = _checkpoint(files[0])
    trained = str((content.get("init_args") or {}).get("configuration") or folder.name.rpartition("__")[2])[:100]
    if configuration is not None and configuration != trained and trained in (plans.get("configurations") or ()):
        raise UsageError(f"{files[0]} was trained as '{trained}', not as '{configuration}'.")
    model = nnunet_model(plans, dataset, configuration or trained, folder, orientation, modality, len(folds))
    with naming(folder / PLANS_FILE):
        network = build_backbone(model.backbone)
    for file, each in zip(files, network.folds if isinstance(network, MeanOfFolds) else [network], strict=True):
        weights = (content if file == files[0] else _checkpoint(file))["network_weights"]
        if model.input.window[2] == 1:
            weights = {name: part.unsqueeze(2) if part.ndim == 4 else part for name, part in weights.items()}
        load_state(each, weights, str(file))
    source = f"{folder.resolve().name}, {'mean of folds' if fold == MEAN else 'fold'} {', '.join(folds)}"
    return NnunetFolder(model, unique_state(network), dataset, source, f"{folder / PLANS_FILE} and {DATASET_FILE}")


def _checkpoint(path: Path) -> dict[str, Any]:
    """Read an nnU-Net checkpoint without running any code of the file.

    nnU-Net logs its losses as numpy scalars, so the plain numbers of numpy are let in; every other class is refused.
    Names lose what compiling (`_orig_mod.`) and training on several devices (`module.`) put before them.

    Raises:
        InputError: missing, damaged, or holding anything else.
    """
    scalar = np.float64(0).__reduce__()[0]
    names = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")  # before and since numpy 2
    kinds = [type(np.dtype(kind)) for kind in ("float16", "float32", "float64", "int32", "int64", "bool")]
    content = load_plain(path, WEIGHTS_ALONE, [*((scalar, name) for name in names), np.dtype, *kinds])
    weights = content.get("network_weights") if isinstance(content, dict) else None
    if not isinstance(weights, Mapping) or not isinstance(content.get("init_args", {}), Mapping | None):
        raise InputError(f"{path} is not an nnU-Net checkpoint: it has no 'network_weights'.")
    own = {re.sub(r"^(module\.|_orig_mod\.)+", "", str(name)): tensor for name, tensor in weights.items()}
    return {**content, "network_weights": checked_tensors(own, str(path))}


def about_of(folder: NnunetFolder, given: Mapping[str, str | None]) -> dict[str, str]:
    """Make the `about` block: what the user gave, else what `dataset.json` says, else that it is unknown.

    Raises:
        UsageError: a name that no folder can have.
    """
    model, dataset = folder.model, folder.dataset
    name = given.get("name") or re.sub(r"[^A-Za-z0-9_.-]+", "-", re.sub(r"^Dataset\d+_", "", model.name)) or "nnunet"
    structures = ", ".join(label.name for label in model.labels[1:])
    licence = str(dataset.get("licence") or dataset.get("license") or UNKNOWN)
    task = f"{structures} in {', '.join(model.input.channels)} images ({folder.source} of an nnU-Net model)."
    citation = str(dataset.get("reference") or "Isensee et al., nnU-Net, Nature Methods 18, 203-211 (2021)")
    found = {"name": name, "version": "1.0.0", "task": task, "licence_weights": UNKNOWN, "licence_data": licence,
             "data": str(dataset.get("name") or model.name), "citation": citation}  # fmt: skip
    about = {**found, **{key: value for key, value in given.items() if value}}
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", about["name"]):
        raise UsageError(f"'{about['name']}' cannot name a model: use letters, digits, '.', '_' and '-'.")
    return about


def write_nnunet_bundle(
    folder: NnunetFolder, about: Mapping[str, str], target: Path, overwrite: bool = False
) -> Bundle:
    """Write a bundle with the imported backbone and an untrained head; raises as `write_imported`."""
    model, heads = folder.model, (HeadSpec("paper", taps=folder.model.taps, **HEAD),)  # type: ignore[arg-type]
    described = {**about, "notes": " ".join([UNTRAINED, *model.notes])}
    bundle = Bundle(None, described, model.input, model.labels, model.backbone, heads, weights_sha256="0" * 64)
    source, notice = folder.files, licence_notice(bundle.about)
    return write_imported(
        bundle, source, lambda n: load_state(n.backbone, folder.weights, source), notice, target, overwrite
    )


def write_imported(
    bundle: Bundle, source: str, fill: Callable[[SegWithU], object], licence: str, target: Path, overwrite: bool
) -> Bundle:
    """Write the bundle of a foreign network, "not calibrated"; whole or not at all.

    Args:
        bundle: its description, without the hash of the weights.
        source: names where the description comes from.
        fill: puts the foreign weights into the network; a head that has none stays random, always the same.
        licence: text to be handed on with the weights.

    Raises:
        InputError: the description and the weights do not fit together.
        OutputError: `target` exists or cannot be written.
    """
    check_bundle(bundle, source)
    torch.manual_seed(0)
    with naming(source):
        network = empty_network(bundle)
    fill(network)
    with atomic_folder(target, overwrite) as work:
        digest = write_weights(work, unique_state(network.backbone), {bundle.default_head.name: network.head_state()})
        written = write_description(replace(bundle, weights_sha256=digest), work, source)
        (work / LICENCE_FILE).write_text(licence, encoding="utf-8")
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


def _json(path: Path) -> dict[str, Any]:
    if not is_there(path):
        what = f"{path.parent} is not an nnU-Net result folder: it has no {path.name}"
        raise InputError(f"{what}; give the folder that holds plans.json, dataset.json and fold_0.", "not-a-model")
    return read_json_object(path, COPY_AGAIN)
