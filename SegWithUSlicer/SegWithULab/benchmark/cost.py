"""What a baseline costs over the bare backbone: time and peak memory, all baselines measured in one run."""

import gc
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from SegWithUCore.util.memory import give_back_freed_memory
from SegWithUCore.util.progress import Progress, silent

from ..evaluation.frozen_backbone import FrozenBackbone, FrozenCase
from ..training.case_reading import AssessedCase, read_assessed
from ..training.dataset import Case
from .baselines.base import Baseline

CASES = 3
"""Test cases that are timed; time does not depend on what is seen."""
REPEATS = 5
BARE = "bare backbone"


@dataclass(frozen=True)
class Seconds:
    """Of one call: wall clock, and processor time of all threads, which other programs disturb less."""

    wall: float
    cpu: float


def timed(job: Callable[[], Any]) -> tuple[Seconds, Any]:
    """Run a job and tell how long it took."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = job()
    return Seconds(time.perf_counter() - wall, time.process_time() - cpu), result


def peak_mb(job: Callable[[], Any]) -> float | None:
    """Measure the peak memory of a job beyond what the process held before, in MB. Returns None without Linux."""
    if sys.platform != "linux":
        return None
    gc.collect()
    give_back_freed_memory()  # what was freed earlier must not hide what is needed now
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return None
    before = _status_kb("VmRSS")
    job()
    return max(0.0, (_status_kb("VmHWM") - before) * 1024 / 1e6)


def _status_kb(name: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def measured_costs(
    backbone: FrozenBackbone,
    baselines: Sequence[Baseline],
    cases: Sequence[Case],
    repeats: int = REPEATS,
    progress: Progress = silent,
) -> dict[str, dict[str, Any]]:
    """Medians over cases and repeats, in which bare backbone and baselines take turns.

    "Bare" is from images in memory to classes on their grid. It is timed right before each baseline, because earlier
    work changes the allocator's state (`docs/developer/performance.md`). A baseline on top is timed by itself; one
    that runs the backbone with something added is timed whole, and the bare time is subtracted.

    Returns:
        For `BARE` and each baseline by name `wall_s`, `cpu_s` (added, for baselines), `wall_share`, `cpu_share` (of the
        bare time) and `peak_mb` (added, for baselines; None if it cannot be measured).
    """
    chosen = [(case, read_assessed(case, backbone.bundle)) for case in cases[:CASES]]
    turns = [(case, read) for _ in range(repeats) for case, read in chosen]
    seconds: dict[str, list[tuple[Seconds, Seconds]]] = {baseline.name: [] for baseline in baselines}
    bares: list[Seconds] = []
    for number, (case, read) in enumerate(turns):
        progress("measuring time", number / len(turns), case.name)
        for baseline in baselines:
            bare, seen = timed(partial(_segmented, backbone, case, read))
            bares.append(bare)
            spent, _ = timed(partial(baseline.answers, seen))
            seconds[baseline.name].append((_without(spent, bare) if baseline.own_pass else spent, bare))
    peaks = _peaks(backbone, baselines, chosen, progress)
    found: dict[str, dict[str, Any]] = {BARE: {**_medians([(b, b) for b in bares]), "peak_mb": peaks[BARE]}}
    found[BARE]["repeats"] = repeats
    for baseline in baselines:
        peak, bare_peak = peaks[baseline.name], peaks[BARE]
        added = None if peak is None or bare_peak is None else max(0.0, peak - bare_peak)
        found[baseline.name] = {**_medians(seconds[baseline.name]), "peak_mb": added}
    return found


def _segmented(backbone: FrozenBackbone, case: Case, read: AssessedCase) -> FrozenCase:
    return backbone.of_images(case.name, case.group, read.images, read.truth)


def _whole(backbone: FrozenBackbone, case: Case, read: AssessedCase, baseline: Baseline) -> None:
    baseline.answers(_segmented(backbone, case, read))


def _without(spent: Seconds, bare: Seconds) -> Seconds:
    return Seconds(spent.wall - bare.wall, spent.cpu - bare.cpu)


def _medians(pairs: Sequence[tuple[Seconds, Seconds]]) -> dict[str, float]:
    return {
        "wall_s": float(np.median([spent.wall for spent, _ in pairs])),
        "cpu_s": float(np.median([spent.cpu for spent, _ in pairs])),
        "wall_share": float(np.median([spent.wall / bare.wall for spent, bare in pairs])),
        "cpu_share": float(np.median([spent.cpu / bare.cpu for spent, bare in pairs])),
    }


def _peaks(
    backbone: FrozenBackbone,
    baselines: Sequence[Baseline],
    chosen: Sequence[tuple[Case, AssessedCase]],
    progress: Progress,
) -> dict[str, float | None]:
    """Peak of the whole job, frozen segmentation included, on the largest of the cases."""
    case, read = max(chosen, key=lambda entry: entry[1].truth.size)
    progress("measuring memory", 1.0, case.name)
    peaks = {BARE: peak_mb(lambda: _segmented(backbone, case, read))}
    for baseline in baselines:
        peaks[baseline.name] = peak_mb(partial(_whole, backbone, case, read, baseline))
    return peaks
