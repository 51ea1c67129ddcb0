"""The session that panel and scripts of one Slicer share: worker with timer, private folders, installer."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import qt
import slicer

from SegWithUCore.util.errors import InputError

from ..guarded import guarded, last_problem
from ..i18n import _
from ..scene.case_nodes import CaseNodes
from ..scene.load_case import load_case
from ..scene.steps import pausing
from ..scene.volume_export import export_mask, export_volume, is_unchanged
from .controller import CASE_FOLDER, RunController, RunRequest, RunTools
from .install import Installer, InstallOutcome, InstallResult, slicer_tools
from .private_folder import PrivateFolder
from .worker import WorkerProcess

WHEELS_SETTING = "SegWithU/Wheels"


class SceneClosedError(InputError):
    """The scene was closed between two steps."""


def start_timer(interval_ms: int, callback: Callable[[], None]) -> Callable[[], None]:
    """Call back repeatedly on the main thread; the returned function stops it."""
    timer = qt.QTimer()
    timer.setInterval(interval_ms)
    called = guarded(callback)
    timer.connect("timeout()", called)
    timer.start()

    def stop() -> None:
        timer.stop()
        timer.disconnect("timeout()", called)

    return stop


@contextmanager
def waiting_cursor() -> Iterator[None]:
    """Show that Slicer works on something.

    In the pauses of the work the window draws and timers are served; clicks and keys wait for its end, and so do the
    views. A scene that is closed in a pause ends the block, by a SceneClosedError that ends here.
    """
    closings: list[object] = []
    closing = guarded(lambda *_: closings.append(None))
    tag = slicer.mrmlScene.AddObserver(slicer.mrmlScene.StartCloseEvent, closing)

    def draw() -> None:
        qt.QCoreApplication.processEvents(qt.QEventLoop.ExcludeUserInputEvents)
        if closings:
            raise SceneClosedError(_("The scene was closed meanwhile: open the case again."), code="scene-closed")

    qt.QApplication.setOverrideCursor(qt.Qt.WaitCursor)
    try:
        with slicer.util.RenderBlocker(), pausing(draw), suppress(SceneClosedError):
            yield
    finally:
        slicer.mrmlScene.RemoveObserver(tag)
        qt.QApplication.restoreOverrideCursor()


class Debounce:
    """Calls back once, after a delay without another trigger."""

    def __init__(self, delay_ms: int, callback: Callable[[], None]) -> None:
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.setInterval(delay_ms)
        self._timer.connect("timeout()", guarded(callback))

    def trigger(self) -> None:
        """Restart the delay."""
        self._timer.start()

    def set_delay(self, delay_ms: int) -> None:
        """Change the delay from the next trigger on."""
        self._timer.setInterval(delay_ms)

    def stop(self) -> None:
        """Do not call back any more."""
        self._timer.stop()


def temporary_root() -> Path:
    """Return the parent of private folders, in Slicer's temporary folder, which the user may have moved."""
    return Path(slicer.app.temporaryPath) / "SegWithU"


def setting(name: str) -> str:
    """Read a text from Slicer's settings; empty if there is none."""
    return str(slicer.app.settings().value(name, "") or "")


def set_setting(name: str, value: str) -> None:
    """Keep a text in Slicer's settings."""
    slicer.app.settings().setValue(name, value)


class Session:
    """One worker and its controller; the same for the panel and for scripts."""

    def __init__(self) -> None:
        self._ready: set[tuple[str, ...]] = set()
        self.worker = WorkerProcess(start_timer)
        self.controller = RunController(self.worker, self._tools())
        self.is_over = False
        """Whether Slicer quits or the module is reloaded: nothing may start the worker again."""
        self.made: dict[str, PrivateFolder] = {}
        """The folders that results in the scene were loaded from, by the ID of their hub; not of saved scenes."""

    def prepare(self, request: RunRequest, on_result: Callable[[InstallResult], None]) -> None:
        """Bring what a run needs into a working state; checked once a need, until the worker misses something."""
        chosen = request.settings
        key = (str(request.model), chosen.head or "", chosen.device, chosen.engine)
        if key in self._ready:
            on_result(InstallResult(InstallOutcome.READY))
            return

        def remember(result: InstallResult) -> None:
            if result.outcome is InstallOutcome.READY:
                self._ready.add(key)
            on_result(result)

        wheels = setting(WHEELS_SETTING)
        need = {"model": str(request.model), "settings": asdict(chosen)}
        Installer(self.worker, slicer_tools(), Path(wheels) if wheels else None, need).begin(remember)

    def end(self) -> None:
        """End the worker and whatever it is doing, and leave no file: for quitting and reloading."""
        self.is_over = True
        self.worker.stop()
        self.controller.drop_run()
        self.made.clear()

    def keep(self, nodes: CaseNodes, folder: PrivateFolder) -> bool:
        """Keep the files of a result while its nodes are in the scene, so that it can be saved as a case."""
        self.made[nodes.hub.GetID()] = folder
        self.sweep()
        return True

    def files_of(self, nodes: CaseNodes) -> Path | None:
        """Return the folder of the files of a result; None where only a saved scene is left."""
        made = self.made.get(nodes.hub.GetID())
        return nodes.case_folder or (None if made is None else made.path / CASE_FOLDER)

    def sweep(self) -> None:
        """Remove the files of results that are in the scene no more, or were saved: the last owner removes them."""
        hubs = {name: slicer.mrmlScene.GetNodeByID(name) for name in self.made}
        is_here = {name: hub is not None and CaseNodes(hub).case_folder is None for name, hub in hubs.items()}
        self.made = {name: folder for name, folder in self.made.items() if is_here[name]}

    def diagnostics(self) -> str:
        """Return what a bug report needs: versions, state, the worker's last lines. No names of patients or files."""
        info: Mapping[str, Any] = {
            "Slicer": f"{slicer.app.applicationVersion} ({slicer.app.os}, revision {slicer.app.revision})",
            "worker": f"{self.worker.state.value}, process {self.worker.pid}",
            **self.worker.versions,
        }
        lines = [f"{name}: {value}" for name, value in info.items()]
        status = self.controller.status
        lines += [f"run: {status.phase.value}, {status.outcome.value}: {status.message}", *status.warnings]
        lines += [status.details] if status.details else []
        problem = last_problem()
        lines += ["", "last problem:", problem.details] if problem is not None else []
        return "\n".join([*lines, "", "worker log:", *self.worker.log()])

    def _tools(self) -> RunTools:
        return RunTools(
            prepare=self.prepare,
            new_folder=lambda: PrivateFolder(temporary_root()),
            export=export_volume,
            in_scene=lambda exported: slicer.mrmlScene.GetNodeByID(exported.node_id) is not None,
            unchanged=is_unchanged,
            load=_load,
            engine_lost=self._ready.clear,  # the packages are checked again before the next run
            export_mask=export_mask,
            keep=self.keep,
        )


def _load(folder: Path, request: RunRequest) -> CaseNodes:
    """Put a result into the scene."""
    with waiting_cursor():
        return load_case(folder, request.volumes[0], request.volumes[1:], mask=request.mask)


_session: Session | None = None


def session() -> Session:
    """Return the session, made at the first call."""
    global _session
    if _session is None:
        _session = Session()
        slicer.app.connect("aboutToQuit()", end_session)
    return _session


@guarded
def end_session() -> None:
    """End the session if there is one; the next call of `session` makes a new one."""
    global _session
    if _session is not None:
        slicer.app.disconnect("aboutToQuit()", end_session)
        ended, _session = _session, None
        ended.end()
