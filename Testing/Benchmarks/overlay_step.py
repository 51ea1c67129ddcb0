"""How long one step of the threshold or opacity slider takes on a 512 x 512 x 300 volume, slice render included.

    python Testing/Benchmarks/overlay_step.py [--steps 60] [--slices 300] [--processor-time] [--png FILE]

Real MRML and Slicer's own blending in an off-screen axial view of 512 x 512 pixels, drawn by whatever OpenGL there is
(on machines without a graphics card, by the processor). Exits 1 when a tenth of the steps of any kind takes 50 ms.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "SegWithUSlicer"), str(ROOT / "Testing" / "helpers")]

import numpy as np  # noqa: E402
import SimpleITK as sitk  # noqa: E402
from loaded_case import load_volume  # noqa: E402
from mrml_headless import HeadlessScene, SliceView, close_all  # noqa: E402

from SegWithUSlicerLib.scene.load_case import load_case  # noqa: E402
from SegWithUSlicerLib.scene.overlay import Overlay  # noqa: E402

PLANE_JI = (512, 512)
SPACING_IJK = (0.8, 0.8, 1.5)
LIMIT_MS = 50.0


def main() -> int:
    """Build the volume, measure, print a table and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--slices", type=int, default=300)
    parser.add_argument("--processor-time", action="store_true", help="instead of the clock's, on a busy machine")
    parser.add_argument("--png", type=Path)
    arguments = parser.parse_args()
    clock = time.process_time if arguments.processor_time else time.perf_counter
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write_case(folder, (arguments.slices, *PLANE_JI))
        headless = HeadlessScene(folder / "slicer")
        view = SliceView(headless, size=(512, 512))
        volume = load_volume(headless.scene, folder / "image.nrrd", "CT")
        started = time.perf_counter()
        nodes = load_case(folder / "case", volume)
        print(f"load_case, one map with its masked copy: {time.perf_counter() - started:.1f} s")
        view.composite.SetBackgroundVolumeID(volume.GetID())
        view.fit()
        slowest = _measure(view, Overlay(nodes), arguments.steps, clock)
        if arguments.png:
            view.pixels(arguments.png)
        close_all()
    return 0 if slowest < LIMIT_MS else 1


def _measure(view: SliceView, overlay: Overlay, steps: int, clock: Callable[[], float]) -> float:
    overlay.show("error_probability")
    view.render()
    changes: dict[str, Callable[[float], None]] = {
        "threshold": overlay.set_threshold,
        "opacity": overlay.set_opacity,
        "readout": lambda part: _threshold_and_readout(overlay, part),
        "only near": lambda part: overlay.set_only_near(int(part * steps) % 2 == 0),
        "render alone": lambda part: None,
    }
    slowest = 0.0
    for name, change in changes.items():
        times = []
        for step in range(steps):
            started = clock()
            change(0.05 + 0.9 * step / steps)
            view.render()
            times.append(1000 * (clock() - started))
        ninth = statistics.quantiles(times, n=10)[-1]
        print(f"{name:12} median {statistics.median(times):6.1f} ms   90 % under {ninth:6.1f} ms")
        slowest = max(slowest, ninth)
    return slowest


def _threshold_and_readout(overlay: Overlay, part: float) -> None:
    overlay.set_threshold(part)
    overlay.readout()


def _write_case(folder: Path, size_kji: tuple[int, int, int]) -> None:
    k, j, i = np.ogrid[: size_kji[0], : size_kji[1], : size_kji[2]]
    radius = np.sqrt(
        ((k - size_kji[0] / 2) / (size_kji[0] / 4)) ** 2 + ((j - 256) / 150) ** 2 + ((i - 256) / 160) ** 2
    ).astype(np.float32)
    error = np.exp(-np.abs(radius - 1) * 12, dtype=np.float32)
    labels = (radius < 1).astype(np.uint8)
    (folder / "case").mkdir()
    image = (1000 - 400 * radius).astype(np.int16)
    for path, array in (
        ("image.nrrd", image),
        ("case/segmentation.nii.gz", labels),
        ("case/error_probability.nii.gz", error),
    ):
        volume = sitk.GetImageFromArray(array)
        volume.SetSpacing(SPACING_IJK)
        sitk.WriteImage(volume, str(folder / path), useCompression=path.endswith(".gz"), compressionLevel=1)
    counts = {str(value): np.histogram(error[labels == value], 256, (0, 1))[0].tolist() for value in (0, 1)}
    entry = {"file": "error_probability.nii.gz", "title": "Error probability", "window": [0, 1], "lower_threshold": 0.2}
    entry["histograms"] = {"low": 0.0, "high": 1.0, "counts": counts}
    case = {
        "format": "segwithu-case",
        "format_version": 1,
        "name": "benchmark",
        "input": {"grid": {"spacing_mm": SPACING_IJK}},
        "structures": [{"value": 1, "name": "liver", "color": [200, 100, 80]}],
        "maps": {"error_probability": entry},
    }
    (folder / "case" / "case.json").write_text(json.dumps(case), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
