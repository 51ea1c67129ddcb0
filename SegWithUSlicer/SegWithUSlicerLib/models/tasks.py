"""What is done with models, each as one call of `segwithu`, and what is told of its course and end."""

import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from SegWithUCore.models.model_name import folder_name, site_version
from SegWithUCore.models.model_row import WITHDRAWN, ModelRow
from SegWithUCore.paths import user_models_folder
from SegWithUCore.progress import time_left
from SegWithUCore.worker.check import NNUNET

from ..i18n import _
from ..run.command import CommandEnd

REFRESH, DOWNLOAD, IMPORT, VERIFY, DELETE, CALIBRATE, ADOPT = (
    "refresh",
    "download",
    "import",
    "verify",
    "delete",
    "calibrate",
    "adopt",
)
NO_ENGINE = ""
ADOPTIONS_FOLDER = ".adoptions"
"""In the user's folder of models: what adopting has finished so far."""
ADOPT_FLAGS = ("--unseen", "--redo")


@dataclass(frozen=True)
class ModelTask:
    """One job.

    Attributes:
        kind: what it does.
        title: for the user, such as "Download liver@1.2.0".
        arguments: of the command line.
        output: what it makes; half-written things beside it are removed if it is ended.
        engine: that has to be there: "auto", "torch", or "" for none.
        model: the folder of the model that runs; "" for any.
        goes_on: the same call goes on with what was finished.
    """

    kind: str
    title: str
    arguments: tuple[str, ...]
    output: str
    engine: str = NO_ENGINE
    model: str = ""
    goes_on: bool = False

    @property
    def networks(self) -> str:
        """Whose networks run that are no model yet."""
        return NNUNET if self.kind in (ADOPT, IMPORT) and self.engine else ""

    def with_flag(self, flag: str) -> "ModelTask":
        """Return the same task with one more flag of the command line."""
        return replace(self, arguments=(*self.arguments, flag))

    def to_json(self) -> dict[str, Any]:
        """For the settings, which keep what is unfinished."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Any) -> "ModelTask | None":
        """From the settings; None for what no task was written as."""
        if not isinstance(data, Mapping) or set(data) != {field.name for field in fields(cls)}:
            return None
        arguments = data["arguments"]
        if not isinstance(arguments, list) or not all(isinstance(one, str) for one in arguments):
            return None
        texts = {key: value for key, value in data.items() if key not in ("arguments", "goes_on")}
        if not all(isinstance(value, str) for value in texts.values()):
            return None
        return cls(**texts, arguments=tuple(arguments), goes_on=data["goes_on"] is True)


def refresh() -> ModelTask:
    """Fetch the lists of the registries."""
    return ModelTask(REFRESH, _("Refresh the list"), ("models", "refresh"), str(user_models_folder() / "."))


def download(row: ModelRow) -> ModelTask:
    """Install a version from a registry; its licences were shown, and what is restricted was agreed to."""
    target = user_models_folder() / folder_name(row.name, row.version)
    title = _("Download {model}").format(model=row.key)
    return ModelTask(DOWNLOAD, title, ("models", "download", row.key, "--yes"), str(target), goes_on=True)


def withdrawn_since(task: ModelTask, rows: Sequence[ModelRow]) -> ModelRow | None:
    """Return the version that a download would go on with although it is withdrawn by now: that was not agreed to."""
    if task.kind != DOWNLOAD:
        return None
    return next((row for row in rows if row.key in task.arguments and row.state == WITHDRAWN), None)


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


def calibrate(row: ModelRow, cases: Path) -> ModelTask:
    """Calibrate an installed model on labelled cases; what is there under the same version is replaced."""
    target = user_models_folder() / folder_name(row.name, site_version(row.version))
    arguments = ("calibrate", "--model", str(row.folder), "--cases", str(cases), "--output", str(target), "--overwrite")
    title = _("Calibrate {model}").format(model=row.key)
    return ModelTask(CALIBRATE, title, arguments, str(target), engine="auto", model=str(row.folder))


def adopt(result: Path, dataset: Path) -> ModelTask:
    """Make a calibrated model of an nnU-Net result folder and its raw data set."""
    name = nnunet_name(result)
    target = user_models_folder() / folder_name(name, "1.0.0")
    work = user_models_folder() / ADOPTIONS_FOLDER / target.name
    title = _("Adopt {name}").format(name=name)
    places = ("--dataset", str(dataset), "--output", str(target), "--work", str(work), "--overwrite")
    full = ("adopt", str(result), *places, "--name", name, "--version", "1.0.0")
    return ModelTask(ADOPT, title, full, str(target), engine="torch", goes_on=True)


def is_nnunet(folder: Path) -> bool:
    """Whether a folder looks like the result of a training of nnU-Net."""
    return folder.is_dir() and all((folder / name).is_file() for name in ("plans.json", "dataset.json"))


def nnunet_name(result: Path) -> str:
    """Name a model after the data set of a result folder: Dataset004_Hippocampus/nnUNetTrainer__... is hippocampus."""
    found = re.fullmatch(r"Dataset\d+_(.+)", result.parent.name)
    name = found[1] if found else result.name
    name = re.sub(r"[^A-Za-z0-9_.-]+", "_", name).strip("_.-").lower()
    return name or "nnunet"


def progress_text(event: Mapping[str, Any]) -> str:
    """Return where a job is: "downloading, 1.2 of 40.0 MB, about 20 s left"."""
    left = event.get("seconds_left")
    parts = [str(event.get("stage") or ""), str(event.get("detail") or "")]
    if isinstance(left, int | float) and left >= 1 and "about" not in parts[1]:  # long jobs tell it of the whole
        parts.append(time_left(float(left)))
    return ", ".join(filter(None, parts))


def flag_wanted(task: ModelTask, end: CommandEnd) -> str | None:
    """Return the flag with which an adoption would go on that was refused for want of it; a question asks for it."""
    if task.kind != ADOPT or end.cancelled or end.result is not None:
        return None
    said = " ".join(end.errors)
    return next((flag for flag in ADOPT_FLAGS if flag in said and flag not in task.arguments), None)


def remove_unfinished(task: ModelTask) -> None:
    """Remove what an adoption that has ended well had kept on the way."""
    if task.kind == ADOPT:
        shutil.rmtree(user_models_folder() / ADOPTIONS_FOLDER / Path(task.output).name, ignore_errors=True)


def end_lines(task: ModelTask, end: CommandEnd) -> list[str]:
    """Return how a job ended, and the next click."""
    if end.cancelled:
        return [_cancelled(task)]
    if end.errors or end.result is None:
        lines = list(end.errors) or [_("{title}: it ended without a result.").format(title=task.title)]
        return [*lines, _("Go on continues with what was finished.")] if task.goes_on else lines
    return _result_lines(task, end.result)


def _cancelled(task: ModelTask) -> str:
    if task.goes_on:
        return _("{title} was cancelled: what was finished is kept, Go on continues.").format(title=task.title)
    return _("{title} was cancelled: nothing was changed.").format(title=task.title)


def _result_lines(task: ModelTask, result: Mapping[str, Any]) -> list[str]:
    sentences = [str(sentence) for sentence in result.get("sentences") or ()]
    if task.kind == CALIBRATE and result.get("kept"):
        return [_("Keep the model's own calibration: on these cases nothing else predicts better."), *sentences]
    if task.kind == CALIBRATE:
        text = _("{model} {version} is installed, calibrated on these cases.")
        return [text.format(model=result.get("model"), version=result.get("version")), *sentences]
    if task.kind == ADOPT:
        return [str(result.get("headline") or _("The model is installed.")), str(result.get("page") or "")]
    texts = {
        REFRESH: _("The list is up to date."),
        DOWNLOAD: _("{title}: it is installed."),
        IMPORT: _("{title}: it is installed."),
        VERIFY: _("{title}: it is whole."),
        DELETE: _("{title}: it is deleted."),
    }
    return [texts[task.kind].format(title=task.title)]
