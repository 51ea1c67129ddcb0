"""What a user does in 3D Slicer, for the workflows: click, wait, look; and what was seen of it.

Widgets are found by object name and results by the attributes of their nodes, never by what a user reads: words and
the order of the panel may change. Only Slicer's own API (5.10 and later) and the standard library are used.
"""

from __future__ import annotations

import os
import re
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import slicer
import vtk
from left_hippocampus import choose_left_hippocampus

MODULE = "SegWithUSlicer"
LICENCES = "SegWithU/Licences"
SETTINGS = ("SegWithU/Reviewer", "SegWithU/CasesPlace", "SegWithU/Asked/hippocampus", "SegWithU/Asked/brain", LICENCES)
"""What the workflows change in the user's settings; it is put back."""
STROKE_PX = 24


class TimeIsUpError(Exception):
    """A workflow waited longer than it may."""


@dataclass
class Check:
    """One thing that was looked at."""

    name: str
    passed: bool
    found: str = ""


@dataclass
class Seen:
    """What was seen of one workflow."""

    checks: list[Check] = field(default_factory=list)
    pictures: list[str] = field(default_factory=list)
    surprises: list[str] = field(default_factory=list)
    """Exceptions in slots and observers, which the application only prints, and lines of errors in its log."""
    of_slicer: list[str] = field(default_factory=list)
    """Exceptions of Slicer's own code, in which the module has no part."""


ALIVE_EVERY_S = 10.0
SETTLING_S = 5.0


