"""The section "Models": what is installed and what registries offer; each job is a child process."""

import importlib.util
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import qt
import slicer

from SegWithUCore.models.download import REGISTRY_VARIABLE
from SegWithUCore.models.model_row import ModelRow
from SegWithUCore.util.paths import resource_path, user_models_folder

from ..guarded import guarded
from ..i18n import _
from ..run import model_store
from ..run.child_process import Event
from ..run.command import CommandEnd, CommandProcess
from ..run.controller import RunRequest
from ..run.install_plan import InstallOutcome, InstallResult, again
from ..run.model_store import (
    ModelTask,
    about_lines,
    adopt_lines,
    cells,
    delete_question,
    download_question,
    installed_rows,
    merged_rows,
)
from ..run.session import PYTHON_SETTING, session, set_setting, setting, start_timer
from ..run.worker import WorkerState
from .widgets import GuiConnections, connect_clicks, fit_columns, fit_rows, put_cell, set_up_table, updates_disabled

REGISTRY_SETTING, PLACE_SETTING = "SegWithU/Registry", "SegWithU/ModelsPlace"
STORE_PACKAGES = ("jsonschema", "packaging", "requests", "safetensors")
"""Without any of these no command of the store runs; Slicer ships some."""
BUTTONS = (
    "refreshModelsButton",
    "downloadModelButton",
    "importFolderButton",
    "importZipButton",
    "verifyModelButton",
    "deleteModelButton",
)

_LEAST_ROWS, _MOST_ROWS = 3, 8
_WIDEST_PX = (170, 120, 80, 80, 200)


class ModelsPanel:
    """The section "Models".

    Args:
        ui: the widgets of the .ui file.
        on_models_changed: called when a model was installed or deleted.
    """

    def __init__(self, ui: Any, on_models_changed: Callable[[], None]) -> None:
        self.ui, self._on_models_changed = ui, on_models_changed
        self.table = ModelsTable(ui.modelsTable, self.draw)
        self.process = CommandProcess(start_timer)
        self._offered: Sequence[ModelRow] = ()
        self._task: ModelTask | None = None
        self._lines: Sequence[str] = ()
        self._stage = ""
        self._is_waiting = False
        self._registry_before = os.environ.get(REGISTRY_VARIABLE)
        ui.registryEdit.text = setting(REGISTRY_SETTING)
        self._use_registry()
        actions = (self.refresh, self.download, self.choose_folder, self.choose_zip, self.verify, self.delete)
        connect_clicks(ui, **dict(zip(BUTTONS, actions, strict=True)), cancelModelButton=self.cancel)
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
        }
        for name in BUTTONS:
            getattr(ui, name).enabled = not busy and wanted.get(name, True)
        ui.registryEdit.enabled = not busy
        for name in ("modelsBar", "modelsStageLabel", "cancelModelButton"):
            getattr(ui, name).visible = busy
        ui.modelsStageLabel.text = self._stage
        ui.modelsMessageLabel.text = "\n".join(filter(None, self._lines))
        ui.modelsMessageLabel.visible = bool(ui.modelsMessageLabel.text)

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

    # -- the list --

    def _folded(self, collapsed: bool) -> None:
        if not collapsed:
            self.show_list()

    def show_list(self) -> None:
        """Show what is installed, and what registries offered when they were last asked; nothing connects."""
        self.table.fill(merged_rows(installed_rows(), self._offered))

    def _summary(self) -> str:
        text = _("Click a model to read what it is for. Your models lie in {folder}.")
        return "\n".join([text.format(folder=user_models_folder()), *adopt_lines()])

    def registry_entered(self) -> None:
        """Take the registry that was entered; Refresh lists what it offers."""
        text = str(self.ui.registryEdit.text).strip()
        if text != setting(REGISTRY_SETTING):
            set_setting(REGISTRY_SETTING, text)
            self._use_registry()
            self._offered = ()
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
        """List what the registries offer."""
        self.registry_entered()
        self._begin(model_store.refresh())

    def download(self) -> None:
        """Install the selected version, after its size and licences were shown."""
        row = self.table.selected
        if row is not None and _agrees(download_question(row)):
            self._begin(model_store.download(row))

    def choose_folder(self) -> None:
        """Install from a folder: a bundle, or the network of an nnU-Net result."""
        chosen = self._folder(_("Folder of a model, or of an nnU-Net result"))
        if chosen is not None:
            self._begin(model_store.import_model(chosen))

    def choose_zip(self) -> None:
        """Install from a zip file."""
        title, kind = _("Zip file of a model"), _("Model ({name})").format(name="*.zip")
        chosen = qt.QFileDialog.getOpenFileName(slicer.util.mainWindow(), title, setting(PLACE_SETTING), kind)
        if chosen:
            set_setting(PLACE_SETTING, str(Path(str(chosen)).parent))
            self._begin(model_store.import_model(Path(str(chosen))))

    def verify(self) -> None:
        """Check the files of the selected model."""
        row = self.table.selected
        if row is not None:
            self._begin(model_store.verify(row))

    def delete(self) -> None:
        """Delete the selected model, after a question."""
        row = self.table.selected
        if row is None or not _agrees(delete_question(row)):
            return
        worker = session().worker
        if worker.state is WorkerState.READY:  # it may hold the model
            worker.restart()
        self._begin(model_store.delete(row))

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
        if not task.engine and not missing_packages():
            self._start(task)
            return
        self._is_waiting = True
        self._stage = _("{title}: looking for the packages that it needs").format(title=task.title)
        self.ui.modelsBar.value = 0
        self.draw()
        model = resource_path("Models/hippocampus")
        request = RunRequest([], model, device="cpu", engine=task.engine or "auto", networks=task.networks)
        session().prepare(request, lambda result: self._prepared(task, result))

    def _prepared(self, task: ModelTask, result: InstallResult) -> None:
        self._is_waiting = False
        if result.outcome is InstallOutcome.READY:
            self._start(task)
        else:
            self._lines = [result.sentence.replace(again(), _("press the button again"))]
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
        self._stage = f"{self._task.title}: {model_store.progress_text(event)}"
        self.ui.modelsStageLabel.text = self._stage

    def _ended(self, task: ModelTask, end: CommandEnd) -> None:
        self._lines, self._stage = model_store.end_lines(task, end), ""
        if end.result is not None and task.kind == model_store.REFRESH:
            self._offered = [ModelRow.from_json(row) for row in end.result.get("models") or ()]
        self.draw()
        if task.kind != model_store.VERIFY:
            self.show_list()
            self._on_models_changed()


