"""The session that panel and scripts of one Slicer share: worker with timer, private folders, installer."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import qt
import slicer

from SegWithUCore.util.paths import resource_path

from ..guarded import guarded, last_problem
from ..i18n import _
from ..scene.case_nodes import CaseNodes
from ..scene.later_maps import keep_files, release_gone
from ..scene.load_case import LoadOptions, load_case_steps, why_kept, work_of_case
from ..scene.observers import Observations
from ..scene.steps import SteppedTask, Steps
from ..scene.volume_export import export_volume, is_unchanged
from .controller import RunController, RunRequest, RunTools
from .install import Installer, slicer_tools
from .install_plan import InstallOutcome, InstallResult
from .launch import WorkerStart, worker_start
from .private_folder import PrivateFolder, sweep
from .worker import WorkerProcess, WorkerState

PYTHON_SETTING = "SegWithU/Python"
WHEELS_SETTING = "SegWithU/Wheels"
LOADING_INTERVAL_MS = 5
"""Between two steps of loading, in which the window answers."""


def start_timer(interval_ms: int, callback: Callable[[], None]) -> Callable[[], None]:
    """Call back on the main thread every so many milliseconds; what is returned ends that."""
    timer = qt.QTimer()
    timer.setInterval(interval_ms)
    called = guarded(callback)
    timer.connect("timeout()", called)
    timer.start()

    def stop() -> None:
        timer.stop()
        timer.disconnect("timeout()", called)

    return stop


class Debounce:
    """Calls back once things have been quiet for so many milliseconds."""

    def __init__(self, delay_ms: int, callback: Callable[[], None]) -> None:
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.setInterval(delay_ms)
        self._timer.connect("timeout()", guarded(callback))

    def trigger(self) -> None:
        """Restart the delay."""
        self._timer.start()

    def set_delay(self, delay_ms: int) -> None:
        """Wait so long from the next time on."""
        self._timer.setInterval(delay_ms)

    def stop(self) -> None:
        """Do not call back any more."""
        self._timer.stop()


def temporary_root() -> Path:
    """Return the parent of private folders, in Slicer's temporary folder, which the user may have moved."""
    return Path(slicer.app.temporaryPath) / "SegWithU"


def sweep_leftovers() -> list[Path]:
    """Remove what a crashed Slicer left in the temporary folder."""
    return sweep(temporary_root())


def setting(name: str) -> str:
    """Read a text from Slicer's settings; empty if there is none."""
    return str(slicer.app.settings().value(name, "") or "")


def set_setting(name: str, value: str) -> None:
    """Keep a text in Slicer's settings."""
    slicer.app.settings().setValue(name, value)


class Session:
    """One worker and its controller; the same for the panel and for scripts."""

    def __init__(self) -> None:
        self.worker = WorkerProcess(start_timer, _start)
        self.controller = RunController(self.worker, self._tools())
        self.is_over = False
        """Whether Slicer quits or the module is reloaded: nothing may start the worker again."""
        self._ready: set[tuple[str, ...]] = set()
        self._observations = Observations()
        scene = slicer.mrmlScene
        for event in (scene.NodeRemovedEvent, scene.EndCloseEvent):
            self._observations.add(scene, event, self._runs_may_be_gone)

    def _runs_may_be_gone(self, scene: "slicer.vtkMRMLScene", _event: str) -> None:
        release_gone(scene)

    def prepare(self, request: RunRequest, on_result: Callable[[InstallResult], None]) -> None:
        """Bring what a run needs into a working state; checked once a need, until the worker misses something."""
        need = {
            "model": str(request.model), "head": request.head, "device": request.device, "engine": request.engine,
        } | ({"networks": request.networks} if request.networks else {})  # fmt: skip
        key = tuple(need.values())
        if key in self._ready:
            on_result(InstallResult(InstallOutcome.READY, ""))
            return

        def remember(result: InstallResult) -> None:
            if result.outcome is InstallOutcome.READY:
                self._ready.add(key)
            on_result(result)

        wheels = setting(WHEELS_SETTING)
        Installer(
            self.worker,
            slicer_tools(),
            resource_path("requirements.txt"),
            Path(wheels) if wheels else None,
            other_python=bool(setting(PYTHON_SETTING)),
            need=need,
        ).begin(remember)

    def check_again(self) -> None:
        """Check the packages again before the next run."""
        self._ready.clear()

    def python_changed(self) -> None:
        """Let another Python take effect at once: the worker that runs belongs to the one before."""
        self.check_again()
        if self.worker.state is not WorkerState.STOPPED:
            self.worker.restart()

    def end(self) -> None:
        """End the worker and whatever it is doing, and leave no file: for quitting and reloading."""
        self.is_over = True
        self.worker.stop()
        self.controller.drop_run()
        self._observations.clear()
        release_gone(None)

    def diagnostics(self) -> str:
        """Return what a bug report needs: versions, state, the worker's last lines. No names of patients or files."""
        info: Mapping[str, Any] = {
            "Slicer": f"{slicer.app.applicationVersion} ({slicer.app.os}, revision {slicer.app.revision})",
            "worker": f"{self.worker.state.value}, process {self.worker.pid}",
            **self.worker.versions,
        }
        lines = [f"{name}: {value}" for name, value in info.items()]
        status = self.controller.status
        lines += [f"run: {status.phase.value}, {status.outcome.value}: {status.sentence}", *status.warnings]
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
            keep=keep_files,
            every=lambda callback: start_timer(LOADING_INTERVAL_MS, callback),
            engine_lost=self.check_again,
        )


def _load(folder: Path, request: RunRequest) -> SteppedTask[tuple[CaseNodes, str]]:
    """Make the task that puts a result where the request asks for it; the sentence says why it is elsewhere."""
    return SteppedTask(_load_steps(folder, request), work_of_case(folder, request.volumes[0]))


def _load_steps(folder: Path, request: RunRequest) -> Steps[tuple[CaseNodes, str]]:
    output, volumes = request.output, request.volumes
    kept = why_kept(output) if output is not None and output.GetScene() is not None else ""
    options = LoadOptions(volumes[1:], output=output, new=request.new)
    nodes = yield from load_case_steps(folder, volumes[0], options)
    if not kept or nodes.segmentation is None:
        return nodes, ""
    text = _("{kept} and stays as it is: the result is in '{name}'.")
    return nodes, text.format(kept=kept, name=nodes.segmentation.GetName())


def choose_python(path: str) -> None:
    """Run the engine in this Python from now on; "" is Slicer's own."""
    if path != setting(PYTHON_SETTING):
        set_setting(PYTHON_SETTING, path)
        session().python_changed()


def _start() -> WorkerStart:
    python = setting(PYTHON_SETTING)
    return worker_start(python or None, before_slicer=slicer.util.startupEnvironment() if python else None)


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
