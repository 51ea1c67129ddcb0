"""What the limits of flags, fitted on *calibration*, do on *test*: cases flagged, and bad ones that go by.

    python Testing/Benchmarks/flag_rules.py [--data TABLE.csv] [--model FOLDER]

Every figure is measured, also those whose fitted rule is "no useful rule", to see whether that verdict holds. A case is
bad where a structure's Dice is below the bundle's `bad_dice`. Writes Testing/Benchmarks/results/flag_rules.json.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "SegWithUSlicer")]

import numpy as np  # noqa: E402
import torch  # noqa: E402
from scipy.stats import mannwhitneyu  # noqa: E402

from SegWithUCore.calibration.flag_limits import ALPHA, StructureCase, controlled_limit  # noqa: E402
from SegWithUCore.inference.model import Model  # noqa: E402
from SegWithUCore.models.bundle import Bundle, read_bundle  # noqa: E402
from SegWithUCore.training.calibrate import (  # noqa: E402
    case_numbers,
    flag_figures,
    predict_case,
)
from SegWithUCore.training.dataset import find_cases  # noqa: E402

RESULT = Path(__file__).resolve().parent / "results" / "flag_rules.json"
FIGURES = ("wrong_mm3", "wrong_share", "interval_share", "dice")


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=f"{ROOT.parent}/shared/data/hippocampus/split.csv")
    parser.add_argument("--model", type=Path, default=ROOT / "Resources" / "Models" / "hippocampus")
    options = parser.parse_args()
    bundle = read_bundle(options.model)
    calibration, test = (_figures(bundle, f"{options.data}:{role}") for role in ("calibration", "test"))
    flags = (bundle.calibration or {})["flags"]
    rules = {name: _measured(name, calibration, test, flags["bad_dice"]) for name in FIGURES if name in flags["rules"]}
    told = {name: rule["sentence"] for name, rule in flags["rules"].items()}
    result = {
        "what": " ".join(str(__doc__).split()),
        "calibration cases": len(calibration),
        "test cases": len(test),
        "bad_dice": flags["bad_dice"],
        "bad test cases": int(_bad(test, flags["bad_dice"]).sum()),
        "rules of the bundle": told,
        "on test": rules,
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


def _figures(bundle: Bundle, source: str) -> list[dict[str, StructureCase]]:
    model = Model(bundle, torch.device("cpu"))
    numbers, table = model.case_level, model.fitted.error_probability
    assert table is not None, "the bundle is not calibrated"
    found = []
    for case in find_cases(source):
        prediction, truth = predict_case(case, model, [label.value for label in bundle.labels])
        chance = table(prediction.ranking, prediction.classes, prediction.runner_up)
        scale = (bundle.calibration or {})["tempering_scale"]
        told = case_numbers(prediction, truth, scale)
        found.append(flag_figures(told, prediction.classes, chance, numbers, bundle.labels))
    return found


def _bad(cases: list[dict[str, StructureCase]], bad_dice: float) -> np.ndarray:
    return np.asarray([min(structure.true_dice for structure in case.values()) < bad_dice for case in cases])


def _measured(name: str, calibration: list[Any], test: list[Any], bad_dice: float) -> dict[str, Any]:
    fitted_on, seen = (np.asarray([_worst(name, case) for case in cases]) for cases in (calibration, test))
    bad = _bad(test, bad_dice)
    limit = controlled_limit(fitted_on, _bad(calibration, bad_dice), ALPHA)
    assert limit is not None
    return {
        "limit": -limit if name == "dice" else limit,
        "flagged_share": float((seen > limit).mean()),
        "bad and not flagged": float((bad & (seen <= limit)).mean()),
        "bound that was asked for": ALPHA,
        "flagged among bad": float((seen[bad] > limit).mean()),
        "flagged among others": float((seen[~bad] > limit).mean()),
        "p_value": float(mannwhitneyu(seen[bad], seen[~bad], alternative="greater").pvalue),
    }


def _worst(name: str, case: dict[str, StructureCase]) -> float:
    """Of the structures that have the figure; higher for worse, so predicted Dice changes its sign."""
    known = [value for structure in case.values() if (value := getattr(structure, name)) is not None]
    return -min(known) if name == "dice" else max(known)


if __name__ == "__main__":
    main()
