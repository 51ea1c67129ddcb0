"""Compare results of OpenVINO and torch on the test cases of the hippocampus.

    python Testing/Benchmarks/engine_equality.py --data FOLDER [--output FOLDER]

Both engines segment every test case with the shipped model on its default head. Limits, for each version of OpenVINO:
at most 1 label in 100,000 differs, and only where torch itself hardly decides (the two largest logits within 0.05); the
error probability lies within 1e-3 at 99.95 % of the voxels of all cases; the expected wrong volume of a case within
0.1 %; and the figures of the model card come out within rounding: means within one unit of their third digit, paired
differences within a twentieth of their interval's half-width. Exits 1 beyond a limit. Results of other versions of
OpenVINO that the file holds stay.
"""

import argparse
import json
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "SegWithUSlicer")]

import numpy as np  # noqa: E402

from SegWithUCore.inference.model import Model  # noqa: E402
from SegWithUCore.inference.prediction import Prediction  # noqa: E402
from SegWithUCore.models.bundle import Bundle, read_bundle  # noqa: E402
from SegWithULab.calibration.cases import predict_case  # noqa: E402
from SegWithULab.evaluation.evaluate import evaluate, summary  # noqa: E402
from SegWithULab.training.dataset import Case, find_cases  # noqa: E402

SHIPPED = ROOT / "Resources" / "Models" / "hippocampus"
NAME = "engine_equality"
MOST_LABELS, NEAR_TIE = 1e-5, 0.05
CLOSE, CLOSE_SHARE = 1e-3, 0.9995
MOST_VOLUME = 1e-3
INTERVAL_PARTS = 20


def main() -> int:
    """Compare, write the results and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with hippocampus/split.csv")
    parser.add_argument("--output", type=Path, default=ROOT / "Testing" / "Benchmarks" / "results")
    options = parser.parse_args()
    bundle = read_bundle(SHIPPED)
    cases = find_cases(f"{options.data / 'hippocampus' / 'split.csv'}:test")
    models = {name: Model(bundle, engine=name) for name in ("torch", "openvino")}
    rows = [compared(case, models, bundle) for case in cases]
    found = pooled(rows) | {
        "metrics": figures(cases, models, bundle),
        "engines": {name: model.engine.identity() for name, model in models.items()},
        "machine": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
    }
    path = options.output / f"{NAME}.json"
    kept = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    kept[str(models["openvino"].engine.identity()["version"])] = found
    path.write_text(json.dumps(dict(sorted(kept.items())), indent=1) + "\n", encoding="utf-8")
    page = table(kept)
    (options.output / f"{NAME}.md").write_text(page, encoding="utf-8")
    print(page)
    return int(not within_limits(found))


def compared(case: Case, models: dict[str, Model], bundle: Bundle) -> dict[str, Any]:
    """Differences of one case."""
    torch, openvino = (predict_case(case, model)[0] for model in models.values())
    differing = torch.classes != openvino.classes
    chances = [error_probability(prediction) for prediction in (torch, openvino)]
    volumes = [float(chance.sum(dtype=np.float64)) * torch.voxel_mm3 for chance in chances]
    return {
        "case": case.name,
        "voxels": int(differing.size),
        "other_labels": int(differing.sum()),
        "margin_of_other_labels": float(margins(torch)[differing].max(initial=0)),
        "close": int((np.abs(chances[0] - chances[1]) < CLOSE).sum()),
        "largest_error_probability_difference": float(np.abs(chances[0] - chances[1]).max()),
        "largest_logit_difference": float(np.abs(torch.logits - openvino.logits).max()),
        "expected_wrong_mm3": volumes,
        "expected_wrong_difference": abs(volumes[1] / volumes[0] - 1),
    }


def error_probability(prediction: Prediction) -> np.ndarray:
    """Error probability of each voxel."""
    assert prediction.error_probability is not None
    return prediction.error_probability


def margins(prediction: Prediction) -> np.ndarray:
    """Difference of the two largest logits of each voxel."""
    second, first = np.sort(prediction.logits, 0)[-2:]
    gap: np.ndarray = first - second
    return gap


def figures(cases: Sequence[Case], models: dict[str, Model], bundle: Bundle) -> dict[str, Any]:
    """Figures that a model card prints, each engine's measured on its own: how many, and which are beyond rounding."""
    torch, openvino = (summary(evaluate(cases, model), bundle) for model in models.values())
    pairs: dict[str, tuple[float, float, float]] = {}  # torch's, openvino's, what may lie between
    for one, other in zip(torch["table"], openvino["table"], strict=True):
        if one["cases"]:
            pairs[one["title"]] = (one["mean"], other["mean"], third_digit(one["mean"]))
    for title, one in torch["comparisons"].items():
        other = openvino["comparisons"][title]
        if isinstance(one, dict):
            pairs[title] = (one["mean"], other["mean"], (one["high"] - one["low"]) / 2 / INTERVAL_PARTS)
        elif one is not None:
            pairs[title] = (one, other, third_digit(one))
    beyond = {title: [one, other] for title, (one, other, limit) in pairs.items() if abs(one - other) > limit}
    return {"compared": len(pairs), "beyond": beyond}


