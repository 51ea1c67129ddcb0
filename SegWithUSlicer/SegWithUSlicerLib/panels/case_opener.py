"""Open the cases of a list one after the other: save the review before, ask for missing images, resume the review."""

import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import qt
import slicer

from SegWithUCore.case.case_file import CaseDescription, read_description
from SegWithUCore.regions.region import Region
from SegWithUCore.util.errors import SegWithUError

from ..cases.case_switch import (
    FoundImages,
    find_images,
    find_open,
    open_cases,
    put_case,
    put_case_steps,
    remove_case,
    unkept_work,
)
from ..cases.moved_images import ImageMissingError, MovedImages, may_follow, recorded_path
from ..guarded import guarded
from ..i18n import _
from ..review.opening import decided_so_far, obstacle
from ..run.controller import SLICE_S
from ..scene.case_nodes import CaseNodes
from ..scene.focus import focus_on
from ..scene.read_case import LATER_ABOVE_VOXELS, case_bytes
from ..scene.steps import SteppedTask, Steps
from .overlay_panel import OverlayPanel
from .review_panel import ReviewPanel
from .review_setup import settings_folder

if TYPE_CHECKING:
    import SimpleITK as sitk


class PanelContext(Protocol):
    """The parts of the whole panel that opening a case needs."""

    review: ReviewPanel
    overlay: OverlayPanel

    def show_run(self, nodes: CaseNodes) -> None:
        """Show a run in all sections."""

    @property
    def is_busy(self) -> bool:
        """Whether a run is being segmented."""


@dataclass(frozen=True)
class _PendingCase:
    """A case that waits for the user to choose its image."""

    folder: Path
    case: CaseDescription
    region: Region | None


