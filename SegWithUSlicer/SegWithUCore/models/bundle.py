"""Model bundles: a folder with `bundle.json`, `weights.safetensors`, `MODEL_CARD.md` and `LICENSE.txt`."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from ..atomic_files import atomic_file
from ..errors import InputError, naming
from ..input_files import is_there, regular_file
from ..network.backbones import MAXIMUM_PARAMETERS, BackboneSpec, build_backbone, example_input, load_state
from ..network.backbones.user_network import is_own, register_networks_of
from ..network.checkpoints import read_safetensors
from ..network.segwithu import SegWithU
from ..network.weights import checked_tensors
from ..paths import BUNDLE_FILE, user_networks_file
from ..strict_json import check_schema, read_json, schema, to_json
from .bundle_checks import check_description
from .input_spec import InputSpec, Label
from .network_memory import check_network_fits

WEIGHTS_FILE = "weights.safetensors"
CARD_FILE = "MODEL_CARD.md"
LICENCE_FILE = "LICENSE.txt"
RESTORE = "restore it from its source"
MAXIMUM_BYTES = 16 << 20
"""Of `bundle.json`: the shipped one, with the figures of 44 test cases for two heads, has 0.4 MB."""

FEWEST_BYTES_A_NUMBER = 2
"""In a weights file: we write 4, others may store half precision."""


@dataclass(frozen=True)
class HeadSpec:
    """One uncertainty head of a bundle; its tensors are named `heads.<name>.*` in the weights file.

    `trained` is False where it has its random weights still, as in a bundle made of a foreign backbone. Of the default
    head calibration, display and figures are blocks of the bundle; any other head has its own here.
    """

    name: str
    variant: str
    taps: tuple[str, ...]
    feature_channels: int
    probes: int
    aleatoric: bool
    default: bool = True
    trained: bool = True
    calibration: Mapping[str, Any] | None = None
    display: Mapping[str, Any] | None = None
    figures: Mapping[str, Any] | None = None

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "HeadSpec":
        """Build from one entry of the `heads` list."""
        return cls(**{**data, "taps": tuple(data["taps"])})

    def to_json(self) -> dict[str, Any]:
        """One entry of the `heads` list; that a head is trained goes without saying, and so do empty blocks."""
        usual = {"trained": True, "calibration": None, "display": None, "figures": None}
        return {key: value for key, value in asdict(self).items() if key not in usual or value != usual[key]}


@dataclass(frozen=True)
class Bundle:
    """What `bundle.json` says; every attribute is a block of that file.

    Attributes:
        folder: where it was read from; None for a bundle not yet written.
        about: name, version, task, licences, citation.
        calibration: fitted tables, or None ("not calibrated").
        fingerprint: ranges of field of view and spacing over the training cases, or None.
        display: window of each map, or None.
        figures: what was measured on test cases, or None.
    """

    folder: Path | None
    about: Mapping[str, str]
    input: InputSpec
    labels: tuple[Label, ...]
    backbone: BackboneSpec
    heads: tuple[HeadSpec, ...]
    weights_sha256: str
    calibration: Mapping[str, Any] | None = None
    fingerprint: Mapping[str, Any] | None = None
    display: Mapping[str, Any] | None = None
    figures: Mapping[str, Any] | None = None

    @property
    def name(self) -> str:
        """The name users choose the model by."""
        return self.about["name"]

    @property
    def default_head(self) -> HeadSpec:
        """The head used unless another is asked for."""
        return next(head for head in self.heads if head.default)

    @property
    def calibration_sha256(self) -> str | None:
        """Hash of the calibration block, None without one."""
        return None if self.calibration is None else block_sha256(self.calibration)

    def to_json(self) -> dict[str, Any]:
        """The content of `bundle.json`."""
        return {
            "format_version": 1,
            "about": dict(self.about),
            "input": self.input.to_json(),
            "labels": [label.to_json() for label in self.labels],
            "backbone": asdict(self.backbone),
            "heads": [head.to_json() for head in self.heads],
            "weights_sha256": self.weights_sha256,
            "calibration": self.calibration,
            "calibration_sha256": self.calibration_sha256,
            "fingerprint": self.fingerprint,
            "display": self.display,
            "figures": self.figures,
        }


def block_sha256(block: Mapping[str, Any]) -> str:
    """Hash of a JSON block, independent of white space and key order."""
    return hashlib.sha256(json.dumps(block, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """Hash of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def bundle_schema() -> dict[str, Any]:
    """The JSON schema of `bundle.json`."""
    return schema(Path(__file__).with_name("bundle.schema.json"))


