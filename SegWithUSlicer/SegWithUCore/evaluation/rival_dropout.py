"""Monte-Carlo dropout on a network that was trained without: masks before the tapped modules of the decoder."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from scipy.special import softmax
from torch import nn

from ..inference.voxel_maps import on_grid
from ..metrics.calibration import negative_log_likelihood
from ..metrics.error_detection import average_precision, score_groups
from ..network.taps import find_module
from ..progress import Progress, silent
from ..training.augmentation import case_seed
from .frozen import FrozenBackbone, FrozenCase
from .rival import Answer, FittingCases, Rival, SeveralPasses, in_parts, unsure_of

PASSES = 10
RATES = (0.05, 0.1, 0.2, 0.4)
"""Tried on the select cases."""


class DroppedBackbone:
    """The frozen backbone with random zeros in what certain modules are fed.

    Args:
        taps: dotted paths of these modules.
        rate: share of values set to zero; the others grow by 1 / (1 - rate), as in training with dropout.
    """

    def __init__(self, backbone: nn.Module, taps: Sequence[str], rate: float, seed: int) -> None:
        self.backbone, self.taps, self.rate = backbone, taps, rate
        self._generator = torch.Generator().manual_seed(seed)

    def window_output(self, image: torch.Tensor) -> torch.Tensor:
        """Logits of one window under new masks."""
        with ExitStack() as hooks, torch.no_grad():
            for name in self.taps:
                handle = find_module(self.backbone, name).register_forward_pre_hook(self._dropped)
                hooks.callback(handle.remove)
            logits: torch.Tensor = self.backbone(image)
        return logits

    def _dropped(self, _module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        features = inputs[0]
        kept = torch.rand(features.shape, generator=self._generator).to(features.device) >= self.rate
        return (features * kept / (1 - self.rate), *inputs[1:])


class Dropout(Rival):
    """Several passes with element-wise dropout, averaged.

    More dropout calibrates better and detects worse, so there are two of it: with the rate best for either.

    Args:
        backbone: the frozen one.
        for_detection: take the rate with the highest AUPRC of the wrong voxels, instead of that with the lowest NLL.

    Source: Gal and Ghahramani, ICML 2016; put into a network after its training: Loquercio et al., RA-L 5 (2020).
    """

    needs = ("select",)

    def __init__(self, backbone: FrozenBackbone, for_detection: bool = False, seed: int = 0) -> None:
        self.backbone, self.for_detection, self.seed = backbone, for_detection, seed
        self.name = "dropout-for-detection" if for_detection else "dropout"
        self.rate, self.passes = RATES[0], 1 + PASSES

    @property
    def rows(self) -> tuple[str, str]:
        """Titles that tell the two apart."""
        title = "Monte-Carlo dropout, rate for detection" if self.for_detection else "Monte-Carlo dropout"
        return title, f"{title}, mutual information"

    @property
    def how(self) -> str:
        """With the rate that was chosen."""
        best = "highest AUPRC (whole)" if self.for_detection else "lowest NLL"
        return (
            f"{PASSES} passes with dropout of rate {self.rate:g} on what {', '.join(self.backbone.taps)} are fed "
            f"(rate of {', '.join(f'{rate:g}' for rate in RATES)} with the {best} on the select cases; the network "
            "was trained without); 1 - mean probability of the frozen class, or mutual information"
        )

    def settings(self) -> dict[str, Any]:
        """Passes, places, rates and seed."""
        return {"passes": PASSES, "taps": list(self.backbone.taps), "rates": list(RATES), "seed": self.seed}

    def fit(self, cases: FittingCases, progress: Progress = silent) -> None:
        """Choose the rate on the select cases."""
        losses = np.zeros(len(RATES))
        report = in_parts(progress, "choosing the dropout rate", cases.select)
        for number, case in enumerate(cases.select):
            report(number)
            seen = self.backbone.segmented(case)
            losses += [self._loss(seen, rate) for rate in RATES]
        self.rate = RATES[int(losses.argmin())]

    def _loss(self, seen: FrozenCase, rate: float) -> float:
        mean = self._passes(seen, rate).mean()
        if not self.for_detection:
            return negative_log_likelihood(mean, seen.truth)
        found = average_precision(score_groups(unsure_of(seen.classes, mean), seen.error))
        return -found if np.isfinite(found) else 0.0  # a case without errors has no say

    def state(self) -> dict[str, np.ndarray]:
        """The rate."""
        return {"rate": np.asarray(self.rate)}

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Take over a rate."""
        self.rate = float(state["rate"])

    def answers(self, case: FrozenCase) -> dict[str, Answer]:
        """Answers by row."""
        return self._passes(case, self.rate).answers(self.rows, case.classes)

    def _passes(self, case: FrozenCase, rate: float) -> SeveralPasses:
        found = SeveralPasses()
        for number in range(PASSES):
            seed = case_seed(self.seed, number, case.number)
            network = DroppedBackbone(self.backbone.module, self.backbone.taps, rate, seed)
            raw = self.backbone.stitched(network, case.array)
            found.add(softmax(on_grid(raw, case.working, case.images[0]).astype(np.float64), 0))
        return found
