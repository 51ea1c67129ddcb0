"""Pictures of the panel in each of its states, to be looked at: python Testing/screenshots.py FOLDER [WIDTH ...].

The sample case is segmented by the real worker; the views are drawn by Slicer's own pipelines, the panel by the
stand-in of the application (Testing/SlicerHost), so Slicer's own panel looks a little different. `docs/pictures.py`
makes the pictures of README and docs of the same states.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "Testing"), str(ROOT / "Testing" / "helpers"), str(ROOT / "SegWithUSlicer")]

from model_registry import add_to_registry  # noqa: E402
from SlicerHost.host import SlicerHost  # noqa: E402  (it prepares the process for PySide6 and vtk)

from SegWithUCore.review.log_format import Verdict  # noqa: E402

MODULE = ROOT / "SegWithUSlicer" / "SegWithUSlicer.py"
WIDTHS = (400, 600)
VIEW = (560, 480)
ZOOM_MM = 70.0
RUN_TIMEOUT_S = 600
SECTIONS = ("inputsButton", "overlayButton", "reviewButton")


def main() -> None:
    """Write STATE_WIDTH.png of all states."""
    folder, widths = Path(sys.argv[1]), [int(text) for text in sys.argv[2:]] or list(WIDTHS)
    folder.mkdir(parents=True, exist_ok=True)
    for states in (states_of_a_run, states_of_cases, states_of_models):
        with SlicerHost(MODULE) as host, TemporaryDirectory() as home:
            for state in states(host, Path(home)):
                for width in widths:
                    print(host.screenshot(folder / f"{state}_{width}.png", width=width))


def states_of_a_run(host: SlicerHost, _home: Path) -> Iterator[str]:
    """Go from an empty scene to the end of a review; yields the name of each state when the panel is in it."""
    ui, panel = host.widget.ui, host.widget.panel
    yield "start"
    from SegWithUSlicerLib.scene.sample import load_volume

    panel.inputs.choose(load_volume(), None)
    host.wait(lambda: ui.bannerFrame.visible, timeout=RUN_TIMEOUT_S)
    yield "unfit"
    ui.tryItButton.click()
    host.wait(lambda: bool(ui.likenessLabel.text), timeout=RUN_TIMEOUT_S)
    yield "chosen"
    ui.runButton.click()
    host.wait(lambda: ui.progressBar.visible and ui.progressBar.value > 0, timeout=RUN_TIMEOUT_S)
    yield "running"
    host.wait(lambda: not panel.session.controller.is_busy, timeout=RUN_TIMEOUT_S)
    if not ui.statusLabel.text.startswith("Done"):
        raise SystemExit(ui.statusLabel.text)
    panel.structures._clicked(0, 0)
    yield "done"
    ui.reviewerEdit.text = "Ana"
    panel.review.start()
    host.wait(1.0)
    yield "review"
    for verdict in (Verdict.ACCEPTED, Verdict.REJECTED):
        panel.review.judge(verdict)
    confusion = next(region for region in panel.review.session.regions if region.kind.value == "confusion")
    panel.review.go_to(confusion.id)
    ui.editButton.collapsed = False
    panel.review.edit.editor.setActiveEffectByName("Paint")
    host.wait(0.5)
    yield "editing"
    ui.editButton.collapsed = True
    ui.reviewMoreButton.collapsed = False
    host.wait(0.5)
    yield "more"
    ui.endReviewButton.click()
    ui.reviewMoreButton.collapsed = True
    yield "ended"


def states_of_cases(host: SlicerHost, home: Path) -> Iterator[str]:
    """List the three cases of the demo, flagged, one of them under review."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "SegWithUSlicer")}
    command = [sys.executable, "-m", "SegWithUCore.cli", "demo", "--output", str(home / "demo")]
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    ui, panel = host.widget.ui, host.widget.panel
    ui.reviewerEdit.text = "Ana"
    panel.cases.open_list(home / "demo")
    panel.cases.list.source.title = "/home/ana/cases"  # the picture shall not tell where it was made
    host.wait(1.0)
    panel.cases.next()
    panel.review.start()
    for _region in range(3):
        panel.review.judge(Verdict.ACCEPTED)
    host.wait(1.0)
    panel.cases.ui.exportButton.collapsed = False
    for name in SECTIONS:
        getattr(ui, name).collapsed = True
    ui.casesButton.collapsed = False  # a review folds it
    yield "cases"


def states_of_models(host: SlicerHost, home: Path) -> Iterator[str]:
    """List the installed model and one that the registry in a folder offers."""
    registry = home / "registry"
    example = {"name": "liver", "version": "1.2.0", "task": "An example.", "calibrated": False}
    licences = {"licence_weights": "CC-BY-NC-4.0", "commercial_use": False}
    add_to_registry(ROOT / "Resources" / "Models" / "hippocampus", registry, **example, **licences)
    ui, models = host.widget.ui, host.widget.panel.models
    for name in SECTIONS:
        getattr(ui, name).collapsed = True
    ui.registryEdit.text = str(registry)
    models.registry_entered()
    ui.modelsButton.collapsed = False
    models.refresh()
    host.wait(lambda: len(models.rows) > 1, timeout=RUN_TIMEOUT_S)
    models.select("hippocampus@1.3.1")
    ui.registryEdit.text = "https://models.hospital.org/segwithu"  # the picture shall not tell where it was made
    yield "models"


def views(host: SlicerHost, zoom: bool = True) -> dict[str, Any]:
    """Draw the slice views by name, and "3D"; zoomed to the structure."""
    from PIL import Image

    pictures = {}
    for name, view in host.slice_views.items():
        host.render_slice(name, VIEW)
        if zoom:
            view.node.SetFieldOfView(ZOOM_MM, ZOOM_MM * VIEW[1] / VIEW[0], view.node.GetFieldOfView()[2])
        pictures[name] = Image.fromarray(host.render_slice(name, VIEW))
    return {**pictures, "3D": Image.fromarray(host.render_threed(VIEW))}


if __name__ == "__main__":
    main()
