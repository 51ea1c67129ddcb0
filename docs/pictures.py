"""Make the pictures of README and docs: python docs/pictures.py [FOLDER].

The sample is segmented by the real worker and the views are drawn by Slicer's own pipelines. The panel is drawn by the
project's test host (Testing/SlicerHost), not by the Slicer application, so Slicer's own panel looks a little different.
"""

import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "Testing"), str(ROOT / "SegWithUSlicer")]

from SlicerHost.host import SlicerHost  # noqa: E402  (it prepares the process for PySide6 and vtk)

VIEW = (560, 480)
ZOOM_MM = 70.0
WIDTH = 598
HEIGHT = 880
WIDE = 1600
STEP = 480
RUN_TIMEOUT_S = 600


def main() -> None:
    """Write step1.png to step4.png and wide.png."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "Resources" / "Screenshots"
    folder.mkdir(parents=True, exist_ok=True)
    with SlicerHost(ROOT / "SegWithUSlicer" / "SegWithUSlicer.py") as host:
        shots = _shots(host, folder)
    steps = {
        1: [shots["try"].crop((0, 48, WIDTH, 455)), shots["try Red"]],
        2: [
            shots["segment"].crop((0, 380, WIDTH, 450)),
            shots["segment"].crop((0, 745, WIDTH, 920)),
            shots["segment Yellow"],
            shots["segment 3D"],
        ],
        3: [shots["threshold"].crop((0, 485, WIDTH, 740)), shots["threshold Red"], shots["threshold Green"]],
        4: [shots["review"].crop((0, 240, 638, 770)), shots["review Red"]],
    }
    for number, parts in steps.items():
        step = _numbered(_column(parts), number)
        _save(step.resize((STEP, HEIGHT * STEP // WIDTH)), folder / f"step{number}.png")
    _save(_row([shots["threshold Yellow"], shots["review Red"], shots["segment 3D"], steps[4][0]]), folder / "wide.png")


def _shots(host: SlicerHost, folder: Path) -> dict[str, Any]:
    """Panel and views after each of the four steps."""
    ui, panel = host.widget.ui, host.widget.panel
    shots: dict[str, Any] = {}

    def keep(step: str, zoom: bool = True) -> None:
        path = folder / "panel_of_a_step.png"
        host.screenshot(path, width=560)
        shots[step] = _image(path)
        path.unlink()
        shots.update({f"{step} {name}": view for name, view in _views(host, zoom).items()})

    ui.tryItButton.click()
    host.wait(lambda: ui.costLabel.text.startswith("About"), timeout=RUN_TIMEOUT_S)
    keep("try", zoom=False)
    ui.runButton.click()
    host.wait(lambda: not panel.session.controller.is_busy, timeout=RUN_TIMEOUT_S)
    if not ui.statusLabel.text.startswith("Done"):
        raise SystemExit(ui.statusLabel.text)
    _hide_boxes(host)
    panel.structures._clicked(0, 0)
    ui.show3DBox.checked = True
    keep("segment")
    ui.thresholdSlider.value = 0.1
    host.wait(1.0)
    keep("threshold")
    ui.thresholdSlider.value = 0.25
    ui.reviewerEdit.text = "Ana"
    panel.review.start()
    for name in ("inputsButton", "overlayButton", "structuresButton"):
        getattr(ui, name).collapsed = True
    host.wait(1.0)
    keep("review")
    return shots


def _views(host: SlicerHost, zoom: bool) -> dict[str, Any]:
    from PIL import Image

    pictures = {}
    for name, view in host.slice_views.items():
        host.render_slice(name, VIEW)
        if zoom:
            view.node.SetFieldOfView(ZOOM_MM, ZOOM_MM * VIEW[1] / VIEW[0], view.node.GetFieldOfView()[2])
        pictures[name] = Image.fromarray(host.render_slice(name, VIEW))
    return {**pictures, "3D": Image.fromarray(host.render_threed(VIEW))}


def _hide_boxes(host: SlicerHost) -> None:
    import slicer

    for roi in slicer.util.getNodesByClass("vtkMRMLMarkupsROINode"):
        roi.GetDisplayNode().SetVisibility(False)
    host.threed_view.node.SetBoxVisible(False)
    host.threed_view.node.SetAxisLabelsVisible(False)


def _column(parts: list[Any]) -> Any:
    """Parts of the panel as they are, and below them views cut to the height that is left."""
    from PIL import Image

    whole = Image.new("RGB", (WIDTH, HEIGHT), "white")
    views = [part for part in parts if part.size == VIEW]
    top = 0
    for part in parts:
        if part.size == VIEW:
            continue
        fitted = part.resize((WIDTH, part.height * WIDTH // part.width), Image.Resampling.LANCZOS)
        whole.paste(fitted, (0, top))
        top += fitted.height
    each = (HEIGHT - top) // len(views)
    for view in views:
        fitted = view.resize((WIDTH, view.height * WIDTH // view.width), Image.Resampling.LANCZOS)
        cut = max(0, fitted.height - each) // 2
        whole.paste(fitted.crop((0, cut, WIDTH, cut + each)), (0, top))
        top += each
    return whole


def _row(parts: list[Any]) -> Any:
    """Pictures side by side, of one height."""
    from PIL import Image

    height = VIEW[1]
    fitted = [part.resize((part.width * height // part.height, height), Image.Resampling.LANCZOS) for part in parts]
    whole = Image.new("RGB", (sum(part.width for part in fitted) + 6 * (len(fitted) - 1), height), "white")
    left = 0
    for part in fitted:
        whole.paste(part, (left, 0))
        left += part.width + 6
    return whole.resize((WIDE, whole.height * WIDE // whole.width), Image.Resampling.LANCZOS)


def _numbered(picture: Any, number: int) -> Any:
    from PIL import ImageDraw, ImageFont

    draw = ImageDraw.Draw(picture)
    draw.ellipse((WIDTH - 70, HEIGHT - 70, WIDTH - 12, HEIGHT - 12), fill="#d55e00", outline="white", width=3)
    draw.text((WIDTH - 41, HEIGHT - 41), str(number), fill="white", font=ImageFont.load_default(36), anchor="mm")
    return picture


def _image(path: Path) -> Any:
    from PIL import Image

    with Image.open(path) as opened:
        return opened.convert("RGB")


def _save(picture: Any, path: Path) -> None:
    picture.save(path, optimize=True)


if __name__ == "__main__":
    main()
