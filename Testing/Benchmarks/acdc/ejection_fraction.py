"""Measure the ejection fraction that `segwithu compare ED ES` shows as the change of the left ventricle.

    python Testing/Benchmarks/run.py acdc-ejection-fraction CASES DATA TABLE.json

CASES has the case folders that `segwithu segment` made of DATA/images; DATA also has labels and split.csv (case,
patient, phase, role). Errors are predicted minus true fraction in points of percent; limits of agreement are their mean
+- 1.96 standard deviations (Bland and Altman 1986). *Held* counts the patients whose error lies within the limits of
the others: of *select* and *calibration* each in turn, of *test* within the limits of these.
"""

import argparse
import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from SegWithUCore.review.changes import volumes_by_name
from SegWithUCore.util.strict_json import read_json_object

STRUCTURE, LABEL = "left ventricle", 3
FITTED = ("select", "calibration")
NORMAL = 1.96


def fraction(end_diastole: float, end_systole: float) -> float:
    """Compute the ejection fraction in percent from two volumes."""
    return 100 * (end_diastole - end_systole) / end_diastole


def limits(errors: np.ndarray) -> tuple[float, float]:
    """Compute the 95 % limits of agreement."""
    spread = NORMAL * errors.std(ddof=1)
    return errors.mean() - spread, errors.mean() + spread


def held(errors: np.ndarray, others: np.ndarray | None = None) -> int:
    """Count the errors within the limits of `others`, or each within those of the rest."""
    found = 0
    for number, error in enumerate(errors):
        low, high = limits(np.delete(errors, number) if others is None else others)
        found += int(low <= error <= high)
    return found


def described(pairs: np.ndarray, others: np.ndarray | None = None) -> dict[str, Any]:
    """Sum up predicted and true fractions, (patients, 2)."""
    errors = pairs[:, 0] - pairs[:, 1]
    low, high = limits(errors)
    found = {
        "patients": len(errors),
        "mean_true": pairs[:, 1].mean(),
        "mean_error": errors.mean(),
        "mean_absolute_error": np.abs(errors).mean(),
        "limit_low": low,
        "limit_high": high,
        "correlation": float(np.corrcoef(pairs.T)[0, 1]),
    }
    return {name: round(float(value), 3) for name, value in found.items()} | {"held": held(errors, others)}


def fractions(rows: Sequence[Mapping[str, str]], cases: Path, labels: Path) -> np.ndarray:
    """Compute the predicted and the true fraction of each patient, (patients, 2)."""
    found = []
    for patient in sorted({row["patient"] for row in rows}):
        phases = {row["phase"]: row["case"] for row in rows if row["patient"] == patient}
        both = [phases["ED"], phases["ES"]]
        predicted = [volumes_by_name(read_json_object(cases / case / "case.json"))[STRUCTURE] for case in both]
        found.append((fraction(*predicted), fraction(*(_true_mm3(labels / f"{case}.nii.gz") for case in both))))
    return np.array(found)


def _true_mm3(path: Path) -> float:
    image = sitk.ReadImage(str(path))
    return float((sitk.GetArrayViewFromImage(image) == LABEL).sum() * np.prod(image.GetSpacing()))


def main() -> int:
    """Read cases and references, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("table", type=Path)
    options = parser.parse_args()
    with (options.data / "split.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    of_role = {
        name: fractions([row for row in rows if row["role"] in roles], options.cases, options.data / "labels")
        for name, roles in (("select and calibration", FITTED), ("test", ("test",)))
    }
    fitted, test = of_role.values()
    found = {"select and calibration": described(fitted), "test": described(test, fitted[:, 0] - fitted[:, 1])}
    options.table.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(options.table.read_text(encoding="utf-8"))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