class ModelsTable:
    """Shows models in a QTableWidget.

    Args:
        table: the QTableWidget.
        on_selected: called when another row was selected.
    """

    def __init__(self, table: Any, on_selected: Callable[[], None]) -> None:
        self._table, self._on_selected = table, on_selected
        self._rows: list[ModelRow] = []
        self._gui = GuiConnections()
        titles = [_("Model"), _("State"), _("Size"), _("Calibrated"), _("Licence")]
        set_up_table(table, titles)
        self._gui.connect_signal(table, "itemSelectionChanged()", on_selected)

    @property
    def rows(self) -> Sequence[ModelRow]:
        """All rows."""
        return self._rows

    @property
    def selected(self) -> ModelRow | None:
        """The selected one."""
        rows = sorted({index.row() for index in self._table.selectionModel().selectedRows()})
        return self._rows[rows[0]] if len(rows) == 1 and rows[0] < len(self._rows) else None

    def fill(self, rows: Sequence[ModelRow]) -> None:
        """Show these models; the selected one stays selected."""
        before, table = self.selected, self._table
        self._rows = list(rows)
        with self._gui.updating(), updates_disabled(table):
            table.setRowCount(len(self._rows))
            for place, row in enumerate(self._rows):
                for column, text in enumerate(cells(row)):
                    put_cell(table, place, column, text, row.note or row.task)
            fit_columns(table, _WIDEST_PX)
            fit_rows(table, len(self._rows), _LEAST_ROWS, _MOST_ROWS)
            table.clearSelection()
            same = [place for place, row in enumerate(self._rows) if before is not None and row.key == before.key]
            exact = [place for place in same if before is not None and self._rows[place].folder == before.folder]
            if same:
                table.setCurrentCell((exact or same)[0], 0)
        self._on_selected()

    def select(self, key: str) -> None:
        """Select a model by `NAME@VERSION`."""
        for place, row in enumerate(self._rows):
            if row.key == key:
                self._table.setCurrentCell(place, 0)


def missing_packages() -> list[str]:
    """Return which packages of the store Slicer's Python lacks; nothing is imported."""
    return [name for name in STORE_PACKAGES if importlib.util.find_spec(name) is None]


def _agrees(question: str) -> bool:
    return bool(slicer.util.confirmOkCancelDisplay(question, windowTitle="SegWithU"))
