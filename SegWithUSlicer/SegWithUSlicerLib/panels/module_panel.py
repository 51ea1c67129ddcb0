"""The whole panel: connects its sections with the session and the parameter node."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import qt
import slicer

from SegWithUCore.inference.settings import RunSettings

from ..guarded import Problem, attempt, guarded, listen, show_in_console
from ..i18n import _
from ..parameters import Parameters, run_settings
from ..run.controller import RunRequest, RunStatus
from ..run.model_store import ModelInfo, licence_question, list_models
from ..run.session import session, set_setting, setting, waiting_cursor
from ..run.worker import WorkerState
from ..scene.case_nodes import CaseNodes, find_cases, remove_items_without_node
from ..scene.load_case import follow_parent_transform
from ..scene.observers import Observations
from ..scene.sample import load_sample
from ..scene.slice_views import shown_volumes
from ..scene.steps import pause
from .cases_panel import CasesPanel
from .input_panel import InputPanel, wheels_problem
from .models_panel import ModelsPanel
from .overlay_panel import KEY, OverlayPanel
from .review_panel import ReviewPanel, ticked_before
from .review_widgets import ReviewKeys
from .run_panel import RunPanel
from .structures_panel import StructuresPanel
from .widgets import connect_clicks

LICENCES_SETTING = "SegWithU/Licences"
"""Models whose licences the user has accepted, one a line."""


class ModulePanel:
    """The module's panel, as driven by the module's widget.

    Args:
        ui: the widgets of the .ui file.
        models: those that can be chosen.
    """

    def __init__(self, ui: Any, models: Sequence[ModelInfo]) -> None:
        self.ui = ui
        self._parameters: Parameters | None = None
        self._gui_tag: int | None = None
        self._is_current = self._is_reviewing = self._models_are_old = False
        self._roi_watch, self._transform_watch = Observations(), Observations()
        self._placed: CaseNodes | None = None
        self.session = session()
        self.inputs = InputPanel(ui, models, self._inputs_changed)
        self.run = RunPanel(ui, self.session.diagnostics)
        self.overlay = OverlayPanel(ui, self._run_chosen, KEY)
        self.structures = StructuresPanel(ui)
        self.review = ReviewPanel(ui)
        self.structures.on_ticked, self.structures.on_structure = self.review.ask, self.review.go_to_structure
        self.review.on_question, self.review.on_figures = self.structures.tick, self.structures.show_figures
        self.review.files_of = self.session.files_of
        self.cases = CasesPanel(ui, self)
        self.models = ModelsPanel(ui, self.models_changed)
        self._row_changed, self.review.on_review_changed = self.review.on_review_changed, self._review_changed
        self.key = ReviewKeys({KEY: self.overlay.toggle})
        listen(self._problem_came)
        self.session.controller.on_status = self._status_came
        self.session.controller.on_loaded = self._loaded
        connect_clicks(ui, tryItButton=self.try_it, runButton=self.run_or_cancel, insistButton=self.insist)

    # -- what the module's widget calls --

    def bind(self, parameters: Parameters) -> None:
        """Show a scene: its choices, its runs, and the overlay that it has already."""
        self._unbind()
        self._parameters = parameters
        self.inputs.bind(parameters)
        self._gui_tag = parameters.connectGui(self.ui)
        self._parameters_tag = parameters.AddObserver("ModifiedEvent", guarded(lambda *_: self._watch_roi()))
        self._watch_roi()
        self.session.sweep()
        self._attach_shown_run()
        self._draw()

    def enter(self) -> None:
        """React to the module being shown."""
        self.key.install()
        if not self.is_busy:
            self.inputs.choose_shown()
        self._list_runs()
        self.overlay.refresh()
        self.review.enter()

    def exit(self) -> None:
        """React to another module being shown: a run continues, the overlay stays, a review pauses."""
        self.key.remove()
        self.overlay.show_again()
        self.review.exit()

    def close(self) -> None:
        """Release scene and session."""
        listen(None)
        attempt(
            self.key.remove,
            self.cases.close,
            self.models.close,
            self.review.close,
            self.inputs.added_later.stop,
            self.overlay.forget,
            self._unbind,
        )
        controller = self.session.controller
        controller.on_status = lambda status: None
        controller.on_loaded = lambda nodes: None

    def scene_closes(self) -> None:
        """React before the scene is emptied."""
        self._is_current = False  # the message of the last run concerns an image that is gone
        text = _("Cancelled because the scene was closed: press Try it, or load an image and choose it.")
        self.session.controller.cancel(text)
        attempt(
            self.review.end,
            lambda: self.review.show(None),
            self.overlay.forget,
            lambda: self.structures.show(None),
            self.cases.follow,
            self._unbind,
        )

    def node_removed(self, node: Any) -> None:
        """React to a removed node."""
        self.session.controller.check_inputs()
        shown = self.overlay.nodes
        if shown is not None and shown.hub is node:
            self.overlay.release()
            self.structures.show(None)
        self.review.node_removed(node)
        if node.IsA("vtkMRMLScriptedModuleNode"):
            self.session.sweep()
            self.cases.follow()
        if node.IsA("vtkMRMLScriptedModuleNode") or node.IsA("vtkMRMLVolumeNode"):
            self._list_runs()
            self.overlay.refresh()

    @property
    def is_busy(self) -> bool:
        """Whether a run is going on."""
        return self.session.controller.is_busy

    # -- clicks --

    def try_it(self) -> None:
        """Load the sample case and choose it."""
        sample = load_sample()
        self.inputs.choose(sample.volume, None, sample.model)

    def run_or_cancel(self) -> None:
        """Start a run, or cancel the current one."""
        if self.session.controller.is_busy:
            self.session.controller.cancel()
        else:
            self._start(False)

    def insist(self) -> None:
        """Segment although the image is far from the training cases."""
        self._start(True)

    def _start(self, unlike_training: bool) -> None:
        problem = wheels_problem()
        if problem:
            self.ui.statusLabel.text = problem
            return
        parameters, model = self._parameters, self.inputs.model
        if parameters is None or model is None or not self.inputs.is_complete or self.session.controller.is_busy:
            return
        if not _accepts_licence(model):
            return
        self._is_current = True
        self.run.problem = None
        settings = replace(self.settings(model), unlike_training=unlike_training)
        if parameters.mask is not None:  # a mask may have other structures
            settings = replace(settings, structures=())
        nodes = (self.inputs.volumes, model.folder, parameters.roi, parameters.mask)
        self.session.controller.start(RunRequest(*nodes, settings, self.inputs.mask_table.labels))

    def settings(self, model: ModelInfo) -> RunSettings:
        """Return what the user chose for runs of a model."""
        chosen = RunSettings() if self._parameters is None else run_settings(self._parameters)
        return replace(chosen, head=self.inputs.head or None, structures=ticked_before(model))

    def _run_chosen(self, index: int) -> None:
        runs = find_cases(slicer.mrmlScene)
        if index < len(runs):
            self.show_run(runs[index])

    # -- what comes from elsewhere --

    def _inputs_changed(self) -> None:
        self._is_current = False
        self.run.problem = None
        self._watch_roi()
        model, is_stopped = self.inputs.model, self.session.worker.state is WorkerState.STOPPED
        if model is not None and self.inputs.is_complete and is_stopped and not self.session.is_over:
            request = {"request": "check", "model": str(model.folder)}
            self.session.worker.submit(request, lambda event: None)  # started before the first Apply
        self._draw()

    def models_changed(self) -> None:
        """Offer what is installed now; during a run its model stays chosen, and the others come when it has ended."""
        self._models_are_old = self.is_busy
        if not self.is_busy:
            self.inputs.show_models(list_models())

    def _status_came(self, status: RunStatus) -> None:
        if self._models_are_old:
            self.models_changed()
        self._is_current = True
        self._draw()

    def _problem_came(self, problem: Problem) -> None:
        """Show what happened and draw the panel again: a callback was interrupted."""
        self.run.show_problem(problem)
        while qt.QApplication.overrideCursor() is not None:
            qt.QApplication.restoreOverrideCursor()
        for draw in (self._draw, self.cases.draw):
            try:
                draw()
            except Exception as error:  # noqa: BLE001 - reported already, and drawing again would not end
                show_in_console(error)

    @waiting_cursor()
    def _loaded(self, nodes: CaseNodes) -> None:
        self.inputs.hide_own_maps()
        self.inputs.show_handles(False)
        self.show_run(nodes)

    # -- drawing and bookkeeping --

    def _draw(self) -> None:
        controller = self.session.controller
        self.inputs.set_enabled(not controller.is_busy)
        hint, can_run = self.inputs.hint(), self.inputs.is_complete
        self.run.show(controller.status, self._is_current, hint, can_run, self._is_reviewing)
        self.cases.new.draw()

    def show_run(self, nodes: CaseNodes) -> None:
        """Show a run in all sections."""
        if self._parameters is not None:
            self._parameters.run = nodes.hub
        self.overlay.show_run(nodes)
        pause()
        self._show(nodes)
        pause()

    def _attach_shown_run(self) -> None:
        """Find the run that the scene shows already, else the one that was chosen when it was saved."""
        remove_items_without_node(slicer.mrmlScene)
        runs = find_cases(slicer.mrmlScene)
        in_front = shown_volumes(slicer.mrmlScene)[1]
        shown = next((one for one in runs if any(node.GetID() in in_front for node in one.maps.values())), None)
        if shown is None and runs:
            chosen = self._parameters.run if self._parameters is not None else None
            shown = next((nodes for nodes in runs if nodes.hub is chosen), runs[-1])
        self.inputs.hide_own_maps()
        self.overlay.attach(shown)
        self._show(shown)

    def _show(self, nodes: CaseNodes | None) -> None:
        self._watch_transforms(nodes)
        self._list_runs(nodes)
        self.ui.saveLabel.text = ""  # it is about the result before
        self.structures.show(nodes)
        self.review.show(nodes)
        self.cases.follow()

    def _list_runs(self, current: CaseNodes | None = None) -> None:
        self.overlay.list_runs(find_cases(slicer.mrmlScene), current or self.overlay.nodes)

    def _watch_roi(self) -> None:
        """Watch the region: once it is moved, the message of the last run concerns another one."""
        self.inputs.draw_handles()
        self.inputs.show_mask()
        roi = self._parameters.roi if self._parameters is not None else None
        self._roi_watch.clear()
        if roi is not None:
            self._roi_watch.add(roi, "ModifiedEvent", self._roi_moved)

    def _review_changed(self) -> None:
        self._row_changed()
        if (self.review.session is not None) != self._is_reviewing:
            self._is_reviewing = not self._is_reviewing
            self._draw()

    def _roi_moved(self, _roi: Any, _event: str) -> None:
        if self._is_current:
            self._is_current = False
            self._draw()

    def _watch_transforms(self, nodes: CaseNodes | None) -> None:
        """Watch the input's transform, so that results stay on the anatomy when it changes."""
        self._transform_watch.clear()
        self._placed = nodes
        for volume in nodes.inputs[:1] if nodes is not None else []:
            event = slicer.vtkMRMLTransformableNode.TransformModifiedEvent
            self._transform_watch.add(volume, event, self._transform_changed)

    def _transform_changed(self, _volume: Any, _event: str) -> None:
        if self._placed is not None:
            follow_parent_transform(self._placed)

    def _unbind(self) -> None:
        parameters, self._parameters = self._parameters, None
        if parameters is not None:
            parameters.RemoveObserver(self._parameters_tag)
            if self._gui_tag is not None:
                parameters.disconnectGui(self._gui_tag)
        self.inputs.bind(None)
        self._watch_roi()
        self._watch_transforms(None)


def _accepts_licence(model: ModelInfo) -> bool:
    """Ask once for a model whose licence is not permissive."""
    question, accepted = licence_question(model), setting(LICENCES_SETTING).split("\n")
    key = f"{model.name} {model.licence}"
    if question and key not in accepted:
        if not slicer.util.confirmOkCancelDisplay(question, windowTitle="SegWithU"):
            return False
        set_setting(LICENCES_SETTING, "\n".join([*filter(None, accepted), key]))
    return True
