"""Whether the uncertainty can be trusted, in words: figures decide, and few cases give no verdict."""

from typing import Any

import numpy as np
import pytest

from SegWithUCore.calibration.error_counts import LEVELS, ErrorCounts, Reading, count_errors, reading
from SegWithULab.evaluation.adopt import HEADLINES, NO, PARTLY, UNKNOWN, YES, verdict


def patients(count: int, true_share_of: float) -> dict[int, ErrorCounts]:
    """Patients whose voxels are wrong so many times as often as they read."""
    rng = np.random.default_rng(0)
    found = {}
    for number in range(count):
        chance = rng.choice([0.05, 0.1, 0.25, 0.5], 4000)
        found[number] = count_errors(chance, rng.random(4000) < np.minimum(1.0, chance * true_share_of))
    return found


def readings(count: int = 30, true_share_of: float = 1.0) -> list[Reading]:
    known = patients(count, true_share_of)
    return [reading(known, level) for level in LEVELS]


def result(
    auroc: tuple[float, float, float] = (0.95, 0.93, 0.97), gain: float = 0.1, covered: float = 0.9
) -> dict[str, Any]:
    mean, low, high = auroc
    return {
        "table": [{"title": "auroc whole error probability", "mean": mean, "low": low, "high": high}],
        "comparisons": {
            "auprc whole, error probability - softmax by direction": {
                "mean": gain, "low": gain - 0.05, "high": gain + 0.05
            }
        },
        "structures": [
            {
                "structure": "left ventricle",
                "volume_interval": {"cases": 40, "coverage": covered, "level": 0.9},
            }
        ],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("metrics", "read", "level"),
    [
        (result(), readings(), YES),
        (result(auroc=(0.75, 0.72, 0.8)), readings(), PARTLY),
        (result(auroc=(0.75, 0.6, 0.8)), readings(), NO),
        (result(gain=-0.2), readings(), PARTLY),
        (result(covered=0.6), readings(), PARTLY),
        (result(), readings(true_share_of=1.2), PARTLY),
        (result(), readings(true_share_of=1.9), NO),
        (result(), readings(true_share_of=0.6), PARTLY),
        (result(), readings(count=7), UNKNOWN),
    ],
    ids=["good", "finds few", "finds none", "softmax is better", "narrow intervals", "a little optimistic",
         "far too optimistic", "pessimistic", "seven patients"],
)  # fmt: skip
def test_metrics_decide(metrics: dict[str, Any], read: list[Reading], level: str) -> None:
    answer, line = verdict(metrics, read)
    assert answer == level and line.startswith(HEADLINES[level])


def test_what_was_not_fitted_does_not_count() -> None:
    assert verdict({**result(), "structures": [{"structure": "left ventricle"}]}, readings())[0] == YES
    assert verdict({"table": [], "comparisons": {}, "structures": []}, readings())[0] == UNKNOWN
