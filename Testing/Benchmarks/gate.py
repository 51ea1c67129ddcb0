"""What the gate of the shipped model costs in accuracy: maps with it against exact maps, on the same cases.

    python Testing/Benchmarks/gate.py --data FOLDER [--role select] [--windows shipped|half] [--output FOLDER]

For each gate the error probability and the tempering scale are fitted on the calibration cases anew, as they are in a
bundle. On *select* all `GATES` are tried, and the highest that keeps the guard (`training/gate.py`) in both windows is
the model's; on *test* that one alone is judged. "half" takes windows of half the length, so that every case has
several, which begin at odd voxels, too. Figures of other roles and windows that the file holds stay. Exits 1 where the
model's own gate does not keep the guard.
"""

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "SegWithUSlicer")]

import numpy as np  # noqa: E402

from SegWithUCore.inference.model import Model  # noqa: E402
from SegWithUCore.metrics.bootstrap import paired_bootstrap  # noqa: E402
from SegWithUCore.models.bundle import Bundle, read_bundle  # noqa: E402
from SegWithUCore.training.dataset import find_cases  # noqa: E402
from SegWithUCore.training.gate import CANDIDATES, GUARD, changes, gate_figures, judged_windows, within_guard  # noqa: E402

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
    parser.add_argument("--output", type=Path, default=ROOT / "Testing" / "Benchmarks" / "results")
    options = parser.parse_args()
    bundle = read_bundle(SHIPPED)
    found = measured(bundle, options.data / "hippocampus" / "split.csv", options.role, options.windows)
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


def recorded(figures: dict[float | None, dict[str, np.ndarray]], own: float, role: str, windows: str) -> dict[str, Any]:
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
    return {"role": role, "windows": windows, "own": own, "cases": len(exact["true"]), "exact": means, "gates": gates}


def noted(output: Path, found: dict[str, Any]) -> dict[str, Any]:
    """Add figures to the file of results, and return its content."""
    path = output / "gate.json"
    kept = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    kept[f"{found['role']}, {found['windows']} windows"] = found
    path.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    path.with_suffix(".md").write_text(table(kept), encoding="utf-8")
    return kept


def table(kept: dict[str, Any]) -> str:
    """Make a page of Markdown of the results."""
    lines = [
        "# Maps with a gate against exact maps",
        "Hippocampus, shipped model; differences of means over cases with 95 % bootstrap intervals, of the error "
        "probability (AUROC, AUPRC) and the tempered probabilities (NLL); table and scale fitted anew for each gate. "
        "By `Testing/Benchmarks/gate.py`.",
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
