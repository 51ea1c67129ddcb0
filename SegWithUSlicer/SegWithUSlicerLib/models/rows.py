"""Rows of the table of models, and what is said about each; installed ones are read without torch and jsonschema."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from SegWithUCore.models.bundle import read_unchecked
from SegWithUCore.models.model_name import version_key
from SegWithUCore.models.model_row import AVAILABLE, DAMAGED, INSTALLED, UPDATE, WITHDRAWN, ModelRow, installed_row
from SegWithUCore.models.quality import model_warnings
from SegWithUCore.models.registry import FoundModel
from SegWithUCore.util.errors import InputError
from SegWithUCore.util.paths import bundle_folders, resource_path, user_models_folder

from ..i18n import _


def installed_rows(folders: Sequence[Path] | None = None) -> list[ModelRow]:
    """List what is installed, by name and newest first: at once, and without any package."""
    folders = [resource_path("Models"), user_models_folder()] if folders is None else folders
    rows = [_installed_row(folder) for place in folders for folder in bundle_folders(place).folders]
    rows.sort(key=lambda row: version_key(row.version), reverse=True)
    return sorted(rows, key=lambda row: row.name.lower())


def merged_rows(installed: Sequence[ModelRow], offered: Sequence[ModelRow]) -> list[ModelRow]:
    """List what is installed and what registries offered when they were last asked, and mark what they withdrew.

    What was deleted since then can be downloaded again where a registry has it.
    """
    withdrawn = {row.key: row.note for row in offered if row.state == WITHDRAWN}
    here = [
        replace(row, state=WITHDRAWN, note=withdrawn[row.key]) if row.key in withdrawn else row for row in installed
    ]
    keys = {row.key for row in here}
    gone = [row for row in offered if row.offered and row.key not in keys]
    others = [
        replace(row, folder=None, own=False, state=AVAILABLE if row.state == INSTALLED else row.state) for row in gone
    ]
    return sorted([*here, *others], key=lambda row: (row.name.lower(), row.folder is None))


def _installed_row(folder: Path) -> ModelRow:
    try:
        return installed_row(FoundModel(folder, read_unchecked(folder), None))
    except (InputError, LookupError, TypeError, ValueError, AttributeError) as error:
        why = str(error) if isinstance(error, InputError) else _("its description is damaged")
        return installed_row(FoundModel(folder, None, why))


def cells(row: ModelRow) -> tuple[str, ...]:
    """Return the texts of a row: model, state, size, calibrated, licence."""
    states = {
        INSTALLED: _("installed"),
        AVAILABLE: _("available"),
        UPDATE: _("update"),
        WITHDRAWN: _("withdrawn"),
        DAMAGED: _("damaged"),
    }
    state = states.get(row.state, row.state)
    if row.state == WITHDRAWN and row.folder is not None:
        state = _("installed, withdrawn")
    calibrated = {True: _("yes"), False: _("no"), None: ""}[row.calibrated]
    licence = row.licence_weights
    if not row.commercial_use:
        licence = _("{licence}, non-commercial").format(licence=licence)
    return (
        f"{row.name} {row.version}".strip(),
        state,
        size_text(row.size),
        calibrated,
        licence,
    )


def size_text(size: int | None) -> str:
    """Return a size in megabytes."""
    return "" if size is None else _("{size:.1f} MB").format(size=size / 1e6)


def about_lines(row: ModelRow) -> list[str]:
    """Return what is said of the selected model: what it is for, how good it is, whose it is."""
    if row.state == DAMAGED:
        return [row.note]
    lines = [row.task]
    if row.state == WITHDRAWN:
        lines.append(_("Withdrawn: {why}").format(why=row.note))
    lines += figure_lines(row.folder) if row.folder is not None else []
    if row.calibrated is False:
        lines.append(_("Not calibrated: there is no error probability."))
    text = _("Licences: weights {weights}, training data {data}.")
    lines.append(text.format(weights=row.licence_weights, data=row.licence_data))
    if row.is_installed:
        lines.append(_("To calibrate it on your labelled cases, type in a terminal:"))
        lines.append(f"segwithu calibrate --model {row.key} --cases CASES --output FOLDER")
    return lines


def adopt_lines() -> list[str]:
    """Return the command that makes a calibrated model of an nnU-Net training."""
    return [
        _("To make a calibrated model of an nnU-Net training, type in a terminal:"),
        "segwithu adopt RESULT_FOLDER --dataset RAW_DATA_SET --output FOLDER",
    ]


def figure_lines(folder: Path) -> list[str]:
    """Return in words what was measured of an installed model, and what it was calibrated on."""
    try:
        bundle = read_unchecked(folder)
        lines = [*model_warnings(bundle), *_measured(bundle.figures)]
        site = (bundle.calibration or {}).get("site")
    except (InputError, LookupError, TypeError, ValueError, AttributeError):
        return []
    if site:
        text = _("Calibrated anew on {cases} cases of {patients} patients.")
        lines.append(text.format(cases=site.get("cases"), patients=site.get("patients")))
    return lines


def _measured(figures: Mapping[str, Any] | None) -> list[str]:
    if not figures:
        return [_("Not measured on test cases here.")]
    means = {str(entry["title"]): float(entry["mean"]) for entry in figures["table"] if entry.get("mean") is not None}
    dice = [f"{mean:.2f} ({title.removeprefix('dice ')})" for title, mean in means.items() if title.startswith("dice ")]
    parts = [_("Dice {values}").format(values=", ".join(dice))] if dice else []
    if "auroc whole ranking" in means:
        text = _("a wrong voxel is ranked above a right one {share:.0f} % of the time")
        parts.append(text.format(share=100 * means["auroc whole ranking"]))
    if "error probability ece band" in means:
        text = _("the error probability is off by {points:.1f} percentage points near the surface")
        parts.append(text.format(points=100 * means["error probability ece band"]))
    text = _("On {cases} test cases: {figures}.")
    return [text.format(cases=figures["cases"], figures="; ".join(parts))] if parts else []
