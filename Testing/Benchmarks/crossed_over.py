"""How well the errors of structures and their volumes are known: as the model says, and after some patients were added.

Each draw of patients is added as `calibrate --add` does, and the others are measured. All is of clean voxels: drawn
class and runner-up have a label in the references, and one without a label counts as wrong.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from math import comb
from typing import Any

import numpy as np
from scipy.special import expit

from SegWithUCore.calibration.error_counts import CENTRES, ErrorCounts
from SegWithUCore.calibration.structure_lines import StructureLines
from SegWithUCore.inference.structures import CaseLevelCalibration
from SegWithUCore.metrics.error_detection import ScoreGroups, average_precision
from SegWithUCore.models.input_spec import Label, without_side
from SegWithULab.calibration.prior import CaseSummary, lines_of, refit

MOST_DRAWS = 100
WITHIN = 0.2


def draws_of(patients: int, wanted: int) -> list[list[int]]:
    """Choose so many patients in all ways, or in random ones where there are many."""
    if comb(patients, wanted) <= MOST_DRAWS:
        return [list(each) for each in combinations(range(patients), wanted)]
    random = np.random.default_rng(0)
    return [random.permutation(patients)[:wanted].tolist() for _ in range(MOST_DRAWS)]


def crossed_over(
    cases: Sequence[CaseSummary], labels: Sequence[Label], block: Mapping[str, Any], wanted: int
) -> dict[str, Any]:
    """Add each draw of `wanted` patients (0: none) to a calibration, and measure all others."""
    patients = sorted({case.patient for case in cases})
    found, taken = [], 0
    for draw in draws_of(len(patients), wanted):
        added = [case for case in cases if case.patient in {patients[n] for n in draw}]
        rest = [case for case in cases if case.patient not in {patients[n] for n in draw}]
        lines = lines_of(added, labels) if added else None
        fitted = refit(block, labels, added, lines).block if added else block
        taken += lines is not None and lines.helps
        found.append(measured(rest, labels, fitted, lines.lines if lines is not None and lines.helps else None))
    names = found[0]["structures"]
    return {
        "patients": len(patients), "added": wanted, "lines taken": taken / len(found),
        **{name: _mean([each[name] for each in found]) for name in found[0] if name != "structures"},
        "structures": {name: _mean_of([each["structures"][name] for each in found]) for name in names},
    }  # fmt: skip


def measured(
    cases: Sequence[CaseSummary], labels: Sequence[Label], block: Mapping[str, Any], lines: StructureLines | None
) -> dict[str, Any]:
    """Measure a calibration on cases.

    Returns:
        `abs_log_ratio`: of expected over true errors of all cases, mean over structures. `within_20_percent`: share of
        the structures of single cases; `cases_within_20_percent`: share of cases, where errors may cancel. `auprc`,
        `auprc_within`: of all clean voxels of a case, and of those of one structure, means. `intervals_held`,
        `lowest_held`, `width`: share of the volumes, of the structure where fewest hold, and median full width over
        the true volume. `structures`: expected and wrong voxels a case, and how many volumes the interval held.
    """
    names = list(dict.fromkeys(name for case in cases for name in case.drawn))
    expected, wrong = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0)
    near, area, within, sums = [], [], [], []
    for case in cases:
        after = {name: _moved(counts, name, lines) for name, counts in case.drawn.items()}
        for name, (chance, counts) in after.items():
            expected[name] += float(counts.voxels @ chance)
            wrong[name] += float(counts.errors.sum())
            near.append(abs(float(counts.voxels @ chance) / max(counts.errors.sum(), 0.5) - 1) < WITHIN)
        total = sum(float(counts.voxels @ chance) for chance, counts in after.values())
        sums.append(total / max(sum(float(counts.errors.sum()) for _, counts in after.values()), 0.5))
        area.append(_precision(list(after.values())))
        within.append(np.nanmean([_precision([each]) for each in after.values()]))
    volumes = list(_volumes(cases, labels, block))
    held = {name: [low <= true <= high for other, true, low, high in volumes if other == name] for name in
            dict.fromkeys(each[0] for each in volumes)}  # fmt: skip
    ratios = {name: expected[name] / wrong[name] for name in names if wrong[name]}
    return {
        "abs_log_ratio": float(np.mean(np.abs(np.log(list(ratios.values()))))),
        "within_20_percent": float(np.mean(near)),
        "expected_over_true": sum(expected.values()) / max(sum(wrong.values()), 0.5),
        "cases_within_20_percent": float(np.mean(np.abs(np.array(sums) - 1) < WITHIN)),
        "auprc": float(np.mean(area)),
        "auprc_within": float(np.mean(within)),
        "intervals_held": float(np.mean([each for its in held.values() for each in its])) if held else float("nan"),
        "lowest_held": float(min((np.mean(its) for its in held.values()), default=float("nan"))),
        "width": float(np.median([(high - low) / true for _, true, low, high in volumes])) if volumes else 0.0,
        "structures": {
            name: {
                "expected": round(expected.get(name, 0.0) / len(cases), 1),
                "wrong": round(wrong.get(name, 0.0) / len(cases), 1),
                "held": float(np.sum(held.get(name, []))), "of": float(len(held.get(name, []))),
            } for name in dict.fromkeys([*names, *held])
        },
    }  # fmt: skip


def _moved(counts: ErrorCounts, name: str, lines: StructureLines | None) -> tuple[np.ndarray, ErrorCounts]:
    own = {line.name: line for line in lines.lines}.get(name) if lines is not None else None
    return expit(CENTRES if own is None else own.slope * CENTRES + own.offset), counts


def _precision(parts: Sequence[tuple[np.ndarray, ErrorCounts]]) -> float:
    """Area under the precision-recall curve of voxels counted in bins of their error probability."""
    chances, voxels, errors = (
        np.concatenate(each) for each in zip(*((chance, c.voxels, c.errors) for chance, c in parts), strict=True)
    )
    order = np.argsort(chances, kind="stable")
    kept = order[voxels[order] > 0]
    return average_precision(ScoreGroups(voxels[kept].astype(np.int64), errors[kept].astype(np.int64)))


def _volumes(
    cases: Sequence[CaseSummary], labels: Sequence[Label], block: Mapping[str, Any]
) -> Iterator[tuple[str, float, float, float]]:
    """Yield the name, the true volume and the interval of each structure of each case, in mm3."""
    intervals = CaseLevelCalibration.from_json(block).intervals
    for case in cases:
        for index, label in enumerate(labels[1:], 1):
            expected, ambiguous, true = case.numbers.volumes_mm3(index)
            if true > 0 and label.value in intervals:  # not where the references have no label for it
                _, low, high = intervals[label.value](expected, ambiguous, case.numbers.segmented_mm3(index))
                yield without_side(label.name), true, low, high


def _mean(values: Sequence[float]) -> float:
    return round(float(np.mean(values)), 4)


def _mean_of(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: round(float(np.mean([row[name] for row in rows])), 2) for name in rows[0]}
