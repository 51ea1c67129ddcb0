"""Open the cases of a list one after the other: save the review before, ask for missing images, resume the review."""

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import qt
import slicer

from SegWithUCore.case.case_file import CaseDescription, read_description
from SegWithUCore.util.errors import SegWithUError

from ..cases.case_switch import find_images, find_open, open_cases, put_case_steps, remove_case, unkept_work
from ..cases.moved_images import ImageMissingError, MovedImages
from ..i18n import _
from ..review.opening import decided_so_far, obstacle
from ..run.controller import SLICE_S
from ..scene.case_nodes import CaseNodes
from ..scene.read_case import case_bytes
from ..scene.steps import SteppedTask, Steps
from .overlay_panel import OverlayPanel
from .review_panel import ReviewPanel, settings_folder
from .widgets import connect_clicks

if TYPE_CHECKING:
    import SimpleITK as sitk

Result = TypeVar("Result")
_PAUSE_S = 0.01
"""In which a thread gets on; the main thread holds Python otherwise."""


class PanelContext(Protocol):
    """The parts of the whole panel that opening a case needs."""

    review: ReviewPanel
    overlay: OverlayPanel

    def show_run(self, nodes: CaseNodes) -> None:
        """Show a run in all sections."""

    @property
    def is_busy(self) -> bool:
        """Whether a run is being segmented."""


class GivenUpError(SegWithUError):
    """Something else was chosen meanwhile."""


@dataclass(frozen=True)
class _Case:
    """A case that is being opened, or waits for the user to choose its image."""

    folder: Path
    description: CaseDescription


