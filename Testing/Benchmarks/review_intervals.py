#!/usr/bin/env python3
"""Would a 90 % interval of a volume hold after each simulated review, and does it narrow?

    python Testing/Benchmarks/run.py review-intervals --cache FOLDER

After the first k regions of a structure its volume would be V + G + b M, give or take c M. V is what the reader left,
G the expected gain (error probability of voxels outside the structure whose runner-up it is, less that of its own),
M the expected wrong volume (their sum) plus a floor. G and M count voxels that the reader has not seen, neither in a
region nor by changing them. b is the median of (true volume - V - G) / M, and c the conformal quantile of the distance
from it, one value a patient, the largest of the sides; by structure (sides together), k and reader. `each_side` has the
summary where each side counts as a patient: narrower, and without the guarantee.

Readers, all noisy: *brush* takes the runner-up for one in five regions, and makes the others right; *scroll* sets the
contour of the structure and those of its regions, one in five at random; *keys* keeps or flips regions, one in five the
wrong way. Hippocampi: fitted on the calibration cases of the split by scan, measured on its test cases. Brains: all 15,
crossed over by patient, ten fit and five are measured. A review *stops* at the first k where the half width is within
10 % of the volume. The table of structures is of brush and scroll. The reviews are kept in `review_intervals.csv` of
the cache; remove it to let the readers review again.
"""

import argparse
import csv
import re
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from brain_training import IGNORED, without_side
from scrolled_contours import gestures, keyed
from simulated_readers import Reviewed, cases, corrected, figures, voxels_of

from SegWithUCore.regions.find_regions import find_regions
from SegWithUCore.regions.region import Region
from SegWithUCore.util.strict_json import to_json

RESULTS = Path(__file__).resolve().parent / "results" / "review_intervals.json"
ALL = 1000
STEPS = (0, 5, 10, 20, ALL)
READERS = ("keys", "scroll", "brush")
PARTS = {"hippocampus": ("calibration", "test"), "brain": ("all",)}
LEVEL, TOLERANCE, FOLDS = 0.9, 0.1, 3
FLOOR = 0.01
"""Of the drawn volume: what M has when every voxel of a structure was seen."""
MARGIN = 4
"""Voxels round the structures, more than a contour moves."""


@dataclass(frozen=True)
class Review:
    """A structure of a case after the first regions; volumes in mm3. `error` is of its volume, a share of the true."""

    group: str
    part: str
    patient: str
    case: int
    label: str
    reader: str
    step: int
    volume: float
    gain: float
    scale: float
    true: float
    dice: float
    error: float

    @property
    def structure(self) -> str:
        """Its name, sides together."""
        return without_side(self.label)

    @property
    def residual(self) -> float:
        """What the volume lacks, in M."""
        return (self.true - self.volume - self.gain) / self.scale


def to_come(error: np.ndarray, own: np.ndarray, is_runner_up: np.ndarray, unseen: np.ndarray) -> tuple[float, float]:
    """Return the expected gain and the expected errors of a structure, in voxels, of what nobody has seen.

    Args:
        error: error probability, negative where not assessed.
        own, is_runner_up: where the structure was drawn, and where it is the runner-up.
    """
    outside = float(error[unseen & is_runner_up & ~own].clip(0).sum())
    inside = float(error[unseen & own].clip(0).sum())
    return outside - inside, outside + inside


def conformal(values: Sequence[float], level: float = LEVEL) -> float:
    """Return the value that a further one does not exceed with a probability of at least `level`."""
    rank = int(np.ceil(level * (len(values) + 1) - 1e-9))
    return sorted(values)[rank - 1] if rank <= len(values) else float("inf")


def fitted(reviews: Sequence[Review], each_side: bool = False) -> tuple[float, float]:
    """Return b and c of reviews of one structure, step and reader."""
    shift, largest = float(np.median([each.residual for each in reviews])), dict[tuple[Any, ...], float]()
    for each in reviews:
        unit = (each.patient, each.case, each.label) if each_side else (each.patient,)
        largest[unit] = max(largest.get(unit, 0.0), abs(each.residual - shift))
    return shift, conformal(list(largest.values()))


def measured(review: Review, shift: float, width: float) -> tuple[bool, float]:
    """Return whether an interval held, and its half width, a share of the volume that it is about."""
    half, middle = width * review.scale, review.volume + review.gain + shift * review.scale
    return abs(review.true - middle) <= half, half / middle if middle > 0 else float("inf")


# ---------------------------------------------------------------- reviews


