"""Model bundles: a folder with `bundle.json`, `weights.safetensors`, `MODEL_CARD.md` and `LICENSE.txt`.

This file reads, checks and writes the description, and chooses one of its heads; no torch, no weights.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from ..network.specs import BackboneSpec
from ..util.atomic_files import atomic_file
from ..util.errors import InputError
from ..util.input_files import is_there
from ..util.paths import BUNDLE_FILE
from ..util.paths import WEIGHTS_FILE as WEIGHTS_FILE
from ..util.strict_json import check_schema, read_json, schema, to_json
from ..version import __version__
from .graphs import Graphs
from .input_spec import InputSpec, Label, check_label_values

CARD_FILE = "MODEL_CARD.md"
LICENCE_FILE = "LICENSE.txt"
RESTORE = "restore it from its source"
FITTED_BY = "fitted_by"
"""Of a calibration block: the version of this program that fitted it."""
MAXIMUM_BYTES = 16 << 20
"""Of `bundle.json`: the shipped one, with the figures of 44 test cases for two heads, has 0.4 MB."""


@dataclass(frozen=True)
class HeadSpec:
    """One uncertainty head of a bundle; its tensors are named `heads.<name>.*` in the weights file.

    `trained` is False if it has its random weights still, as in a bundle made of a foreign backbone. Of the default
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
    """The content of `bundle.json`; every attribute is a block of that file.

    Attributes:
        folder: where it was read from; None for a bundle not yet written.
        about: name, version, task, licences, citation.
        calibration: fitted tables, or None ("not calibrated").
        fingerprint: ranges of field of view and spacing over the training cases, or None.
        display: window of each map, or None.
        figures: what was measured on test cases, or None.
        graphs: compiled for its default head, or None.
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
    graphs: Graphs | None = None

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
        """Make the content of `bundle.json`."""
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
            **({} if self.graphs is None else {"graphs": self.graphs.to_json()}),
        }


def fitted_now(calibration: Mapping[str, Any]) -> dict[str, Any]:
    """Note in a calibration block that this version changed it last."""
    return {**calibration, FITTED_BY: {"segwithu": __version__}}


def block_sha256(block: Mapping[str, Any]) -> str:
    """Hash of a calibration block, independent of white space and key order.

    The figures of the calibration cases are left out: they rank cases and change no map.
    """
    flags = block.get("flags")
    if flags is not None:
        block = {**block, "flags": {name: value for name, value in flags.items() if name != "figures"}}
    return hashlib.sha256(json.dumps(block, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """Hash of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def bundle_schema() -> dict[str, Any]:
    """Return the JSON schema of `bundle.json`."""
    return schema(Path(__file__).with_name("bundle.schema.json"))


def read_bundle(folder: Path) -> Bundle:
    """Read and check the description of a model, without its weights.

    Raises:
        InputError: no bundle, broken JSON, a field missing, unknown, of the wrong kind or beyond what is sensible, or a
            changed calibration.
    """
    return bundle_from_json(_read_json(folder), folder)


def read_unchecked(folder: Path) -> Bundle:
    """Read the description of a model without checking it, so without jsonschema: for a list of models.

    Raises:
        InputError: no bundle, broken JSON, or a field missing, unknown or of the wrong kind.
    """
    data = _read_json(folder)
    try:
        return _built(data, folder)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{folder / BUNDLE_FILE} is damaged ({error!r:.200}): {RESTORE}.") from error


def bundle_from_json(data: Any, folder: Path | None, source: str | None = None, remedy: str = RESTORE) -> Bundle:
    """Build a bundle from parsed JSON; see `read_bundle`.

    Args:
        source: names the description in messages where it is not the bundle file in `folder`.
        remedy: what to do about a fault.
    """
    source = source or str((folder or Path()) / BUNDLE_FILE)
    check_schema(data, bundle_schema(), source, remedy, "the bundle format")
    check_description(data, source, remedy)
    bundle = _built(data, folder)
    if data["calibration_sha256"] != bundle.calibration_sha256:
        raise InputError(f"{source} has a calibration block that does not match its hash: {remedy}.")
    return bundle


