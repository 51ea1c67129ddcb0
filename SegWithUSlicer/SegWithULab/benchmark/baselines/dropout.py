"""Monte-Carlo dropout on a network that was trained without: masks before the tapped modules of the decoder."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from scipy.special import softmax
from torch import nn

from SegWithUCore.inference.uncertainty_maps import resample_to_grid
from SegWithUCore.metrics.calibration import negative_log_likelihood
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


class DropoutRateSearch:
    """Validation loss per dropout rate, computed once and shared."""

    def __init__(self, backbone: FrozenBackbone, seed: int = 0) -> None:
        self.backbone, self.seed = backbone, seed
        self._found: dict[str, np.ndarray] = {}

    def losses(self, cases: FittingCases, progress: Progress = silent) -> dict[str, np.ndarray]:
        """Sum over the cases, for each rate, `nll` and `detection` (minus the AUPRC of the wrong voxels)."""
        if not self._found:
            report = in_parts(progress, "choosing the dropout rate", cases.select)
            sums = {"nll": np.zeros(len(RATES)), "detection": np.zeros(len(RATES))}
            for number, case in enumerate(cases.select):
                report(number)
                seen = self.backbone.segmented(case)
                for place, rate in enumerate(RATES):
                    mean = dropped_passes(self.backbone, seen, rate, self.seed).mean()
                    sums["nll"][place] += negative_log_likelihood(mean, seen.truth)
                    found = average_precision(score_groups(unsure_of(seen.classes, mean), seen.error))
                    sums["detection"][place] -= np.nan_to_num(found)  # a case without errors has no say
            self._found = sums
        return self._found


def dropped_passes(backbone: FrozenBackbone, case: FrozenCase, rate: float, seed: int) -> PassAverage:
    """Average `PASSES` passes with dropout over a whole case."""
    seeds = [case_seed(seed, number, case.number) for number in range(PASSES)]
    raw = backbone.stitched(DroppedBackbone(backbone.module, backbone.taps, rate, seeds), case.array)
    found = PassAverage()
    for logits in np.split(raw, PASSES):
        found.add(softmax(resample_to_grid(logits, case.working, case.images[0]).astype(np.float64), 0))
    return found


class Dropout(Baseline):
    """Several passes with element-wise dropout, averaged.

    More dropout calibrates better and detects worse, so there are two of it: with the rate best for either.

    Args:
        backbone: the frozen one.
        trials: of the rates, shared by both.
        for_detection: take the rate with the highest AUPRC of the wrong voxels, instead of that with the lowest NLL.

    Source: Gal and Ghahramani, ICML 2016; put into a network after its training: Loquercio et al., RA-L 5 (2020).
    """

    needs = ("select",)

    def __init__(self, backbone: FrozenBackbone, trials: DropoutRateSearch, for_detection: bool = False) -> None:
        self.backbone, self.trials, self.for_detection, self.seed = backbone, trials, for_detection, trials.seed
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
            f"(rate of {', '.join(f'{rate:g}' for rate in RATES)} with the {best} on the validation cases; the network "
            "was trained without); 1 - mean probability of the frozen class, or mutual information"
        )

    def settings(self) -> dict[str, Any]:
        """Return passes, taps, rates and seed."""
        return {"passes": PASSES, "taps": list(self.backbone.taps), "rates": list(RATES), "seed": self.seed}

    def fit(self, cases: FittingCases, progress: Progress = silent) -> None:
        """Choose the rate on the validation cases."""
        losses = self.trials.losses(cases, progress)["detection" if self.for_detection else "nll"]
        self.rate = RATES[int(losses.argmin())]

    def state(self) -> dict[str, np.ndarray]:
        """Return the rate."""
        return {"rate": np.asarray(self.rate)}

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Take over a rate."""
        self.rate = float(state["rate"])

    def answers(self, case: FrozenCase) -> dict[str, UncertaintyPrediction]:
        """Answers by row."""
        return dropped_passes(self.backbone, case, self.rate, self.seed).answers(self.rows, case.classes)


@baseline("dropout", title="Monte-Carlo dropout")
def _dropout(inputs: BaselineInputs) -> list[Baseline]:
    trials = DropoutRateSearch(inputs.backbone)
    return [Dropout(inputs.backbone, trials), Dropout(inputs.backbone, trials, for_detection=True)]