class CaseOpener:
    """Opens one case and closes the earlier one. Shows its messages in `caseLabel` and `imageFrame`.

    Images are read in a thread, nodes are made a while at a time: what the user does meanwhile may choose another case,
    and then opening this one ends as soon as that returns.

    Args:
        ui: the widgets of the .ui file.

    Attributes:
        message: of the last action.
        on_opened: called when another case is open, or none.
    """

    def __init__(self, ui: Any, context: PanelContext, moved: MovedImages) -> None:
        self.ui, self._context, self.moved = ui, context, moved
        self.message = ""
        self.on_opened: Callable[[], None] = lambda: None
        self._asked: _Case | None = None
        self._turn = 0
        connect_clicks(
            ui,
            imageFileButton=self.choose_file,
            imageFolderButton=self.choose_folder,
            withoutImageButton=self.open_without_image,
        )

    @property
    def open_nodes(self) -> CaseNodes | None:
        """The result that is shown."""
        nodes = self._context.overlay.nodes
        return None if nodes is None or nodes.hub.GetScene() is None else nodes

    def open(self, folder: Path) -> bool:
        """Open a case and go to where its review stopped. Returns False if that failed; `message` says why."""
        self.message = ""
        self._ask(None)
        self.give_up()
        with self._opening():
            there = find_open(folder)
            if there is not None:
                return self._show(there)
            case = _Case(folder, read_description(folder))
            try:
                found = self._in_thread(case, lambda: find_images(folder, case.description.raw, self.moved))
            except ImageMissingError as error:
                self._ask(case, str(error))
            else:
                return self._switch(case, found)
        return False

    def give_up(self) -> None:
        """Open no case that is still being loaded: another one was chosen, or the scene is being closed."""
        self._turn += 1

    def cancel_question(self) -> None:
        """Ask for no image any more."""
        self._ask(None)

    # -- the question --

    def choose_file(self) -> None:
        """Let the user choose where the image lies now."""
        if self._asked is not None:
            title = _("The image of {case}").format(case=self._asked.description.name)
            begin = str(self._asked.folder)
            self._take(qt.QFileDialog.getOpenFileName(slicer.util.mainWindow(), title, begin))

    def choose_folder(self) -> None:
        """Let the user choose the folder of a DICOM series."""
        if self._asked is not None:
            title = _("The DICOM series of {case}").format(case=self._asked.description.name)
            begin = str(self._asked.folder)
            self._take(qt.QFileDialog.getExistingDirectory(slicer.util.mainWindow(), title, begin))

    def open_without_image(self) -> None:
        """Show the case alone."""
        case = self._asked
        if case is not None:
            self._ask(None)
            with self._opening():
                self._switch(case, None)

    def _take(self, chosen: str) -> None:
        case = self._asked
        if case is None or not chosen:
            return
        folder, raw = case.folder, case.description.raw

        def find() -> "sitk.Image | SegWithUError":
            try:
                return self.moved.learn(folder, raw, Path(chosen))
            except SegWithUError as error:
                return error

        with self._opening():
            image = self._in_thread(case, find)
            if isinstance(image, SegWithUError):
                self._ask(case, str(image))
                return
            self._ask(None)
            self._switch(case, self._in_thread(case, lambda: find_images(folder, raw, self.moved, image)))

    def _ask(self, case: _Case | None, why: str = "") -> None:
        self._asked = case
        self.ui.imageLabel.text = why
        self.ui.imageFrame.visible = case is not None

    # -- the switch --

    @contextmanager
    def _opening(self) -> Iterator[None]:
        """Show that something is opened, and at the end what is true."""
        qt.QApplication.setOverrideCursor(qt.Qt.WaitCursor)
        try:
            yield
        except GivenUpError:
            return  # what was chosen instead has said its words
        except SegWithUError as error:
            self.message = str(error)
        finally:
            qt.QApplication.restoreOverrideCursor()
        self.on_opened()

    def _switch(self, case: _Case, found: Any) -> bool:
        was_reviewing = self._context.review.session is not None
        if not self._leave_review():
            return False
        self._context.overlay.release()  # which remembers how the map was shown
        kept = self._close_others()
        steps = put_case_steps(case.folder, case.description.name, found)
        nodes = self._in_steps(case, steps)
        _show_image(nodes)
        self._context.show_run(nodes)
        self.message = " ".join([*kept, *(found.notes if found is not None else [])])
        self._resume_review(nodes, was_reviewing)
        return True

    def _show(self, nodes: CaseNodes) -> bool:
        """Show a case that is in the scene already."""
        shown = self._context.overlay.nodes
        was_reviewing = self._context.review.session is not None
        if shown is None or shown.hub is not nodes.hub:
            if not self._leave_review():
                return False
            _show_image(nodes)
            self._context.show_run(nodes)
            self.message = " ".join(self._close_others(nodes))
        self._resume_review(nodes, was_reviewing)
        return True

    def _leave_review(self) -> bool:
        """End the open review; False if the disk does not hold all of it, and it stays open."""
        trouble = self._context.review.leave()
        if trouble and self._context.review.session is not None:
            text = _("The other case was not opened, because this review is not on the disk. {why}")
            self.message = text.format(why=trouble)
            return False
        return True

    def _close_others(self, but: CaseNodes | None = None) -> Sequence[str]:
        """Take earlier cases out of the scene; returns why some stay."""
        kept = []
        for nodes in open_cases():
            if but is None or nodes.hub is not but.hub:
                why = unkept_work(nodes, settings_folder())
                if why:
                    kept.append(why)
                else:
                    remove_case(nodes, with_images=not self._context.is_busy)
        return kept

    def _resume_review(self, nodes: CaseNodes, was_reviewing: bool) -> None:
        """Go on with a review of this reviewer's; begin one where the case before was being reviewed."""
        review = self._context.review
        if review.session is None and not obstacle(nodes) and (was_reviewing or _has_started(nodes, review.reviewer)):
            review.start()

    # -- waiting, with the window alive --

    def _in_steps(self, case: _Case, steps: "Steps[Result]") -> Result:
        size = (case.description.raw.get("input") or {}).get("grid", {}).get("size_ijk") or (0,)
        task = SteppedTask(steps, case_bytes(case.description, math.prod(map(int, size))))
        turn = self._turn
        try:
            while not task.run(SLICE_S):
                self._let_window_live(case, turn, task.fraction)
        finally:
            task.cancel()
        return task.result

    def _in_thread(self, case: _Case, work: Callable[[], Result]) -> Result:
        """Do what touches neither nodes nor widgets, and return its result; what it raises is raised here."""
        found: list[Result] = []
        raised: list[Exception] = []
        turn = self._turn

        def run() -> None:
            try:
                found.append(work())
            except Exception as error:  # noqa: BLE001 - raised again where it is waited for
                raised.append(error)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        while thread.is_alive():
            self._let_window_live(case, turn, 0.0)
            time.sleep(_PAUSE_S)
        if raised:
            raise raised[0]
        return found[0]

    def _let_window_live(self, case: _Case, turn: int, fraction: float) -> None:
        text = _("Opening {case}: {percent:.0f} %")
        self.ui.caseLabel.text = text.format(case=case.description.name, percent=100 * fraction)
        slicer.app.processEvents()
        if self._turn != turn:
            raise GivenUpError(_("Something else was chosen meanwhile."))


def _has_started(nodes: CaseNodes, reviewer: str) -> bool:
    try:
        return bool(reviewer.strip()) and decided_so_far(nodes, reviewer, settings_folder()) is not None
    except SegWithUError:  # reported when the user starts it
        return False


def _show_image(nodes: CaseNodes) -> None:
    """Show the image alone, or a map if there is none: what lay over the one before is of another patient."""
    volume = next(iter([*nodes.inputs, *nodes.maps.values()]), None)
    slicer.util.setSliceViewerLayers(background=volume, foreground=None, label=None, fit=True)
