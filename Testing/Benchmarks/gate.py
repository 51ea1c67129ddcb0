"""What the gate of the shipped model costs in accuracy: maps with it against exact maps, on the same cases.

    python Testing/Benchmarks/gate.py --data FOLDER [--role select] [--windows shipped|half] [--stage-two]

For each gate the error probability and the tempering scale are fitted on the calibration cases anew, as they are in a
bundle. On *select* all `GATES` are tried, and the highest that keeps the guard (`training/gate.py`) in both windows is
the model's; on *test* that one alone is judged. "half" takes windows of half the length, so that every case has
several, which begin at odd voxels, too. With `--stage-two` the model's own gate is judged on the error probability that
files show: table, scale and stage two of the model as they are, on gated and on exact maps. Figures of other roles and
windows that the file holds stay. Exits 1 where the model's own gate does not keep the guard.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "SegWithUSlicer")]

import numpy as np  # noqa: E402
from scipy.special import softmax  # noqa: E402

from SegWithUCore.inference.model import Model  # noqa: E402
from SegWithUCore.inference.prediction import tempered_logits  # noqa: E402
from SegWithUCore.metrics.bootstrap import paired_bootstrap  # noqa: E402
from SegWithUCore.metrics.calibration import negative_log_likelihood  # noqa: E402
from SegWithUCore.metrics.error_detection import auroc, average_precision, score_groups  # noqa: E402
from SegWithUCore.models.bundle import Bundle, read_bundle  # noqa: E402
from SegWithULab.training.calibrate import predict_case  # noqa: E402
from SegWithULab.training.dataset import find_cases  # noqa: E402
from SegWithULab.training.gate import (  # noqa: E402
    CANDIDATES,
    GUARD,
    KeptWindows,
    changes,
    gate_figures,
    judged_windows,
    within_guard,
)

SHIPPED = ROOT / "Resources" / "Models" / "hippocampus"
WINDOWS = ["shipped", "half"]
GATES = {"select": CANDIDATES, "test": ()}
TITLES = {"auroc": "AUROC", "auprc": "AUPRC", "nll": "NLL, tempered", "volume": "expected / true"}
DRAWS = 10_000


def main() -> int:
    """Measure, write the results and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with hippocampus/split.csv")
    parser.add_argument("--role", choices=list(GATES), default="select")
    parser.add_argument("--windows", choices=WINDOWS, default="shipped")
    parser.add_argument("--stage-two", action="store_true", help="judge the last error probability as it is")
    parser.add_argument("--output", type=Path, default=ROOT / "Testing" / "Benchmarks" / "results")
    options = parser.parse_args()
    bundle = read_bundle(SHIPPED)
    split = options.data / "hippocampus" / "split.csv"
    measure = measured_last if options.stage_two else measured
    found = measure(bundle, split, options.role, options.windows)
    kept = noted(options.output, found)
    print(table(kept))
    return int(not found["gates"][str(found["own"])]["kept"])


def measured(bundle: Bundle, split: Path, role: str, windows: str) -> dict[str, Any]:
    """Measure the gates of a role in one kind of window."""
    spec = judged_windows(bundle)[WINDOWS.index(windows)]
    own = float((bundle.calibration or {})["gate"]["log_odds"])
    model = Model(replace(bundle, graphs=None, input=spec))
    cases = [find_cases(f"{split}:{each}") for each in ("calibration", role)]
    figures = gate_figures(model, *cases, sorted({*GATES[role], own}, reverse=True))
    return recorded(figures, own, role, windows)


