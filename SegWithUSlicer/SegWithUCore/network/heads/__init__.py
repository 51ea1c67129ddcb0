"""The heads by name, each with the fusion that feeds it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .base import Fusion, UncertaintyHead
from .context import ContextFusion, ContextHead
from .paper import MultiScaleFusion, PaperHead


@dataclass(frozen=True)
class HeadType:
    """How to build one kind of head.

    Attributes:
        fusion: from channels of each tap, channels after fusion and number of spatial axes.
        head: from channels after fusion, classes, probes, and whether there is an aleatoric branch.
    """

    fusion: Callable[[Sequence[int], int, int], Fusion]
    head: Callable[[int, int, int, bool], UncertaintyHead]


HEADS = {
    "paper": HeadType(MultiScaleFusion, PaperHead),
    "context": HeadType(ContextFusion, ContextHead),
}