def read_bundle(folder: Path) -> Bundle:
    """Read and check the description of a model, without its weights.

    Raises:
        InputError: no bundle, broken JSON, a field missing, unknown, of the wrong kind or beyond what is sensible, or a
            changed calibration.
    """
    path = folder / BUNDLE_FILE
    if not is_there(path):
        raise InputError(f"{folder} is not a model bundle: it has no {BUNDLE_FILE}.")
    return bundle_from_json(read_json(path, RESTORE, MAXIMUM_BYTES), folder)


def bundle_from_json(data: Any, folder: Path | None, source: str | None = None, remedy: str = RESTORE) -> Bundle:
    """Build a bundle from parsed JSON; see `read_bundle`.

    Args:
        source: names the description in messages where it is not the bundle file in `folder`.
        remedy: what to do about a fault.
    """
    source = source or str((folder or Path()) / BUNDLE_FILE)
    check_schema(data, bundle_schema(), source, remedy, "the bundle format")
    check_description(data, source, remedy)
    bundle = Bundle(
        folder=folder,
        about=data["about"],
        input=InputSpec.from_json(data["input"]),
        labels=tuple(Label.from_json(entry) for entry in data["labels"]),
        backbone=BackboneSpec(**data["backbone"]),
        heads=tuple(HeadSpec.from_json(entry) for entry in data["heads"]),
        weights_sha256=data["weights_sha256"],
        calibration=data["calibration"],
        fingerprint=data["fingerprint"],
        display=data["display"],
        figures=data["figures"],
    )
    if data["calibration_sha256"] != bundle.calibration_sha256:
        raise InputError(f"{source} has a calibration block that does not match its hash: {remedy}.")
    return bundle


def verify_weights(bundle: Bundle) -> None:
    """Check the weights file against its hash.

    Raises:
        InputError: missing or changed.
    """
    path = weights_path(bundle)
    if not path.exists():
        raise InputError(f"{path} is missing: restore the bundle from its source.")
    regular_file(path, "restore the bundle from its source")
    found = file_sha256(path)
    if found != bundle.weights_sha256:
        raise InputError(
            f"{path} is damaged or was changed: its SHA-256 is {found[:12]}... but {BUNDLE_FILE} says "
            f"{bundle.weights_sha256[:12]}...; restore the bundle from its source."
        )


def weights_path(bundle: Bundle) -> Path:
    """The weights file of a bundle that has a folder."""
    if bundle.folder is None:
        raise InputError(f"The bundle {bundle.name} has not been written to a folder yet.")
    return bundle.folder / WEIGHTS_FILE


def empty_network(bundle: Bundle, head: HeadSpec | None = None, most_parameters: int = MAXIMUM_PARAMETERS) -> SegWithU:
    """The untrained network that a bundle describes, in eval mode.

    Args:
        head: None for the default one.
        most_parameters: see `build_backbone`.

    Raises:
        InputError: names the bundle file, or the bundle where it has none yet, and what does not fit.
    """
    head = head or bundle.default_head
    source = f"The bundle {bundle.name}" if bundle.folder is None else str(bundle.folder / BUNDLE_FILE)
    if is_own(bundle.backbone.kind):
        register_networks_of(user_networks_file())
    with naming(source):
        backbone = build_backbone(bundle.backbone, most_parameters)
        example = example_input(bundle.backbone, len(bundle.input.channels), bundle.input.window_zyx)
        try:
            network = SegWithU(
                backbone, head.taps, example, head.variant, head.feature_channels, head.probes, head.aleatoric
            ).eval()
        except (RuntimeError, ValueError) as error:  # torch's own words about shapes run over several lines
            channels = ", ".join(bundle.input.channels)
            raise InputError(
                f"The backbone of the bundle {bundle.name} does not take its input ({channels}; window "
                f"{list(bundle.input.window)}): correct its arguments or the input in {BUNDLE_FILE}."
            ) from error
        if network.num_classes != len(bundle.labels):
            raise InputError(
                f"The bundle {bundle.name} names {len(bundle.labels)} labels but its backbone has "
                f"{network.num_classes} classes: correct bundle.json."
            )
    return network


