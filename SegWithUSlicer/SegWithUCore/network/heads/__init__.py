"""The head types by name. A new one is a file in this folder and an entry in `HEADS`."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field

from ..specs import HEAD_WORDS
from .base import Fusion, LossFunction, TracedForm, UncertaintyHead
from .context import ContextFusion, ContextHead
from .context_traced import TracedContext
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
        traced: the form that other engines run; the head as it is by default.
    """

    fusion: Callable[[Sequence[int], int, int], Fusion]
    head: Callable[[int, int, int, bool], UncertaintyHead]
    loss: LossFunction
    description: str
    ranking: str = "no unit"
    traced: TracedForm = field(default_factory=TracedForm)


HEADS = {
    "paper": HeadType(MultiScaleFusion, PaperHead, paper_loss, **asdict(HEAD_WORDS["paper"])),
    "context": HeadType(
        ContextFusion, ContextHead, proper_loss, **asdict(HEAD_WORDS["context"]), traced=TracedContext()
    ),
}
"""By the `variant` of recipes and bundles."""