def around(case: Reviewed, labels: np.ndarray) -> tuple[Reviewed, np.ndarray]:
    """Cut a case and the labels of its regions to the structures asked for; positions are lost, spacing is not."""
    assessed, values = case.assessed, list(case.asked.values())
    maps = [np.asarray(each) for each in (assessed.segmentation, assessed.runner_up, case.truth, labels)]
    at = np.nonzero(np.isin(maps[0], values) | np.isin(maps[1], values) | np.isin(maps[2], values))
    box = tuple(slice(max(int(each.min()) - MARGIN, 0), int(each.max()) + MARGIN + 1) for each in at)
    drawn, second, truth, regions = (np.ascontiguousarray(each[box]) for each in maps)
    error = np.ascontiguousarray(np.asarray(assessed.error_probability)[box])
    cut = replace(assessed, error_probability=error, segmentation=drawn, runner_up=second)
    return replace(case, assessed=cut, truth=truth), regions


def masks(
    case: Reviewed, regions: Mapping[int, Sequence[Region]], labels: np.ndarray, seed: int
) -> Iterator[tuple[str, int, int, np.ndarray]]:
    """Yield reader, structure, step, and the structure as the reader has left it."""
    voxels, drawn = voxels_of(labels), np.asarray(case.assessed.segmentation)
    for value, own in regions.items():
        for step in STEPS:
            yield "brush", value, step, corrected(case, voxels, own[:step], value, "one in five wrong", seed)
            yield "keys", value, step, keyed(case, voxels, own[:step], value, np.random.default_rng([value, seed]))
        yield "scroll", value, 0, drawn == value
    for value, count, now in gestures(case, regions, labels, np.random.default_rng(seed)):
        for step in STEPS[1:]:
            if count == min(step, len(regions[value])):
                yield "scroll", value, step, now == value


def reviews_of(case: Reviewed, group: str, part: str, number: int) -> Iterator[Review]:
    """Let the readers review each structure of a case; each case has random numbers of its own."""
    found = find_regions(case.assessed)
    regions = {value: [one for one in found.regions if one.is_about((name,))] for name, value in case.asked.items()}
    case, labels = around(case, np.asarray(found.labels))
    scored, names = case.truth != IGNORED, {value: name for name, value in case.asked.items()}
    drawn, second = np.asarray(case.assessed.segmentation), np.asarray(case.assessed.runner_up)
    error, voxel_mm3 = np.asarray(case.assessed.error_probability), float(np.prod(case.assessed.spacing_zyx))
    for reader, value, step, mask in masks(case, regions, labels, zlib.crc32(f"{group} {part} {number}".encode())):
        own, truth = drawn == value, case.truth == value
        seen = np.isin(labels, [region.id for region in regions[value][:step]]) | (mask != own)
        gain, errors = to_come(error, own, second == value, scored & ~seen)
        scale = errors + FLOOR * np.count_nonzero(own & scored)
        counts = (np.count_nonzero(mask & scored), gain, scale, np.count_nonzero(truth))
        volumes = (round(float(each) * voxel_mm3, 2) for each in counts)
        shown = (round(each, 4) for each in figures(mask, truth, scored))
        yield Review(group, part, case.patient, number, names[value], reader, step, *volumes, *shown)


def all_reviews(cache: Path) -> list[Review]:
    """Read the reviews, or let the readers make them."""
    path = cache / "review_intervals.csv"
    if not path.is_file():
        found = [
            review for group, parts in PARTS.items() for part in parts
            for number, case in enumerate(cases(cache, group, part)) for review in reviews_of(case, group, part, number)
        ]  # fmt: skip
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(asdict(found[0])))
            writer.writeheader()
            writer.writerows(map(asdict, found))
    kinds: dict[str, Callable[[str], Any]] = dict(Review.__annotations__)
    with path.open(encoding="utf-8", newline="") as file:
        return [Review(**{name: kinds[name](cell) for name, cell in row.items()}) for row in csv.DictReader(file)]


# ---------------------------------------------------------------- figures

Measured = list[tuple[Review, bool, float]]


def split(group: str, reviews: Sequence[Review]) -> Iterator[tuple[list[Review], list[Review]]]:
    """Yield what is fitted on, and what is measured."""
    if group == "hippocampus":
        yield tuple([each for each in reviews if each.part == part] for part in PARTS[group])  # type: ignore[misc]
        return
    fold = {name: n % FOLDS for n, name in enumerate(sorted({each.patient for each in reviews}))}
    for left_out in range(FOLDS):
        yield tuple([each for each in reviews if (fold[each.patient] == left_out) is own] for own in (False, True))  # type: ignore[misc]


