#!/usr/bin/env python3
"""Let simulated readers scroll contours: Dice and volume error by structure, and what it does to the neighbours.

    python Testing/Benchmarks/run.py scrolled-contours --cache FOLDER

Cases and references as in `simulated_readers.py`, on whole label maps: the structures in turn, those before locked.
*Scroll*: the contour of the whole structure, then those of its first eight regions; of all positions the reader takes
the one with the fewest wrong voxels, whatever label they have. *One in five at random* takes the contour at an error
probability between .2 and .8 in one of five choices. *Keys*: the first eight regions as drawn or as the runner-up,
whichever has fewer wrong voxels. *Brush*: every voxel of the first eight regions is made right, as far as the structure
is concerned. *Neighbours* is the mean change of Dice of all other structures of the head after all gestures.
"""

import argparse
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from brain_training import IGNORED, without_side
from simulated_readers import Reviewed, cases, corrected, figures, voxels_of

from SegWithUCore.metrics.overlap import dice_of
from SegWithUCore.regions.find_regions import find_regions
from SegWithUCore.regions.region import Region
from SegWithUCore.review.scroll import Scroll, Volumes
from SegWithUCore.util.strict_json import to_json

RESULTS = Path(__file__).resolve().parent / "results" / "scrolled_contours.json"
REGIONS = 8
RANDOM_SHARE, RANDOM_BETWEEN = 0.2, (0.2, 0.8)
COLUMNS = ("drawn", "whole", "scroll", "one in five at random", "keys", "brush")


def position_of(contour: Scroll, case: Reviewed, now: np.ndarray, dice: np.random.Generator | None) -> int:
    """Return the position that a reader takes; without `dice` the one with the fewest wrong voxels."""
    if dice is not None and dice.random() < RANDOM_SHARE:
        return int(np.argmin(np.abs(np.asarray(contour.counts) - dice.uniform(*RANDOM_BETWEEN) * contour.movable.size)))
    truth = case.truth.ravel()

    def wrong(position: int) -> tuple[int, int]:
        places, labels = contour.at(position)
        known = truth[places] != IGNORED
        after, before = labels != truth[places], now.ravel()[places] != truth[places]
        return int(np.count_nonzero(after[known]) - np.count_nonzero(before[known])), abs(position - contour.start)

    return min(range(len(contour.counts)), key=wrong)


def gestures(
    case: Reviewed, regions: Mapping[int, Sequence[Region]], labels: np.ndarray, dice: np.random.Generator | None
) -> Iterator[tuple[int, int, np.ndarray]]:
    """Yield a structure, how many of its regions are done, and all labels (the next gesture changes them)."""
    assessed = case.assessed
    now, done = np.asarray(assessed.segmentation).copy(), list[int]()
    fixed, (z, y, x) = np.zeros(now.shape, bool), assessed.spacing_zyx.tolist()
    error = np.asarray(assessed.error_probability, np.float32)
    for value, own in regions.items():
        for count, region in enumerate((None, *own)):
            maps = (np.asarray(assessed.segmentation), np.asarray(assessed.runner_up), error)
            volumes = Volumes(now, *maps, fixed, tuple(done), (z, y, x))
            contour = Scroll(volumes, value, None if region is None else labels == region.id)
            places, drawn = contour.at(position_of(contour, case, now, dice))
            now.ravel()[places] = drawn
            yield value, count, now
        done.append(value)


def scrolled(
    case: Reviewed, regions: Mapping[int, Sequence[Region]], labels: np.ndarray, dice: np.random.Generator | None
) -> tuple[np.ndarray, dict[int, np.ndarray]]:
    """Return the labels after a review, and each structure after its first gesture."""
    now, whole = np.asarray(case.assessed.segmentation), dict[int, np.ndarray]()
    for value, _, now in gestures(case, regions, labels, dice):
        whole.setdefault(value, now == value)
    return now, whole


def keyed(
    case: Reviewed, voxels: Any, regions: Sequence[Region], value: int, dice: np.random.Generator | None = None
) -> np.ndarray:
    """Return a structure after the better of two keys, drawn or runner-up, a region; with `dice` some are wrong."""
    mask, truth = (np.asarray(case.assessed.segmentation) == value).ravel(), (case.truth == value).ravel()
    runner_up = np.asarray(case.assessed.runner_up).ravel()
    for region in regions:
        here = voxels(region.id)
        flipped = runner_up[here] == value
        is_better = np.count_nonzero(flipped != truth[here]) < np.count_nonzero(mask[here] != truth[here])
        if is_better != (dice is not None and dice.random() < RANDOM_SHARE):
            mask[here] = flipped
    return mask.reshape(case.truth.shape)


def rows(case: Reviewed) -> Iterator[tuple[str, dict[str, Any]]]:
    """Measure each structure of a case."""
    scored, drawn = case.truth != IGNORED, np.asarray(case.assessed.segmentation)
    found = find_regions(case.assessed)
    voxels = voxels_of(found.labels)
    regions = {value: [one for one in found.regions if one.is_about((name,))] for name, value in case.asked.items()}
    first = {value: own[:REGIONS] for value, own in regions.items()}
    after, whole = scrolled(case, first, np.asarray(found.labels), None)
    noisy, _ = scrolled(case, first, np.asarray(found.labels), np.random.default_rng(0))
    others = [int(value) for value in np.unique(case.truth[scored]) if value and value not in regions]
    for name, value in case.asked.items():
        truth = case.truth == value
        masks = {
            "drawn": drawn == value,
            "whole": whole[value],
            "scroll": after == value,
            "one in five at random": noisy == value,
            "keys": keyed(case, voxels, first[value], value),
            "brush": corrected(case, voxels, first[value], value, "perfect"),
        }
        yield without_side(name), {key: figures(mask, truth, scored) for key, mask in masks.items()}
    for value in others:
        pair = [dice_of((each == value) & scored, (case.truth == value) & scored) for each in (drawn, after)]
        yield "neighbours", {"drawn": (pair[0], 0.0), "scroll": (pair[1], 0.0)}


def main() -> int:
    """Measure, write, print Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True)
    cache = parser.parse_args().cache
    found: dict[str, dict[str, Any]] = {}
    for group in ("brain", "hippocampus"):
        by_name: dict[str, list[dict[str, Any]]] = {}
        for case in cases(cache, group):
            for name, each in rows(case):
                by_name.setdefault(name, []).append(each)
        found[group] = {
            name: {key: np.mean([one[key] for one in own], axis=0).round(4).tolist() for key in own[0]}
            for name, own in by_name.items()
        }
        RESULTS.write_text(to_json(found), "utf-8")
    lines = ["| structure | " + " | ".join(COLUMNS) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    for group, own in found.items():
        for name, each in own.items():
            cells = [f"{each[key][0]:.3f}, {100 * each[key][1]:.0f} %" if key in each else "" for key in COLUMNS]
            lines.append(f"| {name} ({group}) | " + " | ".join(cells) + " |")
    print(re.sub(r"\b0\.", ".", "\n".join(lines)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