class User:
    """Clicks through the panel.

    Args:
        folder: for pictures and files.
        limit_s: how long one thing may be waited for.
        stroke: paints a stroke at the crosshair with the active effect of a segment editor; by default with the mouse
            in the red view.
    """

    def __init__(self, folder: Path, limit_s: float, stroke: Callable[[Any], None] | None = None) -> None:
        self.folder, self.limit_s = folder, limit_s
        self.stroke = stroke or stroke_by_mouse
        self.reviewer = f"Workflows{os.getpid()}"
        self.seen = Seen()
        self.on_alive: Callable[[], None] = lambda: None
        """Called now and then while Slicer answers."""
        self._name, self._answered = "", 0.0

    @contextmanager
    def workflow(self, name: str) -> Iterator[Seen]:
        """Watch one workflow: its own time, checks, pictures, and exceptions wherever they occur."""
        self.seen, self._name = Seen(), name
        hook, seen, logged = sys.excepthook, self.seen, len(error_lines())

        def surprised(kind: Any, error: Any, trace: Any) -> None:
            text = "".join(traceback.format_exception(kind, error, trace))
            is_slicers = trace is not None and "SegWithU" not in text
            (seen.of_slicer if is_slicers else seen.surprises).append(text)
            hook(kind, error, trace)

        sys.excepthook = surprised
        try:
            yield seen
        finally:
            sys.excepthook = hook
            seen.surprises += error_lines()[logged:]

    # -- the panel --

    @property
    def widget(self) -> Any:
        """The module's widget; another one after Reload."""
        return slicer.util.getModuleWidget(MODULE)

    def find(self, name: str) -> Any:
        """Find a widget of the panel by its object name."""
        found = getattr(self.widget.ui, name, None)
        if found is None:
            raise LookupError(f"the panel has no widget '{name}'")
        return found

    def click(self, name: str) -> None:
        """Click a button."""
        button = self.find(name)
        if not button.enabled:
            raise AssertionError(f"'{name}' is disabled, so nobody can click it")
        button.click()
        slicer.app.processEvents()

    def wait(self, what: str, done: Callable[[], Any]) -> None:
        """Let Slicer work until something holds."""
        until = time.monotonic() + self.limit_s
        while not done():
            now = time.monotonic()
            if now > until:
                raise TimeIsUpError(f"after {self.limit_s:g} s still waiting for {what}")
            if now > self._answered + ALIVE_EVERY_S:
                self._answered = now
                self.on_alive()
            slicer.app.processEvents()
            time.sleep(0.01)

    def comes(self, done: Callable[[], Any]) -> bool:
        """Whether something holds within some seconds: a layout settles over several events."""
        until = time.monotonic() + SETTLING_S
        self.wait("it", lambda: done() or time.monotonic() > until)
        return bool(done())

    def check(self, name: str, passed: Any, found: Any = "") -> None:
        """Note whether something is as it must be; the workflow goes on to the next check."""
        self.seen.checks.append(Check(name, bool(passed), "" if found == "" else str(found)))

    def restore(self) -> None:
        """Begin as after a start: no run, no review, an empty scene, the module in sight."""
        if self.session.controller.is_busy:
            self.session.controller.cancel()
        self.wait("the run before to end", lambda: not self.session.controller.is_busy)
        slicer.mrmlScene.Clear(0)
        slicer.util.selectModule(MODULE)
        self.unfold("inputsButton", "overlayButton", "reviewButton")
        slicer.app.processEvents()

    # -- a run --

    @property
    def session(self) -> Any:
        """The worker and the run; others after Reload."""
        from SegWithUSlicerLib.run.session import session

        return session()

    @property
    def outcome(self) -> str:
        """How the last run ended, as the controller calls it: done, failed, cancelled."""
        return str(self.session.controller.status.outcome.value)

    @property
    def runs(self) -> list[Any]:
        """The results in the scene, found by their attributes."""
        from SegWithUSlicerLib.scene.case_nodes import find_cases

        return list(find_cases(slicer.mrmlScene))

    def finish(self) -> Any:
        """Wait for the end of the run; the result, or an error with what the panel says."""
        self.wait("the end of the run", lambda: not self.session.controller.is_busy)
        if self.outcome != "done":
            raise AssertionError(f"the run ended as '{self.outcome}': {self.session.controller.status.message}")
        return self.runs[-1]

    def choose_sample(self) -> None:
        """Choose the small case, which takes a few seconds."""
        choose_left_hippocampus(self.widget.panel)

    def segment_sample(self) -> Any:
        """Segment the small case: the left hippocampus of the sample head."""
        self.choose_sample()
        self.click("runButton")
        return self.finish()

    def until_computing(self) -> int:
        """Wait until the worker is in the middle of the run; its process."""
        session = self.session

        def computes() -> bool:
            if not session.controller.is_busy:
                raise AssertionError(f"the run ended before it was seen: {session.controller.status.message}")
            return session.controller.status.phase.value == "running" and session.worker.state.value == "busy"

        self.wait("the worker to compute", computes)
        return int(session.worker.pid)

    def private_folders(self) -> list[Path]:
        """Folders with the image that this Slicer has made for the worker and not removed."""
        return sorted((Path(slicer.app.temporaryPath) / "SegWithU").glob(f"segwithu-{os.getpid()}-*"))

    # -- a review --

    def start_review(self) -> None:
        """Enter a name and begin."""
        self.find("reviewButton").collapsed = False
        self.find("reviewerEdit").text = self.reviewer
        self.click("startReviewButton")
        self.wait("the list of regions", lambda: self.find("regionsTable").rowCount > 0)

    @property
    def _reviews(self) -> Path:
        return Path(slicer.app.userSettings().fileName()).parent / "SegWithU" / "Reviews"

    @property
    def review(self) -> Any:
        """The section of the review; another one after Reload."""
        return self.widget.panel.review

    def review_log(self) -> str:
        """Read what the review has written."""
        return "".join(
            path.read_text(encoding="utf-8") for path in self._reviews.glob(f"*/review.{self.reviewer}.jsonl")
        )

    def forget_reviews(self) -> None:
        """Remove the reviews of the workflows; those of other names stay."""
        for path in self._reviews.glob(f"*/*.{self.reviewer}.*"):
            path.unlink(missing_ok=True)

    # -- the window --

    @property
    def scroll_area(self) -> Any:
        """The scroll area of Slicer's module panel."""
        widget = self.widget.parent
        while not widget.inherits("QScrollArea"):
            widget = widget.parentWidget()
        return widget

    def set_size(self, width: int, height: int) -> None:
        """Give the main window a size."""
        window = slicer.util.mainWindow()
        window.showNormal()
        window.resize(width, height)
        self.pause(0.2)

    def set_panel_width(self, width: int) -> int:
        """Drag the edge of the module panel; how wide it is then."""
        import qt

        dock = self.dock
        slicer.util.mainWindow().resizeDocks([dock], [width], qt.Qt.Horizontal)
        self.pause(0.2)
        return int(dock.width)

    @property
    def dock(self) -> Any:
        """The dock that holds the module panel."""
        return slicer.util.findChildren(slicer.util.mainWindow(), name="PanelDockWidget")[0]

    def unfold(self, *names: str) -> None:
        """Open these sections and fold the others."""
        for name in ("inputsButton", "overlayButton", "reviewButton", "advancedButton", "casesButton", "modelsButton"):
            self.find(name).collapsed = name not in names
        self.pause(0.2)

    def pause(self, seconds: float) -> None:
        """Let Slicer work for a while."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            slicer.app.processEvents()
            time.sleep(0.01)

    # -- pictures --

    def panel_picture(self, what: str) -> None:
        """Take a picture of the whole content of the panel."""
        slicer.app.processEvents()
        name = f"{self._name}-{what}.png"
        _grab(self.scroll_area.widget(), self.folder / name)
        self.seen.pictures.append(name)

    def picture(self, what: str) -> None:
        """Take pictures of the window, of the whole panel and of the red view."""
        slicer.app.processEvents()
        window, panel = slicer.util.mainWindow(), self.widget.parent
        view = slicer.app.layoutManager().sliceWidget("Red").sliceView()
        for part, take in (
            ("window", lambda path: _grab(window, path)),
            ("panel", lambda path: _grab(panel, path)),
            ("red", lambda path: _render(view, path)),
        ):
            name = f"{self._name}-{re.sub(r'[^a-z0-9]+', '-', what.lower())}-{part}.png"
            take(self.folder / name)
            self.seen.pictures.append(name)


def error_lines() -> list[str]:
    """Return the lines of Slicer's log that report an error, oldest first; none on the stand-in, which has no log.

    What is printed to stderr ("FD") and tracebacks are left out: exceptions are seen by their hook.
    """
    model = getattr(slicer.app, "errorLogModel", lambda: None)()
    rows = [] if model is None else range(model.logEntryCount())
    lines = [[str(model.data(model.index(row, column))) for column in (2, 3, 4)] for row in rows]
    wrong = [(origin, text) for level, origin, text in lines if level in ("Error", "Critical", "Fatal")]
    return [text for origin, text in wrong if origin != "FD" and not text.startswith("Traceback")]


def _grab(widget: Any, path: Path) -> None:
    if not widget.grab().toImage().save(str(path)):
        raise OSError(f"no picture could be written to {path}")


def _render(view: Any, path: Path) -> None:
    view.forceRender()
    image, writer = vtk.vtkWindowToImageFilter(), vtk.vtkPNGWriter()
    image.SetInput(view.renderWindow())
    image.ReadFrontBufferOff()
    writer.SetInputConnection(image.GetOutputPort())
    writer.SetFileName(str(path))
    writer.Write()


def stroke_by_mouse(editor: Any) -> None:
    """Drag the mouse a little to the right of the crosshair in the red view, where the active effect paints."""
    widget = slicer.app.layoutManager().sliceWidget("Red")
    of_view = vtk.vtkMatrix4x4()
    vtk.vtkMatrix4x4.Invert(widget.mrmlSliceNode().GetXYToRAS(), of_view)
    at = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLCrosshairNode").GetCrosshairRAS()
    x, y = (round(value) for value in of_view.MultiplyPoint([*at, 1.0])[:2])
    slicer.util.clickAndDrag(widget, start=(x, y), end=(x + STROKE_PX, y), steps=6)
    slicer.app.processEvents()


def read_settings() -> dict[str, Any]:
    """Read the settings that workflows change."""
    settings = slicer.app.settings()
    return {name: settings.value(name, "") for name in SETTINGS}


def write_settings(values: dict[str, Any]) -> None:
    """Put settings back."""
    settings = slicer.app.settings()
    for name, value in values.items():
        if value:
            settings.setValue(name, value)
        else:
            settings.remove(name)
