"""From an nnU-Net result folder (`plans.json`, `dataset.json`, `fold_X/checkpoint_final.pth`) to a model bundle."""

import colorsys
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..network.backbones import build_backbone
from ..network.backbones.nnunet import check_architecture, default_taps, network_name
from ..network.specs import BackboneSpec
from ..network.weights import checked_tensors, load_plain, load_state, unique_state
from ..util.atomic_files import atomic_folder
from ..util.errors import InputError, UsageError, naming
from ..util.input_files import is_there
from ..util.strict_json import check_schema, read_json_object, schema
from .bundle import CARD_FILE, Bundle, HeadSpec, check_bundle, write_bundle_json
from .bundle_network import empty_network, write_weights
from .input_spec import InputSpec, Label, NnunetPreparation, Normalisation
from .model_card import licence_notice, model_card

READERS = {"SimpleITKIO": "", "NibabelIO": "", "SimpleITKIOWithReorient": "RAS", "NibabelIOWithReorient": "RAS"}
"""Axes that nnU-Net's readers hand to the network; empty: as the file has them."""
RESAMPLING = "resample_data_or_seg_to_shape"
PLANS_FILE = "plans.json"
COPY_AGAIN = "copy it again from its source"
GOLDEN_ANGLE = 0.381966
"""Share of the colour circle between neighbouring labels, which keeps any number of them apart."""


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
) -> NnunetModel:
    """Put together what plans and data set say; `folder` names them in messages.

    Args:
        orientation: letters towards which the axes of the training images run, where the plans do not tell.
        modality: DICOM modality; guessed from the normalisation where None.

    Raises:
        UsageError: no such configuration.
        InputError: something that cannot be run as nnU-Net would.
    """
    _check_block("plans", plans, folder / PLANS_FILE)
    _check_block("dataset", dataset, folder / "dataset.json")
    try:
        settings = _configuration(plans, configuration, folder)
        within = f"configurations/{configuration}/"
        _check_block("configuration", settings, folder / PLANS_FILE, within)
        labels = _labels(dataset, folder)
        named = dataset.get("channel_names") or dataset["modality"]
        names = [str(named[key]) for key in sorted(named, key=int)]
        channels = tuple(f"{name} {index + 1}" if names.count(name) > 1 else name for index, name in enumerate(names))
        _check_supported(settings, channels, folder)
        normalisations = tuple(_normalisation(plans, settings, index, folder) for index in range(len(channels)))
        architecture = settings.get("architecture") or _architecture_of_old_plans(settings, folder)
        check_architecture(
            architecture["arch_kwargs"], str(folder / PLANS_FILE), COPY_AGAIN, f"{within}architecture/arch_kwargs/"
        )
        how = settings["resampling_fn_data_kwargs"]
        spec = InputSpec(
            channels=channels,
            modality=modality or ("CT" if "CTNormalization" in settings["normalization_schemes"] else "MR"),
            orientation=_axes(plans, orientation, folder),
            spacing_mm=_xyz([float(v) for v in settings["spacing"]]),
            window=_xyz([int(n) for n in settings["patch_size"]]),
            normalisation=normalisations[0] if len(set(normalisations)) == 1 else normalisations,
            nnunet=NnunetPreparation(int(how.get("order", 3)), how.get("force_separate_z", False)),
        )
        backbone = _backbone(architecture, len(channels), len(labels), settings["patch_size"], folder)
        taps = default_taps(architecture["arch_kwargs"])
        return NnunetModel(str(plans["dataset_name"]), spec, labels, backbone, taps, _notes(spec))
    except KeyError as error:
        raise InputError(
            f"{folder} lacks the entry {error} in plans.json or dataset.json: copy it again from its source."
        ) from error
    except (TypeError, ValueError, IndexError, AttributeError) as error:
        raise InputError(f"{folder} has plans.json or dataset.json that cannot be understood: {error}.") from error


def _refusal(path: Path, why: str) -> InputError:
    """Return the refusal of a model that this program cannot run as nnU-Net does."""
    return InputError(f"{path} {why}: such a model cannot be imported.", code="unsupported-nnunet")


def _check_block(name: str, data: Mapping[str, Any], path: Path, within: str = "") -> None:
    schemas = schema(Path(__file__).with_name("nnunet_plans.schema.json"))
    wanted = {"$defs": schemas["$defs"], **schemas[name]}
    check_schema(dict(data), wanted, str(path), COPY_AGAIN, "what nnU-Net writes", within)