def named_head(bundle: Bundle, name: str | None) -> HeadSpec:
    """The head of that name, the default for None.

    Raises:
        InputError: there is none.
    """
    names = {head.name: head for head in bundle.heads}
    if name is not None and name not in names:
        raise InputError(f"The model {bundle.name} has no head '{name}': choose one of {', '.join(names)}.")
    return bundle.default_head if name is None else names[name]


def load_network(bundle: Bundle, head_name: str | None = None) -> SegWithU:
    """The network of a bundle with its weights, verified against their hash.

    Args:
        head_name: a head other than the default.

    Raises:
        InputError: unknown head, damaged weights, weights that do not fit, or a network too large for this computer.
    """
    verify_weights(bundle)
    head = named_head(bundle, head_name)
    check_network_fits(bundle, head)
    network = empty_network(bundle, head, weights_path(bundle).stat().st_size // FEWEST_BYTES_A_NUMBER)
    tensors = read_safetensors(weights_path(bundle))
    prefix = f"heads.{head.name}."
    wanted = {name: tensor for name, tensor in tensors.items() if name.startswith("backbone.")}
    wanted |= {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    load_state(network, wanted, str(weights_path(bundle)))
    return network


def write_weights(folder: Path, backbone: Mapping[str, torch.Tensor], heads: Mapping[str, Mapping[str, Any]]) -> str:
    """Write `weights.safetensors` in float32 and return its hash.

    Args:
        backbone: each tensor once, names without prefix.
        heads: for each head its `fusion.*` and `head.*` tensors.
    """
    tensors = {f"backbone.{name}": tensor for name, tensor in backbone.items()}
    for head, state in heads.items():
        tensors |= {f"heads.{head}.{name}": tensor for name, tensor in state.items()}
    path = folder / WEIGHTS_FILE
    plain = {name: tensor.detach().float().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(checked_tensors(plain, "The model that is to be written"), path)
    path.chmod(0o644)  # safetensors makes it private, but a model is shared
    return file_sha256(path)


def write_bundle_json(bundle: Bundle, folder: Path, source: str | None = None) -> Bundle:
    """Write `bundle.json` after checking it as a reader would; returns the bundle as it is in `folder`.

    Args:
        source: the file that the description comes from, which messages then name; None for what was computed here.

    Raises:
        InputError: a field is not what a reader would take, such as NaN.
    """
    data, checked = _checked(bundle, folder, source)
    with atomic_file(folder / BUNDLE_FILE) as work:
        work.write_text(to_json(data) + "\n", encoding="utf-8")
    return replace(checked, folder=folder)


def check_bundle(bundle: Bundle, source: str | None = None) -> None:
    """Check a description as a reader would, before anything is built or written; see `write_bundle_json`."""
    _checked(bundle, None, source)


def _checked(bundle: Bundle, folder: Path | None, source: str | None) -> tuple[dict[str, Any], Bundle]:
    """The JSON of a bundle, and the bundle as it reads."""
    named = "The model" if source is None else f"The model made of {source}"
    remedy = "it cannot be written so" if source is None else "correct it there"
    data = json.loads(json.dumps(bundle.to_json()))  # tuples become lists; NaN is found, and named, below
    return data, bundle_from_json(data, folder, named, remedy)
