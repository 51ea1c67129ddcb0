"""Feature density: how far a voxel's features lie from those of the training cases."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from scipy.linalg import solve_triangular
from scipy.special import logsumexp

from SegWithUCore.inference.preprocessing import network_input
from SegWithUCore.inference.uncertainty_maps import resample_to_grid
from SegWithUCore.network.heads.base import resized
from SegWithUCore.network.segwithu import checked_taps, recorded_taps
from SegWithUCore.util.progress import Progress, silent

from ...evaluation.frozen_backbone import FrozenBackbone, FrozenCase
from .base import Baseline, BaselineInputs, FittingCases, UncertaintyPrediction, baseline, in_parts

RIDGE = 1e-4
"""Added to the diagonal of a covariance, times its mean variance."""
CHUNK = 1 << 16


class ClassMoments:
    """Counts, sums and outer products of features by class, from which Gaussians follow; memory does not grow.

    Args:
        classes, features: how many.
    """

    def __init__(self, classes: int, features: int) -> None:
        self.counts = np.zeros(classes)
        self.sums = np.zeros((classes, features))
        self.products = np.zeros((classes, features, features))

    def add(self, features: np.ndarray, classes: np.ndarray) -> None:
        """Count voxels: features (features, *any), classes (*any)."""
        flat, chosen = features.reshape(len(features), -1), classes.ravel()
        for index in range(len(self.counts)):
            here = flat[:, chosen == index].astype(np.float64)
            self.counts[index] += here.shape[1]
            self.sums[index] += here.sum(1)
            self.products[index] += here @ here.T

    @property
    def means(self) -> np.ndarray:
        """Of each class, (classes, features)."""
        return self.sums / np.maximum(self.counts, 1)[:, None]

    @property
    def scatter(self) -> np.ndarray:
        """Centred sums of products of each class, (classes, features, features)."""
        means = self.means
        found: np.ndarray = self.products - self.counts[:, None, None] * means[:, :, None] * means[:, None, :]
        return found


def factor_of(covariance: np.ndarray) -> np.ndarray:
    """Lower Cholesky factor of a covariance with `RIDGE`."""
    size = len(covariance)
    ridge = RIDGE * max(float(np.trace(covariance)) / size, 1e-12)
    found: np.ndarray = np.linalg.cholesky(covariance + ridge * np.eye(size))
    return found


def squared_distance(features: np.ndarray, mean: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """Squared Mahalanobis distance of each voxel, (voxels,), of features (features, voxels)."""
    white = solve_triangular(factor, features - mean[:, None], lower=True)
    return np.einsum("fv,fv->v", white, white)


class BackboneWithFeatures:
    """The backbone in whose windows the logits are followed by the features of its last tap."""

    def __init__(self, backbone: FrozenBackbone) -> None:
        self.backbone, self.tap = backbone.module, backbone.taps[-1]

    def window_output(self, image: torch.Tensor) -> torch.Tensor:
        """(batch, classes + features, *spatial); features are brought to the window's grid linearly."""
        with torch.no_grad(), recorded_taps(self.backbone, [self.tap]) as recorded:
            logits = self.backbone(image)
        features = checked_taps(recorded, [self.tap], image.ndim)[0]
        return torch.cat([logits, resized(features, logits.shape[2:])], 1)


