"""How long a result of 512 x 512 x 600 keeps the window waiting at a time, and a step of the threshold slider on it.

    python Testing/Benchmarks/large_result_in_slicer.py [--case DIR] [--size 512 512 600] [--steps 60] [--json FILE]

The panel on the stand-in of the application, with real MRML and three slice views of 512 x 512 pixels, drawn by
whatever OpenGL there is. Made-up maps with noise: three structures, 391 regions at the full size. Each line is what
happens between two turns of the event loop, as the controller of the run and the section "Overlay" divide it.
Processor time, so that other work on the machine counts little; slices end by the clock, so with one thread on a busy
machine they hold less. `--case` keeps the made-up case there, or takes what is there. Exits 1 above 0.5 s or 20 ms.
"""

import argparse
import json
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / part) for part in ("Testing", "SegWithUSlicer", "Testing/helpers")]
SPACING = (0.8, 0.8, 1.0)
NAMES = {1: "liver", 2: "tumour", 3: "vein"}
MOST_S, MOST_STEP_MS = 0.5, 20.0


def main() -> int:
    """Make the case, measure, print a table and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", type=Path, help="folder of the made-up case")
    parser.add_argument("--size", type=int, nargs=3, default=(512, 512, 600), metavar=("I", "J", "K"))
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--png", type=Path, help="receives the axial view")
    parser.add_argument("--json", type=Path, help="receives the figures")
    options = parser.parse_args()
    os.environ.setdefault("LP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as name:
        home = options.case or Path(name)
        if not (home / "case" / "case.json").is_file():
            make_case(home, tuple(options.size[::-1]))
        facts = _measured(home, options)
    print(json.dumps(facts, indent=1))
    if options.json:
        options.json.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    longest = max(entry["longest_s"] for entry in facts["blocked"].values())
    return 0 if longest <= MOST_S and facts["threshold_step_ms"]["1 view"]["90 % under"] <= MOST_STEP_MS else 1


def _measured(home: Path, options: argparse.Namespace) -> dict[str, Any]:
    from SlicerHost.host import SlicerHost

    with SlicerHost(ROOT / "SegWithUSlicer" / "SegWithUSlicer.py") as host:
        import slicer
        from opened_module import Opened

        opened = Opened(host)
        volume = slicer.util.loadVolume(str(home / "image.nrrd"))
        slicer.util.setSliceViewerLayers(background=volume, fit=True)
        _draw(host)
        before = _memory()
        turns = Turns(opened)
        nodes = turns.load(home / "case", volume)
        turns.time("sections of the panel", lambda: opened.panel._loaded(nodes))
        turns.time("first picture, three views", lambda: _draw(host))
        first = _memory()
        opened.panel.structures._clicked(0, 0)
        step = {what: _threshold(host, opened, options.steps, count) for what, count in (("1 view", 1), ("3 views", 3))}
        if options.png:
            _write(host, options.png)
        turns.choose("another map", lambda: setattr(opened.ui.mapBox, "currentIndex", 1))
        opened.ui.reviewerEdit.text = "A. Reader"
        turns.time("start of a review", opened.panel.review.start)
        turns.time("end of the review", opened.panel.review.end)
        return {
            "voxels": list(volume.GetImageData().GetDimensions()),
            "blocked": turns.found,
            "threshold_step_ms": step,
            "megabytes": {"image": round(before), "result": round(first - before), "peak": round(_peak())},
        }


class Turns:
    """What each turn of the event loop takes, as the panel divides the work."""

    def __init__(self, opened: Any) -> None:
        self._opened = opened
        self.found: dict[str, dict[str, float]] = {}

    def load(self, case: Path, volume: Any) -> Any:
        """Load a result as the controller of a run does."""
        from SegWithUSlicerLib.run.controller import FIRST_S, SLICE_S, RunRequest
        from SegWithUSlicerLib.run.session import _load

        task = _load(case, RunRequest([volume], Path("model")))
        times, seconds = [], FIRST_S
        while not task.is_over:
            times.append(_processor_s(lambda seconds=seconds: task.run(seconds)))
            seconds = SLICE_S
        self._keep("loading the result", times)
        nodes, _remark = task.result
        nodes.set_case(nodes.case, case)  # so that maps are read from it
        return nodes

    def choose(self, what: str, act: Callable[[], None]) -> None:
        """Do something that has to load a map."""
        loader, times = self._opened.panel.overlay.loader, []
        times.append(_processor_s(act))
        loader._stop_timer()  # turns are made here
        while loader.is_busy:
            times.append(_processor_s(loader._go_on))
        self._keep(what, times)

    def time(self, what: str, act: Callable[[], object]) -> None:
        """Do something at once."""
        self._keep(what, [_processor_s(act)])

    def _keep(self, what: str, times: list[float]) -> None:
        found = {"turns": len(times), "longest_s": round(max(times), 3), "all_s": round(sum(times), 2)}
        self.found[what] = found
        print(what, found, flush=True)


def _threshold(host: Any, opened: Any, steps: int, views: int) -> dict[str, float]:
    slider, times = opened.ui.thresholdSlider, []
    low, high = slider.minimum, slider.maximum
    for number in range(steps):

        def step(number: int = number) -> None:
            slider.value = low + (high - low) * (0.05 + 0.9 * (number * 7 % steps) / steps)
            host.process_events()
            _draw(host, views)

        times.append(1000 * _processor_s(step))
    ninth = statistics.quantiles(times, n=10)[-1]
    return {"median": round(statistics.median(times), 1), "90 % under": round(ninth, 1)}


def _draw(host: Any, count: int = 3) -> None:
    """Draw the first slice views, without reading pixels back."""
    for view in list(host.slice_views.values())[:count]:
        connection = view.logic.GetImageDataConnection()
        if connection is not None:
            view._mapper.SetInputConnection(connection)
            if not view.renderer.HasViewProp(view._picture):
                view.renderer.AddViewProp(view._picture)
        view.window.Render()


def _write(host: Any, path: Path) -> None:
    import SimpleITK as sitk

    sitk.WriteImage(sitk.GetImageFromArray(host.render_slice("Red"), isVector=True), str(path))


def _processor_s(act: Callable[[], object]) -> float:
    began = time.process_time()
    act()
    return time.process_time() - began


def _memory() -> float:
    text = Path("/proc/self/status").read_text(encoding="utf-8")
    return float(text.split("VmRSS:")[1].split()[0]) / 1024


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def make_case(home: Path, shape: tuple[int, ...]) -> None:
    """Write an image and a case: three nested ellipsoids, and maps with noise, which do not compress."""
    import numpy as np
    import written_case

    folder = home / "case"
    folder.mkdir(parents=True)
    middle = [length / 2 for length in shape]
    axes = np.ogrid[tuple(slice(length) for length in shape)]
    squares = [((axis - centre) / (0.6 * centre)) ** 2 for axis, centre in zip(axes, middle, strict=True)]
    radius = np.sqrt(sum(square.astype(np.float32) for square in squares))
    labels = (radius < 1).astype(np.uint8) + (radius < 0.6) + (radius < 0.3)
    noise = np.random.default_rng(0).standard_normal((64, *shape[1:])).astype(np.float32)
    noise = np.tile(noise, (shape[0] // 64 + 1, 1, 1))[: shape[0]]
    distance = np.minimum(np.minimum(np.abs(radius - 1), np.abs(radius - 0.6)), np.abs(radius - 0.3))
    error = np.clip(np.exp(-12 * distance) * 0.7 * (1 + 0.1 * noise), 0, 1).astype(np.float32)
    image = _write_volume(home / "image.nrrd", (1000 - 400 * radius + 20 * noise).astype(np.int16))
    _write_volume(folder / "segmentation.nii.gz", labels)
    maps = {}
    for name, values, window in (
        ("error_probability", error, (0.0, 0.5)),
        ("ranking", np.log(error + 1e-6) + 0.1 * noise, (-14.0, 1.0)),
        ("calibration", 4 * error + 0.1 * np.abs(noise), (0.0, 4.0)),
    ):
        _write_volume(folder / f"{name}.nii.gz", values)
        maps[name] = {"file": f"{name}.nii.gz", "title": name, "window": window, "lower_threshold": window[0]}
        counts = {str(v): np.histogram(values[labels == v], 256, window)[0].tolist() for v in range(4)}
        maps[name]["histograms"] = {"low": window[0], "high": window[1], "counts": counts}
        maps[name]["not_assessed"] = -100.0
    written_case.NAMES.update(NAMES)
    written_case.write_some_regions(folder, labels, error, image, _some_regions(shape))
    case = {
        "format": "segwithu-case",
        "format_version": 1,
        "name": "large",
        "created": "2026-11-27T09:30:00+00:00",
        "input": {"channels": [{"name": "CT", "file": "../image.nrrd"}], "grid": {"spacing_mm": SPACING}},
        "model": {"name": "large"},
        "structures": [{"value": v, "name": name, "color": [80 * v, 255 - 60 * v, 120]} for v, name in NAMES.items()],
        "maps": maps,
    }
    (folder / "case.json").write_text(json.dumps(case), encoding="utf-8")


def _some_regions(shape: tuple[int, ...]) -> Any:
    import numpy as np

    ids, number = np.zeros(shape, np.uint16), 0
    low, high = [length // 4 for length in shape], [3 * length // 4 for length in shape]
    for k, j, i in np.random.default_rng(1).integers(low, high, (400, 3)):
        box = (slice(k, k + 6), slice(j, j + 8), slice(i, i + 8))
        if not ids[box].any():
            number += 1
            ids[box] = number
    return ids


def _write_volume(path: Path, values: Any) -> Any:
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(values)
    image.SetSpacing(SPACING)
    sitk.WriteImage(image, str(path), useCompression=path.suffix == ".gz", compressionLevel=1)
    return image


if __name__ == "__main__":
    sys.exit(main())
