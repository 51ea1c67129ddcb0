"""Whether the numbers per structure keep what they promise: coverage and width of the interval, predicted Dice.

    python Testing/Benchmarks/case_numbers.py [--model hippocampus] [--data ../shared/data]

Writes `results/case_numbers.json` and `.md`. Once with the bundle as it is, on the test cases; and on 500 re-splits,
by case, of calibration and test cases together, everything fitted anew each time, the tempering scale included.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "SegWithUSlicer")]

import numpy as np  # noqa: E402
import torch  # noqa: E402
from scipy.special import softmax  # noqa: E402
from scipy.stats import spearmanr  # noqa: E402

from SegWithUCore.calibration.case_level import (  # noqa: E402
    PredictedDice,
    VolumeInterval,
    conformal_quantile,
    fit_predicted_dice,
    fit_volume_interval,
)
from SegWithUCore.inference.model import Model  # noqa: E402
from SegWithUCore.inference.prediction import Prediction, tempered_logits  # noqa: E402
from SegWithUCore.metrics.bootstrap import paired_bootstrap  # noqa: E402
from SegWithUCore.metrics.calibration import negative_log_likelihood  # noqa: E402
from SegWithUCore.models.registry import resolve_model  # noqa: E402
from SegWithUCore.training.calibrate import (  # noqa: E402
    CaseNumbers,
    case_numbers,
    predict_case,
)
from SegWithUCore.training.dataset import find_cases  # noqa: E402

RESULTS = ROOT / "Testing" / "Benchmarks" / "results" / "case_numbers.json"
RESPLITS = 500
SCALES = tuple(float(round(scale, 2)) for scale in np.arange(0.9, 1.4001, 0.02))
"""Among which each re-split chooses its tempering scale; the bundle's is 1.12."""


@dataclass(frozen=True)
class Scaled:
    """One case: numbers and total NLL at each of `SCALES`, and the numbers with the bundle's own scale."""

    name: str
    nll: np.ndarray
    at: tuple[CaseNumbers, ...]
    own: CaseNumbers


Intervals = tuple[np.ndarray, np.ndarray]


