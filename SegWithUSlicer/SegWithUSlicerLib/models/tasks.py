"""What is done with models, each as one call of `segwithu`: questions before it, messages on its course and end."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from SegWithUCore.models.model_name import folder_name
from SegWithUCore.models.model_row import WITHDRAWN, ModelRow
from SegWithUCore.util.paths import user_models_folder
from SegWithUCore.util.progress import time_left
from SegWithUCore.worker.check import NNUNET

from ..i18n import _
from ..run.command import CommandEnd
from .rows import size_text

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
