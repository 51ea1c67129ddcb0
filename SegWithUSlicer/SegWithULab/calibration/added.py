"""Fit table and second stage anew on added cases of one source, and take them only where they find more errors there.

What is wrong with the segmentations of another cohort is mostly systematic: there the errors of its own cases teach
more than all that the model was calibrated on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from SegWithUCore.calibration.error_probability import ErrorProbability
from SegWithUCore.metrics.bootstrap import paired_bootstrap
from SegWithUCore.metrics.error_detection import average_precision, region_groups
from SegWithUCore.models.second_stage_file import CHECK

from .cases import CalibrationCase, fit_table
from .fit_second_stage import (
    LEAST_PATIENTS,
    MOST_WITH_FOLDS,
    FittedSecondStage,
    fit_second_stage,
    table_probability,
)


@dataclass(frozen=True)
class AddedStage:
    """Table and second stage of added cases.

    Attributes:
        check: block `added` of a calibration's site: `cases`; AUPRC `before` and `after`, each patient judged by
            others; their `difference` with its interval.
    """

    table: ErrorProbability
    fitted: FittedSecondStage
    check: Mapping[str, Any]

    @property
    def helps(self) -> bool:
        """Whether it finds more errors of patients that it was not fitted on than the model did, beyond chance."""
        return bool(self.check["difference"]["low"] > 0)

    @property
    def block(self) -> dict[str, Any]:
        """The parts of a calibration block that it replaces, but for the second stage itself."""
        return {"cases": self.check["cases"], "error_probability": self.table.to_json(), CHECK: self.fitted.check}

    @property
    def message(self) -> str:
        """What was fitted or kept, and why."""
        gap, verdict = self.check["difference"], "fitted anew" if self.helps else "the model's own stays"
        return (
            f"Second stage: {verdict}; on {self.check['cases']} added cases, each patient judged by others, AUPRC "
            f"{self.check['after']:.3f} instead of {self.check['before']:.3f}, "
            f"{gap['mean']:+.3f} ({gap['low']:+.3f} to {gap['high']:+.3f})."
        )


def own_chance(case: CalibrationCase, table: ErrorProbability) -> np.ndarray:
    """Error probability that a model gave a case; its table's for a prediction that was made up."""
    chance = case.prediction.error_probability
    return table_probability(case, table) if chance is None else chance


def fit_added(cases: Sequence[CalibrationCase], own: ErrorProbability) -> AddedStage | None:
    """Fit on cases as the model to be changed predicts them; None for fewer than `LEAST_PATIENTS` patients.

    Args:
        own: table of that model.
    """
    patients = [case.patient for case in cases]
    if len(set(patients)) < LEAST_PATIENTS:
        return None
    table = fit_table(cases)
    fitted = fit_second_stage(cases, table, most=MOST_WITH_FOLDS)
    if fitted is None:
        return None
    before = [average_precision(region_groups(own_chance(case, own), case.wrong)["whole"]) for case in cases]
    after = [answer.auprc for answer in fitted.answers]
    gap = paired_bootstrap(after, before, groups=patients)
    means = {"before": float(np.nanmean(before)), "after": float(np.nanmean(after))}
    return AddedStage(table, fitted, {"cases": len(cases), **means, "difference": asdict(gap)})
