"""Anonymous copies of case folders: known files only, without reviews, names, dates, identifiers and paths."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import SimpleITK as sitk

from ..case import case_file, region_files
from ..case.case_files import CASE_SCHEMA, case_volume, file_record, named_files, regions_of_case
from ..case.case_folders import VOLUMES, case_contents
from ..case.case_image import IMAGE_FILE, case_image
from ..case.case_regions import ERROR_PROBABILITY_FILE, assessed_part
from ..case.pictures import PREVIEW_FILE, Grid, Shown, can_draw, preview, strongest_tint, write_png
from ..case.segmentation_file import write_drawn_nrrd
from ..case.structures_table import STRUCTURES_FILE, write_structures
from ..inference.deviation import JUDGED_KIND, KINDS, SEVERITIES, WARNING, Deviation
from ..io.grid import VoxelGrid
from ..io.volume import check_file
from ..models.input_spec import Label
from ..models.quality import EMPTY_KIND, MISPLACED_KIND, QUALITY_KIND
from ..review.status import with_status
from ..util.csv_files import harmless_cell
from ..util.errors import InputError, OutputError
from ..util.strict_json import schema

# Replaces a value that may not be exported.
LEFT_OUT = object()
# Warnings other than OOD warnings.
_KIND_WORDS = {
    MISPLACED_KIND: "Structures are not where the model draws them",
    EMPTY_KIND: "Nothing was drawn of the {whom}",
    JUDGED_KIND: "The segmentation was made elsewhere, and what is shown is disagreement with the model",
    QUALITY_KIND: "The model does not draw a structure, or too poorly to be used for it",
}


def anonymous_copy(
    folder: Path, target: Path, alias: str, image_file: Path | None = None, with_image: bool = True
) -> Path:
    """Copy a case folder without reviews, names, dates, identifiers and paths; the image is put inside.

    New headers hold the geometry and nothing else. Voxels stay as they are.

    Args:
        target: an empty or missing folder; made whole by the caller.
        alias: the name of the case in the copy.
        image_file: current path of the image, if it was moved.
        with_image: whether the image is put inside.

    Raises:
        InputError: the case or its image cannot be read.
        OutputError: the copy cannot be written.
    """
    present, case = case_contents(folder).model, case_file.read_case(folder)
    target.mkdir(parents=True, exist_ok=True)
    try:
        with case_file.naming_case(folder):
            image = strip_metadata(case_image(folder, case, image_file)) if with_image else None
            if image is not None:
                write_volume(image, target / IMAGE_FILE)
            content = anonymous_facts(case, alias, IMAGE_FILE)
            case_file.parse_description(content, str(folder / case_file.CASE_FILE))
            for name in VOLUMES:
                if name in present or name in named_files(case):
                    write_volume(strip_metadata(case_volume(folder, case, name)), target / name)
            if {case_file.SEGMENTATION_NRRD_FILE} & {*present, *named_files(case)}:
                drawn = case_volume(folder, case, case_file.SEGMENTATION_FILE)
                write_drawn_nrrd(target / case_file.SEGMENTATION_NRRD_FILE, drawn, content)
            _copy_regions(folder, case, target, content)
            write_structures(content, target / STRUCTURES_FILE)
            if image is not None and can_draw():
                _draw_preview(folder, case, image, target / PREVIEW_FILE)
            copies = sorted(path for path in target.iterdir() if path.name != IMAGE_FILE)
            records = {path.name: file_record(path) for path in copies}
            case_file.write_case(target, {**content, case_file.FILES: records})
    except RuntimeError as error:  # of SimpleITK's readers
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{folder} has a damaged volume ({reason}): segment the case again.") from error
    return target


def _draw_preview(folder: Path, case: Mapping[str, Any], image: sitk.Image, path: Path) -> None:
    """Draw the picture of a case, which shows nothing but its volumes."""
    box, has_risk = assessed_part(case, image), "error_probability" in case["maps"]
    part, drawn = box.crop(image), box.crop(case_volume(folder, case, case_file.SEGMENTATION_FILE))
    shown = Shown(
        sitk.GetArrayViewFromImage(part),
        sitk.GetArrayViewFromImage(drawn),
        sitk.GetArrayFromImage(box.crop(case_volume(folder, case, ERROR_PROBABILITY_FILE))) if has_risk else None,
        {label.value: label for label in map(Label.from_json, case["structures"])},
        Grid.of(VoxelGrid.of(part)),
        strongest_tint(case),
    )
    write_png(preview(shown), path)


def strip_metadata(image: sitk.Image) -> sitk.Image:
    """Voxels and geometry, without anything else that a header may hold."""
    copy = sitk.GetImageFromArray(sitk.GetArrayViewFromImage(image), image.GetNumberOfComponentsPerPixel() > 1)
    copy.CopyInformation(image)
    return copy


def _copy_regions(folder: Path, case: dict[str, Any], target: Path, content: dict[str, Any]) -> None:
    """Copy the table of regions as it is, since its hash ties the reviews to it, if it holds nothing but regions.

    Raises:
        InputError: it holds something else, which could tell of people.
    """
    if content.get("regions") is None:
        return
    regions, text = regions_of_case(folder, case)[0], region_files.regions_text(folder)
    own = [str(entry["name"]) for entry in content["structures"]]
    names = {*own, *(str(harmless_cell(name)).replace(";", ",") for name in own)}  # as `regions.csv` has them
    named = {region.structure for region in regions}
    named |= {name for region in regions for one in region.competing for name in (one.truth, one.read_as)}
    if region_files.regions_csv(regions) != text or not named <= names:
        message = f"{folder / region_files.REGIONS_FILE} has other content than regions: run segwithu regions again."
        raise InputError(message, "changed-regions")
    (target / region_files.REGIONS_FILE).write_text(text, encoding="utf-8", newline="")


def write_volume(image: sitk.Image, path: Path) -> None:
    """Write a volume, and read it again: the image libraries report no error on a full disk.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        sitk.WriteImage(image, str(path), useCompression=True)
        check_file(path)
    except (RuntimeError, InputError, OSError) as error:
        raise OutputError(f"Cannot write {path}: the disk is full or read-only; choose another place.") from error