class CaseOpener:
    """Opens one case and closes the earlier one. Shows its messages in `caseLabel` and `imageFrame`.

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
        self._pending: _PendingCase | None = None
        self._waiting: Waiting | None = None
        ui.imageFileButton.connect("clicked(bool)", guarded(self.choose_file))
        ui.imageFolderButton.connect("clicked(bool)", guarded(self.choose_folder))
        ui.withoutImageButton.connect("clicked(bool)", guarded(self.open_without_image))

    @property
    def open_nodes(self) -> CaseNodes | None:
        """The result that is shown."""
        nodes = self._context.overlay.nodes
        return None if nodes is None or nodes.hub.GetScene() is None else nodes

    def open(self, folder: Path, region: Region | None = None) -> bool:
        """Open a case and go to where its review stopped. Returns False if that failed; `message` says why.

        Args:
            region: go there instead.
        """
        self.message = ""
        self._ask(None)
        self.give_up()
        there = find_open(folder)
        qt.QApplication.setOverrideCursor(qt.Qt.WaitCursor)
        try:
            if there is not None:
                return self._show(there, region)
            case = read_description(folder)
            asked = _PendingCase(folder, case, region)
            return self._switch(asked, self._images(asked))
        except GivenUpError:
            return False  # what was chosen instead has said its words
        except ImageMissingError as error:
            self._ask(_PendingCase(folder, case, region), str(error))
        except SegWithUError as error:
            self.message = str(error)
        finally:
            qt.QApplication.restoreOverrideCursor()
        self.on_opened()
        return False

    def cancel_question(self) -> None:
        """Ask for no image any more."""
        self._ask(None)

    def give_up(self) -> None:
        """Open no case that is still being loaded: another one was chosen, or the scene is being closed."""
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.give_up()

    # -- the question --

    def choose_file(self) -> None:
        """Let the user choose where the image lies now."""
        if self._pending is not None:
            title = _("The image of {case}").format(case=self._pending.case.name)
            self._take(qt.QFileDialog.getOpenFileName(slicer.util.mainWindow(), title, self._begin()))

    def choose_folder(self) -> None:
        """Let the user choose the folder of a DICOM series."""
        if self._pending is not None:
            title = _("The DICOM series of {case}").format(case=self._pending.case.name)
            self._take(qt.QFileDialog.getExistingDirectory(slicer.util.mainWindow(), title, self._begin()))

    def open_without_image(self) -> None:
        """Show the case alone."""
        asked = self._pending
        if asked is not None:
            self._ask(None)
            self._finish(asked, None)

    def _begin(self) -> str:
        """Return where choosing begins: the nearest folder that is still there."""
        assert self._pending is not None
        if not may_follow(
            self._pending.folder, self._pending.case.raw, 0
        ):  # even a check could lead to another's server
            return str(self._pending.folder)
        path = recorded_path(self._pending.folder, self._pending.case.raw, 0)
        return str(next((parent for parent in path.parents if parent.is_dir()), path.parent))

    def _take(self, chosen: str) -> None:
        asked = self._pending
        if asked is None or not chosen:
            return
        qt.QApplication.setOverrideCursor(qt.Qt.WaitCursor)
        try:
            image = self.moved.learn(asked.folder, asked.case.raw, Path(chosen))
        except SegWithUError as error:
            self._ask(asked, str(error))
            return
        finally:
            qt.QApplication.restoreOverrideCursor()
        self._ask(None)
        self._finish(asked, image)

    def _finish(self, asked: _PendingCase, image: "sitk.Image | None") -> None:
        qt.QApplication.setOverrideCursor(qt.Qt.WaitCursor)
        try:
            self._switch(asked, None if image is None else self._images(asked, image))
        except GivenUpError:
            pass  # what was chosen instead has said its words
        except SegWithUError as error:
            self.message = str(error)
            self.on_opened()
        finally:
            qt.QApplication.restoreOverrideCursor()

    def _ask(self, asked: _PendingCase | None, why: str = "") -> None:
        self._pending = asked
        self.ui.imageLabel.text = why
        self.ui.imageFrame.visible = asked is not None

    # -- the switch --

    def _switch(self, asked: _PendingCase, found: FoundImages | None) -> bool:
        context = self._context
        was_reviewing, settings = context.review.session is not None, context.overlay.settings
        if not self._leave_review():
            return False
        kept = self._close_others()
        nodes = self._put(asked, found)
        _show_image(nodes)
        context.show_run(nodes)
        context.overlay.apply_settings(settings)
        self.message = " ".join([*kept, *(found.notes if found is not None else [])])
        self._resume_review(nodes, was_reviewing, asked.region)
        self.on_opened()
        return True

    def _images(self, asked: _PendingCase, first: "sitk.Image | None" = None) -> FoundImages:
        """Find the images of a case; reading a large one does not keep the window waiting."""

        def find() -> FoundImages:
            return find_images(asked.folder, asked.case.raw, self.moved, first)

        return self._wait(asked).for_thread(find) if _is_large(asked.case) else find()

    def _put(self, asked: _PendingCase, found: FoundImages | None) -> CaseNodes:
        if not _is_large(asked.case):
            return put_case(asked.folder, asked.case.name, found)
        steps = put_case_steps(asked.folder, asked.case.name, found)
        return self._wait(asked).for_steps(steps, case_bytes(asked.case, _voxels(asked.case)))

    def _wait(self, asked: _PendingCase) -> "Waiting":
        def draw(fraction: float) -> None:
            text = _("Opening {case}: {percent:.0f} %")
            self.ui.caseLabel.text = text.format(case=asked.case.name, percent=100 * fraction)

        draw(0.0)
        self._waiting = Waiting(draw)
        return self._waiting

    def _show(self, nodes: CaseNodes, region: Region | None) -> bool:
        """Show a case that is in the scene already."""
        context = self._context
        shown = context.overlay.nodes
        was_reviewing = context.review.session is not None
        if shown is None or shown.hub is not nodes.hub:
            if not self._leave_review():
                return False
            _show_image(nodes)
            context.show_run(nodes)
            self.message = " ".join(self._close_others(nodes))
        self._resume_review(nodes, was_reviewing, region)
        self.on_opened()
        return True

    def _leave_review(self) -> bool:
        """End the open review; False if the disk does not hold all of it, and it stays open."""
        trouble = self._context.review.leave()
        if trouble and self._context.review.session is not None:
            self.message = _("The other case was not opened, because this review is not on the disk. {why}").format(
                why=trouble
            )
            return False
        return True

    def _close_others(self, but: CaseNodes | None = None) -> Sequence[str]:
        """Take earlier cases out of the scene; returns why some stay."""
        kept = []
        for nodes in open_cases():
            if but is not None and nodes.hub is but.hub:
                continue
            why = unkept_work(nodes, settings_folder())
            if why:
                kept.append(why)
            else:
                remove_case(nodes, with_images=not self._context.is_busy)
        return kept

    def _resume_review(self, nodes: CaseNodes, was_reviewing: bool, region: Region | None) -> None:
        """Go on with a review of this reviewer's; begin one where the case before was being reviewed."""
        review = self._context.review
        goes_on = was_reviewing or self._has_started(nodes, review.setup.reviewer)
        if goes_on and review.session is None and not obstacle(nodes):
            review.start()
        if region is None:
            return
        if review.session is not None:
            review.go_to(region.id)
        else:
            focus_on(nodes, region)

    @staticmethod
    def _has_started(nodes: CaseNodes, reviewer: str) -> bool:
        if not reviewer.strip() or obstacle(nodes):
            return False
        try:
            return decided_so_far(nodes, reviewer, settings_folder()) is not None
        except SegWithUError:  # reported when the user starts it
            return False


