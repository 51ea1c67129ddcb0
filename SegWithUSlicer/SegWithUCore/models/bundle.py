"""Model bundles: a folder with `bundle.json`, `weights.safetensors`, `MODEL_CARD.md` and `LICENSE.txt`.

This file reads, checks and writes the description, and chooses one of its heads; no torch, no weights.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ..calibration.change import ChangeInterval
from ..network.specs import BackboneSpec, HeadPlugin
from ..util.atomic_files import write_text
from ..util.errors import InputError
from ..util.input_files import is_there, read_bounded
from ..util.paths import BUNDLE_FILE
from ..util.paths import WEIGHTS_FILE as WEIGHTS_FILE
from ..util.strict_json import check_schema, read_json, schema, shown, to_json, typed
from ..version import __version__
from .input_spec import InputSpec, Label, Total, check_label_values

CARD_FILE = "MODEL_CARD.md"
LICENCE_FILE = "LICENSE.txt"
RESTORE = "restore it from its source"
FITTED_BY = "fitted_by"
"""Of a calibration block: the version of this program that fitted it."""
WINDOW_FILE, MAPS_FILE, CONSTANTS_FILE = "graph_window.xml", "graph_maps.xml", "graph_constants.bin"
GRAPH_FILES = (WINDOW_FILE, MAPS_FILE, CONSTANTS_FILE)
WHOLE = "whole"
"""In place of a side: the one box of a model that finds all of its structures in it."""
LEAST_HEAD_MM = 90.0
"""Smallest edge of an image in which boxes are placed: less of a head does not hold the template's brain."""
TEMPLATE_FILE = "placement_template.nii.gz"
"""A head with voxels of 4 mm: grey values 0 to 127, and 128 more inside the brain."""
OPACITY_3D = "opacity_3d"
"""Of `display`: by the names of structures without side, how opaque 3D views show them; 0 hides, 1 is usual."""
MAXIMUM_BYTES = 16 << 20
"""Of `bundle.json`: the shipped one, with the metrics of 44 test cases for two heads, has 0.4 MB."""


