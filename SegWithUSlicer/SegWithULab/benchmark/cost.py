"""The time that a baseline takes over the bare backbone, all baselines measured in one run."""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from SegWithUCore.util.progress import Progress, silent

from ..evaluation.frozen_backbone import FrozenBackbone
from ..training.case_reading import read_assessed
from ..training.dataset import Case
from .baselines.base import Baseline

CASES = 3
"""Test cases that are timed; time does not depend on what is seen."""
REPEATS = 5
BARE = "bare backbone"


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
        For `BARE` and each baseline by name `cpu_s` (added, for baselines) and `cpu_share` (of the bare time); for
        `BARE` also `repeats`.
    """
    chosen = [(case, read_assessed(case, backbone.bundle)) for case in cases[:CASES]]
    turns = [(case, read) for _ in range(repeats) for case, read in chosen]
    pairs: dict[str, list[tuple[float, float]]] = {name: [] for name in (BARE, *(each.name for each in baselines))}
    for number, (case, read) in enumerate(turns):
        progress("measuring time", number / len(turns), case.name)
        for baseline in baselines:
            started = time.process_time()  # over all threads; other programs disturb it little
            seen = backbone.of_images(case.name, case.group, read.images, read.truth)
            between = time.process_time()
            baseline.answers(seen)
            bare, spent = between - started, time.process_time() - between
            pairs[BARE].append((bare, bare))
            pairs[baseline.name].append((spent - bare if baseline.own_pass else spent, bare))
    found: dict[str, dict[str, Any]] = {
        name: {
            "cpu_s": float(np.median([spent for spent, _ in its])),
            "cpu_share": float(np.median([spent / bare for spent, bare in its])),
        }
        for name, its in pairs.items()
    }
    found[BARE]["repeats"] = repeats
    return found
