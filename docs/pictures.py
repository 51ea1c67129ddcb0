"""Make the pictures of README and docs: python docs/pictures.py [FOLDER].

They are of the states that `Testing/screenshots.py` goes through. The sample is segmented by the real worker and the
views are drawn by Slicer's own pipelines. The panel is drawn by the project's test host (Testing/SlicerHost), not by
the Slicer application, so Slicer's own panel looks a little different.
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "Testing")]

from screenshots import MODULE, VIEW, SlicerHost, states_of_a_run, states_of_cases, states_of_models, views  # noqa: E402

PANEL = 560
WIDTH, HEIGHT = 598, 880
"""Of the picture of a step before it is made smaller."""
WIDE, STEP = 1600, 480
_GAP_PX = 6
_ABOVE_LEGEND_PX, _TALL_PX = 60, 280


def main() -> None:
    """Write step1.png to step4.png, wide.png, panel.png, views.png, cases.png and models.png."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "Resources" / "Screenshots"
    folder.mkdir(parents=True, exist_ok=True)
    with SlicerHost(MODULE) as host, TemporaryDirectory() as home:
        shots = _shots(host, Path(home))
    with SlicerHost(MODULE) as host, TemporaryDirectory() as home:
        for state in states_of_cases(host, Path(home)):
            shots[state] = _panel(host)
    with SlicerHost(MODULE) as host, TemporaryDirectory() as home:
        for state in states_of_models(host, Path(home)):
            shots[state] = _panel(host)
    steps = [
        _column([shots["chosen inputs"], shots["chosen Red"]]),
        _column([shots["done run"], shots["done structures"], shots["done Yellow"], shots["done 3D"]]),
        _column([shots["threshold overlay"], shots["threshold Red"], shots["threshold Green"]]),
        _column([shots["review review"], shots["review Red"]]),
    ]
    for number, step in enumerate(steps, 1):
        _save(_numbered(step, number).resize((STEP, HEIGHT * STEP // WIDTH)), folder / f"step{number}.png")
    wide = [shots["threshold Yellow"], shots["review Red"], shots["done 3D"], shots["review review"]]
    _save(_row(wide, VIEW[1], WIDE), folder / "wide.png")
    _save(shots["done"], folder / "panel.png")
    _save(_grid([shots[f"threshold {name}"] for name in ("Red", "Green", "Yellow", "3D")]), folder / "views.png")
    _save(shots["cases"], folder / "cases.png")
    _save(shots["models"], folder / "models.png")


def _shots(host: SlicerHost, home: Path) -> dict[str, Any]:
    """Panel, its parts and the views in the states that are shown."""
    ui = host.widget.ui
    shots: dict[str, Any] = {}

    def keep(state: str, zoom: bool = True, **parts: tuple[Any, ...]) -> None:
        shots[state] = _panel(host)
        for name, widgets in parts.items():
            shots[f"{state} {name}"] = _part(host, shots[state], widgets)
        shots.update({f"{state} {name}": view for name, view in views(host, zoom).items()})

    for state in states_of_a_run(host, home):
        if state == "chosen":
            keep(state, zoom=False, inputs=(ui.inputsButton,))
        elif state == "done":
            _hide_boxes(host)
            ui.show3DBox.checked = True
            keep(state, run=(ui.runButton, ui.statusLabel), structures=(ui.structuresTable,))
            ui.thresholdSlider.value = 0.1
            host.wait(1.0)
            keep("threshold", overlay=(ui.overlayButton,))
            ui.thresholdSlider.value = 0.25
        elif state == "review":
            keep(state, review=(ui.reviewButton,))
            break
    return shots


def _panel(host: SlicerHost) -> Any:
    with TemporaryDirectory() as folder:
        return _image(host.screenshot(Path(folder) / "panel.png", width=PANEL))


def _part(host: SlicerHost, panel: Any, widgets: tuple[Any, ...]) -> Any:
    """Cut some widgets, one below the other, out of a picture of the panel."""
    from PySide6 import QtCore, QtWidgets

    native, frame = QtWidgets.QWidget, host.module.representation()
    tops = [native.mapTo(widget, frame, QtCore.QPoint(0, 0)).y() for widget in widgets]
    ends = [top + native.height(widget) for top, widget in zip(tops, widgets, strict=True)]
    return panel.crop((0, max(0, min(tops) - _GAP_PX), panel.width, max(ends) + _GAP_PX))


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
    top = 0
    for part in (part for part in parts if part.size != VIEW):
        fitted = part.resize((WIDTH, part.height * WIDTH // part.width), Image.Resampling.LANCZOS)
        whole.paste(fitted, (0, top))
        top += fitted.height
    shown = [part for part in parts if part.size == VIEW]
    each = (HEIGHT - top) // len(shown)
    for view in shown:
        fitted = view.resize((WIDTH, view.height * WIDTH // view.width), Image.Resampling.LANCZOS)
        middle = max(0, fitted.height - each) // 2
        # The legend's title, where the structure in the middle is in sight as well.
        cut = min(middle, _ABOVE_LEGEND_PX) if each > _TALL_PX else middle
        whole.paste(fitted.crop((0, cut, WIDTH, cut + each)), (0, top))
        top += each
    return whole


def _row(parts: list[Any], height: int, width: int | None = None) -> Any:
    """Pictures side by side, of one height; all of it made as wide as asked."""
    from PIL import Image

    fitted = [part.resize((part.width * height // part.height, height), Image.Resampling.LANCZOS) for part in parts]
    size = sum(part.width for part in fitted) + _GAP_PX * (len(fitted) - 1), height
    whole, left = Image.new("RGB", size, "white"), 0
    for part in fitted:
        whole.paste(part, (left, 0))
        left += part.width + _GAP_PX
    return whole if width is None else whole.resize((width, height * width // size[0]), Image.Resampling.LANCZOS)


def _grid(parts: list[Any]) -> Any:
    """Four views, two in a row."""
    from PIL import Image

    rows = [_row(parts[start : start + 2], VIEW[1]) for start in (0, 2)]
    whole = Image.new("RGB", (rows[0].width, 2 * VIEW[1] + _GAP_PX), "white")
    for number, row in enumerate(rows):
        whole.paste(row, (0, number * (VIEW[1] + _GAP_PX)))
    return whole


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