def measured_last(bundle: Bundle, split: Path, role: str, windows: str) -> dict[str, Any]:
    """Measure the model's own gate on the error probability after stage two."""
    model = Model(replace(bundle, graphs=None, input=judged_windows(bundle)[WINDOWS.index(windows)]))
    engine, gate = model.engine, model.fitted.gate
    assert gate is not None and model.fitted.stage_two is not None
    rows = {None: [], gate.log_odds: []}  # type: ignore[var-annotated]
    for case in find_cases(f"{split}:{role}"):
        model.engine = KeptWindows(engine)
        for choice in (None, gate):
            model.fitted = replace(model.fitted, gate=choice)
            prediction, truth = predict_case(case, model)
            wrong = prediction.classes != truth
            chance = prediction.error_probability
            assert chance is not None
            groups = score_groups(chance.ravel(), wrong.ravel())
            probabilities = softmax(tempered_logits(prediction, model.fitted.tempering_scale), 0)
            row = auroc(groups), average_precision(groups), negative_log_likelihood(probabilities, truth)
            row += float(chance.sum(dtype=np.float64)), float(wrong.sum())
            rows[None if choice is None else choice.log_odds].append(row)
    names = ("auroc", "auprc", "nll", "expected", "true")
    figures = {key: dict(zip(names, np.asarray(each).T, strict=True)) for key, each in rows.items()}
    return recorded(figures, gate.log_odds, role, windows, "after stage two")


def recorded(
    figures: Mapping[float | None, dict[str, np.ndarray]], own: float, role: str, windows: str, of: str = ""
) -> dict[str, Any]:
    """Turn figures by gate into what is stored."""
    exact = figures[None]
    gates = {}
    for gate, found in figures.items():
        if gate is not None:
            change = changes(found, exact)
            intervals = {}
            for name in ("auroc", "auprc", "nll"):
                interval = paired_bootstrap(found[name].tolist(), exact[name].tolist(), DRAWS)
                intervals[name] = [interval.low, interval.high]
            gates[str(gate)] = {"change": change, "interval": intervals, "kept": within_guard(change)}
    means = {name: float(np.nanmean(exact[name])) for name in ("auroc", "auprc", "nll")}
    means["volume"] = float(exact["expected"].sum() / exact["true"].sum())
    return {
        "role": role,
        "windows": windows,
        "of": of,
        "own": own,
        "cases": len(exact["true"]),
        "exact": means,
        "gates": gates,
    }


def noted(output: Path, found: dict[str, Any]) -> dict[str, Any]:
    """Add figures to the file of results, and return its content."""
    path = output / "gate.json"
    kept = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    kept[", ".join(filter(None, (found["role"], f"{found['windows']} windows", found["of"])))] = found
    path.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    path.with_suffix(".md").write_text(table(kept), encoding="utf-8")
    return kept


def table(kept: dict[str, Any]) -> str:
    """Make a page of Markdown of the results."""
    lines = [
        "# Maps with a gate against exact maps",
        "Hippocampus, shipped model; differences of means over cases with 95 % bootstrap intervals, of the error "
        "probability (AUROC, AUPRC) and the tempered probabilities (NLL). Table and scale are fitted anew for each "
        "gate; *after stage two* they and stage two are the model's own. By `Testing/Benchmarks/gate.py`.",
        "",
        "| cases, windows | gate | " + " | ".join(TITLES.values()) + " | keeps the guard |",
        "|---|---:|" + "---:|" * len(TITLES) + "---|",
    ]
    limits = [f"{limit:+g}" for name, limit in GUARD.items() if name != "volume"]
    lines.append(f"| guard | | {' | '.join(limits)} | within {GUARD['volume']:.0%} | |")
    for title, found in kept.items():
        exact = " | ".join(f"{found['exact'][name]:.4f}" for name in TITLES)
        lines.append(f"| {title}, {found['cases']} cases | none: exact | {exact} | |")
        for gate, row in found["gates"].items():
            cells = []
            for name in TITLES:
                low_high = row["interval"].get(name)
                text = f"{row['change'][name]:+.2%}" if low_high is None else f"{row['change'][name]:+.5f}"
                cells.append(text if low_high is None else f"{text} ({low_high[0]:+.5f} to {low_high[1]:+.5f})")
            mark = "**" if float(gate) == found["own"] else ""
            lines.append(f"| | {mark}{float(gate):g}{mark} | {' | '.join(cells)} | {'yes' if row['kept'] else 'no'} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    sys.exit(main())