def named_head(bundle: Bundle, name: str | None) -> HeadSpec:
    """Return the head of that name, the default for None.

    Raises:
        InputError: there is none.
    """
    names = {head.name: head for head in bundle.heads}
    if name is not None and name not in names:
        raise InputError(f"The model {bundle.name} has no head '{name}': choose one of {', '.join(names)}.")
    return bundle.default_head if name is None else names[name]


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


def with_head(bundle: Bundle, name: str | None) -> Bundle:
    """Make the head `name` the default, with its own calibration, display and figures.

    Raises:
        InputError: there is no such head.
    """
    chosen, default = named_head(bundle, name), bundle.default_head
    if chosen is default:
        return bundle
    blocks = {block: getattr(chosen, block) for block in ("calibration", "display", "figures")}
    changed = {chosen.name: replace(chosen, default=True, calibration=None, display=None, figures=None)}
    changed[default.name] = as_further(bundle)
    return replace(bundle, heads=tuple(changed.get(head.name, head) for head in bundle.heads), **blocks)


def as_further(bundle: Bundle) -> HeadSpec:
    """Return the default head as a further one: it takes its blocks along."""
    return replace(
        bundle.default_head,
        default=False,
        calibration=bundle.calibration,
        display=bundle.display,
        figures=bundle.figures,
    )


_AXES = {"L": 0, "R": 0, "A": 1, "P": 1, "I": 2, "S": 2, "x": 0, "y": 1, "z": 2}
"""The patient axis, or the stored one, that each letter of an orientation lies on."""
HIGHEST_PERCENTILE = 100


def check_description(data: Mapping[str, Any], source: str, remedy: str) -> None:
    """Check parsed JSON that fits the bundle schema.

    Args:
        source, remedy: begin and end of every sentence.

    Raises:
        InputError: names the field, the value found and what is wanted.
    """
    heads, backbone = data["heads"], data["backbone"]
    if sum(head["default"] for head in heads) != 1 or len({head["name"] for head in heads}) < len(heads):
        raise InputError(f"{source} needs heads of different names and exactly one default: {remedy}.")
    values = check_label_values([label["value"] for label in data["labels"]], source)
    _check_input(data["input"], source, remedy)
    window, divisor = data["input"]["window"], backbone["size_divisor"]
    divisors = [divisor] * 3 if isinstance(divisor, int) else divisor[::-1]
    if any(size % by for size, by in zip(window, divisors, strict=True)):
        multiples = divisors[0] if len(set(divisors)) == 1 else list(divisors)
        raise InputError(f"{source} has the window {list(window)}, not in multiples of {multiples}: {remedy}.")
    for block, place in _blocks(data):
        _check_calibration(block.get("calibration"), values, f"{source} at {place}calibration", remedy)
        for name, pair in (block.get("display") or {}).items():
            _check_rises(pair, f"{source} at {place}display/{name}", remedy)
    _check_fingerprint(data["fingerprint"], values, f"{source} at fingerprint", remedy)


def _read_json(folder: Path) -> Any:
    path = folder / BUNDLE_FILE
    if not is_there(path):
        raise InputError(f"{folder} is not a model bundle: it has no {BUNDLE_FILE}.")
    return read_json(path, RESTORE, MAXIMUM_BYTES)


def _built(data: Any, folder: Path | None) -> Bundle:
    return Bundle(
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
        graphs=Graphs.from_json(data["graphs"]) if data.get("graphs") else None,
    )


def _checked(bundle: Bundle, folder: Path | None, source: str | None) -> tuple[dict[str, Any], Bundle]:
    """Return the JSON of a bundle, and the bundle as it reads."""
    named = "The model" if source is None else f"The model made of {source}"
    remedy = "it cannot be written so" if source is None else "correct it there"
    data = json.loads(json.dumps(bundle.to_json()))  # tuples become lists; NaN is found, and named, below
    return data, bundle_from_json(data, folder, named, remedy)


def _blocks(data: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], str]]:
    """Yield the blocks with calibration and display windows: the top for the default head, entries for others."""
    yield data, ""
    for number, head in enumerate(data["heads"]):
        yield head, f"heads/{number}/"


