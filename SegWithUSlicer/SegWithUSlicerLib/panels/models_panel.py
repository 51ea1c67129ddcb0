"""The section "Models": what is installed and what registries offer; each job is a child process."""

import importlib.util
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import qt
import slicer

from SegWithUCore.errors import InputError
from SegWithUCore.models.model_row import ModelRow
from SegWithUCore.models.store_registry import REGISTRY_VARIABLE
from SegWithUCore.paths import resource_path, user_models_folder
from SegWithUCore.strict_json import parse_json

from ..guarded import guarded
from ..i18n import _
from ..models import tasks
from ..models.questions import adopt_question, calibrate_question, delete_question, download_question, flag_question
from ..models.rows import about_lines, installed_rows
from ..models.tasks import ModelTask
from ..run.child_process import Event
from ..run.command import CommandEnd, CommandProcess
from ..run.controller import RunRequest
from ..run.install_plan import InstallOutcome, InstallResult, again
from ..run.session import PYTHON_SETTING, session, set_setting, setting, start_timer
from ..run.worker import WorkerState
from .models_table import ModelsTable

REGISTRY_SETTING, PLACE_SETTING = "SegWithU/Registry", "SegWithU/ModelsPlace"
UNFINISHED_SETTING = "SegWithU/UnfinishedModelTask"
STORE_PACKAGES = ("jsonschema", "packaging", "requests", "safetensors")
"""Without any of these no command of the store runs; Slicer ships some."""
BUTTONS = (
    "refreshModelsButton",
    "downloadModelButton",
    "importFolderButton",
    "importZipButton",
    "verifyModelButton",
    "deleteModelButton",
    "calibrateModelButton",
    "adoptModelButton",
)