def third_digit(value: float) -> float:
    """One unit of the third significant digit of a number."""
    return float(10.0 ** (np.floor(np.log10(abs(value))) - 2)) if value else 0.0


def pooled(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Over all cases."""
    voxels = sum(row["voxels"] for row in rows)
    return {
        "cases": len(rows),
        "voxels": voxels,
        "other_labels": sum(row["other_labels"] for row in rows),
        "margin_of_other_labels": max(row["margin_of_other_labels"] for row in rows),
        "share_within_1e-3": sum(row["close"] for row in rows) / voxels,
        "largest_error_probability_difference": max(row["largest_error_probability_difference"] for row in rows),
        "largest_logit_difference": max(row["largest_logit_difference"] for row in rows),
        "largest_expected_wrong_difference": max(row["expected_wrong_difference"] for row in rows),
    }


def within_limits(found: dict[str, Any]) -> bool:
    """Whether all limits are kept."""
    return (
        found["other_labels"] <= MOST_LABELS * found["voxels"]
        and found["margin_of_other_labels"] <= NEAR_TIE
        and found["share_within_1e-3"] >= CLOSE_SHARE
        and found["largest_expected_wrong_difference"] <= MOST_VOLUME
        and not found["metrics"]["beyond"]
    )


def table(kept: dict[str, Any]) -> str:
    """The results as a page of Markdown."""
    first = next(iter(kept.values()))
    lines = [
        "# OpenVINO against torch",
        f"{first['cases']} test cases of the hippocampus, {first['voxels']:,} voxels, shipped model, context head, "
        "float32. By `Testing/Benchmarks/engine_equality.py`.",
        "",
        "| | limit | " + " | ".join(f"openvino {version}" for version in kept) + " |",
        "|---|---:|" + "---:|" * len(kept),
    ]
    rows = {
        "labels that differ": (f"{MOST_LABELS * first['voxels']:.0f}", lambda f: str(f["other_labels"])),
        "largest margin of the two largest logits there": (
            f"{NEAR_TIE}",
            lambda f: f"{f['margin_of_other_labels']:.2g}",
        ),
        "error probability within 1e-3": (f"{CLOSE_SHARE:.2%}", lambda f: f"{f['share_within_1e-3']:.4%}"),
        "its largest difference": ("", lambda f: f"{f['largest_error_probability_difference']:.2g}"),
        "expected wrong volume of a case, largest difference": (
            f"{MOST_VOLUME:.1%}",
            lambda f: f"{f['largest_expected_wrong_difference']:.4%}",
        ),
        "largest difference of a logit": ("", lambda f: f"{f['largest_logit_difference']:.2g}"),
        "figures of the model card beyond rounding": (
            "0",
            lambda f: f"{len(f['metrics']['beyond'])} of {f['metrics']['compared']}",
        ),
    }
    for title, (limit, value) in rows.items():
        lines.append(f"| {title} | {limit} | " + " | ".join(value(found) for found in kept.values()) + " |")
    torch = {str(found["engines"]["torch"]["version"]) for found in kept.values()}
    return "\n".join([*lines, "", f"torch {', '.join(sorted(torch))}; {first['machine']}.", ""])


if __name__ == "__main__":
    sys.exit(main())
