"""Read `case.json`. Standard library only: Slicer's own process reads them too."""

import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..util.atomic_files import write_text
from ..util.errors import DAMAGED as DAMAGED
from ..util.errors import OTHER_VERSION, InputError, naming, wrong_values_named
from ..util.folder_entries import lost_link
from ..util.input_files import is_there
from ..util.strict_json import read_json, to_json, typed

CASE_FILE = "case.json"
FORMAT_VERSION = 1
SEGMENTATION_FILE, SEGMENTATION_NRRD_FILE = "segmentation.nii.gz", "segmentation.seg.nrrd"
# Keys of the hashes of all other files (`case_files`), and of the hash of the rest of `case.json`. Cases of earlier
# versions have neither, and nothing is compared.
FILES, CONTENT_SHA256 = "files", "content_sha256"
# The first one that a case has is shown first.
MAP_NAMES = ("error_probability", "ranking", "calibration")
# For cases without titles, such as anonymous copies.
DEFAULT_TITLES = {"error_probability": "Error probability", "ranking": "Ranking map", "calibration": "Calibration map"}
# Files have 30 kB, with a hundred structures about 1 MB.
MAXIMUM_BYTES = 16 << 20
# Error codes of such a case, and of a folder that is not one.
DAMAGED_CASE, NOT_A_CASE = "damaged-case", "not-a-case"
# Error code of a file of a case that was changed after it was written.
CHANGED_FILE = "changed-file"


def asked_structures(case: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the structures to be measured; all, for cases of versions that asked nothing.

    Args:
        case: the content of its `case.json`.
    """
    names = tuple(str(entry["name"]) for entry in case["structures"] if int(entry["value"]) != 0)
    return tuple(name for name in names if name in case["asked"]) if case.get("asked") else names


def is_mask_alone(case: Mapping[str, Any]) -> bool:
    """Whether a case was made of a mask without a model: its regions have no error probability.

    Args:
        case: the content of its `case.json`.
    """
    return (case.get("regions") or {}).get("expected_wrong_mm3", 0.0) is None


@dataclass(frozen=True)
class Histograms:
    """Voxels of each predicted structure in equal bins of a map's values, from `low` to `high` (map's unit).

    Attributes:
        counts: per label value, the number of voxels in each bin.
    """

    low: float
    high: float
    counts: dict[int, tuple[float, ...]]


@dataclass(frozen=True)
class MapInfo:
    """One map of a case.

    Attributes:
        window: lowest and highest value of the colour scale, in the map's unit; the same for every patient.
        lower_threshold: where the model suggests to begin colouring, in the map's unit.
        not_assessed: the value of voxels that were not assessed.
    """

    name: str
    file: str
    title: str
    quantity: str
    unit: str
    window: tuple[float, float] | None = None
    lower_threshold: float | None = None
    not_assessed: float = -1.0
    histograms: Histograms | None = None


@dataclass(frozen=True)
class Structure:
    """One structure. Volumes are in mm3 and `uncertain_share` from 0 to 1; None means not assessed.

    Attributes:
        category, type, modifier, laterality: codes, each {"scheme", "value", "meaning"}.
        opacity_3d: from 0 (hidden in 3D) to 1, as the model proposes.
        expected_interval_mm3: is to hold the true volume of nine in ten cases, fitted on `calibration_cases`.
        held, held_of: in so many of so many real cases it did; None if nobody has measured.
        dice_cases: so many cases the predicted Dice was fitted on.
        predicted_dice_informative: False if the predicted Dice does not beat a constant; it is left out then.
        flags, flag_rules: messages of its flags, and the rule of each.
    """

    value: int
    name: str
    color: tuple[int, int, int]
    category: Mapping[str, str] | None = None
    type: Mapping[str, str] | None = None
    modifier: Mapping[str, str] | None = None
    laterality: Mapping[str, str] | None = None
    opacity_3d: float = 1.0
    voxels: int | None = None
    volume_mm3: float | None = None
    expected_volume_mm3: float | None = None
    expected_interval_mm3: tuple[float, float] | None = None
    predicted_dice: float | None = None
    predicted_dice_informative: bool | None = None
    calibration_cases: int | None = None
    held: int | None = None
    held_of: int | None = None
    dice_cases: int | None = None
    expected_wrong_mm3: float | None = None
    uncertain_share: float | None = None
    uncertain_mm3: float | None = None
    flags: tuple[str, ...] = ()
    flag_rules: tuple[str, ...] = ()


@dataclass(frozen=True)
class PlacedBox:
    """A box of voxels, (i, j, k) of the image's grid, in which a model found its structures in a whole head."""

    side: str
    index_ijk: tuple[int, int, int]
    size_ijk: tuple[int, int, int]


@dataclass(frozen=True)
class CaseDescription:
    """`case.json`, checked and typed: structures, maps and where they come from.

    Attributes:
        boxes: that the model placed; empty if it was told where to look.
        voxel_mm3: volume of a voxel; None if the file names no grid.
        raw: the whole file.
    """

    name: str
    created: str
    model_name: str
    structures: tuple[Structure, ...]
    maps: dict[str, MapInfo]
    boxes: tuple[PlacedBox, ...]
    voxel_mm3: float | None
    raw: Mapping[str, Any] = field(repr=False)


@contextmanager
def naming_case(folder: Path) -> Iterator[None]:
    """Name the case in errors of the block that reads its files.

    Raises:
        InputError: a value is damaged, or the block raises it; names the folder.
    """
    with wrong_values_named(folder / CASE_FILE, "segment the case again", DAMAGED_CASE), naming(folder):
        yield


