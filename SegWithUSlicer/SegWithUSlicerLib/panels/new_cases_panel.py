"""What makes cases: of the shown result, of a folder of images, of the scene; and a model, of what was finished."""

from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

from SegWithUCore.case.case_file import CASE_FILE, read_description
from SegWithUCore.cli.arguments import check_folder_name, setting_words
from SegWithUCore.review.worklist import Worklist
from SegWithUCore.review.worklist_files import WORKLIST_JSON, write_worklist
from SegWithUCore.util.errors import InputError, SegWithUError
from SegWithUCore.util.paths import user_models_folder

from ..cases.case_list import CaseItem
from ..i18n import _
from ..review.store import is_same_case, review_folder
from ..run.child_process import Event
from ..run.command import CommandEnd
from ..run.controller import CASE_FOLDER
from ..run.private_folder import PrivateFolder
from ..run.session import temporary_root
from ..scene.volume_export import export_volume, unchanged_file
from .command_panel import CommandPanel, choose_folder
from .review_panel import settings_folder
from .widgets import connect_clicks

PLACE_SETTING, IMAGES_SETTING = "SegWithU/CasesPlace", "SegWithU/ImagesPlace"
_MOST_ERRORS = 5


class NewCasesPanel(CommandPanel):
    """The buttons that make cases, and a model.

    Args:
        ui: the widgets of the .ui file.
        panel: the whole panel, a `ModulePanel`.
        cases: lists the cases, a `CasesPanel`.
    """

    def __init__(self, ui: Any, panel: Any, cases: Any) -> None:
        super().__init__(ui.newCasesBar, ui.newCasesLabel)
        self.ui, self._panel, self._cases, self._output = ui, panel, cases, Path()
        self.saving: PrivateFolder | None = None
        """What is being saved: it stays until that has ended, whatever happens to the scene."""
        self._save_tip = ui.saveCaseButton.toolTip
        connect_clicks(
            ui,
            saveCaseButton=self.save,
            segmentFolderButton=self.segment_folder,
            segmentSceneButton=self.segment_scene,
            teachButton=self.teach,
            cancelNewCasesButton=self.process.cancel,
        )

    def draw(self) -> None:
        """Show what can be done now, and why the rest cannot."""
        super().draw()
        ui, model, busy, finished = self.ui, self._panel.inputs.model, self.process.is_busy, len(self._finished())
        ui.cancelNewCasesButton.visible = busy
        ui.segmentFolderButton.enabled = ui.segmentSceneButton.enabled = not busy and model is not None
        why = "" if finished else _("Finish structures of some cases first: a model learns from three patients on.")
        if model is None or not model.calibrated:
            why = _("Choose a calibrated model above.")
        tip = _("Calibrates the chosen model on the structures that reviewers finished, and adds it to your models.")
        ui.teachButton.text = _("Teach with the finished cases ({count})").format(count=finished)
        ui.teachButton.enabled, ui.teachButton.toolTip = not (busy or why), why or tip
        why = self._unsaved_why()
        ui.saveCaseButton.enabled, ui.saveCaseButton.toolTip = not why, why or self._save_tip
        ui.saveLabel.visible = bool(ui.saveLabel.text)

    # -- the shown result --

    def save(self) -> None:
        """Save the shown result as a case, named after its volume, in a folder that the user chooses.

        A review goes on in the case.
        """
        nodes, review = self._panel.overlay.nodes, self._panel.review
        parent = choose_folder(_("Folder of cases, which gets a folder for this result"), PLACE_SETTING)
        if parent is None or self._unsaved_why():
            return
        made, was_reviewing = self._panel.session.made[nodes.hub.GetID()], review.session is not None
        name = str((nodes.inputs or [nodes.hub])[0].GetName())
        try:
            check_folder_name(name, _("another name of the volume"))
            if not is_same_case(made.path / CASE_FOLDER, nodes):
                raise InputError(_("The files of this result are gone: press Apply again."))
            trouble = review.leave()
        except SegWithUError as error:
            trouble = str(error)
        if trouble:
            self._say(trouble)
            return
        targets = (parent / (f"{name}-{number}" if number > 1 else name) for number in count(1))
        target = next(each for each in targets if not each.exists())
        channels = nodes.case.raw["input"]["channels"]
        originals = [*map(unchanged_file, nodes.inputs), *[None] * len(channels)][: len(channels)]
        request = {
            "request": "save",
            "case": str(made.path / CASE_FOLDER),
            "target": str(target),
            "files": [str(file or "") for file in originals],
            "reviews": str(review_folder(nodes, settings_folder())),
        }

        def answered(event: Event) -> None:
            if event["event"] == "progress":
                return
            is_saved, self.saving = event["event"] == "saved", None
            if is_saved and nodes.hub.GetScene() is not None:
                nodes.set_case(read_description(target), target)
                self._panel.session.sweep()
            if was_reviewing and self._panel.overlay.nodes == nodes:
                review.start()
            if is_saved:
                self._cases.open_list(parent)
            text = _("Saved as {folder}.").format(folder=target)
            self._say(text if is_saved else str(event.get("text") or _("Not saved: press Save as case again.")))

        self.saving = made
        self._say(_("Saving..."))
        self._panel.session.worker.submit(request, answered)

    def _unsaved_why(self) -> str:
        """Return why the shown result cannot be saved as a case; "" if it can."""
        nodes = self._panel.overlay.nodes
        if nodes is None or nodes.hub.GetScene() is None:
            return _("Press Apply first.")
        if self.saving is not None or self._panel.is_busy:
            return _("Wait until the run has ended, and the case before is saved.")
        if nodes.case_folder is not None:
            return _("This result is the case {folder}.").format(folder=nodes.case_folder)
        if nodes.hub.GetID() not in self._panel.session.made:
            return _("A saved scene does not hold all files of a case: press Apply again, then save the new result.")
        return ""

    def _say(self, text: str) -> None:
        self.ui.saveLabel.text = text
        self.draw()

    # -- many --

    def segment_folder(self) -> None:
        """Segment the images of a folder that the user chooses."""
        folder = choose_folder(_("Folder of images: each file, and each folder of a series, is a case"), IMAGES_SETTING)
        output = self._choose_output() if folder is not None else None
        if output is not None:
            self._segment([str(folder), "--each"], output)

    def segment_scene(self) -> None:
        """Segment all volumes that could be chosen as the input; what has no file is written next to the cases."""
        output, files, left_out = self._choose_output(), list[str](), list[str]()
        if output is None:
            return
        for volume in self._panel.inputs.offered():
            name, images = str(volume.GetName()), output / "images"
            file = unchanged_file(volume) or images / f"{name}.nrrd"
            try:
                check_folder_name(name, _("another name of the volume"))
                if volume.GetParentTransformNode() is not None or str(file) in files:
                    text = _("{name} is under a transform, or another has its name: press Apply for it.")
                    raise InputError(text.format(name=name))
                if file.parent == images:
                    images.mkdir(parents=True, exist_ok=True)
                    export_volume(volume, file)
                files.append(str(file))
            except (SegWithUError, OSError) as error:
                left_out.append(str(error))
        if files:
            self._segment(files, output, left_out)
        else:
            self._show_message("\n".join(left_out) or _("There is no volume to segment."))

    def _choose_output(self) -> Path | None:
        if self.ui.roiSelector.currentNode() is not None or self.ui.maskSelector.currentNode() is not None:
            self._show_message(_("Whole images are segmented: choose no region, and no segmentation to judge."))
            return None
        return choose_folder(_("Folder of the cases; what was cancelled goes on in the same folder"), PLACE_SETTING)

    def _segment(self, words: Sequence[str], output: Path, left_out: Sequence[str] = ()) -> None:
        model = self._panel.inputs.model
        words = ["segment", *words, "--model", str(model.folder), "--output", str(output), "--resume"]

        def ended(how: CommandEnd) -> None:
            text = _("Cancelled: segment the same into the same folder, and it goes on where it was.")
            if not how.cancelled:
                text = _("Segmented: {done}; there already: {there}; failed: {failed}. The cases are in {folder}.")
                text = text.format(folder=output, **how.result) if how.result is not None else ""
            errors = [error for error in how.errors if not error.startswith("Warning:")]
            self._message = "\n".join(filter(None, [text, *left_out, *errors[:_MOST_ERRORS]]))
            self._list(output)

        self._output = output
        self._start([*words, *setting_words(self._panel.settings(model))], output / "case", ended, _("Segmenting..."))

    def _progress(self, fraction: float, event: Event) -> None:
        super()._progress(fraction, event)
        if event["event"] == "case":
            self._show_message(_("Segmenting {case} ({number} of {of})...").format(**event))
            if not self.ui.casesButton.collapsed:  # else a review goes on
                self._list(self._output)

    def _list(self, output: Path) -> None:
        if next(output.glob(f"*/{CASE_FILE}"), None) is not None:
            self._cases.open_list(output)

    # -- a model --

    def teach(self) -> None:
        """Calibrate the chosen model on the finished cases of the list, and add what comes of it to the models."""
        model, private = self._panel.inputs.model, PrivateFolder(temporary_root())
        write_worklist(Worklist(tuple(item.entry for item in self._finished())), private.path)
        folders = (user_models_folder() / f"{model.name}-taught-{number}" for number in count(1))
        output = next(folder for folder in folders if not folder.exists())
        words = ["calibrate", "--model", str(model.folder), "--add", str(private.path / WORKLIST_JSON)]

        def ended(how: CommandEnd) -> None:
            private.remove()
            if how.cancelled:
                self._message = _("Cancelled: nothing was changed.")
            elif how.result is not None:
                text = _("Nothing predicts better on these cases: the model stays as it is.")
                if not how.result["kept"]:
                    text = _("{model} {version} was added to your models, and is offered from now on.")
                self._message = "\n".join([text.format(**how.result), *how.result["messages"], *how.errors])
                self._panel.models_changed()

        self._start([*words, "--output", str(output)], output, ended, _("Teaching the model..."))

    def _finished(self) -> list[CaseItem]:
        return [
            item for item in (self._cases.list.items if self._cases.list is not None else []) if item.entry.has_finished
        ]