def anonymous_facts(case: Mapping[str, Any], alias: str, image_file: str) -> dict[str, Any]:
    """Keep of `case.json` only what is known to say nothing about people.

    Args:
        alias: stands for the name of the case.
        image_file: of the image in the anonymous folder.

    Raises:
        KeyError, TypeError: something that every case has is missing or of another kind.
    """
    names = {entry["value"]: str(entry["name"]) for entry in case["structures"]}
    found = ", ".join(name for value, name in names.items() if value)
    kept = _kept(case, schema(CASE_SCHEMA), [*map(str, names), *names.values()])
    kept["input"]["channels"] = [{**channel, "file": image_file} for channel in kept["input"]["channels"]]
    facts = {
        **kept,
        "name": alias,
        "anonymous": True,
        "model": {"version": "?", **kept["model"], "task": f"Segmentation of {found}."},
        "ood": {"warnings": _warnings(case, names)},
    }
    return with_status(facts)


def _warnings(case: Mapping[str, Any], names: Mapping[int, str]) -> list[dict[str, Any]]:
    """Word the warnings of a case by their kind alone."""
    made = []
    for warning in (case.get("ood") or {}).get("warnings") or []:
        kind, structure = warning.get("kind"), warning.get("structure")
        structure = structure if isinstance(structure, int) and structure in names else None
        what = kind if kind in KINDS else "something"
        whom = "The image" if structure is None else names[structure]
        severity = warning["severity"] if warning["severity"] in SEVERITIES else WARNING
        message = _KIND_WORDS.get(what, "{whom} is out of distribution: {what}").format(whom=whom, what=what)
        made.append(Deviation(severity, f"{message} (details were left out for anonymity).", what, structure).to_json())
    return made


def _kept(value: Any, part: Mapping[str, Any], names: Sequence[str]) -> Any:
    """Keep of a value what its schema marks as anonymous, `LEFT_OUT` of what it does not.

    Args:
        part: of the schema of cases.
        names: label values and names of the structures, which may be keys where any are allowed.

    Raises:
        TypeError: a list holds something else than numbers: without that it would be another list.
    """
    allowed = part.get("anonymous", False)
    if value is None or not allowed:
        return None if allowed else LEFT_OUT
    if isinstance(allowed, str):
        return value if isinstance(value, str) and re.fullmatch(allowed, value) else LEFT_OUT
    for more in (schema(CASE_SCHEMA)["$defs"].get(part.get("$ref", "").rpartition("/")[2], {}), part):
        part = {**part, **more, **next((each for each in more.get("oneOf", ()) if each.get("type") != "null"), {})}
    parts = dict(part.get("properties", {}))
    if isinstance(value, list) and {"properties", "anonymous"} & part.get("items", {}).keys():
        found_items = (_kept(each, part["items"], names) for each in value)
        return [each for each in found_items if each is not LEFT_OUT]
    if parts or part.get("type") == "object":
        if not isinstance(value, Mapping):
            raise TypeError(f"{value!r:.40} instead of an object")
        parts = dict.fromkeys(names, part.get("additionalProperties", {})) | parts
        found = {key: _kept(value[key], one, names) for key, one in parts.items() if key in value}
        return {key: one for key, one in found.items() if one is not LEFT_OUT}
    if isinstance(value, list) and not all(one is None or isinstance(one, bool | int | float) for one in value):
        raise TypeError(f"{value!r:.80} instead of numbers")
    return value if isinstance(value, bool | int | float | list) else LEFT_OUT
