"""Open the cases of a list one after the other: save the open review, ask for missing images, resume the review."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import qt
import slicer

from SegWithUCore.case.case_file import CaseDescription, lost_maps, read_description
from SegWithUCore.util.errors import SegWithUError

from ..cases.case_switch import find_images, find_open, open_cases, put_case, remove_case, unkept_work
from ..cases.moved_images import ImageMissingError, MovedImages
from ..i18n import _
from ..review.opening import earlier_state, obstacle
from ..run.command import CommandEnd, CommandProcess
from ..run.session import start_timer, waiting_cursor
from ..scene.case_nodes import CaseNodes
from ..scene.readout import for_panel
from ..scene.steps import pause
from .review_panel import settings_folder
from .widgets import connect_clicks


class CaseOpener:
    """Opens one case and closes the earlier one. Shows its messages in `caseLabel` and `imageFrame`.

    Args:
        ui: the widgets of the .ui file.
        panel: the whole panel, a `ModulePanel`.
        moved: finds images that were moved.

    Attributes:
        message: of the last action.
        on_opened: called when another case is open, or none.
    """

    def __init__(self, ui: Any, panel: Any, moved: MovedImages) -> None:
        self.ui, self._panel, self.moved = ui, panel, moved
        self.message = ""
        self.on_opened: Callable[[], None] = lambda: None
        self._asked: tuple[Path, CaseDescription] | None = None
        """The case that waits for the user to choose its image."""
        self.check = CommandProcess(start_timer)
        """Compares the files of the open case with their hashes, which takes too long for the window."""
        self._checked: Path | None = None
        """The case that it was started for."""
        connect_clicks(
            ui,
            imageFileButton=self.choose_file,
            imageFolderButton=self.choose_folder,
            withoutImageButton=self.open_without_image,
        )

    @property
    def open_folder(self) -> Path | None:
        """The case folder of the result that is shown."""
        nodes = self._panel.overlay.nodes
        return None if nodes is None or nodes.hub.GetScene() is None else nodes.case_folder

    def follow(self) -> None:
        """End the check of a case that was closed."""
        if self.open_folder != self._checked:
            self.check.cancel()

    def open(self, folder: Path) -> bool:
        """Open a case and go to where its review stopped. Returns False if that failed; `message` has the reason."""
        self.message = ""
        self.cancel_question()
        with self._opening():
            there, shown = find_open(folder), self._panel.overlay.nodes
            if there is not None and shown is not None and shown.hub is there.hub:
                self._resume_review(there, False)
                return True
            if there is not None:
                return self._switch(lambda: there, there)
            case = read_description(folder)
            pause()
            try:
                images, notes = find_images(folder, case.raw, self.moved)
            except ImageMissingError as error:
                self._ask(folder, case, str(error))
            else:
                return self._load(folder, case, images, notes)
        return False

    # -- the question --

    def choose_file(self) -> None:
        """Let the user choose the image."""
        self._choose(qt.QFileDialog.getOpenFileName, _("The image of {case}"))

    def choose_folder(self) -> None:
        """Let the user choose the folder of a DICOM series."""
        self._choose(qt.QFileDialog.getExistingDirectory, _("The DICOM series of {case}"))

    def open_without_image(self) -> None:
        """Show the case alone."""
        if self._asked is not None:
            folder, case = self._asked
            self.cancel_question()
            with self._opening():
                self._load(folder, case, None)

    def cancel_question(self) -> None:
        """Stop asking for an image."""
        self._asked = None
        self.ui.imageFrame.visible = False

    def _ask(self, folder: Path, case: CaseDescription, why: str) -> None:
        self._asked = folder, case
        self.ui.casesButton.collapsed = False
        self.ui.imageLabel.text = for_panel(why)
        self.ui.imageFrame.visible = True

    def _choose(self, dialog: Callable[..., str], title: str) -> None:
        if self._asked is None:
            return
        folder, case = self._asked
        chosen = dialog(slicer.util.mainWindow(), title.format(case=case.name), str(folder))
        if not chosen:
            return
        with self._opening():
            try:
                image = self.moved.learn(folder, case.raw, Path(str(chosen)))
            except SegWithUError as error:
                self._ask(folder, case, str(error))
                return
            self.cancel_question()
            self._load(folder, case, *find_images(folder, case.raw, self.moved, image))

    # -- the switch --

    @contextmanager
    def _opening(self) -> Iterator[None]:
        """Show that a case is being opened, and at the end the message and the state."""
        with waiting_cursor():
            try:
                yield
            except SegWithUError as error:
                self.message = str(error)
        self.on_opened()

    def _load(self, folder: Path, case: CaseDescription, images: Any, notes: Sequence[str] = ()) -> bool:
        notes = [*notes, *lost_maps(folder, case.raw).values()]
        return self._switch(lambda: put_case(folder, case.name, images), None, notes)

    def _switch(self, load: Callable[[], CaseNodes], there: CaseNodes | None, notes: Sequence[str] = ()) -> bool:
        """Show another case in place of the open one.

        Args:
            load: puts the case into the scene.
            there: the case, if it is in the scene already.
            notes: what the user should know about its images.
        """
        review = self._panel.review
        was_reviewing = review.session is not None
        trouble = review.leave()
        if trouble and review.session is not None:
            text = _("The other case was not opened, because this review is not on the disk. {why}")
            self.message = text.format(why=trouble)
            return False
        self._panel.overlay.release()  # which remembers how the map was shown
        pause()
        kept = self._close_others(there)
        nodes = load()
        pause()
        # The image alone, or a map if there is none: the layer over the image before is of another patient.
        volume = next(iter([*nodes.inputs, *nodes.maps.values()]), None)
        slicer.util.setSliceViewerLayers(background=volume, foreground=None, label=None, fit=True)
        self._panel.show_run(nodes)
        self.message = " ".join([*kept, *notes])
        self._resume_review(nodes, was_reviewing)
        self._check_open()
        return True

    def _check_open(self) -> None:
        """Check the open case in a process of its own, which tells what is wrong when it ends.

        A check of another case is cancelled, which takes seconds: its end starts this one.
        """
        folder = self.open_folder

        def ended(end: CommandEnd) -> None:
            if end.cancelled or self.open_folder != folder:
                self._check_open()
            elif end.errors:
                self.message = " ".join(filter(None, [self.message, *end.errors]))
                self.on_opened()

        if self.check.is_busy:
            self.check.cancel()
        elif folder is not None:
            self._checked = folder
            self.check.start(["check", str(folder)], folder, lambda *_progress: None, ended)

    def _close_others(self, but: CaseNodes | None) -> Sequence[str]:
        """Take earlier cases out of the scene; returns why some stay."""
        kept = []
        for nodes in open_cases():
            if but is None or nodes.hub is not but.hub:
                why = unkept_work(nodes, settings_folder())
                if why:
                    kept.append(why)
                else:
                    remove_case(nodes, with_images=not self._panel.is_busy)
        return kept

    def _resume_review(self, nodes: CaseNodes, was_reviewing: bool) -> None:
        """Resume a review of this reviewer's; begin one where the case before was being reviewed."""
        review = self._panel.review
        if review.session is None and not obstacle(nodes) and (was_reviewing or _has_started(nodes, review.reviewer)):
            review.start()


def _has_started(nodes: CaseNodes, reviewer: str) -> bool:
    try:
        return bool(reviewer.strip()) and earlier_state(nodes, reviewer, settings_folder()) is not None
    except SegWithUError:  # reported when the user starts it
        return False