def read_case(folder: Path) -> dict[str, Any]:
    """Read a case folder's `case.json` as JSON.

    Raises:
        InputError: it is not a case folder, damaged, changed by hand, or of another format version.
    """
    path = folder / CASE_FILE
    if not is_there(path) and not lost_link(path):
        raise InputError(f"{folder} is not a case folder: it has no {CASE_FILE}.", NOT_A_CASE)
    case = read_json(path, "segment the case again", MAXIMUM_BYTES)
    _check_format(case, str(path))
    for key, block in (("maps", case.get("maps", {})), (FILES, case.get(FILES, {}))):
        if not isinstance(block, Mapping):
            raise InputError(f"{path} is damaged ({key}: {block!r:.80}): segment the case again.", DAMAGED_CASE)
    if case.get(CONTENT_SHA256, wanted := _content_sha256(case)) != wanted:
        raise InputError(f"{path} was changed after it was written: restore it, or segment again.", CHANGED_FILE)
    return dict(case)


def write_case(folder: Path, content: Mapping[str, Any]) -> None:
    """Write `case.json`, whole or not at all, with the hash of its content: it is changed by commands alone.

    Raises:
        OutputError: the folder cannot be written to.
    """
    write_text(folder / CASE_FILE, to_json({**content, CONTENT_SHA256: _content_sha256(content)}) + "\n")


def _content_sha256(content: Mapping[str, Any]) -> str:
    rest = {key: value for key, value in content.items() if key != CONTENT_SHA256}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _check_format(raw: Any, origin: str) -> None:
    if not isinstance(raw, Mapping) or raw.get("format") != "segwithu-case":
        raise InputError(f"{origin} is not of a SegWithU case: give a folder that segment wrote.", NOT_A_CASE)
    version = raw.get("format_version")
    if version != FORMAT_VERSION:
        raise InputError(f"{origin} has format version {version}, not {FORMAT_VERSION}: segment again.", OTHER_VERSION)


def read_description(folder: Path) -> CaseDescription:
    """Read a case folder's `case.json`, checked and typed, without the maps of `lost_maps`.

    Raises:
        InputError: there is none, it is damaged, or it is of a format version that this version does not read.
    """
    case = parse_description(read_case(folder), str(folder / CASE_FILE))
    lost = lost_maps(folder, case.raw)
    return replace(case, maps={name: info for name, info in case.maps.items() if info.file not in lost})


def lost_maps(folder: Path, case: Mapping[str, Any]) -> dict[str, str]:
    """Return a note on each map that was deleted and that a review can do without, by the name of its file."""
    entries = [entry for name in MAP_NAMES[1:] if (entry := (case.get("maps") or {}).get(name)) is not None]
    lost = [str(entry["file"]) for entry in entries if not os.path.lexists(folder / str(entry["file"]))]
    return {name: f"{name} is missing: the case is shown without this map, and is not exported." for name in lost}


def parse_description(raw: Any, origin: str = CASE_FILE) -> CaseDescription:
    """Check the content of `case.json` and give it types.

    Args:
        raw: the decoded JSON.
        origin: names it in messages.

    Raises:
        InputError: another format or version, or a required field that is missing or of the wrong kind.
    """
    _check_format(raw, origin)
    with wrong_values_named(origin, "segment the case again", DAMAGED_CASE):
        spacing = ((raw.get("input") or {}).get("grid") or {}).get("spacing_mm")
        return CaseDescription(
            name=str(raw["name"]),
            created=str(raw.get("created") or ""),
            model_name=str((raw.get("model") or {}).get("name") or ""),
            # The engine also sums up the background, which is not a structure.
            structures=tuple(
                _structure(entry, raw.get("flags") or []) for entry in raw["structures"] if int(entry["value"]) != 0
            ),
            maps=_maps(raw),
            boxes=placed_boxes(raw),
            voxel_mm3=None if spacing is None else math.prod(float(edge) for edge in spacing),
            raw=raw,
        )


def placed_boxes(raw: Mapping[str, Any]) -> tuple[PlacedBox, ...]:
    """Return the boxes that a model placed in the image of a case.

    Raises:
        ValueError: they are damaged.
    """
    return typed(tuple[PlacedBox, ...], (raw.get("placement") or {}).get("boxes") or [], "placement/boxes")


def _structure(entry: Mapping[str, Any], flags: list[Any]) -> Structure:
    own = [flag for flag in flags if flag["structure"] == entry["name"]]
    by_rule = {"flags": [flag["message"] for flag in own], "flag_rules": [flag["rule"] for flag in own]}
    return typed(Structure, {**entry, **by_rule}, "structures")


def _maps(raw: Mapping[str, Any]) -> dict[str, MapInfo]:
    entries = raw.get("maps") or {}
    usual = {"not_assessed": raw.get("not_assessed_value", -1.0)}
    found = {}
    for name in MAP_NAMES:
        entry = entries.get(name)
        if entry is None:
            continue
        given = {key: value for key, value in entry.items() if value not in (None, "")}
        words = {"name": name, "title": DEFAULT_TITLES[name], "quantity": name, "unit": "1"}
        info: MapInfo = typed(MapInfo, {**words, **usual, **given, "name": name}, f"maps/{name}")
        if Path(info.file).name != info.file or "\\" in info.file:  # a case must not lead out of its folder
            raise ValueError(f"the map {name} lies at {info.file!r} instead of in the case folder")
        found[name] = info
    return found
