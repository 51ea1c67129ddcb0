"""The section "Models": what is installed and what registries offer; each job is a child process."""

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import qt
import slicer

from SegWithUCore.models.model_row import ModelRow
from SegWithUCore.models.registry import REGISTRY_VARIABLE

from ..guarded import guarded
from ..i18n import _
from ..run import model_store
from ..run.child_process import Event
from ..run.command import CommandEnd, CommandProcess
from ..run.model_store import ModelTask, about_lines, cells, installed_rows, merged_rows
from ..run.session import session, set_setting, setting, start_timer
from ..run.worker import WorkerState
from .widgets import GuiConnections, connect_clicks, fit_columns, fit_rows, put_cell, set_up_table, updates_disabled

REGISTRY_SETTING, PLACE_SETTING = "SegWithU/Registry", "SegWithU/ModelsPlace"
STORE_PACKAGES = ("jsonschema", "packaging", "requests", "safetensors")
"""Without any of these no command of the store runs; Slicer ships some."""
FILES = "*.zip *.onnx"
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
        self.rows: list[ModelRow] = []
        """What the table shows."""
        self.process = CommandProcess(start_timer)
        self._stop = guarded(self.process.stop)
        self._offered: Sequence[ModelRow] = ()
        self._message = self._stage = ""
        self._gui = GuiConnections()
        set_up_table(ui.modelsTable, [_("Model"), _("State"), _("Size"), _("Calibrated"), _("Licence")])
        ui.registryEdit.text = setting(REGISTRY_SETTING)
        self._gui.connect_signal(ui.modelsTable, "itemSelectionChanged()", self.draw)
        connect_clicks(
            ui,
            refreshModelsButton=self.refresh,
            downloadModelButton=self.download,
            importFolderButton=lambda: self._import(qt.QFileDialog.getExistingDirectory, _("Folder of a model")),
            importFileButton=lambda: self._import(qt.QFileDialog.getOpenFileName, _("File of a model"), FILES),
            deleteModelButton=self.delete,
            cancelModelButton=self.cancel,
        )
        ui.registryEdit.connect("editingFinished()", guarded(self.registry_entered))
        ui.modelsButton.connect("contentsCollapsed(bool)", guarded(lambda folded: None if folded else self.show_list()))
        slicer.app.connect("aboutToQuit()", self._stop)
        self.draw()

    def draw(self) -> None:
        """Show what can be done now."""
        ui, row, busy = self.ui, self.selected, self.is_busy
        ui.modelsInfoLabel.text = "\n".join(about_lines(row))
        for widget in (ui.refreshModelsButton, ui.importFolderButton, ui.importFileButton, ui.registryEdit):
            widget.enabled = not busy
        ui.downloadModelButton.enabled = not busy and row is not None and row.folder is None
        ui.deleteModelButton.enabled = not busy and row is not None and row.own
        for widget in (ui.modelsBar, ui.modelsStageLabel, ui.cancelModelButton):
            widget.visible = busy
        ui.modelsStageLabel.text = self._stage
        ui.modelsMessageLabel.text = self._message
        ui.modelsMessageLabel.visible = bool(self._message)

    @property
    def is_busy(self) -> bool:
        """Whether a job is running."""
        return self.process.is_busy

    def close(self) -> None:
        """End what is running; what was finished stays."""
        slicer.app.disconnect("aboutToQuit()", self._stop)
        self._stop()

    # -- the list --

    @property
    def selected(self) -> ModelRow | None:
        """The selected model."""
        chosen = sorted({index.row() for index in self.ui.modelsTable.selectionModel().selectedRows()})
        return self.rows[chosen[0]] if len(chosen) == 1 and chosen[0] < len(self.rows) else None

    def select(self, key: str) -> None:
        """Select a model by `NAME@VERSION`."""
        row = next((place for place, one in enumerate(self.rows) if one.key == key), None)
        if row is not None:
            self.ui.modelsTable.setCurrentCell(row, 0)

    def show_list(self) -> None:
        """Show what is installed, and what registries offered when they were last asked; nothing connects."""
        before, table = self.selected, self.ui.modelsTable
        self.rows = merged_rows(installed_rows(), self._offered)
        with self._gui.updating(), updates_disabled(table):
            table.setRowCount(len(self.rows))
            for place, row in enumerate(self.rows):
                for column, text in enumerate(cells(row)):
                    put_cell(table, place, column, text, row.note or row.task)
            fit_columns(table, _WIDEST_PX)
            fit_rows(table, len(self.rows), _LEAST_ROWS, _MOST_ROWS)
            table.clearSelection()
            if before is not None:
                self.select(before.key)
        self.draw()

    def registry_entered(self) -> None:
        """Take the registry that was entered; Refresh lists what it offers."""
        text = str(self.ui.registryEdit.text).strip()
        if text != setting(REGISTRY_SETTING):
            set_setting(REGISTRY_SETTING, text)
            self._offered = ()
            self.show_list()

    # -- clicks --

    def refresh(self) -> None:
        """List what the registries offer."""
        self.registry_entered()
        self._begin(model_store.refresh())

    def download(self) -> None:
        """Install the selected version, after its size and licences were shown."""
        row = self.selected
        if row is not None and _agrees(model_store.download_question(row)):
            self._begin(model_store.download(row))

    def _import(self, choose: Callable[..., Any], title: str, *kinds: str) -> None:
        """Install what is chosen: a folder or a file."""
        chosen = choose(slicer.util.mainWindow(), title, setting(PLACE_SETTING), *kinds)
        if chosen:
            set_setting(PLACE_SETTING, str(Path(str(chosen)).parent))
            self._begin(model_store.import_model(Path(str(chosen))))

    def delete(self) -> None:
        """Delete the selected model, after a question."""
        row = self.selected
        if row is None or not _agrees(_("Delete {model} in {folder}?").format(model=row.key, folder=row.folder)):
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

    # -- a job --

    def _begin(self, task: ModelTask) -> None:
        """Start a job, if the packages that it needs are installed."""
        if self.is_busy:
            return
        self._message, self._stage = "", task.title
        self.ui.modelsBar.value = 0
        missing = [name for name in STORE_PACKAGES if importlib.util.find_spec(name) is None]  # nothing is imported
        if missing:
            text = _("{title} needs Python packages ({names}): press Try it and Apply first, which installs them.")
            self._message = text.format(title=task.title, names=", ".join(missing))
            self.draw()
            return

        def progress(fraction: float, event: Event) -> None:
            self.ui.modelsBar.value = round(100 * fraction)
            parts = [task.title, *(str(event.get(name) or "") for name in ("stage", "detail"))]
            self._stage = self.ui.modelsStageLabel.text = ", ".join(filter(None, parts))

        def ended(end: CommandEnd) -> None:
            done = task.done.format_map(end.result) if end.result else task.done
            done = _("it was cancelled, and nothing was changed.") if end.cancelled else done
            self._message, self._stage = "\n".join(end.errors) or f"{task.title}: {done}", ""
            if end.result is not None and "models" in end.result:
                self._offered = [ModelRow.from_json(row) for row in end.result["models"]]
            self.show_list()
            self._on_models_changed()

        entered = setting(REGISTRY_SETTING)
        variables = {REGISTRY_VARIABLE: entered} if entered else {}
        self.process.start(task.arguments, task.output, progress, ended, variables)
        self.draw()


def _agrees(question: str) -> bool:
    return bool(slicer.util.confirmOkCancelDisplay(question, windowTitle="SegWithU"))
