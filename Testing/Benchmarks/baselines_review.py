"""The ways to go through a case that compete with the regions, and what each shows within given limits."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Any

import numpy as np
from region_cases import ScoredCase
from review_orders import ReviewOrder, by_boundary_patches, by_clusters, by_components, by_regions

from SegWithUCore.calibration.error_probability import ErrorProbability
from SegWithUCore.metrics.bootstrap import paired_bootstrap
from SegWithUCore.regions.find_regions import RegionSettings

SHIPPED = RegionSettings()
LOOKS = np.arange(1, 11)
Parameters = Mapping[str, Any]


@dataclass(frozen=True)
class Question:
    """What is held equal between the regions and their baselines.

    Attributes:
        name: of the question.
        equal_looks: a baseline may look no more often than the regions, besides seeing no larger volume.
        view_mm: groups of baselines are cut into boxes of this diagonal; infinite: as large as they come.
    """

    name: str
    equal_looks: bool
    view_mm: float


@dataclass(frozen=True)
class Baseline:
    """A way to go through a case.

    Attributes:
        name: of the baseline.
        orders: from case, voxels after each of `LOOKS`, view_mm and parameters to the order for each of `LOOKS`.
        grid: parameters to choose from.
    """

    name: str
    orders: Callable[..., list[ReviewOrder]]
    grid: tuple[Parameters, ...]


@dataclass(frozen=True)
class Seen:
    """What is seen within the limits: arrays (cases, looks 1 to 10) of shares of the wrong voxels, looks, voxels."""

    share: np.ndarray
    looks: np.ndarray
    voxels: np.ndarray


def baselines(table: ErrorProbability) -> list[Baseline]:
    """All baselines.

    Args:
        table: from entropy to error probability.
    """

    def plain(case: ScoredCase) -> np.ndarray:
        return table.table(case.entropy)

    def directed(case: ScoredCase) -> np.ndarray:
        return table(case.entropy, case.classes, case.runner_up)

    shown = ({"only_uncertain": True, "reach_mm": 2.0}, {"only_uncertain": False, "reach_mm": 0.5})
    shown = (*shown, {"only_uncertain": False, "reach_mm": 1.0})
    patches = [
        {"patch_mm2": area, "threshold": t, **how} for area, t, how in product((60, 120, 240), (0.25, 0.35), shown)
    ]
    thresholds = tuple({"threshold": value} for value in (0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6))
    levels = tuple({"threshold": value} for value in (0.15, 0.2, 0.25, 0.3))
    return [
        Baseline("entropy, connected components", _components, thresholds),
        Baseline("entropy, grouped as our regions", partial(_regions, plain), levels),
        Baseline("the same, by direction", partial(_regions, directed), levels),
        Baseline("thickest boundary, uncertain voxels", _patches, tuple(p for p in patches if p["only_uncertain"])),
        Baseline("thickest boundary, whole shell", _patches, tuple(p for p in patches if not p["only_uncertain"])),
        Baseline("single voxels, entropy", partial(_clusters, lambda case: case.entropy), ({},)),
        Baseline("single voxels, error probability", partial(_clusters, lambda case: case.error_probability), ({},)),
        Baseline("our regions, cut likewise", _our_regions_in_views, ({},)),
    ]


def _components(case: ScoredCase, voxels: np.ndarray, view_mm: float, threshold: float) -> list[ReviewOrder]:
    return [by_components(case, case.entropy, threshold, view_mm)] * len(voxels)


def _regions(
    score: Callable[[ScoredCase], np.ndarray], case: ScoredCase, voxels: np.ndarray, view_mm: float, threshold: float
) -> list[ReviewOrder]:
    # Their size is limited as ours is; the haze goes with the threshold.
    settings = replace(SHIPPED, threshold=threshold, min_density=SHIPPED.min_density * threshold / SHIPPED.threshold)
    return [by_regions(case, score(case), settings)[0]] * len(voxels)


def _our_regions_in_views(case: ScoredCase, voxels: np.ndarray, view_mm: float) -> list[ReviewOrder]:
    return [by_regions(case, case.error_probability, SHIPPED, view_mm)[0]] * len(voxels)


def _patches(case: ScoredCase, voxels: np.ndarray, view_mm: float, **parameters: Any) -> list[ReviewOrder]:
    return [by_boundary_patches(case, case.error_probability, **parameters, view_mm=view_mm)] * len(voxels)


def _clusters(
    score: Callable[[ScoredCase], np.ndarray], case: ScoredCase, voxels: np.ndarray, view_mm: float
) -> list[ReviewOrder]:
    return [by_clusters(case, score(case), int(count), view_mm) for count in voxels]


def seen_in(orders: Sequence[ReviewOrder], voxels: np.ndarray, equal_looks: bool) -> tuple[list[float], ...]:
    """Share of the wrong voxels, looks and voxels, for each of `LOOKS`.

    Args:
        orders, voxels: for each of `LOOKS`, how the case is gone through and the largest volume.
        equal_looks: `LOOKS` limits the looks too.
    """
    reached = [
        order.reached(int(most), int(looks) if equal_looks else None)
        for order, most, looks in zip(orders, voxels, LOOKS, strict=True)
    ]
    share = [float(order.wrong[count]) for order, count in zip(orders, reached, strict=True)]
    looks = [float(order.looks_at(count)) for order, count in zip(orders, reached, strict=True)]
    return share, looks, [float(count) for count in reached]


def seen_by(
    baseline: Baseline, parameters: Parameters, cases: Sequence[ScoredCase], ours: Seen, question: Question
) -> Seen:
    """What a baseline shows of each case within the volume (and looks) of the regions."""
    rows = [
        seen_in(baseline.orders(case, voxels, question.view_mm, **parameters), voxels, question.equal_looks)
        for case, voxels in zip(cases, ours.voxels, strict=True)
    ]
    return Seen(*(np.array(part) for part in zip(*rows, strict=True)))


def chosen(baseline: Baseline, cases: Sequence[ScoredCase], ours: Seen, question: Question) -> Parameters:
    """The parameters whose share of the wrong voxels, mean over cases and `LOOKS`, is largest."""
    if len(baseline.grid) == 1:
        return baseline.grid[0]
    return max(baseline.grid, key=lambda one: float(seen_by(baseline, one, cases, ours, question).share.mean()))


def our_regions(cases: Sequence[ScoredCase], settings: RegionSettings) -> Seen:
    """What the regions show of each case."""
    rows = []
    for case in cases:
        order = by_regions(case, case.error_probability, settings)[0]
        voxels = np.array([order.after_looks(int(looks))[0] for looks in LOOKS])
        rows.append(seen_in([order] * len(LOOKS), voxels, equal_looks=True))
    return Seen(*(np.array(part) for part in zip(*rows, strict=True)))


def compared(ours: np.ndarray, theirs: np.ndarray) -> list[float]:
    """Mean of ours - theirs over cases and its 95 % bootstrap interval."""
    interval = paired_bootstrap(ours.tolist(), theirs.tolist())
    return [interval.mean, interval.low, interval.high]
