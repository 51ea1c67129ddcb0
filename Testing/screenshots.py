"""Pictures of panel, views and list of cases for the README: python Testing/screenshots.py [FOLDER].

The sample case is segmented by the real worker; the views are drawn by Slicer's own pipelines, the panel by the
stand-in of the application (Testing/SlicerHost), so Slicer's own panel looks a little different.
"""

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "Testing"), str(ROOT / "SegWithUSlicer")]

from SlicerHost.host import SlicerHost  # noqa: E402  (it prepares the process for PySide6 and vtk)

from SegWithUCore.review.log_format import Verdict  # noqa: E402

SIZE = (560, 480)
ZOOM_MM = 70.0
RUN_TIMEOUT_S = 600
_GAP_PX = 6


def main() -> None:
    """Make panel.png, views.png and cases.png."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "Resources" / "Screenshots"
    folder.mkdir(parents=True, exist_ok=True)
    with SlicerHost(ROOT / "SegWithUSlicer" / "SegWithUSlicer.py") as host:
        _segment(host)
        host.screenshot(folder / "panel.png", width=560)
        _save(_views(host), folder / "views.png")
    with SlicerHost(ROOT / "SegWithUSlicer" / "SegWithUSlicer.py") as host, TemporaryDirectory() as home:
        _list_cases(host, Path(home))
        host.screenshot(folder / "cases.png", width=560)
    print("\n".join(str(folder / name) for name in ("panel.png", "views.png", "cases.png")))


def _segment(host: SlicerHost) -> None:
    ui, panel = host.widget.ui, host.widget.panel
    ui.tryItButton.click()
    host.wait(lambda: ui.costLabel.text.startswith("About"), timeout=RUN_TIMEOUT_S)
    ui.runButton.click()
    host.wait(lambda: not panel.session.controller.is_busy, timeout=RUN_TIMEOUT_S)
    if not ui.statusLabel.text.startswith("Done"):
        raise SystemExit(ui.statusLabel.text)
    panel.structures._clicked(0, 0)
    ui.show3DBox.checked = True


def _list_cases(host: SlicerHost, home: Path) -> None:
    """Both hippocampi of the sample, listed and flagged, one of them open in a review."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "SegWithUSlicer")}
    command = [sys.executable, "-m", "SegWithUCore.cli", "demo", "--output", str(home / "demo")]
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    ui, panel = host.widget.ui, host.widget.panel
    for name in ("inputsButton", "overlayButton", "structuresButton"):
        getattr(ui, name).collapsed = True
    ui.reviewerEdit.text = "Ana"
    panel.cases.open_list(home / "demo")
    panel.cases.list.source.title = "/home/ana/cases"  # the picture shall not tell where it was made
    ui.flagShareBox.value = 10.0
    host.wait(1.0)
    panel.cases.next()
    panel.review.start()
    for _region in range(3):
        panel.review.judge(Verdict.ACCEPTED)
    host.wait(1.0)
    panel.cases.ui.exportButton.collapsed = False
    ui.reviewButton.collapsed = True
    ui.casesButton.collapsed = False  # a review folds it


def _views(host: SlicerHost):  # type: ignore[no-untyped-def]
    import numpy as np
    import slicer

    for roi in slicer.util.getNodesByClass("vtkMRMLMarkupsROINode"):
        roi.GetDisplayNode().SetVisibility(False)
    host.threed_view.node.SetBoxVisible(False)
    host.threed_view.node.SetAxisLabelsVisible(False)
    pictures = []
    for name, view in host.slice_views.items():
        host.render_slice(name, SIZE)
        ratio = SIZE[1] / SIZE[0]
        view.node.SetFieldOfView(ZOOM_MM, ZOOM_MM * ratio, view.node.GetFieldOfView()[2])
        pictures.append(host.render_slice(name, SIZE))
    pictures.append(host.render_threed(SIZE))
    rows = [np.concatenate(_spaced(pictures[start : start + 2], 1), axis=1) for start in (0, 2)]
    return np.concatenate(_spaced(rows, 0), axis=0)


def _spaced(pictures, axis):  # type: ignore[no-untyped-def]
    import numpy as np

    shape = list(pictures[0].shape)
    shape[axis] = _GAP_PX
    return [pictures[0], np.full(shape, 255, np.uint8), pictures[1]]


def _save(pixels, path: Path) -> None:  # type: ignore[no-untyped-def]
    from PIL import Image

    Image.fromarray(pixels).save(path)


if __name__ == "__main__":
    main()