def main() -> int:
    """Measure, write the results, print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="hippocampus")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    arguments = parser.parse_args()
    model = Model(resolve_model(arguments.model), torch.device("cpu"))
    table = arguments.data / "hippocampus" / "split.csv"
    calibration, test = (_scaled(f"{table}:{role}", model) for role in ("calibration", "test"))
    names = [label.name for label in model.bundle.labels[1:]]
    result = {
        "model": model.bundle.name,
        "cases": {"calibration": len(calibration), "test": len(test), "resplits": RESPLITS},
        "test": {name: _on_test(test, calibration, model, index) for index, name in enumerate(names, 1)},
        "resplits": _resplits([*calibration, *test], len(calibration), names),
    }
    RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    RESULTS.with_suffix(".md").write_text(_page(result), encoding="utf-8")
    print(_page(result))
    return 0


def _scaled(source: str, model: Model) -> list[Scaled]:
    values = [label.value for label in model.bundle.labels]
    cases = []
    for case in find_cases(source):
        prediction, truth = predict_case(case, model, values)
        nll = [_total_nll(prediction, truth, scale) for scale in SCALES]
        at = tuple(case_numbers(prediction, truth, scale) for scale in SCALES)
        cases.append(
            Scaled(case.name, np.asarray(nll), at, case_numbers(prediction, truth, model.fitted.tempering_scale))
        )
        print(case.name, end=" ", file=sys.stderr, flush=True)
    return cases


def _total_nll(prediction: Prediction, truth: np.ndarray, scale: float) -> float:
    return negative_log_likelihood(softmax(tempered_logits(prediction, scale), 0), truth) * truth.size


def _on_test(test: Sequence[Scaled], calibration: Sequence[Scaled], model: Model, index: int) -> dict[str, Any]:
    """The bundle as it is."""
    value = model.bundle.labels[index].value
    cases = [case.own for case in test]
    found: dict[str, Any] = {}
    interval = model.case_level.intervals.get(value)
    plain = _plain([case.own for case in calibration], index, debiased=False)
    debiased = _plain([case.own for case in calibration], index, debiased=True)
    if interval is not None and plain is not None and debiased is not None:
        found["interval"] = _interval_figures(cases, index, _ours(interval), plain, debiased)
    dice = model.case_level.dice.get(value)
    if dice is not None:
        found["predicted_dice"] = _dice_figures(cases, index, dice)
    return found


def _ours(interval: VolumeInterval) -> Callable[[Sequence[CaseNumbers], int], Intervals]:
    def ends(cases: Sequence[CaseNumbers], index: int) -> Intervals:
        rows = [interval(*case.volumes_mm3(index)[:2]) for case in cases]
        return np.asarray([row[1] for row in rows]), np.asarray([row[2] for row in rows])

    return ends


def _plain(
    cases: Sequence[CaseNumbers], index: int, debiased: bool
) -> Callable[[Sequence[CaseNumbers], int], Intervals] | None:
    """The rival: the segmentation's volume plus and minus a fixed percentage, conformal on |V - v| / v.

    Args:
        debiased: multiply the volume by the cases' factor first, scored without each case itself.
    """
    true = np.asarray([case.volumes_mm3(index)[2] for case in cases])
    volume = np.asarray([case.predicted[index] * case.voxel_mm3 for case in cases])
    others = (true.sum() - true) / (volume.sum() - volume) if debiased else np.ones(true.size)
    share = conformal_quantile((np.abs(true - others * volume) / volume).tolist())
    factor = float(true.sum() / volume.sum()) if debiased else 1.0
    if share is None:
        return None

    def ends(cases: Sequence[CaseNumbers], index: int) -> Intervals:
        volumes = np.asarray([case.predicted[index] * case.voxel_mm3 for case in cases])
        return np.maximum(0, (factor - share) * volumes), (factor + share) * volumes

    return ends


def _interval_figures(cases: Sequence[CaseNumbers], index: int, *rules: Any) -> dict[str, float]:
    true = np.asarray([case.volumes_mm3(index)[2] for case in cases])
    figures: dict[str, float] = {"mean_volume_mm3": float(true.mean())}
    for name, rule in zip(("ours", "plain", "plain_debiased"), rules, strict=True):
        low, high = rule(cases, index)
        figures[f"coverage_{name}"] = float(((low <= true) & (true <= high)).mean())
        figures[f"width_{name}_mm3"] = float((high - low).mean())
    figures["width_ratio"] = figures["width_ours_mm3"] / figures["width_plain_mm3"]
    figures["width_ratio_debiased"] = figures["width_ours_mm3"] / figures["width_plain_debiased_mm3"]
    return figures


def _dice_figures(cases: Sequence[CaseNumbers], index: int, dice: PredictedDice) -> dict[str, Any]:
    true = np.asarray([case.dice[index] for case in cases])
    predicted = np.asarray([dice(case.confidence(index)) for case in cases])
    usable = np.isfinite(true) & np.isfinite(predicted)
    error, constant = np.abs(predicted - true)[usable], np.abs(dice.mean - true)[usable]
    return {
        "informative": dice.informative,
        "mean_absolute_error": float(error.mean()),
        "error_of_the_mean": float(constant.mean()),
        "difference": asdict(paired_bootstrap(error.tolist(), constant.tolist())),
        "spearman": float(spearmanr(predicted[usable], true[usable])[0]) if dice.slope > 0 else None,
    }


def _resplits(cases: Sequence[Scaled], size: int, names: Sequence[str]) -> dict[str, Any]:
    random = np.random.default_rng(0)
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for _ in range(RESPLITS):
        order = random.permutation(len(cases))
        chosen, rest = [cases[i] for i in order[:size]], [cases[i] for i in order[size:]]
        best = int(np.sum([case.nll for case in chosen], 0).argmin())
        fit_on, measured = [case.at[best] for case in chosen], [case.at[best] for case in rest]
        for index, name in enumerate(names, 1):
            rows[name].append(_one_resplit(fit_on, measured, index) | {"scale": SCALES[best]})
    return {name: {key: _spread([row[key] for row in found]) for key in found[0]} for name, found in rows.items()}


def _one_resplit(fit_on: Sequence[CaseNumbers], measured: Sequence[CaseNumbers], index: int) -> dict[str, float]:
    interval = fit_volume_interval(*np.asarray([case.volumes_mm3(index) for case in fit_on]).T)
    dice = fit_predicted_dice([case.confidence(index) for case in fit_on], [case.dice[index] for case in fit_on])
    plain, debiased = (_plain(fit_on, index, debiased) for debiased in (False, True))
    assert interval is not None and dice is not None and plain is not None and debiased is not None
    found = _dice_figures(measured, index, dice)
    better = found["mean_absolute_error"] < found["error_of_the_mean"]
    return _interval_figures(measured, index, _ours(interval), plain, debiased) | {
        "dice_error": found["mean_absolute_error"],
        "dice_error_of_the_mean": found["error_of_the_mean"],
        "dice_beats_the_mean": float(better),
        "dice_informative": float(dice.informative),
        "dice_informative_and_worse": float(dice.informative and not better),
    }


def _spread(values: Sequence[float]) -> dict[str, float]:
    low, high = np.percentile(values, [5, 95])
    return {"mean": float(np.mean(values)), "p5": float(low), "p95": float(high)}


def _page(result: dict[str, Any]) -> str:
    counts = result["cases"]
    lines = [
        "# `python Testing/Benchmarks/case_numbers.py`",
        "",
        f"Model {result['model']}: {counts['calibration']} calibration cases, {counts['test']} test cases, "
        f"{counts['resplits']} re-splits by case of both together (mean, in brackets 5 % to 95 % of the re-splits).",
        "The rival interval is the segmentation's volume plus and minus a fixed percentage, conformal too; *debiased*: "
        "times the mean ratio of true to segmented volume first.",
        "",
        "| figure | " + " | ".join(result["resplits"]) + " |",
        "|---|" + "---|" * len(result["resplits"]),
    ]
    titles = {
        "coverage_ours": "interval of the expected volume: coverage, re-splits",
        "coverage_plain": "plain percentage: coverage, re-splits",
        "width_ratio": "width over that of the plain percentage, re-splits",
        "width_ratio_debiased": "width over that of the debiased percentage, re-splits",
        "dice_error": "predicted Dice: mean absolute error, re-splits",
        "dice_error_of_the_mean": "constant mean: the same",
        "dice_beats_the_mean": "share of re-splits where the prediction is better",
        "dice_informative": "share of re-splits that call it informative",
        "dice_informative_and_worse": "share that call it informative although it is worse on the rest",
    }
    for key, title in titles.items():
        cells = [_cell(found[key], "share" not in title) for found in result["resplits"].values()]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, *_test_rows(result["test"])]) + "\n"


def _cell(spread: dict[str, float], with_range: bool) -> str:
    text = f"{spread['mean']:.3g}"
    return f"{text} ({spread['p5']:.3g} to {spread['p95']:.3g})" if with_range else text


def _test_rows(found: dict[str, Any]) -> list[str]:
    intervals, dice = ([entry[key] for entry in found.values()] for key in ("interval", "predicted_dice"))
    differences = [entry["difference"] for entry in dice]
    rows = {
        "test cases: coverage of the bundle's interval": [f"{entry['coverage_ours']:.3f}" for entry in intervals],
        "test cases: mean width, mm3": [f"{entry['width_ours_mm3']:.0f}" for entry in intervals],
        "test cases: width over plain percentage": [f"{entry['width_ratio']:.2f}" for entry in intervals],
        "test cases: predicted Dice, error": [f"{entry['mean_absolute_error']:.4f}" for entry in dice],
        "test cases: constant mean, error": [f"{entry['error_of_the_mean']:.4f}" for entry in dice],
        "test cases: difference (95 % bootstrap interval)": [
            f"{entry['mean']:.4f} ({entry['low']:.4f} to {entry['high']:.4f})" for entry in differences
        ],
        "test cases: Spearman": [f"{entry['spearman']:.2f}" for entry in dice],
        "the bundle calls it informative": ["yes" if entry["informative"] else "no" for entry in dice],
    }
    return [f"| {title} | " + " | ".join(cells) + " |" for title, cells in rows.items()]


if __name__ == "__main__":
    sys.exit(main())
