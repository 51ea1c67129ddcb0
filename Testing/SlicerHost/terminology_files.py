"""Terminology files of Slicer's share folder, which the wheel lacks; a few codes, enough for the real logic to load."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_SCHEMAS = "https://raw.githubusercontent.com/qiicr/dcmqi/master/doc/schemas/"


def _code(value: str, meaning: str, **more: Any) -> dict[str, Any]:
    return {"CodingSchemeDesignator": "SCT", "CodeValue": value, "CodeMeaning": meaning, **more}


def _categories() -> list[dict[str, Any]]:
    structure = _code("123037004", "Anatomical Structure", showAnatomy=True)
    structure["Type"] = [
        _code("12738006", "Brain", recommendedDisplayRGBValue=[250, 250, 225]),
        _code("10200004", "Liver", recommendedDisplayRGBValue=[221, 130, 101]),
    ]
    tissue = _code("85756007", "Tissue", showAnatomy=True)
    tissue["Type"] = [_code("85756007", "Tissue", recommendedDisplayRGBValue=[128, 174, 128])]
    return [structure, tissue]


def write_terminology_files(folder: Path) -> Path:
    """Write the three files under <folder>/terminologies and return that folder."""
    target = folder / "terminologies"
    target.mkdir(parents=True, exist_ok=True)
    for name in ("SlicerGeneralAnatomy", "DICOM-Master"):
        content = {
            "SegmentationCategoryTypeContextName": f"Segmentation category and type - {name}",
            "@schema": f"{_SCHEMAS}segment-context-schema.json#",
            "SegmentationCodes": {"Category": _categories()},
        }
        path = target / f"SegmentationCategoryTypeModifier-{name}.term.json"
        path.write_text(json.dumps(content), encoding="utf-8")
    regions = {
        "AnatomicContextName": "Anatomic codes - DICOM master list",
        "@schema": f"{_SCHEMAS}anatomic-context-schema.json#",
        "AnatomicCodes": {"AnatomicRegion": [_code("12738006", "Brain")]},
    }
    (target / "AnatomicRegionAndModifier-DICOM-Master.term.json").write_text(json.dumps(regions), encoding="utf-8")
    return target
