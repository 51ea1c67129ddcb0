"""Print how long the window of 3D Slicer stands still: the processor time of its thread between two ticks of a timer.

    Slicer --no-splash --testing --additional-module-paths SegWithUSlicer \
        --python-script Testing/real/window_gaps.py CASE_FOLDER IMAGE OTHER_CASE_FOLDER [--profile]

The second case is opened by its own image, which must be where `case.json` names it, or else without.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
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
sys.path[:0] = [str(HERE), str(HERE.parent / "in_slicer"), str(HERE.parent / "helpers")]
TICK_MS, QUIET_TICKS, SWITCHES = 20, 50, 10


def memory_mb() -> int:
    """Return the resident memory of the process."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) // 1024


class Gaps:
    """Measures what the window's thread computes between the ticks of a timer."""

    def __init__(self, profiled: bool) -> None:
        self.profiled = profiled

    def of(self, name: str, act: Callable[[], Any], done: Callable[[], bool] = lambda: True) -> None:
        """Do something, wait until it is done and the window is quiet, and print the longest gaps in seconds."""
        gaps: list[float] = []
        last = time.thread_time()

        def tick() -> None:
            nonlocal last
            now = time.thread_time()
            gaps.append(now - last)
            last = now

        timer = qt.QTimer()
        timer.setInterval(TICK_MS)
        timer.connect("timeout()", tick)
        timer.start()
        profile = cProfile.Profile(time.thread_time)
        qt.QTimer.singleShot(TICK_MS, lambda: profile.runcall(act) if self.profiled else act())
        began, quiet = len(gaps), 0
        while quiet < QUIET_TICKS or len(gaps) - began < QUIET_TICKS:
            before = len(gaps)
            slicer.app.processEvents()
            time.sleep(0.002)
            quiet = quiet + len(gaps) - before if done() and max(gaps[before:], default=0) < 0.05 else 0
        timer.stop()
        longest = " ".join(f"{gap:.2f}" for gap in sorted(gaps, reverse=True)[:4])
        print(f"| {name:<34} | {longest} | {sum(gaps):.1f} | {memory_mb()} |", flush=True)
        if self.profiled:
            pstats.Stats(profile).sort_stats("cumulative").print_stats(45)


def main() -> None:
    """Load, show, review, switch."""
    parser = argparse.ArgumentParser()
    parser.add_argument("case", type=Path)
    parser.add_argument("image", type=Path)
    parser.add_argument("other", type=Path)
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args(sys.argv[1:])
    from real_slicer import RealSlicer

    with RealSlicer(Path(slicer.app.temporaryPath)).running() as app:
        app.enter_module()
        panel, gaps = app.widget.panel, Gaps(options.profile)
        from SegWithUSlicerLib.run import session

        controller = panel.session.controller
        volume = slicer.util.loadVolume(str(options.image))
        panel.inputs.choose(volume, None, "brain")
        gaps.of("nothing", lambda: None)
        request = SimpleNamespace(volumes=[volume])
        gaps.of("load the result of Apply", lambda: controller.on_loaded(session._load(options.case, request)))
        gaps.of("show in 3D, first time", lambda: setattr(panel.ui.show3DBox, "checked", True))
        panel.ui.reviewerEdit.text = "Reader"
        gaps.of("start a review", panel.ui.startReviewButton.click)
        gaps.of("end it", panel.review.end)
        opener = panel.cases.opener
        opener.moved.add_folder(options.image.parent) if hasattr(opener.moved, "add_folder") else None
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