class Density(Baseline):
    """Mahalanobis distance to the nearest class (one covariance), and a Gaussian for each class.

    Sources: Lee et al., NeurIPS 2018 (score M without perturbing the input); Mukhoti et al., CVPR 2023 (Gaussian
    discriminant analysis).
    """

    name = "density"
    own_pass = True
    needs = ("train",)
    rows = ("feature density, Mahalanobis", "feature density, Gaussian mixture")

    def __init__(self, backbone: FrozenBackbone) -> None:
        self.backbone = backbone
        self.means: np.ndarray = np.zeros((0, 0))
        self._tied: np.ndarray = np.zeros((0, 0))
        self._factors: np.ndarray = np.zeros((0, 0, 0))
        self._log_weights: np.ndarray = np.zeros(0)

    @property
    def how(self) -> str:
        """With its tap."""
        return (
            f"of what {self.backbone.taps[-1]} is fed, fitted on the true classes of the training cases: least squared "
            "distance to a class mean under one covariance; minus log density of one Gaussian a class; no probabilities"
        )

    @property
    def added_parameters(self) -> int:
        """Of the larger of the two: a mean, a factor and a weight for each class."""
        classes, features = len(self.means), self.means.shape[1]
        return classes * (features + features * (features + 1) // 2 + 1)

    def settings(self) -> dict[str, Any]:
        """Where the features are read."""
        return {"tap": self.backbone.taps[-1], "ridge": RIDGE}

    def fit(self, cases: FittingCases, progress: Progress = silent) -> None:
        """Fit the Gaussians on the training cases."""
        moments: ClassMoments | None = None
        classes = len(self.backbone.bundle.labels)
        report = in_parts(progress, "fitting the feature density", cases.train)
        for number, case in enumerate(cases.train):
            report(number)
            prepared = cases.prepared(case)
            features = self.backbone.stitched(BackboneWithFeatures(self.backbone), prepared.image)[classes:]
            moments = moments or ClassMoments(classes, len(features))
            moments.add(features, prepared.labels)
        assert moments is not None
        self.take(moments)

    def take(self, moments: ClassMoments) -> None:
        """Fit a Gaussian to each class; classes with too few voxels are left out."""
        there = moments.counts > moments.means.shape[1]
        counts, scatter = moments.counts[there], moments.scatter[there]
        self.means = moments.means[there]
        self._tied = factor_of(scatter.sum(0) / counts.sum())
        self._factors = np.stack([factor_of(part / count) for part, count in zip(scatter, counts, strict=True)])
        self._log_weights = np.log(counts / counts.sum())

    def state(self) -> dict[str, np.ndarray]:
        """Means, factors and weights."""
        return {"means": self.means, "tied": self._tied, "factors": self._factors, "log_weights": self._log_weights}

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Take over an earlier fit."""
        self.means, self._tied, self._factors = state["means"], state["tied"], state["factors"]
        self._log_weights = state["log_weights"]

    def answers(self, case: FrozenCase) -> dict[str, UncertaintyPrediction]:
        """Answers by row."""
        array, working = network_input(case.images, self.backbone.bundle.input)
        raw = self.backbone.stitched(BackboneWithFeatures(self.backbone), array)
        features = resample_to_grid(raw, working, case.images[0])[len(self.backbone.bundle.labels) :]
        return {row: UncertaintyPrediction(score) for row, score in zip(self.rows, self.scores(features), strict=True)}

    def scores(self, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Least squared distance, and minus log density up to a constant; each float32 on the features' grid."""
        flat = features.reshape(len(features), -1)
        nearest, surprise = (np.empty(flat.shape[1], np.float32) for _ in range(2))
        for part in _chunks(flat.shape[1]):
            here = flat[:, part].astype(np.float64)
            nearest[part] = np.min([squared_distance(here, mean, self._tied) for mean in self.means], 0)
            logs = [
                weight - squared_distance(here, mean, factor) / 2 - np.log(np.diag(factor)).sum()
                for weight, mean, factor in zip(self._log_weights, self.means, self._factors, strict=True)
            ]
            surprise[part] = -logsumexp(logs, axis=0)
        return nearest.reshape(features.shape[1:]), surprise.reshape(features.shape[1:])


def _chunks(voxels: int) -> Iterator[slice]:
    return (slice(start, start + CHUNK) for start in range(0, voxels, CHUNK))


@baseline("density", title="feature density")
def _density(inputs: BaselineInputs) -> list[Baseline]:
    return [Density(inputs.backbone)]