def _configuration(plans: Mapping[str, Any], name: str, folder: Path, seen: Sequence[str] = ()) -> dict[str, Any]:
    """Return a configuration with what it inherits."""
    known = plans["configurations"]
    if name not in known:
        raise UsageError(f"{folder / PLANS_FILE} has no configuration '{name}': choose one of {', '.join(known)}.")
    own = dict(known[name])
    parent = own.pop("inherits_from", None)
    if parent is None:
        return own
    if parent in (*seen, name):
        raise InputError(f"{folder / PLANS_FILE} has configurations that inherit from each other: {name}, {parent}.")
    return {**_configuration(plans, parent, folder, (*seen, name)), **own}


def _check_supported(settings: Mapping[str, Any], channels: Sequence[str], folder: Path) -> None:
    path, resampling = folder / PLANS_FILE, settings["resampling_fn_data"]
    preprocessor = settings.get("preprocessor_name", "DefaultPreprocessor")
    if settings.get("previous_stage"):
        raise _refusal(path, f"describes the second stage of a cascade, after '{settings['previous_stage']}'")
    if len(settings["patch_size"]) != 3:
        raise _refusal(path, "segments slices, not volumes (import a 3D configuration)")
    if preprocessor != "DefaultPreprocessor":
        raise _refusal(path, f"prepares images by '{preprocessor}' instead of DefaultPreprocessor")
    if resampling != RESAMPLING or settings["resampling_fn_data_kwargs"].get("order_z", 0) != 0:
        raise _refusal(path, f"resamples images by '{resampling}' instead of {RESAMPLING} with order_z 0")
    for field in ("normalization_schemes", "use_mask_for_norm"):
        if len(settings[field]) != len(channels):
            raise InputError(
                f"{path} has {len(settings[field])} entries at {field}, but dataset.json names {len(channels)} "
                f"channels ({', '.join(channels)}): {COPY_AGAIN}."
            )


def _labels(dataset: Mapping[str, Any], folder: Path) -> tuple[Label, ...]:
    values, path = {}, folder / "dataset.json"
    for name, value in dataset["labels"].items():
        if isinstance(value, list) and len(value) > 1:
            raise _refusal(path, f"says that '{name}' is a region of the labels {value}, which allows no softmax")
        values[name] = int(value[0] if isinstance(value, list) else value)
    if "ignore" in values:
        raise _refusal(path, f"has an ignore label ({values['ignore']})")
    ordered = sorted(values.items(), key=lambda entry: entry[1])
    if [value for _, value in ordered] != list(range(len(ordered))) or len(ordered) < 2:
        raise _refusal(path, f"has the label values {[value for _, value in ordered]}, not 0, 1, 2 without a gap")
    return tuple(Label(value, name, _color(value)) for name, value in ordered)


def _color(value: int) -> tuple[int, int, int]:
    if value == 0:
        return 0, 0, 0
    red, green, blue = colorsys.hsv_to_rgb((0.1 + (value - 1) * GOLDEN_ANGLE) % 1, 0.75, 0.9)
    return round(255 * red), round(255 * green), round(255 * blue)


def _normalisation(plans: Mapping[str, Any], settings: Mapping[str, Any], channel: int, folder: Path) -> Normalisation:
    scheme = settings["normalization_schemes"][channel]
    if scheme == "ZScoreNormalization":  # no clipping: the percentiles 0 and 100
        return Normalisation("volume", 0.0, 100.0, nonzero_only=bool(settings["use_mask_for_norm"][channel]))
    if scheme == "CTNormalization":
        seen = plans["foreground_intensity_properties_per_channel"][str(channel)]
        low, high = float(seen["percentile_00_5"]), float(seen["percentile_99_5"])
        return Normalisation("fixed", low, high, float(seen["mean"]), float(seen["std"]))
    plain = {
        "NoNormalization": Normalisation("none"),
        "RescaleTo01Normalization": Normalisation("range", 0, 100),
        "RGBTo01Normalization": Normalisation("fixed", 0.0, 255.0, 0.0, 255.0),
    }
    if scheme not in plain:
        raise _refusal(folder / PLANS_FILE, f"names the normalisation '{scheme}', which is not one of nnU-Net's")
    return plain[scheme]


