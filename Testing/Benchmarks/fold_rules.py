"""How often a figure that says nothing becomes a rule where cases of fold networks count, too: simulated.

    python Testing/Benchmarks/fold_rules.py [--draws N] [--output DIR]

27 cases of the network itself and 126 that three networks of folds predicted, which count half. Dice of 0.87 with a
standard deviation of 0.03; fold networks are 0.05 lower in Dice and 0.03 in soft Dice. The soft Dice follows the Dice
by the two slopes of a scenario, that of the network itself first, with a noise of 0.02. What is missed is asked of
2,000 new cases of the network itself. Writes fold_rules.json and fold_rules.md.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path[:0] = [str(Path(__file__).resolve().parents[2] / "SegWithUSlicer")]

from SegWithUCore.calibration.flag_limits import FIGURE, FlagCase, fit_flag_limit  # noqa: E402
from SegWithUCore.calibration.predicted_dice import DicePairs, fit_predicted_dice  # noqa: E402
from SegWithULab.training.reference_cases import FOLD_WEIGHT  # noqa: E402

RESULTS = Path(__file__).parent / "results"
SCENARIOS = {
    "says nothing anywhere": (0.0, 0.0),
    "says nothing of the network itself": (0.0, 0.7),
    "says less of the network itself": (0.35, 0.7),
    "says the same of all": (0.7, 0.7),
}
OWN, FOLDS, OF_A_FOLD, NEW = 27, 3, 42, 2_000
DICE, SPREAD, NOISE = 0.87, 0.03, 0.02
LOWER_DICE, LOWER_SOFT = 0.05, 0.03


def main() -> int:
    """Simulate, write and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=100, help="of each scenario (default: 100)")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    found = {name: simulated(slopes, options.draws) for name, slopes in SCENARIOS.items()}
    (options.output / "fold_rules.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    (options.output / "fold_rules.md").write_text(page(found), encoding="utf-8")
    print(page(found))
    return 0


def simulated(slopes: tuple[float, float], draws: int) -> dict[str, Any]:
    """Count over all draws: useful rules, what they miss and claim, and informative predicted Dice."""
    missed, claimed, informative = [], [], 0
    for seed in range(draws):
        random = np.random.default_rng(seed)
        parts = [(None, *_cases(random, OWN, slopes[0]))]
        for fold in range(FOLDS):
            dice, soft = _cases(random, OF_A_FOLD, slopes[1])
            parts.append((f"fold{fold}", dice - LOWER_DICE, soft - LOWER_SOFT))
        weights = {network: 1.0 if network is None else FOLD_WEIGHT for network, *_ in parts}
        cases = [
            FlagCase(score, true, weights[network], network=network)
            for network, dice, soft in parts
            for true, score in zip(dice.tolist(), soft.tolist(), strict=True)
        ]
        flags = fit_flag_limit(cases)
        rule = flags["rules"][FIGURE]
        if rule["useful"]:
            dice, soft = _cases(random, NEW, slopes[0])
            missed.append(float((soft[dice < flags["bad_dice"]] >= rule["limit"]).mean()))
            claimed.append(rule["bound"])
        pairs = DicePairs([case.soft_dice for case in cases], [case.dice for case in cases])
        fit = fit_predicted_dice({1: pairs}, None, [c.weight for c in cases], [c.network for c in cases])
        informative += fit.lines[1].informative
    mean = {"missed": float(np.mean(missed)), "claimed": float(np.mean(claimed))} if missed else {}
    return {"slopes": slopes, "draws": draws, "rules": len(missed), "informative": int(informative), **mean}


def _cases(random: np.random.Generator, count: int, slope: float) -> tuple[np.ndarray, np.ndarray]:
    dice = random.normal(DICE, SPREAD, count)
    return dice, DICE + slope * (dice - DICE) + random.normal(0, NOISE, count)


def page(found: dict[str, dict[str, Any]]) -> str:
    """The counts as a page of Markdown."""
    lines = [
        "# Rules where cases of fold networks count, too: simulated",
        f"{OWN} cases of the network itself, {FOLDS * OF_A_FOLD} of {FOLDS} fold networks, which are {LOWER_DICE} "
        f"lower in Dice and {LOWER_SOFT} in soft Dice. By `Testing/Benchmarks/fold_rules.py`.",
        "",
        "| soft Dice | slopes, own / folds | draws with a rule | bad cases missed (claimed at most) | predicted Dice "
        "informative |",
        "|---|---|---|---|---|",
    ]
    for name, each in found.items():
        share = f"{each['missed']:.2f} ({each['claimed']:.2f})" if each["rules"] else ""
        own, folds = each["slopes"]
        lines.append(
            f"| {name} | {own} / {folds} | {each['rules']} of {each['draws']} | {share} | {each['informative']} of "
            f"{each['draws']} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
