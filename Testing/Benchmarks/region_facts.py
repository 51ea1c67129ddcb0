"""What the regions of some cases are like, how well they expect their errors, and what other settings would do."""

from collections.abc import Sequence
from dataclasses import asdict
from itertools import product
from typing import Any

import numpy as np
from baselines_review import LOOKS, SHIPPED, Seen, compared, our_regions
from region_cases import ScoredCase
from review_orders import by_regions, by_voxels

from SegWithUCore.regions.find_regions import RegionSettings
from SegWithUCore.regions.region import Kind


def region_facts(cases: Sequence[ScoredCase]) -> dict[str, Any]:
    """Number, size, precision and calibration of the regions, pooled over cases, and where the other errors lie."""
    rows, counts, errors = [], [], np.zeros(4)
    for case in cases:
        regions = by_regions(case, case.error_probability, SHIPPED)[1]
        counts.append(len(regions.regions))
        wrong = np.bincount(regions.labels.ravel(), case.wrong.ravel(), len(regions.regions) + 1) * case.voxel_mm3
        for region in regions.regions:
            size = float(np.linalg.norm(region.size_mm))
            figures = (region.expected_wrong_mm3, wrong[region.id], region.volume_mm3, size, region.rank)
            rows.append((region.kind, *figures))
        haze = (regions.labels == 0) & (case.error_probability > SHIPPED.threshold)
        parts = [wrong[1:].sum(), case.wrong[haze].sum() * case.voxel_mm3, case.wrong.sum() * case.voxel_mm3]
        errors += [*parts, haze.sum() * case.voxel_mm3]
    kinds = [str(row[0]) for row in rows]
    numbers = np.array([row[1:] for row in rows])
    groups = {"all": np.ones(len(rows), bool)} | {str(kind): np.array(kinds) == str(kind) for kind in Kind}
    groups |= {f"first {most} of a case": numbers[:, 4] <= most for most in (1, 3, 10)}
    return {
        "regions_a_case": {"mean": float(np.mean(counts)), "least": min(counts), "most": max(counts)},
        "share_of_errors_in_regions": float(errors[0] / errors[2]),
        "share_of_errors_in_haze": float(errors[1] / errors[2]),
        "share_of_errors_below_threshold": float(1 - (errors[0] + errors[1]) / errors[2]),
        "haze_precision": float(errors[1] / max(errors[3], 1e-12)),
        "groups": {name: _of_group(numbers[chosen]) for name, chosen in groups.items() if chosen.any()},
    }


def _of_group(rows: np.ndarray) -> dict[str, float]:
    expected, wrong, volume, size, _ = rows.T
    return {
        "regions": len(rows),
        "median_mm3": float(np.median(volume)),
        "median_diagonal_mm": float(np.median(size)),
        "longest_diagonal_mm": float(size.max()),
        "precision": float(wrong.sum() / volume.sum()),
        "expected_wrong_mm3": float(expected.sum()),
        "wrong_mm3": float(wrong.sum()),
        "expected_by_wrong": float(expected.sum() / wrong.sum()),
        "regions_without_error": float(np.mean(wrong == 0)),
    }


def settings_tried() -> list[RegionSettings]:
    """The shipped settings first, then each alone, then those that trade looks against volume together."""
    alone = {
        "threshold": (0.2, 0.3, 0.35),
        "sigma_mm": (1.0, 1.5, 3.0),
        "split": (0.6, 0.8, 0.95),
        "extent_mm": (15.0, 25.0, 30.0),
        "min_density": (0.0, 0.03, 0.09, 0.12),
    }
    tried = [asdict(SHIPPED) | {name: value} for name, values in alone.items() for value in values]
    names = ("threshold", "sigma_mm", "split", "extent_mm")
    for values in product((0.2, 0.25, 0.3), (1.0, 2.0), (0.4, 0.9), (20.0, 25.0)):
        tried.append(asdict(SHIPPED) | dict(zip(names, values, strict=True)))
    unique = {tuple(one.values()): one for one in [asdict(SHIPPED), *tried]}
    return [RegionSettings(**one) for one in unique.values()]


def settings_table(cases: Sequence[ScoredCase]) -> list[dict[str, Any]]:
    """What each of `settings_tried` shows on its own, and within the looks and volume of the shipped ones."""
    ours = our_regions(cases, SHIPPED)
    bounds = [by_voxels(case, case.error_probability).wrong for case in cases]
    return [_of_settings(settings, cases, ours, bounds) for settings in settings_tried()]


def _of_settings(
    settings: RegionSettings, cases: Sequence[ScoredCase], ours: Seen, bounds: Sequence[np.ndarray]
) -> dict[str, Any]:
    found = [by_regions(case, case.error_probability, settings) for case in cases]
    seen = our_regions(cases, settings)
    bound = np.array([wrong[row.astype(int)] for wrong, row in zip(bounds, seen.voxels, strict=True)])
    within = np.array(
        [
            [order.wrong[order.reached(int(most), int(looks))] for most, looks in zip(row, LOOKS, strict=True)]
            for (order, _), row in zip(found, ours.voxels, strict=True)
        ]
    )
    sizes = [np.linalg.norm(region.size_mm) for _, regions in found for region in regions.regions[:5]]
    return {
        "settings": asdict(settings),
        "regions_a_case": float(np.mean([len(regions.regions) for _, regions in found])),
        "longest_diagonal_mm": float(max(sizes, default=0.0)),
        "share": float(seen.share.mean()),
        "mm3": float(np.mean(seen.voxels * np.array([[case.voxel_mm3] for case in cases]))),
        "of_single_voxels": float(seen.share.mean() / bound.mean()),
        "better_within_shipped_limits": compared(within.mean(1), ours.share.mean(1)),
    }
