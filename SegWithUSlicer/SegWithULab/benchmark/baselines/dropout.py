"""Monte-Carlo dropout on a network that was trained without: masks before the tapped modules of the decoder."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from scipy.special import softmax
from torch import nn

from SegWithUCore.inference.uncertainty_maps import resample_to_grid
from SegWithUCore.metrics.error_detection import average_precision, score_groups
from SegWithUCore.network.segwithu import find_module
from SegWithUCore.util.progress import Progress, silent

from ...evaluation.frozen_backbone import FrozenBackbone, FrozenCase
from ...training.augmentation import case_seed
from .base import (
    Baseline,
    BaselineInputs,
    FittingCases,
    PassAverage,
    UncertaintyPrediction,
    baseline,
    in_parts,
    unsure_of,
)

PASSES = 10
RATES = (0.05, 0.1, 0.2, 0.4)
"""Tried on the validation cases."""


class DroppedBackbone:
    """The frozen backbone with random zeros in the inputs of certain modules, in several passes.

    Args:
        taps: dotted paths of these modules.
        rate: share of values set to zero; the others grow by 1 / (1 - rate), as in training with dropout.
        seeds: one for the masks of each pass.
    """

    def __init__(self, backbone: nn.Module, taps: Sequence[str], rate: float, seeds: Sequence[int]) -> None:
        self.backbone, self.taps, self.rate = backbone, taps, rate
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self._masks = torch.Generator()

    def window_output(self, image: torch.Tensor) -> torch.Tensor:
        """Compute the logits of one window under new masks, pass by pass: (batch, passes x classes, *spatial)."""
        found = []
        with ExitStack() as open_blocks, torch.no_grad():
            for name in self.taps:
                handle = find_module(self.backbone, name).register_forward_pre_hook(self._dropped)
                open_blocks.callback(handle.remove)
            for generator in self._generators:
                self._masks = generator
                found.append(self.backbone(image))
        return torch.cat(found, 1)

    def _dropped(self, _module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        features = inputs[0]
        kept = torch.rand(features.shape, generator=self._masks).to(features.device) >= self.rate
        return (features * kept / (1 - self.rate), *inputs[1:])


class Dropout(Baseline):
    """Several passes with element-wise dropout, averaged; the rate is the one that finds most validation errors.

    Source: Gal and Ghahramani, ICML 2016; put into a network after its training: Loquercio et al., RA-L 5 (2020).
    """

    name = "dropout"
    revision = 2
    needs = ("select",)
    rows = ("Monte-Carlo dropout", "Monte-Carlo dropout, mutual information")

    def __init__(self, backbone: FrozenBackbone, seed: int = 0) -> None:
        self.backbone, self.seed, self.rate = backbone, seed, RATES[0]
        self.passes = 1 + PASSES

    @property
    def how(self) -> str:
        """With the rate that was chosen."""
        return f"{PASSES} passes with dropout, whose rate, {self.rate:g}, has the highest AUPRC on validation cases"

    def settings(self) -> dict[str, Any]:
        """Return passes, taps, rates and seed."""
        return {"passes": PASSES, "taps": list(self.backbone.taps), "rates": list(RATES), "seed": self.seed}

    def fit(self, cases: FittingCases, progress: Progress = silent) -> None:
        """Choose the rate on the validation cases."""
        report = in_parts(progress, "choosing the dropout rate", cases.select)
        found = np.zeros(len(RATES))
        for number, case in enumerate(cases.select):
            report(number)
            seen = self.backbone.segmented(case)
            for place, rate in enumerate(RATES):
                score = unsure_of(seen.classes, self.passes_of(seen, rate).mean())
                # A case without errors has no say.
                found[place] += np.nan_to_num(average_precision(score_groups(score, seen.error)))
        self.rate = RATES[int(found.argmax())]

    def passes_of(self, case: FrozenCase, rate: float) -> PassAverage:
        """Average `PASSES` passes with dropout over a whole case."""
        seeds = [case_seed(self.seed, number, case.number) for number in range(PASSES)]
        dropped = DroppedBackbone(self.backbone.module, self.backbone.taps, rate, seeds)
        found = PassAverage()
        for logits in np.split(self.backbone.stitched(dropped, case.array), PASSES):
            found.add(softmax(resample_to_grid(logits, case.working, case.images[0]).astype(np.float64), 0))
        return found

    def state(self) -> dict[str, np.ndarray]:
        """Return the rate."""
        return {"rate": np.asarray(self.rate)}

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Take over a rate."""
        self.rate = float(state["rate"])

    def answers(self, case: FrozenCase) -> dict[str, UncertaintyPrediction]:
        """Answers by row."""
        return self.passes_of(case, self.rate).answers(self.rows, case.classes)


@baseline("dropout", title="Monte-Carlo dropout")
def _dropout(inputs: BaselineInputs) -> list[Baseline]:
    return [Dropout(inputs.backbone)]
