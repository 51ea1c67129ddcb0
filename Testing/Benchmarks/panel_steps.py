"""How long the panel takes for what a user does most: a step of the threshold, and a verdict with the next region.

    python Testing/Benchmarks/panel_steps.py [--checkout DIR] [--regions 500] [--steps 60] [--json FILE]

The panel on the stand-in of the application, with real MRML: a real hippocampus with many small regions. Each step
counts with the events that it leaves; the drawing of the views is `overlay_step.py`'s. Processor time, so that other
work on the machine counts little. `--checkout` measures another checkout with this script, for pairs in one session.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parents[2]


def main() -> int:
    """Measure, print a table and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkout", type=Path, default=HERE)
    parser.add_argument("--regions", type=int, default=500)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--json", type=Path, help="receives the times in ms")
    options = parser.parse_args()
    root = options.checkout.resolve()
    sys.path[:0] = [str(root / part) for part in ("Testing", "SegWithUSlicer", "Testing/helpers")]
    with tempfile.TemporaryDirectory() as name:
        times = _measured(root, Path(name), options.regions, options.steps)
    for what, values in times.items():
        ninth = statistics.quantiles(values, n=10)[-1]
        print(f"{what:24} median {statistics.median(values):6.2f} ms   90 % under {ninth:6.2f} ms")
    if options.json:
        options.json.write_text(json.dumps({k: [round(v, 3) for v in values] for k, values in times.items()}) + "\n")
    return 0


def _measured(root: Path, folder: Path, regions: int, steps: int) -> dict[str, list[float]]:
    from SlicerHost.host import SlicerHost

    with SlicerHost(root / "SegWithUSlicer" / "SegWithUSlicer.py") as host:
        from opened_module import Opened
        from reviewing import Reviewing

        _load(Opened(host), folder, regions)
        reviewing = Reviewing(Opened(host))
        ui = reviewing.ui
        reviewing.start()
        host.wait(1.0)  # what is left to be done after the start
        times = {"verdict and next region": _times(host, steps, lambda _step: reviewing.judge())}
        ui.endReviewButton.click()
        host.wait(0.5)
        low, high = ui.thresholdSlider.minimum, ui.thresholdSlider.maximum

        def slide(step: int) -> None:
            ui.thresholdSlider.value = low + (high - low) * (0.05 + 0.9 * (step * 7 % steps) / steps)

        return {"threshold": _times(host, steps, slide), **times}


def _times(host: Any, steps: int, act: Callable[[int], None]) -> list[float]:
    found = []
    for step in range(steps):
        began = time.process_time()
        act(step)
        host.process_events()
        found.append(1000 * (time.process_time() - began))
        host.wait(0.05)  # what runs between events is not the step
    return found


def _load(opened: Any, folder: Path, regions: int) -> None:
    """Show a case with so many regions, each of three voxels."""
    import numpy as np
    import SimpleITK as sitk
    import slicer
    from written_case import make_case, write_some_regions

    from SegWithUSlicerLib.scene.load_case import load_case

    data = Path(os.environ.get("SEGWITHU_DATA") or HERE.parent / "shared" / "data")
    disk = make_case(data, folder, regions=True)
    ids = np.zeros(disk.labels.size, np.uint16)
    places = np.argsort(-disk.error.ravel(), kind="stable")[: 3 * regions]
    ids[np.sort(places)] = np.repeat(np.arange(1, regions + 1), 3)
    image = sitk.ReadImage(str(disk.image))
    write_some_regions(disk.folder, disk.labels, disk.error, image, ids.reshape(disk.labels.shape))
    opened.panel.show_run(load_case(disk.folder, slicer.util.loadVolume(str(disk.image))))


if __name__ == "__main__":
    sys.exit(main())
