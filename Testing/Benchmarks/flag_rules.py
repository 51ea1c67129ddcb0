#!/usr/bin/env python3
"""Simulate how many bad cases the limit of flags misses: of all calibrations, and of those that show a useful rule.

    python Testing/Benchmarks/run.py flag-rules [--draws 60] [--output FOLDER]

A calibration has 46 cases of the network itself and 0 or 87 of three fold networks, which are 0.02 lower in Dice; most
patients have two cases, correlated 0.7. Soft Dice and Dice are normal, with a given correlation of both. Each limit is
judged on 2,000 new cases. Writes `flag_rules.md`.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from SegWithUCore.calibration import flag_limits
from SegWithUCore.calibration.flag_limits import FIGURE, FlagCase, bad_of_patient, bound_of, controlled_limit

RESULTS = Path(__file__).resolve().parent / "results"
OWN, FOLDS, NEW, WEIGHT = 46, 3, 2000, 0.5
TWO_CASES, ALIKE = 0.6, 0.7
SETTINGS = [(rho, of_folds, count) for rho, of_folds in ((0.6, 0.6), (0.45, 0.45), (0.3, 0.3), (0.45, 0.6), (0.3, 0.45))
            for count in (0, 87)]  # fmt: skip
"""Correlation of soft Dice and Dice of the network itself and of the fold networks; number of their cases."""


def main() -> int:
    """Simulate, write the results, print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=60)
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    flag_limits.PERMUTATIONS = 1000
    rows = [row_of(*setting, options.draws) for setting in SETTINGS]
    names = list(rows[0])
    page = [
        f"# Limits of flags, {options.draws} simulated calibrations a row\n",
        f"{OWN} cases of the network itself and those of {FOLDS} fold networks. By `run.py flag-rules`.\n",
        f"| {' | '.join(names)} |",
        f"|{'---|' * len(names)}",
        *(f"| {' | '.join(f'{row[name]:.3g}' for name in names)} |" for row in rows),
    ]
    options.output.mkdir(exist_ok=True)
    (options.output / "flag_rules.md").write_text("\n".join([*page, ""]), encoding="utf-8")
    print("\n".join(page))
    return 0


def row_of(rho: float, of_folds: float, count: int, draws: int) -> dict[str, Any]:
    """Simulate calibrations of one setting."""
    found = np.asarray([drawn(seed, rho, of_folds, count) for seed in range(draws)])
    useful = found[found[:, 0] > 0]
    return {
        "correlation, own": rho,
        "of folds": of_folds,
        "cases of folds": count,
        "rule shown": float(found[:, 0].mean()),
        "bound": float(found[:, 3].mean()),
        "bad ones missed": float(found[:, 1].mean()),
        "missed where shown": float(useful[:, 1].mean()),
        "others flagged where shown": float(useful[:, 2].mean()),
    }


def drawn(seed: int, rho: float, of_folds: float, count: int) -> tuple[float, ...]:
    """Calibrate once; return whether the rule is useful, shares of bad ones missed and others flagged, and bound."""
    random = np.random.default_rng(seed)
    cases = made_up(random, OWN, rho)
    for fold in range(FOLDS):
        cases += made_up(random, count // FOLDS, of_folds, f"fold {fold}")
    new = made_up(random, NEW, rho)
    score, dice = np.asarray([(case.soft_dice, case.dice) for case in new]).T
    fitted = flag_limits.fit_flag_limit(cases)
    known = flag_limits._Known.of(cases)
    bad = known.dice < fitted["bad_dice"]
    weight = known.weight / bad_of_patient(known.patients, bad)
    limit = controlled_limit(known.score, bad, weight, known.own if count else None)
    bound = bound_of(weight[bad], known.score[bad] >= limit)
    is_bad = dice < fitted["bad_dice"]
    useful = fitted["rules"][FIGURE]["useful"]
    return float(useful), float((score[is_bad] >= limit).mean()), float((score[~is_bad] < limit).mean()), bound


def made_up(random: np.random.Generator, count: int, rho: float, network: str | None = None) -> list[FlagCase]:
    """Make up cases, most of them two of a patient."""
    cases: list[FlagCase] = []
    lower, weight = (0.0, 1.0) if network is None else (0.02, WEIGHT)
    for patient in range(count):
        shared = random.normal(size=2)
        for _ in range(min(count - len(cases), 1 + (random.random() < TWO_CASES))):
            dice, other = np.sqrt(ALIKE) * shared + np.sqrt(1 - ALIKE) * random.normal(size=2)
            score = rho * dice + np.sqrt(1 - rho**2) * other
            soft, true = 0.9 + 0.015 * score - 0.6 * lower, 0.87 + 0.03 * dice - lower
            cases.append(FlagCase(soft, true, weight, f"{network} {patient}", network))
    return cases


if __name__ == "__main__":
    raise SystemExit(main())
