#!/usr/bin/env python3
"""Measure again what README and docs quote, and what later versions are measured with.

    python Testing/Benchmarks/run.py                       # list the benchmarks
    python Testing/Benchmarks/run.py head-cost --output out   # run one; --help lists its options

Each benchmark is a module beside this file and writes the file of its name in `results/`, or in the folder that its
options name. Use an idle machine, and compare only metrics of one run.
"""

import ast
import runpy
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
QUOTED = {
    "head-cost": "head_cost.py",
    "evaluation-table": "evaluation_table.py",
    "memory-prediction": "memory_prediction.py",
    "regions-speed": "regions_speed.py",
    "page-speed": "page_speed.py",
    "web-kills": "web_kills.py",
    "nnunet-equality": "nnunet_equality.py",
    "case-flags": "case_flags.py",
    "baselines": "compare_baselines.py",
    "judge": "judge.py",
    "fitted-judge": "fitted_judge.py",
    "worklist-order": "worklist_order.py",
    "simulated-readers": "simulated_readers.py",
    "scrolled-contours": "scrolled_contours.py",
    "known-changes": "known_changes.py",
    "rescans": "rescans.py",
    "review-intervals": "review_intervals.py",
    "acdc-folds": "acdc/patient_folds.py",
    "acdc-candidates": "acdc/acdc_candidates.py",
    "acdc-paper-measures": "acdc/paper_measures.py",
    "acdc-ejection-fraction": "acdc/ejection_fraction.py",
}
"""Benchmarks whose results README or docs quote."""
CHECKS = {
    "equality": "equality.py",
    "fuzz": "fuzz.py",
    "acdc-trainings": "acdc/acdc_trainings.py",
    "acdc-nnunet": "acdc/nnunet_data.py",
    "placement": "placement.py",
    "placed-heads": "placed_heads.py",
    "one-scan": "one_scan.py",
    "totals": "totals.py",
    "brain-training": "brain_training.py",
    "added-cases": "added_cases.py",
    "brain": "brain.py",
}
"""Checks of a change, and trainings behind the evidence."""


def first_line(path: Path) -> str:
    """Return the first line of a module's docstring."""
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")[0]


def main() -> int:
    """List the benchmarks, or run one in this process as if its file had been called."""
    names = {**QUOTED, **CHECKS}
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        print(__doc__)
        for name, file in names.items():
            print(f"  {name:22} {first_line(HERE / file)}")
        return 0
    file = names.get(sys.argv[1])
    if file is None:
        print(f"There is no benchmark {sys.argv[1]}: choose one of {', '.join(names)}.", file=sys.stderr)
        return 2
    path = HERE / file
    sys.argv = [f"run.py {sys.argv[1]}", *sys.argv[2:]]
    sys.path[:0] = [str(HERE), str(path.parent)]
    runpy.run_path(str(path), run_name="__main__")
    return 0


if __name__ == "__main__":
    sys.exit(main())