def _voxels(case: CaseDescription) -> int:
    size = (case.raw.get("input") or {}).get("grid", {}).get("size_ijk") or (0,)
    return math.prod(int(length) for length in size)


def _is_large(case: CaseDescription) -> bool:
    return _voxels(case) > LATER_ABOVE_VOXELS


def _show_image(nodes: CaseNodes) -> None:
    """Show the image alone, or a map if there is none: what lay over the one before is of another patient."""
    volume = next(iter([*nodes.inputs, *nodes.maps.values()]), None)
    slicer.util.setSliceViewerLayers(background=volume, foreground=None, label=None, fit=True)


Result = TypeVar("Result")
_PAUSE_S = 0.01
"""In which a thread gets on; the main thread holds Python otherwise."""


class GivenUpError(SegWithUError):
    """Something else was chosen meanwhile."""


class Waiting:
    """One wait. What the user does meanwhile may call `give_up`: then it ends as soon as that returns.

    Args:
        on_progress: called with how much is done, 0 to 1.
    """

    def __init__(self, on_progress: Callable[[float], None]) -> None:
        self._on_progress = on_progress
        self._is_over = False

    def give_up(self) -> None:
        """End the wait; nothing of the work stays."""
        self._is_over = True

    def for_steps(self, steps: "Steps[Result]", total: float) -> Result:
        """Do steps a while at a time and return their result.

        Raises:
            GivenUpError: `give_up` was called.
        """
        task = SteppedTask(steps, total)
        try:
            while not task.run(SLICE_S):
                self._on_progress(task.fraction)
                self._turn()
        finally:
            task.cancel()
        return task.result

    def for_thread(self, work: Callable[[], Result]) -> Result:
        """Do in a thread what touches neither nodes nor widgets, and return its result; what it raises is raised here.

        Raises:
            GivenUpError: `give_up` was called; the thread ends by itself.
        """
        found: list[Result] = []
        raised: list[Exception] = []

        def run() -> None:
            try:
                found.append(work())
            except Exception as error:  # noqa: BLE001 - raised again where it is waited for
                raised.append(error)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        while thread.is_alive():
            self._turn()
            time.sleep(_PAUSE_S)
        if raised:
            raise raised[0]
        return found[0]

    def _turn(self) -> None:
        slicer.app.processEvents()
        if self._is_over:
            raise GivenUpError(_("Something else was chosen meanwhile."))
