"""The module in the running Slicer, with helpers to click, wait and look; the scene is emptied between tests."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import slicer
import vtk
from left_hippocampus import choose_left_hippocampus
from real_slicer import RealSlicer
from repository import ROOT

SAMPLE = ROOT / "Resources" / "SampleData" / "MNI152_T1_1mm.nii.gz"
SECTIONS = ("inputsButton", "overlayButton", "reviewButton", "advancedButton", "casesButton", "modelsButton")
RUN_TIMEOUT_S = float(os.environ.get("SEGWITHU_RUN_TIMEOUT", "240"))
"""A run takes about ten seconds; machines that do other work meanwhile may need longer."""


def hold(process: Any, reached: Callable[[], bool] = lambda: True) -> int:
    """Stop a command that has just started, once it has reported itself and `reached` holds; return its process ID.

    Polls without Qt, whose events may outlast a fast command, and stops it whenever it looks: where showing an event
    takes longer than a case, all cases were done before the first look.
    """
    until = time.monotonic() + RUN_TIMEOUT_S

    def poll(seconds: float) -> None:
        time.sleep(seconds)
        process.poll()
        assert process.is_busy, "it ended before it could be held"
        assert time.monotonic() < until

    while process.pid is None:
        poll(0.002)
    pid = int(process.pid)
    while True:
        os.kill(pid, signal.SIGSTOP)
        poll(0.02)
        if reached():
            return pid
        os.kill(pid, signal.SIGCONT)
        time.sleep(0.05)


@dataclass
class Opened:
    """The application with the module, and what tests ask of it again and again."""

    app: RealSlicer

    @property
    def ui(self) -> Any:
        """The widgets of the panel."""
        return self.app.widget.ui

    @property
    def panel(self) -> Any:
        """The panel object."""
        return self.app.widget.panel

    @property
    def controller(self) -> Any:
        """The controller of the run."""
        return self.panel.session.controller

    @property
    def worker(self) -> Any:
        """The worker process."""
        return self.panel.session.worker

    @property
    def overlay(self) -> Any:
        """The overlay that is shown."""
        return self.panel.overlay.overlay

    @property
    def nodes(self) -> Any:
        """The run that is shown."""
        return self.panel.overlay.nodes

    def unfold(self, *names: str) -> None:
        """Open these sections and fold the others."""
        for name in SECTIONS:
            getattr(self.ui, name).collapsed = name not in names

    def wait(self, done: Callable[[], Any], timeout: float = RUN_TIMEOUT_S) -> None:
        """Run the event loop until something holds."""
        self.app.wait(done, timeout=timeout)

    def forget_ticks(self) -> None:
        """Let the next run ask for what the model proposes."""
        slicer.app.settings().remove("SegWithU/Asked")

    def finish(self) -> str:
        """Wait for the end of the run; what the panel says then."""
        self.wait(lambda: not self.controller.is_busy)
        return str(self.ui.statusLabel.text)

    def choose_sample(self) -> None:
        """Choose the small case: the left hippocampus of the sample head."""
        choose_left_hippocampus(self.panel)

    def segment_sample(self) -> Any:
        """Segment the small case, and return the nodes that come of it."""
        self.choose_sample()
        self.ui.runButton.click()
        said = self.finish()
        assert said.startswith("Done"), said
        return self.nodes

    def begin_run(self, is_held: bool = False) -> int:
        """Click Apply and wait until the worker is in the middle of the run; its process.

        A worker that is ready is held at the request, so that no run ends before it is seen.

        Args:
            is_held: hold it for good.
        """
        submit, held = self.worker.submit, []
        self.wait(lambda: self.worker.state.value in ("stopped", "ready"))  # it starts once the inputs are chosen

        def submit_and_hold(request: Any, on_event: Any) -> Any:
            if request["request"] == "segment" and self.worker.state.value == "ready" and hasattr(signal, "SIGSTOP"):
                held.append(self.worker.pid)
                os.kill(self.worker.pid, signal.SIGSTOP)
            return submit(request, on_event)

        with mock.patch.object(self.worker, "submit", submit_and_hold):
            self.ui.runButton.click()
            self.wait(lambda: self.controller.status.phase.value == "running" and self.worker.state.value == "busy")
        for pid in () if is_held else held:
            os.kill(pid, signal.SIGCONT)
        return int(self.worker.pid)

    def private_folders(self) -> list[Path]:
        """Folders with patient data that lie on the disk now."""
        root = Path(slicer.app.temporaryPath) / "SegWithU"
        return sorted(root.iterdir()) if root.is_dir() else []

    def coloured(self, view: str = "Red") -> int:
        """How many pixels of a view are strongly coloured: neither image nor black."""
        return int(coloured(self.app.render_slice(view)).sum())


def coloured(pixels: np.ndarray) -> np.ndarray:
    """Which pixels are not grey."""
    values = pixels.astype(int)
    return values.max(axis=2) - values.min(axis=2) > 24


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits to be collected does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    if not Path("/proc/self/stat").is_file():
        return True
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0] not in "ZX"
    except OSError:  # it ended just now
        return False


def sample_volume() -> Any:
    """The image of the sample, loaded once a scene and not shown."""
    found = slicer.mrmlScene.GetFirstNodeByName("T1 brain")
    return found or slicer.util.loadVolume(str(SAMPLE), {"name": "T1 brain", "show": False})


def sample_crop(name: str = "Crop", factor: tuple[float, float, float] = (1, 1, 1)) -> Any:
    """A small volume on one hippocampus of the sample, of a training image's size times a factor along R, A, S."""
    whole = sample_volume()
    matrix, inverse = vtk.vtkMatrix4x4(), vtk.vtkMatrix4x4()
    whole.GetIJKToRASMatrix(matrix)
    vtk.vtkMatrix4x4.Invert(matrix, inverse)
    centre, half = np.array([-28, -22, -14]), np.array(factor) * (18, 25, 18)
    corners = [inverse.MultiplyPoint([*(centre + sign * half), 1])[:3] for sign in (-1, 1)]
    low, high = np.rint(np.min(corners, axis=0)).astype(int), np.rint(np.max(corners, axis=0)).astype(int)
    box = tuple(slice(first, last) for first, last in zip(low[::-1], high[::-1], strict=True))
    volume = slicer.util.addVolumeFromArray(slicer.util.arrayFromVolume(whole)[box].copy(), name=name)
    for row, value in enumerate(matrix.MultiplyPoint([*low.tolist(), 1])[:3]):
        matrix.SetElement(row, 3, value)
    volume.SetIJKToRASMatrix(matrix)
    return volume


def segment_crop(opened: Opened, volume: Any = None) -> Any:
    volume = volume or sample_crop()
    slicer.util.setSliceViewerLayers(background=volume, fit=True)
    opened.panel.inputs.choose(volume, None, "hippocampus")
    opened.ui.runButton.click()
    said = opened.finish()
    assert said.startswith("Done"), said
    return opened.nodes