def intervals(group: str, reviews: Sequence[Review], each_side: bool = False) -> Measured:
    """Fit and measure each structure, step and reader of a group."""

    def key(each: Review) -> tuple[str, str, int]:
        return each.structure, each.reader, each.step

    found: Measured = []
    for _, same in groupby(sorted((each for each in reviews if each.group == group), key=key), key):
        for fit, rest in split(group, list(same)):
            numbers = fitted(fit, each_side)
            found += [(each, *measured(each, *numbers)) for each in rest]
    return found


def stops(found: Measured) -> Measured:
    """Return each review at the first step where its half width is within `TOLERANCE`."""
    first: dict[tuple[Any, ...], tuple[Review, bool, float]] = {}
    for each in sorted(found, key=lambda each: each[0].step):
        if each[2] <= TOLERANCE:
            first.setdefault((each[0].part, each[0].case, each[0].label, each[0].reader), each)
    return list(first.values())


def share(held: Sequence[bool]) -> float | None:
    """Return the share that held, of any."""
    return round(float(np.mean(held)), 3) if held else None


def summary(found: Measured) -> dict[str, Any]:
    """Return coverage and median half width at each step, and at the stop."""
    at = {step: [each for each in found if each[0].step == step] for step in STEPS}
    stopped = stops(found)
    return {
        "reviews": len(at[0]),
        "held": {str(step): share([each[1] for each in own]) for step, own in at.items()},
        "half_width": {str(step): round(float(np.median([each[2] for each in own])), 3) for step, own in at.items()},
        "stopped": len(stopped),
        "stopped_as_drawn": sum(each[0].step == 0 for each in stopped),
        "held_at_stop": share([each[1] for each in stopped]),
        "held_at_later_stop": share([each[1] for each in stopped if each[0].step]),
    }


def by_gesture(found: Measured) -> dict[str, Any]:
    """Return Dice, error of the volume (means over structures) and the stop, for nothing and for each reader."""
    rows = {"nothing": [each for each in found if each[0].reader == "brush" and each[0].step == 0]}
    rows |= {reader: [each for each in found if each[0].reader == reader] for reader in READERS}
    result = {}
    for name, own in rows.items():
        last = [each[0] for each in own if each[0].step == (0 if name == "nothing" else ALL)]
        means = [
            np.mean([(each.dice, each.error) for each in last if each.structure == structure], axis=0)
            for structure in sorted({each.structure for each in last})
        ]
        dice, error = np.mean(means, axis=0).round(4).tolist()
        stopped = [each[1] for each in stops(own)]
        counts = {"reviews": len(last), "stopped": len(stopped), "held_at_stop": share(stopped)}
        result[name] = {"dice": dice, "volume_error": error, **counts}
    return result


def table(results: Mapping[str, Any]) -> str:
    """Write both tables in Markdown."""
    lines = [
        "| structure | half width | held, as drawn | at the stop | after all | reviews that stop |", "|---" * 6 + "|"
    ]  # fmt: skip
    for group, result in results.items():
        for name, own in result["structures"].items():
            first, last = (str(step) for step in (STEPS[0], STEPS[-1]))
            wide, held, stop = own["half_width"], own["held"], own["held_at_stop"]
            cells = [name if group in name else f"{name} ({group})", f"{wide[first]:.2f} > {wide[last]:.2f}"]
            cells += [f"{held[first]:.2f}", "" if stop is None else f"{stop:.2f}", f"{held[last]:.2f}"]
            lines.append(f"| {' | '.join(cells)} | {own['stopped']} of {own['reviews']} |")
    lines += ["", "| gesture | Dice | error | held at the stop | reviews that stop |", "|---" * 5 + "|"]
    for group, result in results.items():
        for name, own in result["gestures"].items():
            stop = "" if own["held_at_stop"] is None else f"{own['held_at_stop']:.2f}"
            cells = [f"{name} ({group})", f"{own['dice']:.3f}", f"{100 * own['volume_error']:.0f} %", stop]
            lines.append(f"| {' | '.join(cells)} | {own['stopped']} of {own['reviews']} |")
    return re.sub(r"\b0\.", ".", "\n".join(lines))


def main() -> int:
    """Measure, write, print Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True)
    reviews, results = all_reviews(parser.parse_args().cache), dict[str, Any]()
    for group in PARTS:
        found = intervals(group, reviews)
        own = [each for each in found if each[0].reader != "keys"]
        names = sorted({each[0].structure for each in own})
        rows = {name: summary([each for each in own if each[0].structure == name]) for name in names}
        narrow = summary([each for each in intervals(group, reviews, True) if each[0].reader != "keys"])
        results[group] = {
            "each_side": narrow,
            "structures": {**rows, f"all ({group})": summary(own)},
            "gestures": by_gesture(found),
        }
    RESULTS.write_text(to_json(results), "utf-8")
    print(table(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
