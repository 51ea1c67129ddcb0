"""The content of `case.json` that may go to others: known keys with numbers and known words, sentences made anew.

Names of structures, channels and the model stay: they are the model's, and reviews and results are known by them.
"""

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

from ..case.case_file import CASE_FORMAT
from .flags import LIMITS, case_flags, rules_of_case

Keep = Callable[[Any], Any]
"""Gives what may go out of a value, `LEFT_OUT` for nothing."""
LEFT_OUT = object()
LONGEST_NAME = 100
KINDS = frozenset(
    {"field of view", "spacing", "empty", "picture", "noise", "contrast", "grey values", "intensities", "volume"}
    | {"predicted Dice", "region of interest", "model", "memory"}
)
"""What a case may be unlike the training cases in (`inference.deviation`)."""


def anonymous_facts(case: Mapping[str, Any], alias: str, image_file: str) -> dict[str, Any]:
    """The content of `case.json` with only what is known to tell nothing about people.

    Args:
        alias: stands for the name of the case.
        image_file: of the image in the anonymous folder.

    Raises:
        KeyError, TypeError: something that every case has is missing or of another kind.
    """
    structures = [_kept(entry, _STRUCTURE) for entry in case["structures"]]
    names = {entry["value"]: entry["name"] for entry in structures}
    channels = [
        {"name": channel["name"], "file": image_file, "voxels_sha256": channel["voxels_sha256"]}
        for channel in (_kept(channel, _CHANNEL) for channel in case["input"]["channels"])
    ]
    found = ", ".join(name for value, name in names.items() if value)
    facts = {
        **_kept(case, _CASE),
        "name": alias,
        "anonymous": True,
        "input": {"channels": channels, "grid": _kept(case["input"]["grid"], _GRID)},
        "model": {"version": "?", **_kept(case["model"], _MODEL), "task": f"Segmentation of {found}."},
        "fingerprint": {"warnings": _warnings(case, names)},
        "structures": structures,
    }
    if isinstance(case.get("regions"), Mapping):
        facts["regions"] = _kept(case["regions"], _REGIONS | {"boundary_haze_mm3": _numbers_of(names.values())})
    facts["flags"] = [flag.to_json() for flag in case_flags(facts, rules_of_case(facts))]
    return facts


def _warnings(case: Mapping[str, Any], names: Mapping[int, str]) -> list[dict[str, Any]]:
    """What the case was warned about, in words that depend on the kind alone."""
    made = []
    for warning in (case.get("fingerprint") or {}).get("warnings") or []:
        kind, structure = warning.get("kind"), warning.get("structure")
        structure = structure if isinstance(structure, int) and structure in names else None
        what = kind if kind in KINDS else "something"
        whom = "The image" if structure is None else names[structure]
        severity = warning["severity"] if warning["severity"] in _SEVERITIES else "warning"
        sentence = f"{whom} is unlike the training cases: {what} (details were left out for anonymity)."
        made.append({"severity": severity, "sentence": sentence, "kind": what, "structure": structure})
    return made


def _kept(value: Any, known: Mapping[str, Keep]) -> dict[str, Any]:
    """An object with known keys only.

    Raises:
        TypeError: it is no object.
    """
    if not isinstance(value, Mapping):
        raise TypeError(f"{value!r:.40} instead of an object")
    kept = {key: keep(value[key]) for key, keep in known.items() if key in value}
    return {key: value for key, value in kept.items() if value is not LEFT_OUT}


def _number(value: Any) -> Any:
    return value if value is None or isinstance(value, bool | int | float) else LEFT_OUT


def _numbers(value: Any) -> Any:
    if value is None:
        return None
    return [n for n in value if _number(n) is not LEFT_OUT] if isinstance(value, list) else LEFT_OUT


def _name(value: Any) -> str:
    return str(value)[:LONGEST_NAME]


def _matching(pattern: str) -> Keep:
    known = re.compile(pattern)
    return lambda value: value if value is None or (isinstance(value, str) and known.fullmatch(value)) else LEFT_OUT


