"""`case.json` as plain objects: what a finished run says about its case, without MRML.

Optional blocks may be missing: figures that are not there are None and are shown as "not assessed".
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from SegWithUCore.case.case_file import DAMAGED, MAXIMUM_BYTES
from SegWithUCore.errors import InputError
from SegWithUCore.strict_json import read_json

CASE_FILE = "case.json"
SEGMENTATION_FILE = "segmentation.nii.gz"
FORMAT = "segwithu-case"
FORMAT_VERSION = 1
# In the order in which a user meets them; the first that a case has is shown first.
MAP_NAMES = ("error_probability", "ranking", "calibration")
DEFAULT_TITLES = {
    "error_probability": "Error probability",
    "ranking": "Ranking map",
    "calibration": "Calibration map",
}


@dataclass(frozen=True)
class Histograms:
    """How many voxels of each predicted structure lie in equal bins of a map, from `low` to `high` (map's unit)."""

    low: float
    high: float
    counts: dict[int, np.ndarray]


@dataclass(frozen=True)
class MapInfo:
    """One map of a case.

    Attributes:
        window: lowest and highest value of the colour scale, in the map's unit; the same for every patient.
        lower_threshold: where the model suggests to begin colouring.
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
    """One structure; volumes in mm3, `uncertain_share` from 0 to 1, None where not assessed.

    `expected_interval_mm3` holds the true volume of nine in ten cases, as measured on `calibration_cases`. A predicted
    Dice that does not beat a constant is not told: `predicted_dice_informative` is False then.
    `category`, `type` and `modifier` are codes: {"scheme", "value", "meaning"}.
    """

    value: int
    name: str
    color: tuple[int, int, int]
    category: Mapping[str, str] | None = None
    type: Mapping[str, str] | None = None
    modifier: Mapping[str, str] | None = None
    voxels: int | None = None
    volume_mm3: float | None = None
    expected_volume_mm3: float | None = None
    expected_interval_mm3: tuple[float, float] | None = None
    predicted_dice: float | None = None
    predicted_dice_informative: bool | None = None
    calibration_cases: int | None = None
    expected_wrong_mm3: float | None = None
    uncertain_share: float | None = None
    uncertain_mm3: float | None = None
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Case:
    """A finished run. `raw` is the whole of `case.json`; `voxel_mm3` is None where the grid is not told."""

    name: str
    created: str
    model_name: str
    structures: tuple[Structure, ...]
    maps: dict[str, MapInfo]
    voxel_mm3: float | None
    raw: Mapping[str, Any] = field(repr=False)


def read_case_file(case_folder: Path) -> Case:
    """Read `case.json` of a case folder.

    Raises:
        InputError: there is none, it is not JSON, or it is not a case of a format this version reads.
    """
    path = Path(case_folder) / CASE_FILE
    raw = read_json(path, "choose a case folder of SegWithU", MAXIMUM_BYTES)
    return parse_case(raw, str(path), Path(case_folder))


def parse_case(raw: Any, origin: str = CASE_FILE, case_folder: Path | None = None) -> Case:
    """Turn the contents of `case.json` into a Case.

    Args:
        raw: the decoded JSON.
        origin: where it came from, for error messages.
        case_folder: where given, maps that have a file there but no entry are found, and maps without a file dropped.

    Raises:
        InputError: another format, a newer version, or a required field that is missing or of the wrong kind.
    """
    if not isinstance(raw, Mapping) or raw.get("format") != FORMAT:
        raise InputError(f"{origin} is not a SegWithU case: choose a folder that SegWithU wrote.")
    version = raw.get("format_version")
    if version != FORMAT_VERSION:
        raise InputError(
            f"{origin} has format version {version}, this SegWithU reads {FORMAT_VERSION}: update the extension."
        )
    try:
        return Case(
            name=str(raw["name"]),
            created=str(raw.get("created") or ""),
            model_name=str((raw.get("model") or {}).get("name") or ""),
            # The engine also sums up the background, which is no structure.
            structures=tuple(
                _structure(entry, raw.get("flags") or []) for entry in raw["structures"] if int(entry["value"]) != 0
            ),
            maps=_maps(raw, case_folder),
            voxel_mm3=_voxel_mm3(raw),
            raw=raw,
        )
    except DAMAGED as error:
        raise InputError(f"{origin} is damaged ({type(error).__name__}: {error}): segment the case again.") from error


def _structure(entry: Mapping[str, Any], flags: list[Any]) -> Structure:
    red, green, blue = (int(part) for part in entry["color"])
    value = int(entry["value"])
    return Structure(
        value=value,
        name=str(entry["name"]),
        color=(red, green, blue),
        category=entry.get("category"),
        type=entry.get("type"),
        modifier=entry.get("modifier"),
        voxels=None if entry.get("voxels") is None else int(entry["voxels"]),
        volume_mm3=_number(entry, "volume_mm3"),
        expected_volume_mm3=_number(entry, "expected_volume_mm3"),
        expected_interval_mm3=_interval(entry.get("expected_interval_mm3")),
        predicted_dice=_number(entry, "predicted_dice"),
        predicted_dice_informative=entry.get("predicted_dice_informative"),
        calibration_cases=None if entry.get("calibration_cases") is None else int(entry["calibration_cases"]),
        expected_wrong_mm3=_number(entry, "expected_wrong_mm3"),
        uncertain_share=_number(entry, "uncertain_share"),
        uncertain_mm3=_number(entry, "uncertain_mm3"),
        flags=tuple(_flag_sentence(flag) for flag in flags if _is_about(flag, value, str(entry["name"]))),
    )


def _interval(value: Any) -> tuple[float, float] | None:
    return (float(value[0]), float(value[1])) if isinstance(value, list) and len(value) == 2 else None


def _is_about(flag: Any, value: int, name: str) -> bool:
    """Cases of earlier versions name the structure by its label value."""
    return isinstance(flag, Mapping) and flag.get("structure") in (value, name)


def _flag_sentence(flag: Mapping[str, Any]) -> str:
    return str(flag.get("sentence") or flag.get("reason") or flag.get("kind") or "")


def _number(entry: Mapping[str, Any], key: str) -> float | None:
    return None if entry.get(key) is None else float(entry[key])


def _maps(raw: Mapping[str, Any], case_folder: Path | None) -> dict[str, MapInfo]:
    told = raw.get("maps") or {}
    default_not_assessed = float(raw.get("not_assessed_value", -1.0))
    found = {}
    for name in MAP_NAMES:
        entry = told.get(name)
        file = str((entry or {}).get("file") or f"{name}.nii.gz")
        if Path(file).name != file or "\\" in file:  # a case of others must not lead out of its folder
            raise ValueError(f"the map {name} lies at {file!r} instead of in the case folder")
        present = entry is not None if case_folder is None else (case_folder / file).is_file()
        if present:
            found[name] = _map(name, file, entry or {}, default_not_assessed)
    return found


def _map(name: str, file: str, entry: Mapping[str, Any], default_not_assessed: float) -> MapInfo:
    window = entry.get("window")
    histograms = entry.get("histograms")
    not_assessed = entry.get("not_assessed")
    return MapInfo(
        name=name,
        file=file,
        title=str(entry.get("title") or DEFAULT_TITLES[name]),
        quantity=str(entry.get("quantity") or name),
        unit=str(entry.get("unit") or "1"),
        window=None if window is None else (float(window[0]), float(window[1])),
        lower_threshold=_number(entry, "lower_threshold"),
        not_assessed=default_not_assessed if not_assessed is None else float(not_assessed),
        histograms=None if histograms is None else _histograms(histograms),
    )


def _histograms(entry: Mapping[str, Any]) -> Histograms:
    counts = {int(value): np.asarray(bins, dtype=np.float64) for value, bins in entry["counts"].items()}
    return Histograms(float(entry["low"]), float(entry["high"]), counts)


def _voxel_mm3(raw: Mapping[str, Any]) -> float | None:
    spacing = ((raw.get("input") or {}).get("grid") or {}).get("spacing_mm")
    return None if spacing is None else float(np.prod(np.asarray(spacing, dtype=np.float64)))
