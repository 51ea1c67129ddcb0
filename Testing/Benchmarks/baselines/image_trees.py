"""Boosted trees of softmax, the segmentation's shape and the image."""

import importlib.util
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch

from SegWithUCore.calibration import local_features as local
from SegWithUCore.inference.uncertainty_maps import resample_to_grid, steps_on_grid
from SegWithUCore.metrics.overlap import Band
from SegWithUCore.metrics.patients import patient_folds
from SegWithUCore.util.progress import Progress, silent

from .base import Baseline, BaselineInputs, FittingCases, UncertaintyPrediction, baseline, entropy
from .frozen_backbone import FrozenCase

FARTHEST = 20.0
"""Distance beyond which all is equally far, mm or voxels."""
LEAST_UNSURE = 0.0025
"""Probability of an error by the softmax above which trees judge a voxel: below there is next to nothing to find."""
MOST_VOXELS = 200_000
"""Of the calibration cases, drawn evenly: more changed nothing that could be seen."""
MOST_OF_FOLDS = 600_000
"""Of cases of folds, each of which gives as many as a calibration case, or less where there are many."""
FOLDS = 3
"""Of the calibration cases: what is refitted on them must not be trees that know them."""
OF_ALL = -1
"""Stands for the trees of all cases, which are the last, and for cases that all trees are grown from."""
TREES: dict[str, Any] = {
    "max_iter": 100,
    "learning_rate": 0.08,
    "max_leaf_nodes": 15,
    "min_samples_leaf": 200,
    "l2_regularization": 1.0,
}


class ImageTrees(Baseline):
    """Histogram-based boosted trees of scikit-learn on softmax, distance, segmentation and image around a voxel.

    The features are those that the second stage of the error probability sees (`calibration.local_features`).
    """

    name = "image-trees"
    learns_from_folds = True
    rows = ("boosted trees with the image",)

    def __init__(self, band: Band, seed: int = 0) -> None:
        self.band, self.seed = band, seed
        self._voxels, self._knows_errors = 0, False
        self._trees: list[Any] = []
        self._fold_of: dict[str, int] = {}

    @property
    def how(self) -> str:
        """With the number of voxels."""
        return (
            "boosted trees of softmax, distance to the predicted boundary, shape of the segmentation and image at "
            f"several scales, fitted on {self._voxels} voxels of the calibration cases (and of --folds, if given) that "
            "the softmax is unsure of"
        )

    def lacks(self) -> str | None:
        """Ask for scikit-learn where it is missing."""
        there = importlib.util.find_spec("sklearn") is not None
        return None if there else "the package scikit-learn is missing (pip install scikit-learn)"

    def fit(self, cases: FittingCases, progress: Progress = silent) -> None:
        """Fit on the calibration cases, and on those of folds, which all of the trees see."""
        known = [(cases.backbone, case) for case in cases.calibration]
        known += [(fold.backbone, case) for fold in cases.folds for case in fold.cases]
        random, most = np.random.default_rng(self.seed), max(1, MOST_VOXELS // len(cases.calibration))
        most_of_folds = min(most, max(1, MOST_OF_FOLDS // max(1, len(known) - len(cases.calibration))))
        folds = patient_folds([case.group for case in cases.calibration], FOLDS, self.seed)
        further = np.full(len(known) - len(folds), OF_ALL)
        columns, wrong = [], []
        for number, (backbone, case) in enumerate(known):
            progress("fitting boosted trees", number / len(known), case.name)
            seen = backbone.segmented(case)
            voxels, found = self._columns(seen)
            wanted = most if number < len(cases.calibration) else most_of_folds
            chosen = np.sort(random.permutation(len(found))[:wanted])
            columns.append(found[chosen])
            wrong.append(seen.error[voxels][chosen])
        fold = np.repeat(np.concatenate([folds, further]), [len(each) for each in wrong])
        inputs, errors, count = np.concatenate(columns), np.concatenate(wrong), int(folds.max()) + 1
        others = [fold != number for number in range(count if count > 1 else 0)]  # a fold's trees see all others
        self._trees = [self._grown(inputs[each], errors[each]) for each in [*others, np.ones(fold.shape, bool)]]
        self._voxels, self._knows_errors = len(errors), bool(errors.any())
        self._fold_of = {case.name: number for case, number in zip(cases.calibration, folds.tolist(), strict=True)}

    def answers(self, case: FrozenCase) -> dict[str, UncertaintyPrediction]:
        """Answers by row; a calibration case is judged as a new one, by trees that have not seen it."""
        score = (1 - case.probabilities.max(0)).astype(np.float32)
        voxels, columns = self._columns(case)
        if len(columns):
            with _threads():
                chances = self._trees[self._fold_of.get(case.name, OF_ALL)].predict_proba(columns)
            score[voxels] = chances[:, 1] if self._knows_errors else 0
        return {self.rows[0]: UncertaintyPrediction(score)}

    def _grown(self, columns: np.ndarray, wrong: np.ndarray) -> Any:
        from sklearn.ensemble import HistGradientBoostingClassifier

        grown = HistGradientBoostingClassifier(random_state=self.seed, early_stopping=False, **TREES)
        with _threads():
            return grown.fit(columns, wrong)

    def _columns(self, case: FrozenCase) -> tuple[local.Voxels, np.ndarray]:
        """Return the uncertain voxels, and their features for the trees, float32 (voxels, columns).

        Terms of softmax and distance, both classes, and what image, softmax and segmentation show around.
        """
        unsure = 1 - case.probabilities.max(0)
        z, y, x = np.nonzero(unsure >= LEAST_UNSURE)
        voxels = (z, y, x)
        distance = self.band.distance(case.classes, case.spacing_zyx)
        terms = _distance_terms(case.probabilities[:, z, y, x], distance[z, y, x])
        axes = local.neighbour_axes(tuple(case.working.GetSpacing()[::-1]))
        steps = steps_on_grid(axes, case.working, case.images[0])
        image = resample_to_grid(case.array, case.working, case.images[0])
        classes, competing = case.classes[voxels], case.runner_up[voxels]
        normals = local.boundary_normals(case.logits, voxels, classes, competing, steps)
        around = local.local_features(image, unsure.astype(np.float32), voxels, normals, steps)
        shape = local.mask_features(image, case.classes, case.runner_up, voxels, steps)
        found = np.concatenate([terms, classes[None], competing[None], around.T, shape.T]).T
        return voxels, np.ascontiguousarray(found, np.float32)


def _distance_terms(probabilities: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """Combine softmax and distance to the predicted boundary, all of order 1, float64 (terms, voxels).

    Args:
        probabilities: of the softmax, (classes, voxels).
    """
    unsure = np.clip(1 - probabilities.max(0), 1e-9, 1 - 1e-9)
    odds = np.log(unsure / (1 - unsure)) / 4
    away = np.minimum(distance, FARTHEST) / 4
    return np.stack([odds, odds**2 / 4, entropy(probabilities), away, away**2 / 4, odds * away / 4])


def _threads() -> AbstractContextManager[Any]:
    """As many threads as the networks have: scikit-learn takes all that there are."""
    from threadpoolctl import threadpool_limits

    return threadpool_limits(torch.get_num_threads())


@baseline("image-trees", title="boosted trees with the image")
def _image_trees(inputs: BaselineInputs) -> list[Baseline]:
    return [ImageTrees(inputs.band)]
