"""The few cases that most deserve a picture, kept while all are measured; the others are forgotten."""

from dataclasses import dataclass, field

import numpy as np
import SimpleITK as sitk

from ..imaging.volume import image_on_grid
from .case_metrics import UNSEEN_BELOW, Measured
from .scores import OUR_SCORE

KEPT = 3
"""Cases of each kind."""


@dataclass(frozen=True)
class WorstCase:
    """One case for a picture; arrays (z, y, x) towards superior, anterior and right.

    Attributes:
        name, why: which case, and one sentence that says why it is shown.
        badness: by which it was chosen.
        image: intensities of the first channel.
        predicted, truth: class indices.
        risk: error probability, or the ranking map scaled to 0..1 where there is none.
        marked, mark: the wrong voxels that the picture is about, and the word for them.
        spacing_zyx: in mm.
    """

    name: str
    why: str
    badness: float
    image: np.ndarray
    predicted: np.ndarray
    truth: np.ndarray
    risk: np.ndarray
    marked: np.ndarray
    mark: str
    spacing_zyx: tuple[float, float, float]


@dataclass
class WorstCases:
    """Attributes:
    by_dice: lowest mean Dice.
    by_unseen: greatest volume wrong under an error probability of `UNSEEN_BELOW`; none without error probability.
    """

    by_dice: list[WorstCase] = field(default_factory=list)
    by_unseen: list[WorstCase] = field(default_factory=list)

    def see(self, name: str, case: Measured, image: sitk.Image, risk: float) -> None:
        """Keep the case if it is among the worst so far.

        Args:
            image: first channel, on the grid of the prediction.
            risk: 1 - mean Dice.
        """
        if np.isfinite(risk):
            _keep(self.by_dice, risk, name, f"mean Dice {1 - risk:.3f}", case, image, case.error, "wrong")
        if OUR_SCORE in case.scores and case.error.any():
            unseen = case.error & (case.scores[OUR_SCORE] < UNSEEN_BELOW)
            volume = float(np.count_nonzero(unseen)) * case.prediction.voxel_mm3
            share = np.count_nonzero(unseen) / np.count_nonzero(case.error)
            why = f"{volume:.0f} mm³ wrong at an error probability below {UNSEEN_BELOW:g}, {share:.0%} of what is wrong"
            _keep(self.by_unseen, volume, name, why, case, image, unseen, "wrong and unseen")


def _keep(
    kept: list[WorstCase],
    badness: float,
    name: str,
    why: str,
    case: Measured,
    image: sitk.Image,
    marked: np.ndarray,
    mark: str,
) -> None:
    if badness <= 0 or (len(kept) == KEPT and badness <= kept[-1].badness):
        return
    arrays = [case.prediction.classes, case.truth.astype(np.uint8), _shown(case), marked.astype(np.uint8)]
    parts = [image, *(image_on_grid(np.ascontiguousarray(array), image) for array in arrays)]
    turned = [sitk.DICOMOrient(part, "RAS") for part in parts]
    picture, predicted, truth, risk, wrong = (sitk.GetArrayFromImage(part) for part in turned)
    x, y, z = turned[0].GetSpacing()
    kept.append(WorstCase(name, why, badness, picture, predicted, truth, risk, wrong > 0, mark, (z, y, x)))
    kept.sort(key=lambda worst: -worst.badness)
    del kept[KEPT:]


def _shown(case: Measured) -> np.ndarray:
    if OUR_SCORE in case.scores:
        return case.scores[OUR_SCORE]
    ranking = case.prediction.ranking
    span = float(ranking.max() - ranking.min()) or 1.0
    return (ranking - ranking.min()) / span