def _object(known: Mapping[str, Keep]) -> Keep:
    return lambda value: _kept(value, known) if isinstance(value, Mapping) else None if value is None else LEFT_OUT


def _numbers_of(names: Collection[str]) -> Keep:
    """An object from names that are known to numbers."""
    return _object(dict.fromkeys(names, _number))


def _counts(value: Any) -> Any:
    """Histograms by label value."""
    if not isinstance(value, Mapping):
        return LEFT_OUT
    return {key: _numbers(bins) for key, bins in value.items() if re.fullmatch(r"[0-9]{1,6}", key)}


_SEVERITIES = ("note", "warning", "refused")
_HASH = _matching(r"[0-9a-f]{64}")
_VERSION = _matching(r"[0-9][0-9A-Za-z.+]{0,30}")
_CODE = _object(
    {
        "scheme": _matching(r"[A-Z0-9]{1,12}"),
        "value": _matching(r"[A-Z]{0,4}[0-9._-]{1,20}"),
        "meaning": _name,
    }
)
_MAP = {
    "file": _matching(r"(error_probability|ranking|calibration)\.nii\.gz"),
    "title": _matching(r"Error probability|Ranking map|Calibration map"),
    "unit": _matching("1"),
    "window": _numbers,
    "lower_threshold": _number,
    "not_assessed": _number,
    "histograms": _object({"low": _number, "high": _number, "counts": _counts}),
}
_BOX = {"centre_ras_mm": _numbers, "size_mm": _numbers, "index_ijk": _numbers, "size_ijk": _numbers}
_CASE = {
    "format": _matching(CASE_FORMAT),
    "format_version": _number,
    "region_of_interest": _object(_BOX),
    "assessed": _object(_BOX),
    "not_assessed_value": _number,
    "versions": _object(
        {
            **dict.fromkeys(("segwithu-slicer", "python", "torch", "monai", "numpy", "SimpleITK"), _VERSION),
            "platform": _matching("linux|darwin|win32"),
        }
    ),
    "device": _matching(r"(cpu|mps|cuda)(:[0-9]{1,3})?"),
    "maps": _object({name: _object(_MAP) for name in ("error_probability", "ranking", "calibration")}),
    "regions": lambda _value: None,
    "timings_s": _numbers_of(("reading", "preparing", "segmenting", "computing the maps", "finding regions")),
    "peak_memory_mb": _number,
}
_REGIONS: dict[str, Keep] = {
    "count": _number,
    "settings": _numbers_of(("threshold", "sigma_mm", "split", "extent_mm", "haze")),
    "expected_wrong_mm3": _number,
    "expected_wrong_in_regions_mm3": _number,
}
_CHANNEL: dict[str, Keep] = {"name": _name, "voxels_sha256": _HASH}
_GRID = dict.fromkeys(("size_ijk", "spacing_mm", "origin_lps_mm", "direction_lps"), _numbers)
_RULE = _object(dict.fromkeys(("flagged_share", "missed", "bound", "p_value", "limit", "useful"), _number))
_MODEL = {
    **dict.fromkeys(("name", "head"), _name),
    "version": _VERSION,
    **dict.fromkeys(("weights_sha256", "calibration_sha256", "network_sha256"), _HASH),
    **dict.fromkeys(("calibrated", "calibration_cases", "head_trained"), _number),
    "flags": _object(
        {
            **dict.fromkeys(("cases", "alpha", "bad_dice", "bad_cases", "least_alpha"), _number),
            "rules": _object(dict.fromkeys(LIMITS, _RULE)),
        }
    ),
}
_STRUCTURE: dict[str, Keep] = {
    "value": _number,
    "name": _name,
    "color": _numbers,
    **dict.fromkeys(("category", "type", "modifier"), _CODE),
    **dict.fromkeys(("voxels", "volume_mm3", "expected_volume_mm3", "expected_wrong_mm3", "uncertain_share"), _number),
    **dict.fromkeys(("uncertain_mm3", "predicted_dice", "predicted_dice_informative", "calibration_cases"), _number),
    "expected_interval_mm3": _numbers,
}