def _axes(plans: Mapping[str, Any], given: str | None, folder: Path) -> str:
    """`InputSpec.orientation`: nnU-Net's axes are z, y, x of the file, then reordered by `transpose_forward`."""
    reader = plans["image_reader_writer"]
    if reader not in READERS:
        raise _refusal(folder / PLANS_FILE, f"reads images by '{reader}', not by one of {', '.join(READERS)}")
    own = READERS[reader] or given or "xyz"
    forward = [int(axis) for axis in plans["transpose_forward"]]
    return "".join(own[2 - axis] for axis in reversed(forward))


def _xyz(values: list[Any]) -> tuple[Any, Any, Any]:
    z, y, x = values
    return x, y, z


def _backbone(
    architecture: Mapping[str, Any], channels: int, classes: int, patch: Sequence[int], folder: Path
) -> BackboneSpec:
    strides = architecture["arch_kwargs"]["strides"]
    steps = [math.prod(int(s if isinstance(s, int) else s[axis]) for s in strides) for axis in range(3)]
    if any(int(size) % step for size, step in zip(patch, steps, strict=True)):
        raise InputError(f"{folder / PLANS_FILE} has the patch size {list(patch)}, no multiple of the strides {steps}.")
    arguments = {
        "network": network_name(architecture["network_class_name"]),
        "in_channels": channels,
        "num_classes": classes,
        "architecture": dict(architecture["arch_kwargs"]),
    }
    return BackboneSpec("nnunet", arguments, size_divisor=math.gcd(*steps))


def _architecture_of_old_plans(settings: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Plans before nnU-Net 2.3 name the network's sizes only; as its ConfigurationManager fills in the rest."""
    name = settings.get("UNet_class_name")
    blocks = {"PlainConvUNet": "n_conv_per_stage", "ResidualEncoderUNet": "n_blocks_per_stage"}
    if name not in blocks:
        raise _refusal(folder / PLANS_FILE, f"names the network {name}, which this version does not know")
    stages = len(settings["n_conv_per_stage_encoder"])
    base, most = settings["UNet_base_num_features"], settings["unet_max_num_features"]
    kwargs = {
        "n_stages": stages,
        "features_per_stage": [min(base * 2**stage, most) for stage in range(stages)],
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": settings["conv_kernel_sizes"],
        "strides": settings["pool_op_kernel_sizes"],
        blocks[name]: settings["n_conv_per_stage_encoder"],
        "n_conv_per_stage_decoder": settings["n_conv_per_stage_decoder"],
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }
    return {"network_class_name": f"dynamic_network_architectures.architectures.unet.{name}", "arch_kwargs": kwargs}


def _notes(spec: InputSpec) -> tuple[str, ...]:
    notes = [
        "One fold in one pass: nnU-Net itself averages mirrored passes, and folds where several are given.",
        "Logits are brought back to the image linearly along all axes; nnU-Net takes the nearest slice where slices "
        "are thick.",
    ]
    if spec.orientation.islower():
        notes.append(
            "Axes are taken as the file has them, as nnU-Net does: images must be stored the way the training images "
            "were (import again with --orientation to make it safe)."
        )
    return tuple(notes)


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
    content = _checkpoint(place / checkpoint)
    trained = str((content.get("init_args") or {}).get("configuration") or folder.name.rpartition("__")[2])[:100]
    if configuration is not None and configuration != trained and trained in (plans.get("configurations") or ()):
        raise UsageError(f"{place / checkpoint} was trained as '{trained}', not as '{configuration}'.")
    model = nnunet_model(plans, dataset, configuration or trained, folder, orientation, modality)
    with naming(folder / PLANS_FILE):
        network = build_backbone(model.backbone)
    load_state(network, content["network_weights"], str(place / checkpoint))
    return NnunetFolder(
        model,
        unique_state(network),
        dataset,
        f"{folder.resolve().name}, fold {fold}",
        f"{folder / PLANS_FILE} and dataset.json",
    )


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


def _json(path: Path) -> dict[str, Any]:
    if not is_there(path):
        raise InputError(
            f"{path.parent} is not an nnU-Net result folder: it has no {path.name}; give the folder that holds "
            "plans.json, dataset.json and fold_0."
        )
    return read_json_object(path, COPY_AGAIN)
