"""Whether calibrating anew makes a model worse: the model's own, the rule of `calibrate --model`, and all fitted anew.

    python Testing/Benchmarks/recalibration.py [--data TABLE.csv] [--model FOLDER] [--draws N]

From a pool of cases (hippocampi of the roles *select* and *calibration*, as they are and with their images shifted) N
draws of 8, 12 and 20 cases are calibrated on, and the rest of the pool is measured. The own calibration was fitted on
the unshifted *calibration* cases, so "as it is" is also measured on *select* alone. "All anew" is what
`calibrate --model` did before, but for the scale: table, directions and intervals from these cases only. No test case
is touched. Writes Testing/Benchmarks/results/recalibration.json.
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "SegWithUSlicer")]

import numpy as np  # noqa: E402
import SimpleITK as sitk  # noqa: E402

from SegWithUCore.calibration.error_probability import ErrorProbability, fit_with_directions  # noqa: E402
from SegWithUCore.calibration.site_line import count_errors  # noqa: E402
from SegWithUCore.inference.model import Model  # noqa: E402
from SegWithUCore.inference.prediction import Prediction, predict  # noqa: E402
from SegWithUCore.inference.structures import CaseLevelCalibration  # noqa: E402
from SegWithUCore.models.bundle import Bundle, read_bundle  # noqa: E402
from SegWithULab.training.calibrate import case_numbers, fit_case_level  # noqa: E402
from SegWithULab.training.case_reading import class_indices, read_case  # noqa: E402
from SegWithULab.training.dataset import find_cases  # noqa: E402
from SegWithULab.training.refit import CaseSummary, refit, summary_of  # noqa: E402

RESULT = Path(__file__).resolve().parent / "results" / "recalibration.json"
SIZES = (8, 12, 20)


@dataclass(frozen=True)
class Sample:
    """A predicted case."""

    prediction: Prediction
    truth: np.ndarray
    summary: CaseSummary


@dataclass(frozen=True)
class Fit:
    """What a calibration is measured by."""

    table: ErrorProbability
    scale: float
    numbers: CaseLevelCalibration
    taken: bool


def noisy(image: sitk.Image, number: int) -> sitk.Image:
    """Add Gaussian noise of 15 % of the image's range of percentiles 1 to 99."""
    array = sitk.GetArrayFromImage(image).astype(np.float32)
    span = float(np.subtract(*np.percentile(array, (99, 1))))
    array += np.random.default_rng(number).normal(0, 0.15 * span, array.shape).astype(np.float32)
    changed = sitk.GetImageFromArray(array)
    changed.CopyInformation(image)
    return changed


def bright(image: sitk.Image, _number: int) -> sitk.Image:
    """Bend the grey values by a gamma of 2."""
    array = sitk.GetArrayFromImage(image).astype(np.float32)
    low, high = np.percentile(array, (1, 99))
    changed = sitk.GetImageFromArray(np.clip((array - low) / (high - low), 0, 1.5) ** 2)
    changed.CopyInformation(image)
    return changed


SHIFTS: Mapping[str, Callable[[sitk.Image, int], sitk.Image] | None] = {
    "as it is": None,
    "noise": noisy,
    "gamma": bright,
}


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=f"{ROOT.parent}/shared/data/hippocampus/split.csv")
    parser.add_argument("--model", type=Path, default=ROOT / "Resources" / "Models" / "hippocampus")
    parser.add_argument("--draws", type=int, default=4)
    options = parser.parse_args()
    bundle = read_bundle(options.model)
    found: dict[str, Any] = {"what": " ".join(str(__doc__).split()), "draws": options.draws, "pools": {}}
    for name, shift in SHIFTS.items():
        roles = [_samples(bundle, f"{options.data}:{role}", shift) for role in ("select", "calibration")]
        pools = {name: [*roles[0], *roles[1]]} | ({f"{name}, select only": roles[0]} if shift is None else {})
        for title, pool in pools.items():
            found["pools"][title] = _measured(bundle, pool, options.draws)
            print(title, json.dumps(found["pools"][title], indent=1), flush=True)
    RESULT.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def _samples(bundle: Bundle, source: str, shift: Callable[[sitk.Image, int], sitk.Image] | None) -> list[Sample]:
    calibration = bundle.calibration or {}
    table, scale = ErrorProbability.from_json(calibration["error_probability"]), calibration["tempering_scale"]
    model, values, samples = Model(bundle, engine="auto"), [label.value for label in bundle.labels], []
    for number, case in enumerate(find_cases(source)):
        read = read_case(case)
        image, truth = read.images[0], class_indices(read.reference, values, case.reference)
        prediction = predict([image if shift is None else shift(image, number)], model)
        samples.append(Sample(prediction, truth, summary_of(prediction, truth, table, scale, case.group)))
    return samples


