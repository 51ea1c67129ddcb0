"""Many cases at once: segment a folder or all volumes of the scene, and teach a model with what was reviewed."""

from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import qt
import slicer

from SegWithUCore.case.case_file import CASE_FILE
from SegWithUCore.cli.arguments import check_folder_name, setting_words
from SegWithUCore.review.worklist import Worklist
from SegWithUCore.review.worklist_files import WORKLIST_JSON, write_worklist
from SegWithUCore.util.errors import SegWithUError
from SegWithUCore.util.paths import user_models_folder

from ..cases.case_list import CaseItem
from ..i18n import _
from ..run.child_process import Event
from ..run.command import CommandEnd
from ..run.private_folder import PrivateFolder
from ..run.session import set_setting, setting, temporary_root
from ..scene.volume_export import export_volume, unchanged_file
from .command_panel import CommandPanel
from .widgets import connect_clicks

IMAGES_SETTING, PLACE_SETTING = "SegWithU/ImagesPlace", "SegWithU/CasesPlace"
_IMAGES, _MOST_ERRORS = "images", 5


class CohortPanel(CommandPanel):
    """The buttons of the section "Cases" that make cases, and a model, of many.

    Args:
        ui: the widgets of the .ui file.
        panel: the whole panel, a `ModulePanel`.
        listed: gives the cases of the list.
        show: called with the folder of the cases when some are there.
    """

    def __init__(
        self, ui: Any, panel: Any, listed: Callable[[], Sequence[CaseItem]], show: Callable[[Path], None]
    ) -> None:
        super().__init__(ui.cohortBar, ui.cohortLabel)
        self.ui, self._panel, self._listed, self._show = ui, panel, listed, show
        self._output = Path()
        connect_clicks(
            ui,
            segmentFolderButton=self.segment_folder,
            segmentSceneButton=self.segment_scene,
            teachButton=self.teach,
            cancelCohortButton=self.process.cancel,
        )

    def draw(self) -> None:
        """Show what can be done now."""
        super().draw()
        ui, model, busy, finished = self.ui, self._panel.inputs.model, self.process.is_busy, len(self._finished())
        for button in (ui.segmentFolderButton, ui.segmentSceneButton):
            button.enabled = not busy and model is not None
        ui.cancelCohortButton.visible = busy
        why = "" if finished else _("Finish structures of some cases first: a model learns from three patients on.")
        if model is None or not model.calibrated:
            why = _("Choose a calibrated model above.")
        ui.teachButton.text = _("Teach with the finished cases ({count})").format(count=finished)
        ui.teachButton.enabled = not (busy or why)
        ui.teachButton.toolTip = why or _(
            "Calibrates the chosen model on structures that reviewers finished, and adds it."
        )

    def segment_folder(self) -> None:
        """Segment the images of a folder, which the user chooses."""
        folder = _choose(_("Folder of images: each file, and each folder of a DICOM series, is a case"), IMAGES_SETTING)
        if folder is not None:
            self._segment(lambda _output, _left_out: [str(folder), "--each"])

    def segment_scene(self) -> None:
        """Segment all volumes that could be chosen as the input."""
        channels = self._panel.inputs.model.channels
        if len(channels) > 1:
            text = _("This model needs {channels} of each case: segment a folder in nnU-Net naming.")
            self._show_message(text.format(channels=", ".join(channels)))
            return
        self._segment(self._scene_files)

    def _segment(self, cases: Callable[[Path, list[str]], list[str]]) -> None:
        """Segment what `cases` names, given the folder of the output and a list for what is left out."""
        if self._panel.inputs.has_region_or_mask:
            self._show_message(_("Whole images are segmented: choose no region, and no segmentation to judge."))
            return
        output = _choose(_("Folder that gets the cases; what was cancelled goes on in the same folder"), PLACE_SETTING)
        left_out, model = list[str](), self._panel.inputs.model
        words = cases(output, left_out) if output is not None else []
        if output is None or not words:
            self._show_message("\n".join(left_out))
            return
        words = ["segment", *words, "--model", str(model.folder), "--output", str(output), "--resume"]

        def ended(how: CommandEnd) -> None:
            text = _("Cancelled: segment the same into the same folder, and it goes on where it was.")
            if not how.cancelled:
                text = _("{done} cases were segmented, {there} were there already, {failed} failed: {folder}.")
                text = text.format(folder=output, **how.result) if how.result is not None else ""
            errors = [error for error in how.errors if not error.startswith("Warning:")]
            self._message = "\n".join(filter(None, [text, *left_out, *errors[:_MOST_ERRORS]]))
            if next(output.glob(f"*/{CASE_FILE}"), None) is not None:
                self._show(output)

        self._output = output
        self._start([*words, *setting_words(self._panel.settings(model))], output / "case", ended, _("Segmenting..."))

    def _scene_files(self, output: Path, left_out: list[str]) -> list[str]:
        """Return a file of each volume of the scene; one without, or that was changed, is written next to the cases."""
        files = dict[str, Path]()
        for volume in self._panel.inputs.offered():
            name = str(volume.GetName())
            try:
                file = unchanged_file(volume) or output / _IMAGES / f"{name}.nrrd"
                if volume.GetParentTransformNode() is not None or file.name in files:
                    text = _("{name} was left out: it is under a transform, or another has its name. Apply it alone.")
                    left_out.append(text.format(name=name))
                    continue
                if file.parent == output / _IMAGES:
                    check_folder_name(name, _("another name of the volume"))
                    file.parent.mkdir(parents=True, exist_ok=True)
                    export_volume(volume, file)
                files[file.name] = file
            except (SegWithUError, OSError) as error:
                left_out.append(str(error))
        return [*map(str, files.values())]

    def _progress(self, fraction: float, event: Event) -> None:
        super()._progress(fraction, event)
        if event["event"] == "case":
            self._show_message(_("Segmenting {case} ({number} of {of})...").format(**event))
            if event["number"] > 1:
                self._show(self._output)

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
        return [item for item in self._listed() if item.entry.has_finished]


def _choose(title: str, name: str) -> Path | None:
    """Let the user choose a folder, which the setting of this name remembers; None for none."""
    chosen = qt.QFileDialog.getExistingDirectory(slicer.util.mainWindow(), title, setting(name))
    if chosen:
        set_setting(name, str(chosen))
    return Path(str(chosen)) if chosen else None