def _check_input(spec: Mapping[str, Any], source: str, remedy: str) -> None:
    axes = spec["orientation"]
    if len({_AXES[letter] for letter in axes}) < len(axes):
        raise InputError(f"{source} has the orientation {axes}: give one letter of each of LR, AP, IS.")
    each = spec["normalisation"] if isinstance(spec["normalisation"], list) else [spec["normalisation"]]
    if isinstance(spec["normalisation"], list) and len(each) != len(spec["channels"]):
        raise InputError(
            f"{source} has {len(each)} normalisations for {len(spec['channels'])} channels: give one for all, or one a "
            "channel."
        )
    for how in each:
        if how["kind"] == "none":
            continue
        _check_rises([how["low"], how["high"]], f"{source} at input/normalisation", remedy, strictly=True)
        if how["kind"] != "fixed" and not 0 <= how["low"] < how["high"] <= HIGHEST_PERCENTILE:
            raise InputError(
                f"{source} has the percentiles {how['low']:g} and {how['high']:g} at input/normalisation: they lie "
                f"between 0 and {HIGHEST_PERCENTILE}; {remedy}."
            )
        if how["kind"] == "fixed" and how["std"] == 0:
            raise InputError(f"{source} has std 0 at input/normalisation: it divides by it; {remedy}.")


def _check_calibration(block: Mapping[str, Any] | None, values: Sequence[int], source: str, remedy: str) -> None:
    if block is None:
        return
    baseline = (block.get("rivals") or {}).get("maximum_softmax")
    for table in (block["error_probability"], *([baseline] if baseline else [])):
        _check_table(table, values, source, remedy)
    for name, percentiles in (block.get("sources") or {}).items():
        _check_rises(percentiles or (), f"{source}/sources/{name}", remedy)
    for part in ("volume_interval", "predicted_dice", "quality"):
        _check_keys(block.get(part), values, f"{source}/{part}", remedy)


def _check_table(table: Mapping[str, Any], values: Sequence[int], source: str, remedy: str) -> None:
    ranking, probability = table["ranking"], table["probability"]
    steps = [b > a for a, b in pairwise(ranking)] + [b >= a for a, b in pairwise(probability)]
    if len(ranking) != len(probability) or not all(steps):
        raise InputError(
            f"{source} has an error-probability table that does not rise ({len(ranking)} ranking values, "
            f"{len(probability)} probabilities): fit it again with `segwithu calibrate`."
        )
    for number, direction in enumerate(table.get("directions", ())):
        if max(direction["predicted"], direction["runner_up"]) >= len(values):
            raise InputError(
                f"{source} has a direction ({number}) that names the classes {direction['predicted']} and "
                f"{direction['runner_up']}, but there are {len(values)}: {remedy}."
            )


def _check_fingerprint(block: Mapping[str, Any] | None, values: Sequence[int], source: str, remedy: str) -> None:
    if block is None:
        return
    for name in ("field_of_view_mm", "spacing_mm"):
        for pair in zip(block[name]["low"], block[name]["high"], strict=True):
            _check_rises(pair, f"{source}/{name}", remedy)
    for name, look in (block.get("channels") or {}).items():
        for part in ("noise", "middle_half") if look else ():
            _check_rises(look[part], f"{source}/channels/{name}/{part}", remedy)
    volumes = block.get("volumes_mm3") or {}
    _check_keys(volumes, values, f"{source}/volumes_mm3", remedy)
    for value, found in volumes.items():
        _check_rises([found["low"], found["high"]], f"{source}/volumes_mm3/{value}", remedy)


def _check_rises(numbers: Sequence[float], place: str, remedy: str, strictly: bool = False) -> None:
    for low, high in pairwise(numbers):
        if high < low or (strictly and high == low):
            raise InputError(f"{place} goes from {low:g} to {high:g}, but must rise: {remedy}.")


def _check_keys(block: Mapping[str, Any] | None, values: Sequence[int], place: str, remedy: str) -> None:
    """Refuse numbers of structures that the model does not have, which would be passed over without a word."""
    for key in block or {}:
        if key not in {str(value) for value in values}:
            raise InputError(
                f"{place} has an entry for the label '{key[:40]}', which the model does not have: {remedy}."
            )
