"""The store of models as the panel shows it: rows of its table, and jobs, each one call of `segwithu`."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from SegWithUCore.models.bundle import read_unchecked
from SegWithUCore.models.installed import FoundModel
from SegWithUCore.models.model_name import folder_name, version_key
from SegWithUCore.models.model_row import AVAILABLE, DAMAGED, INSTALLED, UPDATE, WITHDRAWN, ModelRow, installed_row
from SegWithUCore.models.quality import model_warnings
from SegWithUCore.util.errors import InputError
from SegWithUCore.util.paths import bundle_folders, resource_path, user_models_folder
from SegWithUCore.util.progress import time_left
from SegWithUCore.worker.check import NNUNET

from ..i18n import _
from .command import CommandEnd


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
        wish = "--add" if row.calibrated else "--cases"
        lines.append(f"segwithu calibrate --model {row.key} {wish} CASES --output FOLDER")
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


REFRESH, DOWNLOAD, IMPORT, VERIFY, DELETE = "refresh", "download", "import", "verify", "delete"
NO_ENGINE = ""


@dataclass(frozen=True)
class ModelTask:
    """One job.

    Attributes:
        kind: what it does.
        title: for the user, such as "Download liver@1.2.0".
        arguments: of the command line.
        output: what it makes; half-written things beside it are removed if it is ended.
        engine: that has to be there: "torch", or "" for none.
    """

    kind: str
    title: str
    arguments: tuple[str, ...]
    output: str
    engine: str = NO_ENGINE

    @property
    def networks(self) -> str:
        """Whose networks run that are no model yet."""
        return NNUNET if self.engine else ""


def refresh() -> ModelTask:
    """List what the registries offer."""
    return ModelTask(REFRESH, _("Refresh the list"), ("models", "list", "--available"), str(user_models_folder() / "."))


def download(row: ModelRow) -> ModelTask:
    """Install a version from a registry; its licences were shown, and what is restricted or withdrawn was agreed to."""
    target = user_models_folder() / folder_name(row.name, row.version)
    title = _("Download {model}").format(model=row.key)
    agreed = (*(() if row.commercial_use else ("--yes",)), *(("--withdrawn",) if row.state == WITHDRAWN else ()))
    return ModelTask(DOWNLOAD, title, ("models", "download", row.key, *agreed), str(target))


def import_model(source: Path) -> ModelTask:
    """Install a bundle from a folder or zip file, or the network of an nnU-Net result folder."""
    title = _("Import {name}").format(name=source.name)
    if not is_nnunet(source):
        return ModelTask(IMPORT, title, ("models", "import", str(source)), str(user_models_folder() / source.name))
    name = nnunet_name(source)
    target = user_models_folder() / folder_name(name, "1.0.0")
    arguments = ("import-nnunet", str(source), "--name", name, "--version", "1.0.0", "--output", str(target))
    return ModelTask(IMPORT, title, arguments, str(target), engine="torch")


def verify(row: ModelRow) -> ModelTask:
    """Check the files of an installed model."""
    title = _("Verify {model}").format(model=row.key)
    return ModelTask(VERIFY, title, ("models", "verify", str(row.folder)), str(row.folder))


def delete(row: ModelRow) -> ModelTask:
    """Delete a model of the user's, after a question."""
    title = _("Delete {model}").format(model=row.key)
    return ModelTask(DELETE, title, ("models", "delete", row.key, "--yes"), str(row.folder))


def is_nnunet(folder: Path) -> bool:
    """Whether a folder looks like the result of a training of nnU-Net."""
    return folder.is_dir() and all((folder / name).is_file() for name in ("plans.json", "dataset.json"))


def nnunet_name(result: Path) -> str:
    """Name a model after the data set of a result folder: Dataset004_Hippocampus/nnUNetTrainer__... is hippocampus."""
    found = re.fullmatch(r"Dataset\d+_(.+)", result.parent.name)
    name = found[1] if found else result.name
    name = re.sub(r"[^A-Za-z0-9_.-]+", "_", name).strip("_.-").lower()
    return name or "nnunet"


def download_question(row: ModelRow) -> str:
    """Ask with size and licences of a version; what restricts its use is said in a sentence of its own."""
    lines = [
        _("Download {model}, {size}?").format(model=row.key, size=size_text(row.size) or _("size unknown")),
        row.task,
        _("Licence of the weights: {weights}. Licence of the training data: {data}.").format(
            weights=row.licence_weights, data=row.licence_data
        ),
    ]
    if not row.commercial_use:
        lines.append(_("These licences forbid commercial use. OK says that you agree to them."))
    if row.state == WITHDRAWN:
        lines.append(_("This version was withdrawn: {why} OK installs it all the same.").format(why=row.note))
    return "\n\n".join(lines)


def delete_question(row: ModelRow) -> str:
    """Ask which model goes, and from where."""
    text = _("Delete {model} ({size}) in {folder}?")
    return text.format(model=row.key, size=size_text(row.size), folder=row.folder)


def progress_text(event: Mapping[str, Any]) -> str:
    """Return where a job is: "downloading, 1.2 of 40.0 MB, about 20 s left"."""
    left = event.get("seconds_left")
    parts = [str(event.get("stage") or ""), str(event.get("detail") or "")]
    if isinstance(left, int | float) and left >= 1 and "about" not in parts[1]:  # long jobs tell it of the whole
        parts.append(time_left(float(left)))
    return ", ".join(filter(None, parts))


def end_lines(task: ModelTask, end: CommandEnd) -> list[str]:
    """Return how a job ended, and the next click."""
    if end.cancelled:
        return [_("{title} was cancelled: nothing was changed.").format(title=task.title)]
    if end.errors or end.result is None:
        return list(end.errors) or [_("{title}: it ended without a result.").format(title=task.title)]
    texts = {
        REFRESH: _("The list is up to date."),
        DOWNLOAD: _("{title}: it is installed."),
        IMPORT: _("{title}: it is installed."),
        VERIFY: _("{title}: it is whole."),
        DELETE: _("{title}: it is deleted."),
    }
    return [texts[task.kind].format(title=task.title)]
