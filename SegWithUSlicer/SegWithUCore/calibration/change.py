"""How far the volume of a structure differs between two scans without a change, and what two scans say.

The half width is the repeatability coefficient, t √2 s, with s the standard deviation within patients and t the
quantile of Student's distribution with as many degrees of freedom as s has (Bland and Altman, Statistical Methods in
Medical Research 8:135, 1999). It is of the logarithm of volumes, so that a change and its reverse are equally large.

Between two phases of a heart a ventricle does change: how far its ejection fraction lies from that of references is
said by limits of agreement (Bland and Altman, Lancet 327:307, 1986).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev

SYNTHESISED, PERTURBED, AGAIN = "synthesised", "perturbed", "again"
"""How the patients were scanned a second time."""
SCANNED_TEXT = {
    SYNTHESISED: "images synthesised from label maps as two scans in one protocol",
    PERTURBED: "real images, moved and with other noise, bias field and contrast",
    AGAIN: "patients scanned again",
}
"""What an interval was fitted on. No real scan but the last shows motion, another scanner, or days in between."""


FULLY_RECOVERED = 0.8
"""From this share on the volumes are taken to show a change as it is."""


@dataclass(frozen=True)
class ChangeInterval:
    """Interval of the change of a volume.

    Attributes:
        half_width: of the logarithm of the ratio of two volumes, which lies within it at `level` if nothing changed.
        level: share of the pairs of scans without a change.
        patients, scans: on which it was fitted.
        scanned: `SYNTHESISED` from label maps, real images `PERTURBED`, or really `AGAIN`.
        held, held_of: pairs of other real images in which it held no change, of so many; None if nobody measured it.
        recovered: share of a known change of 10 % that the volumes show, in deformed real images; None if not measured.
    """

    half_width: float
    level: float
    patients: int
    scans: int
    scanned: str
    held: int | None = None
    held_of: int | None = None
    recovered: float | None = None

    def __call__(self, before_mm3: float, after_mm3: float) -> tuple[float, float, float]:
        """Return the change, and the ends of its interval, in percent of the volume before, which is not 0."""
        ratio = after_mm3 / before_mm3
        low, high = (100 * (ratio * math.exp(sign * self.half_width) - 1) for sign in (-1, 1))
        return 100 * (ratio - 1), low, high

    @property
    def repeats_within_percent(self) -> float:
        """Growth that repeated scans without a change rarely exceed."""
        return 100 * math.expm1(self.half_width)

    @property
    def is_damped(self) -> bool:
        """Whether the volumes show clearly less than a change."""
        return self.recovered is not None and self.recovered < FULLY_RECOVERED


EJECTION = "ejection"
"""Block of a calibration: `EjectionFraction` by name of a ventricle."""
DIASTOLE, SYSTOLE = "ED", "ES"
"""End of diastole and of systole, in the column `phase` of a split table."""
NORMAL, FEWEST_HEARTS = 1.96, 10
"""Standard deviations to either limit of agreement; fewer patients hardly show a deviation."""


@dataclass(frozen=True)
class EjectionFraction:
    """How far the ejection fraction of segmentations lies from that of references, in percentage points.

    Attributes:
        mean_error: segmented minus true.
        half_width: from it to either 95 % limit of agreement.
        cases: patients on whom it was fitted.
        held: so many of them lie within the limits of the others.
    """

    mean_error: float
    half_width: float
    cases: int
    held: int

    def __call__(self, diastole_mm3: float, systole_mm3: float) -> tuple[float, float, float]:
        """Return the fraction of the segmentations and its limits, in percent of the first volume, which is not 0."""
        fraction = 100 * (1 - systole_mm3 / diastole_mm3)
        middle = fraction - self.mean_error
        return fraction, middle - self.half_width, middle + self.half_width


def fit_ejection(errors: Sequence[float]) -> EjectionFraction | None:
    """Fit limits of agreement to errors, segmented minus true fraction in percentage points, one for each patient.

    Returns:
        None for fewer than `FEWEST_HEARTS`.
    """
    if len(errors) < FEWEST_HEARTS:
        return None
    held = 0
    for number, error in enumerate(errors):
        others = [*errors[:number], *errors[number + 1 :]]
        held += abs(error - mean(others)) <= NORMAL * stdev(others)
    return EjectionFraction(mean(errors), NORMAL * stdev(errors), len(errors), held)
