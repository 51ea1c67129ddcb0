"""The head types by name. A new one is a file beside this one and an entry in `HEADS`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .base import Fusion, LossFunction, UncertaintyHead
from .context import ContextFusion, ContextHead
from .losses import paper_loss, proper_loss
from .paper import MultiScaleFusion, PaperHead


@dataclass(frozen=True)
class HeadType:
    """How to build, train and describe one kind of head.

    Attributes:
        fusion: from channels of each tap, channels after fusion and number of spatial axes.
        head: from channels after fusion, classes, probes, and whether there is an aleatoric branch.
        loss: what training minimises.
        description: where the head comes from, for the model card ("Uncertainty head: NAME, ...").
        ranking: unit of its ranking map, for the model card.
    """

    fusion: Callable[[Sequence[int], int, int], Fusion]
    head: Callable[[int, int, int, bool], UncertaintyHead]
    loss: LossFunction
    description: str
    ranking: str = "no unit"


HEADS = {
    "paper": HeadType(MultiScaleFusion, PaperHead, paper_loss, description="as published (SegWithU, arXiv 2604.15271)"),
    "context": HeadType(
        ContextFusion,
        ContextHead,
        proper_loss,
        description="this project's own, after SegWithU (arXiv 2604.15271)",
        ranking="the log-odds of an error, before it is fitted on calibration cases",
    ),
}
"""By the `variant` of recipes and bundles."""
