"""Print how long the window of 3D Slicer stands still: the processor time of its thread between two ticks of a timer.

    Slicer --no-splash --testing --additional-module-paths SegWithUSlicer \
        --python-script Testing/Benchmarks/window_gaps.py CASE_FOLDER IMAGE OTHER_CASE_FOLDER [--where]

The second case is opened by its own image, which must be where `case.json` names it, or else without.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import qt
import slicer

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / name) for name in ("real", "in_slicer", "helpers")]
TICK_MS, QUIET_TICKS, SWITCHES = 20, 50, 10
LONG_S = 0.2
"""A gap of which --where prints where it ended."""


def memory_mb() -> int:
    """Return the resident memory of the process."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) // 1024


class Gaps:
    """Measures what the window's thread computes between the ticks of a timer."""

    def __init__(self, where: bool) -> None:
        self.where = where

    def of(self, name: str, act: Callable[[], Any], done: Callable[[], bool] = lambda: True) -> None:
        """Act, wait until it is done and the window is quiet; print the longest gaps and their sum (s), and MB."""
        gaps: list[float] = []
        last = time.thread_time()

        def tick() -> None:
            nonlocal last
            now = time.thread_time()
            gaps.append(now - last)
            if self.where and gaps[-1] > LONG_S:
                frames = [frame for frame in traceback.extract_stack() if "SegWithUSlicerLib" in frame.filename]
                print(f"{gaps[-1]:.2f} s before", *(f"{frame.name}:{frame.lineno}" for frame in frames), flush=True)
            last = now

        timer = qt.QTimer()
        timer.setInterval(TICK_MS)
        timer.connect("timeout()", tick)
        timer.start()
        qt.QTimer.singleShot(TICK_MS, act)
        began, quiet = len(gaps), 0
        while quiet < QUIET_TICKS or len(gaps) - began < QUIET_TICKS:
            before = len(gaps)
            slicer.app.processEvents()
            time.sleep(0.002)
            quiet = quiet + len(gaps) - before if done() and max(gaps[before:], default=0) < 0.05 else 0
        timer.stop()
        longest = " ".join(f"{gap:.2f}" for gap in sorted(gaps, reverse=True)[:4])
        print(f"| {name:<34} | {longest} | {sum(gaps):.1f} | {memory_mb()} |", flush=True)


def main() -> None:
    """Load, show, review, switch."""
    parser = argparse.ArgumentParser()
    parser.add_argument("case", type=Path)
    parser.add_argument("image", type=Path)
    parser.add_argument("other", type=Path)
    parser.add_argument("--where", action="store_true")
    options = parser.parse_args(sys.argv[1:])
    from real_slicer import RealSlicer

    with RealSlicer(Path(slicer.app.temporaryPath)).running() as app:
        app.enter_module()
        panel, gaps = app.widget.panel, Gaps(options.where)
        from SegWithUSlicerLib.run import session

        controller = panel.session.controller
        volume = slicer.util.loadVolume(str(options.image))
        panel.inputs.choose(volume, None, "brain")
        gaps.of("nothing", lambda: None)
        request = SimpleNamespace(volumes=[volume], mask=None)
        gaps.of("load the result of Apply", lambda: controller.on_loaded(session._load(options.case, request)))
        gaps.of("show in 3D, first time", lambda: setattr(panel.ui.show3DBox, "checked", True))
        panel.ui.reviewerEdit.text = "Reader"
        gaps.of("start a review", panel.ui.startReviewButton.click)
        gaps.of("end it", panel.review.end)
        opener = panel.cases.opener
        folders = [options.case, options.other]
        for number in range(SWITCHES):
            gaps.of(f"open case {number}", lambda at=number: opener.open(folders[at % 2]))
            print(opener.message, panel.overlay.nodes.label)


if __name__ == "__main__":
    try:
        main()
    except BaseException:  # noqa: BLE001  (Slicer shall end)
        traceback.print_exc()
    slicer.util.exit(0)