@dataclass(frozen=True)
class HeadSpec:
    """One uncertainty head of a bundle; its tensors are named `heads.<name>.*` in the weights file.

    `trained` is False if it has its random weights still, as in a bundle made of a foreign backbone. Of the default
    head calibration, display and metrics are blocks of the bundle; any other head has its own here. `plugin` is the
    package that the head comes from, None for ours.
    """

    name: str
    variant: str
    taps: tuple[str, ...]
    feature_channels: int
    probes: int
    aleatoric: bool
    default: bool = True
    trained: bool = True
    plugin: HeadPlugin | None = None
    calibration: Mapping[str, Any] | None = None
    display: Mapping[str, Any] | None = None
    metrics: Mapping[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """One entry of the `heads` list; that a head is trained goes without saying, and so do empty blocks."""
        usual = {"trained": True, "plugin": None, "calibration": None, "display": None, "metrics": None}
        return {key: value for key, value in asdict(self).items() if key not in usual or value != usual[key]}


@dataclass(frozen=True)
class Graphs:
    """The block `graphs` of `bundle.json`; see `models/graphs.py`.

    Attributes:
        head: name of the head that they compute.
        weights_sha256: of the weights file that they were made of and read constants from.
        window_bytes: activations a voxel of a window.
        files: SHA-256 of each of `GRAPH_FILES`.
        made_with: versions by package.
        largest_difference: from torch on a random input, by name of the output.
    """

    head: str
    weights_sha256: str
    window_bytes: float
    files: Mapping[str, str]
    made_with: Mapping[str, str]
    largest_difference: Mapping[str, float]

    @property
    def sha256(self) -> str:
        """One hash of all that decides what the graphs compute."""
        parts = [self.weights_sha256, *(self.files[name] for name in GRAPH_FILES)]
        return hashlib.sha256("".join(parts).encode()).hexdigest()


@dataclass(frozen=True)
class BoxInTemplate:
    """One box of a model.

    Attributes:
        side: "left" or "right", which becomes part of the names of its structures; "whole" for one box that holds all
            structures under their own names.
        centre_ras_mm: in the template.
        size_mm: edge lengths along R, A and S.
    """

    side: str
    centre_ras_mm: tuple[float, float, float]
    size_mm: tuple[float, float, float]


@dataclass(frozen=True)
class Placement:
    """The block `placement`: where a model's boxes lie in a template, the file `TEMPLATE_FILE`.

    Attributes:
        sha256: of the template's file.
        least_similarity: mutual information in nats below which an image is not a head that the template fits.
        least_dice: expected Dice below which neighbouring boxes are tried, and a box is refused.
        boxes: one for each side.
    """

    sha256: str
    least_similarity: float
    least_dice: float
    boxes: tuple[BoxInTemplate, ...]

    @property
    def is_whole(self) -> bool:
        """Whether one box holds all structures."""
        return self.boxes[0].side == WHOLE


@dataclass(frozen=True)
class Bundle:
    """The content of `bundle.json`; every attribute is a block of that file.

    Attributes:
        folder: where it was read from; None for a bundle not yet written.
        about: name, version, task, licences, citation.
        calibration: fitted tables, or None ("not calibrated").
        ood_reference: ranges of field of view and spacing over the training cases, or None.
        display: window of each map, and `OPACITY_3D`; or None.
        metrics: what was measured on test cases, or None.
        graphs: compiled for its default head, or None.
        placement: where its boxes lie in a template of a head, or None for a model that takes its image whole.
        away: figures in and out of distribution (`models/quality.py`), or None (not measured).
        totals: sums of structures whose volumes are stated too.
        changes: of each structure and total, by name without side, the interval of its change without a change.
    """

    folder: Path | None
    about: Mapping[str, str]
    input: InputSpec
    labels: tuple[Label, ...]
    backbone: BackboneSpec
    heads: tuple[HeadSpec, ...]
    weights_sha256: str
    calibration: Mapping[str, Any] | None = None
    ood_reference: Mapping[str, Any] | None = None
    display: Mapping[str, Any] | None = None
    metrics: Mapping[str, Any] | None = None
    graphs: Graphs | None = None
    placement: Placement | None = None
    away: Mapping[str, Any] | None = None
    totals: tuple[Total, ...] = ()
    changes: Mapping[str, ChangeInterval] = field(default_factory=dict)

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
        block = None if self.placement is None else asdict(self.placement)
        blocks = ("weights_sha256", "calibration", "calibration_sha256", "ood_reference", "display", "metrics")
        return {
            "format_version": 1,
            "about": dict(self.about),
            "input": self.input.to_json(),
            "labels": [label.to_json() for label in self.labels],
            "backbone": asdict(self.backbone),
            "heads": [head.to_json() for head in self.heads],
            **{name: getattr(self, name) for name in blocks},
            **({} if self.graphs is None else {"graphs": asdict(self.graphs)}),
            # With its hash: an exchanged side would exchange left and right in every case.
            **({} if block is None else {"placement": block, "placement_sha256": block_sha256(block)}),
            **({} if self.away is None else {"away": dict(self.away)}),
            **({"totals": [asdict(total) for total in self.totals]} if self.totals else {}),
            **({"changes": {name: asdict(each) for name, each in self.changes.items()}} if self.changes else {}),
        }


def fitted_now(calibration: Mapping[str, Any]) -> dict[str, Any]:
    """Note in a calibration block that this version changed it last."""
    return {**calibration, FITTED_BY: {"segwithu": __version__}}


def block_sha256(block: Mapping[str, Any]) -> str:
    """Hash of the block of a calibration or a placement, independent of white space and key order.

    The metrics of the calibration cases are left out: they rank cases and change no map.
    """
    flags = block.get("flags")
    if flags is not None:
        block = {**block, "flags": {name: value for name, value in flags.items() if name != "metrics"}}
    return hashlib.sha256(json.dumps(block, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """Hash of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_hash(path: Path, found: str, wanted: str) -> None:
    """Check the SHA-256 of a file of a bundle.

    Raises:
        InputError: it is another than the bundle names.
    """
    if found != wanted:
        what = f"{path} is damaged or was changed (SHA-256 {found[:12]}... instead of {wanted[:12]}...)"
        raise InputError(f"{what}: {RESTORE}.", "damaged-bundle")


def read_hashed(path: Path, wanted: str, maximum_bytes: int) -> bytes:
    """Read a file of a bundle.

    Raises:
        InputError: missing, larger than `maximum_bytes`, or its SHA-256 is not `wanted`.
    """
    content = read_bounded(path, maximum_bytes, RESTORE)
    check_hash(path, hashlib.sha256(content).hexdigest(), wanted)
    return content


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
        return _from_json(data, folder)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{folder / BUNDLE_FILE} is damaged ({error!r:.200}): {RESTORE}.") from error


def bundle_from_json(data: Any, folder: Path | None, source: str | None = None, remedy: str = RESTORE) -> Bundle:
    """Build a bundle from parsed JSON; see `read_bundle`.

    Args:
        source: names the description in messages where it is not the bundle file in `folder`.
        remedy: what to do about a fault.
    """
    source = source or str((folder or Path()) / BUNDLE_FILE)
    check_schema(data, schema(Path(__file__).with_name("bundle.schema.json")), source, remedy, "the bundle format")
    _check_description(data, source, remedy)
    bundle = _from_json(data, folder)
    if data["calibration_sha256"] != bundle.calibration_sha256:
        raise InputError(f"{source} has a calibration block that does not match its hash: {remedy}.")
    wanted, block = data.get("placement_sha256"), data.get("placement") or {}  # older bundles have no hash
    if wanted is not None and wanted != block_sha256(block):
        raise InputError(f"{source} has a placement block that does not match its hash: {remedy}.", "damaged-bundle")
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
    write_text(folder / BUNDLE_FILE, to_json(data) + "\n")
    return replace(checked, folder=folder)


def check_bundle(bundle: Bundle, source: str | None = None) -> None:
    """Check a description as a reader would, before anything is built or written; see `write_bundle_json`."""
    _checked(bundle, None, source)


def with_head(bundle: Bundle, name: str | None) -> Bundle:
    """Make the head `name` the default, with its own calibration, display and metrics.

    Raises:
        InputError: there is no such head.
    """
    chosen, default = named_head(bundle, name), bundle.default_head
    if chosen is default:
        return bundle
    blocks = {block: getattr(chosen, block) for block in ("calibration", "display", "metrics")}
    changed = {chosen.name: replace(chosen, default=True, calibration=None, display=None, metrics=None)}
    changed[default.name] = as_further(bundle)
    return replace(bundle, heads=tuple(changed.get(head.name, head) for head in bundle.heads), **blocks)


def as_further(bundle: Bundle) -> HeadSpec:
    """Return the default head as a further one: it takes its blocks along."""
    return replace(
        bundle.default_head,
        default=False,
        calibration=bundle.calibration,
        display=bundle.display,
        metrics=bundle.metrics,
    )


def _check_description(data: Mapping[str, Any], source: str, remedy: str) -> None:
    """Check what the schema cannot say of parsed JSON that fits it.

    Raises:
        InputError: names the field, the value found and what is wanted.
    """

    def check(fine: bool, place: str, found: Any, wanted: str) -> None:
        if not fine:
            raise InputError(f"{source} has {shown(found)} at {place}, not {wanted}: {remedy}.", code="damaged-bundle")

    heads, spec, divisor = data["heads"], data["input"], data["backbone"]["size_divisor"]
    names = [head["name"] for head in heads]
    is_one = sum(head["default"] for head in heads) == 1 and len(set(names)) == len(names)
    check(is_one, "heads", names, "heads of different names with one default")
    values = check_label_values([label["value"] for label in data["labels"]], source)
    how = spec["normalisation"]
    is_each = not isinstance(how, list) or len(how) == len(spec["channels"])
    check(is_each, "input/normalisation", how, "one for all channels or one a channel")
    divisors = [divisor] * 3 if isinstance(divisor, int) else divisor[::-1]
    is_multiple = not any(size % by for size, by in zip(spec["window"], divisors, strict=True))
    check(is_multiple, "input/window", spec["window"], f"multiples of {divisors}")
    boxes = (data.get("placement") or {}).get("boxes", ())
    x_of = {box["side"]: box["centre_ras_mm"][0] for box in boxes}
    is_sided = len(x_of) == len(boxes) and x_of.get("left", -1) < 0 < x_of.get("right", 1)
    check(is_sided, "placement/boxes", boxes, "one box a side, with left at negative and right at positive R")
    totals = data.get("totals", ())
    for total in totals:
        is_sum = set(total["of"]) <= set(values[1:])
        check(is_sum, f"totals/{total['name']}/of", total["of"], f"labels among {values[1:]}")
    taken = [each["name"] for each in (*totals, *data["labels"])] if totals else []
    check(len(set(taken)) == len(taken), "totals", taken[: len(totals)], "names that nothing else has")
    wholes = [total["name"] for total in totals if total.get("is_denominator")]
    check(len(wholes) < 2, "totals", wholes, "one denominator at most")
    known = {str(value) for value in values}
    places = {"": data, **{f"heads/{number}/": head for number, head in enumerate(heads)}}
    by_label = {"ood_reference/volumes_mm3": (data["ood_reference"] or {}).get("volumes_mm3")}
    for place, holder in places.items():
        block = holder.get("calibration") or {}
        for part in ("volume_interval", "predicted_dice", "quality"):
            by_label[f"{place}calibration/{part}"] = block.get(part)
        for table in filter(
            None, (block.get("error_probability"), (block.get("baselines") or {}).get("maximum_softmax"))
        ):
            sizes = [len(table["ranking"]), len(table["probability"])]
            check(sizes[0] == sizes[1], f"{place}calibration", sizes, "as many values of the ranking as probabilities")
            pairs = [(each["predicted"], each["runner_up"]) for each in table.get("directions", ())]
            is_known = all(max(pair) < len(values) for pair in pairs)
            check(is_known, f"{place}calibration", pairs, f"directions among {len(values)} classes")
    for place, block in by_label.items():  # else they would be passed over in silence
        check(set(block or ()) <= known, place, sorted(block or ()), f"labels among {sorted(known)}")


def _from_json(data: Mapping[str, Any], folder: Path | None) -> Bundle:
    """Build a bundle; `ValueError` where a field is missing or of the wrong kind."""
    found: Bundle = typed(Bundle, {**data, "folder": None})
    return replace(found, folder=folder)


def _read_json(folder: Path) -> Any:
    path = folder / BUNDLE_FILE
    if not is_there(path):
        raise InputError(f"{folder} is not a model bundle: it has no {BUNDLE_FILE}.")
    return read_json(path, RESTORE, MAXIMUM_BYTES)


def _checked(bundle: Bundle, folder: Path | None, source: str | None) -> tuple[dict[str, Any], Bundle]:
    """Return the JSON of a bundle, and the bundle as it reads."""
    named = "The model" if source is None else f"The model made of {source}"
    remedy = "it cannot be written so" if source is None else "correct it there"
    data = json.loads(json.dumps(bundle.to_json()))  # tuples become lists; NaN is found, and named, below
    return data, bundle_from_json(data, folder, named, remedy)
