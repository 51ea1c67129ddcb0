"""Score a segmentation that was made elsewhere from its own shape, so that no network is needed.

The last channel of the input is the segmentation (class indices). The share of each class around a voxel stands for its
probability, so what lies near a boundary, is thin or stands alone is less certain; what the image says of it is for the
second stage, fitted on cases of the same source with references.
"""

import numpy as np
import scipy
from scipy.ndimage import find_objects, gaussian_filter
from scipy.special import softmax

from ...calibration.per_structure import probability_sums
from ...models.bundle import Bundle
from ..finer_grid import two_largest
from . import MASK
from .base import Engine, Voxelwise

SIGMA, REACH = 1.5, 6
"""Of the smoothing, in voxels; beyond the reach, 4 sigma, a class has no share."""
OWN = 0.5
"""Probability of the drawn class before the shares around are added: it always is the most probable one."""
FLOOR = 1e-6


class MaskEngine(Engine):
    """Gives logarithms of the shares of classes around each voxel in place of logits."""

    name = MASK
    device = "cpu"
    response_channels = 0
    has_aleatoric = has_calibration = False

    def __init__(self, bundle: Bundle) -> None:
        self.num_classes = len(bundle.labels)
        self.window_bytes = 4.0 * (self.num_classes + 4)

    def window(self, image: np.ndarray) -> tuple[np.ndarray]:
        """As `Engine.window`."""
        classes = image[-1].astype(np.int32)
        shares = np.zeros((self.num_classes, *classes.shape), np.float32)
        for index, found in enumerate(find_objects(classes + 1, self.num_classes)):
            if found is not None:
                z, y, x = (slice(max(0, part.start - REACH), part.stop + REACH) for part in found)
                own = (classes[z, y, x] == index).astype(np.float32)
                smooth = gaussian_filter(own, SIGMA, mode="nearest", radius=REACH)
                shares[index, z, y, x] = OWN * own + (1 - OWN) * smooth
        return (np.log(np.maximum(shares, FLOOR), out=shares),)

    def maps(self, chunk: np.ndarray, tempering_scale: float = 1.0) -> Voxelwise:
        """As `Engine.maps`: the ranking map is the log-odds of the second most probable class and those after it."""
        probabilities = softmax(chunk, 0)
        classes, runner_up = two_largest(chunk)
        unsure = np.clip(1 - probabilities.max(0), FLOOR, 1 - FLOOR).astype(np.float32)
        sums = probability_sums(softmax(chunk / tempering_scale, 0), classes)
        ranking, nothing = np.log(unsure / (1 - unsure)), np.zeros(unsure.shape, np.float32)
        return Voxelwise(classes, runner_up, ranking, nothing, unsure, None, sums)

    def versions(self) -> dict[str, str]:
        """As `Engine.versions`."""
        return {"scipy": scipy.__version__}

    def identity(self) -> dict[str, str | None]:
        """As `Engine.identity`."""
        return {"name": MASK, "version": scipy.__version__, "precision": "float32", "graphs_sha256": None}