def _measured(bundle: Bundle, pool: Sequence[Sample], draws: int) -> dict[str, Any]:
    found: dict[str, Any] = {"cases": len(pool)}
    for size in SIZES:
        rows: dict[str, list[dict[str, float]]] = {"own": [], "rule": [], "all anew": []}
        taken = 0
        if size > len(pool) - 8:
            continue
        for draw in range(draws):
            order = np.random.default_rng(1000 * size + draw).permutation(len(pool))
            fitting, rest = ([pool[place] for place in part] for part in (order[:size], order[size:]))
            fits = {"own": _own(bundle), "rule": _ruled(bundle, fitting), "all anew": _anew(bundle, fitting)}
            taken += fits["rule"].taken
            for name, fit in fits.items():
                same = name == "rule" and not fit.taken
                rows[name].append(rows["own"][-1] if same else _figures(bundle, fit, rest))
        worse = {
            name: sum(a["log loss"] > b["log loss"] for a, b in zip(rows[name], rows["own"], strict=True))
            for name in ("rule", "all anew")
        }
        means = {name: {key: _mean(row[key] for row in each) for key in each[0]} for name, each in rows.items()}
        found[f"{size} cases"] = {"rule took the new": taken, "worse than own in draws": worse, **means}
    return found


def _mean(values: Any) -> float | None:
    """Round the mean; None where some calibration has no such figure, as no interval."""
    mean = float(np.mean(list(values)))
    return None if np.isnan(mean) else round(mean, 5)


def _own(bundle: Bundle) -> Fit:
    return _fit(bundle.calibration or {}, False)


def _ruled(bundle: Bundle, samples: Sequence[Sample]) -> Fit:
    found = refit(bundle.calibration or {}, bundle.labels, [sample.summary for sample in samples])
    return _fit(found.calibration, found.is_changed)


def _fit(calibration: Mapping[str, Any], taken: bool) -> Fit:
    table = ErrorProbability.from_json(calibration["error_probability"])
    return Fit(table, calibration["tempering_scale"], CaseLevelCalibration.from_json(calibration), taken)


def _anew(bundle: Bundle, samples: Sequence[Sample]) -> Fit:
    predictions, truths = [sample.prediction for sample in samples], [sample.truth for sample in samples]
    errors = [p.classes != truth for p, truth in zip(predictions, truths, strict=True)]
    classes, runner_ups = [p.classes for p in predictions], [p.runner_up for p in predictions]
    table = fit_with_directions([p.ranking for p in predictions], errors, classes, runner_ups)
    scale = float((bundle.calibration or {})["tempering_scale"])
    cases = [case_numbers(p, t, scale) for p, t in zip(predictions, truths, strict=True)]
    patients = [sample.summary.patient for sample in samples]
    return Fit(table, scale, fit_case_level(cases, bundle.labels, patients), True)


def _figures(bundle: Bundle, fit: Fit, samples: Sequence[Sample]) -> dict[str, float]:
    """Log loss a voxel, what was wrong of voxels that read 0.2 to 0.31, and how intervals hold."""
    losses, read, wrong, inside, widths = [], 0.0, 0.0, [], []
    for sample in samples:
        p = sample.prediction
        chance = fit.table(p.ranking, p.classes, p.runner_up)
        error = p.classes != sample.truth
        losses.append(count_errors(chance, error).log_loss())
        here = (chance >= 0.2) & (chance <= 0.3125)
        read, wrong = read + float(here.sum()), wrong + float(error[here].sum())
        numbers = case_numbers(p, sample.truth, fit.scale)
        for index, label in enumerate(bundle.labels[1:], 1):
            interval = fit.numbers.intervals.get(label.value)
            if interval is not None:
                expected, ambiguous, true = numbers.volumes_mm3(index)
                volume, low, high = interval(expected, ambiguous, numbers.segmented_mm3(index))
                inside.append(low <= true <= high)
                widths.append((high - low) / volume)
    return {
        "log loss": float(np.mean(losses)),
        "wrong of voxels that read 0.25": wrong / max(read, 1.0),
        "volumes in their interval": float(np.mean(inside)) if inside else float("nan"),
        "width of the interval": float(np.mean(widths)) if widths else float("nan"),
    }


if __name__ == "__main__":
    main()