class ModelsPanel:
    """The section "Models".

    Args:
        ui: the widgets of the .ui file.
        on_models_changed: called when a model was installed or deleted.
    """

    def __init__(self, ui: Any, on_models_changed: Callable[[], None]) -> None:
        self.ui, self._on_models_changed = ui, on_models_changed
        self.table = ModelsTable(ui.modelsTable, self.draw)
        self.process, self.listing = CommandProcess(start_timer), CommandProcess(start_timer)
        self._task: ModelTask | None = None
        self._lines: Sequence[str] = ()
        self._stage = ""
        self._is_waiting = False
        self._registry_before = os.environ.get(REGISTRY_VARIABLE)
        ui.registryEdit.text = setting(REGISTRY_SETTING)
        self._use_registry()
        for name, action in zip(
            BUTTONS,
            (
                self.refresh,
                self.download,
                self.choose_folder,
                self.choose_zip,
                self.verify,
                self.delete,
                self.calibrate,
                self.adopt,
            ),
            strict=True,
        ):
            getattr(ui, name).connect("clicked(bool)", guarded(action))
        ui.cancelModelButton.connect("clicked(bool)", guarded(self.cancel))
        ui.goOnModelButton.connect("clicked(bool)", guarded(self.go_on))
        ui.registryEdit.connect("editingFinished()", guarded(self.registry_entered))
        ui.modelsButton.connect("contentsCollapsed(bool)", guarded(self._folded))
        slicer.app.connect("aboutToQuit()", self._stop)
        self.draw()

    def draw(self) -> None:
        """Show what can be done now."""
        ui, row, busy = self.ui, self.table.selected, self.is_busy
        ui.modelsInfoLabel.text = "\n".join(about_lines(row)) if row is not None else self._summary()
        wanted = {
            "downloadModelButton": row is not None and row.folder is None,
            "verifyModelButton": row is not None and row.is_installed,
            "deleteModelButton": row is not None and row.own,
            "calibrateModelButton": row is not None and row.is_installed,
        }
        for name in BUTTONS:
            getattr(ui, name).enabled = not busy and wanted.get(name, True)
        ui.registryEdit.enabled = not busy
        for name in ("modelsBar", "modelsStageLabel", "cancelModelButton"):
            getattr(ui, name).visible = busy
        ui.modelsStageLabel.text = self._stage
        ui.modelsMessageLabel.text = "\n".join(filter(None, self._lines))
        ui.modelsMessageLabel.visible = bool(ui.modelsMessageLabel.text)
        unfinished = self._unfinished()
        ui.goOnModelButton.visible = unfinished is not None and not busy
        if unfinished is not None:
            ui.goOnModelButton.text = _("Go on: {title}").format(title=unfinished.title)

    @property
    def is_busy(self) -> bool:
        """Whether a job is running, or packages are looked for."""
        return self.process.is_busy or self._is_waiting

    def close(self) -> None:
        """End what is running; what was finished stays."""
        slicer.app.disconnect("aboutToQuit()", self._stop)
        self._stop()
        if self._registry_before is None:
            os.environ.pop(REGISTRY_VARIABLE, None)
        else:
            os.environ[REGISTRY_VARIABLE] = self._registry_before

    @guarded
    def _stop(self) -> None:
        self.process.stop()
        self.listing.stop()

    # -- the list --

    def _folded(self, collapsed: bool) -> None:
        if not collapsed:
            self.show_list()

    def show_list(self) -> None:
        """Show at once what is installed, then what registries offer as they were last fetched; nothing connects."""
        if not self.table.rows:
            self.table.fill(installed_rows())
        if self.listing.is_busy or missing_packages():
            self.table.fill(installed_rows())
            return
        self.listing.start(
            ["models", "list", "--available"], user_models_folder(), lambda _fraction, _what: None, self._listed
        )

    def _listed(self, end: CommandEnd) -> None:
        if end.result is not None:
            rows = [ModelRow.from_json(row) for row in end.result.get("models") or ()]
            damaged = [row for row in installed_rows() if row.name not in {other.name for other in rows} and row.note]
            self.table.fill([*rows, *damaged])
        else:
            self.table.fill(installed_rows())
        self.draw()

    def _summary(self) -> str:
        text = _("Click a model to read what it is for. Your models lie in {folder}.")
        return text.format(folder=user_models_folder())

    def registry_entered(self) -> None:
        """Take the registry that was entered, and list what it offers."""
        text = str(self.ui.registryEdit.text).strip()
        if text != setting(REGISTRY_SETTING):
            set_setting(REGISTRY_SETTING, text)
            self._use_registry()
            self.show_list()

    def _use_registry(self) -> None:
        """Let the children of this Slicer know the registry; where none is entered, that of its environment counts."""
        entered = setting(REGISTRY_SETTING)
        if entered:
            os.environ[REGISTRY_VARIABLE] = entered
        elif self._registry_before is None:
            os.environ.pop(REGISTRY_VARIABLE, None)
        else:
            os.environ[REGISTRY_VARIABLE] = self._registry_before

    # -- clicks --

    def refresh(self) -> None:
        """Fetch the lists of the registries."""
        self.registry_entered()
        self._begin(tasks.refresh())

    def download(self) -> None:
        """Install the selected version, after its size and licences were shown."""
        row = self.table.selected
        if row is not None and _agrees(download_question(row)):
            self._begin(tasks.download(row))

    def choose_folder(self) -> None:
        """Install from a folder: a bundle, or the network of an nnU-Net result."""
        chosen = self._folder(_("Folder of a model, or of an nnU-Net result"))
        if chosen is not None:
            self._begin(tasks.import_model(chosen))

    def choose_zip(self) -> None:
        """Install from a zip file."""
        title, kind = _("Zip file of a model"), _("Model ({name})").format(name="*.zip")
        chosen = qt.QFileDialog.getOpenFileName(slicer.util.mainWindow(), title, setting(PLACE_SETTING), kind)
        if chosen:
            set_setting(PLACE_SETTING, str(Path(str(chosen)).parent))
            self._begin(tasks.import_model(Path(str(chosen))))

    def verify(self) -> None:
        """Check the files of the selected model."""
        row = self.table.selected
        if row is not None:
            self._begin(tasks.verify(row))

    def delete(self) -> None:
        """Delete the selected model, after a question."""
        row = self.table.selected
        if row is None or not _agrees(delete_question(row)):
            return
        worker = session().worker
        if worker.state is WorkerState.READY:  # it may hold the model
            worker.restart()
        self._begin(tasks.delete(row))

    def calibrate(self) -> None:
        """Calibrate the selected model on labelled cases of the user's."""
        row = self.table.selected
        if row is None:
            return
        cases = self._folder(_("Folder of your cases: images and labels, or imagesTr and labelsTr"))
        if cases is not None:
            task = tasks.calibrate(row, cases)
            if _agrees(calibrate_question(row, Path(task.output))):
                self._begin(task)

    def adopt(self) -> None:
        """Make a calibrated model of an nnU-Net training."""
        result = self._folder(_("Result folder of nnU-Net: it holds plans.json and fold_0"))
        if result is None:
            return
        dataset = self._folder(_("Raw data set that it was trained with: imagesTr and labelsTr"))
        if dataset is not None:
            task = tasks.adopt(result, dataset)
            if _agrees(adopt_question(task)):
                self._begin(task)

    def go_on(self) -> None:
        """Go on with what was cancelled, cut off or lost with Slicer."""
        task = self._unfinished()
        row = None if task is None else tasks.withdrawn_since(task, self.table.rows)
        if task is not None and (row is None or _agrees(download_question(row))):
            self._begin(task)

    def cancel(self) -> None:
        """Give the job up."""
        self._stage = _("Cancelling...")
        self.process.cancel()
        self.draw()

    def _folder(self, title: str) -> Path | None:
        chosen = qt.QFileDialog.getExistingDirectory(slicer.util.mainWindow(), title, setting(PLACE_SETTING))
        if not chosen:
            return None
        set_setting(PLACE_SETTING, str(chosen))
        return Path(str(chosen))

    # -- a job --

    def _begin(self, task: ModelTask) -> None:
        """Make sure that the packages are there, which asks before it installs any, and start."""
        if self.is_busy:
            return
        self._lines, self._task, self._stage = (), task, task.title
        if task.goes_on:  # before packages are asked for: installing some needs a restart of Slicer
            set_setting(UNFINISHED_SETTING, json.dumps(task.to_json()))
        if not task.engine and not missing_packages():
            self._start(task)
            return
        self._is_waiting = True
        self._stage = _("{title}: looking for the packages that it needs").format(title=task.title)
        self.ui.modelsBar.value = 0
        self.draw()
        model = Path(task.model) if task.model else resource_path("Models/hippocampus")
        request = RunRequest([], model, device="cpu", engine=task.engine or "auto", networks=task.networks)
        session().prepare(request, lambda result: self._prepared(task, result))

    def _prepared(self, task: ModelTask, result: InstallResult) -> None:
        self._is_waiting = False
        if result.outcome is InstallOutcome.READY:
            self._start(task)
        else:
            click = _("press Go on") if task.goes_on else _("press the button again")
            self._lines = [result.sentence.replace(again(), click)]
            self.draw()

    def _start(self, task: ModelTask) -> None:
        python = setting(PYTHON_SETTING) if task.engine else ""
        self.ui.modelsBar.value = 0
        self.process.start(
            task.arguments,
            Path(task.output),
            lambda fraction, _what: self._show_progress(fraction),
            lambda end: self._ended(task, end),
            self._show_stage,
            python,
            slicer.util.startupEnvironment() if python else None,
        )
        self.draw()

    def _show_progress(self, fraction: float) -> None:
        self.ui.modelsBar.value = round(100 * fraction)

    def _show_stage(self, event: Event) -> None:
        assert self._task is not None
        self._stage = f"{self._task.title}: {tasks.progress_text(event)}"
        self.ui.modelsStageLabel.text = self._stage

    def _ended(self, task: ModelTask, end: CommandEnd) -> None:
        flag = tasks.flag_wanted(task, end)
        if flag and _agrees(flag_question(flag)):
            self._begin(task.with_flag(flag))
            return
        self._lines, self._stage = tasks.end_lines(task, end), ""
        if end.result is not None and task.goes_on:
            set_setting(UNFINISHED_SETTING, "")
            tasks.remove_unfinished(task)
        self.draw()
        if end.result is not None and task.kind == tasks.ADOPT and end.result.get("page"):
            qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(str(end.result["page"])))
        if task.kind != tasks.VERIFY:
            self.show_list()
            self._on_models_changed()

    def _unfinished(self) -> ModelTask | None:
        try:
            return ModelTask.from_json(parse_json(setting(UNFINISHED_SETTING) or "null", UNFINISHED_SETTING))
        except InputError:
            return None


def missing_packages() -> list[str]:
    """Return which packages of the store Slicer's Python lacks; nothing is imported."""
    return [name for name in STORE_PACKAGES if importlib.util.find_spec(name) is None]


def _agrees(question: str) -> bool:
    return bool(slicer.util.confirmOkCancelDisplay(question, windowTitle="SegWithU"))
