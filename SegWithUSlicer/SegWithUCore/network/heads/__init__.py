"""The head types by name. A new one is a file here and an entry in `HEADS`, or an entry point of another package."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field

from ...util import plugins
from ..specs import HEAD_TEXT, HeadPlugin, HeadText
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
        text: for the model card.
        traced: the form that other engines run; the head as it is by default.
    """

    fusion: Callable[[Sequence[int], int, int], Fusion]
    head: Callable[[int, int, int, bool], UncertaintyHead]
    loss: LossFunction
    text: HeadText
    traced: TracedForm = field(default_factory=TracedForm)


HEADS = {
    "paper": HeadType(MultiScaleFusion, PaperHead, paper_loss, HEAD_TEXT["paper"]),
    "context": HeadType(ContextFusion, ContextHead, proper_loss, HEAD_TEXT["context"], TracedContext()),
}
"""Our heads, by the `variant` of recipes and bundles."""


def head_type(variant: str) -> HeadType:
    """Return a head type, ours or that of an installed package.

    Raises:
        InputError, UsageError: as `named_part`.
    """
    return plugins.named_part(plugins.HEADS, variant, HEADS, HeadType)


def head_plugin(variant: str) -> HeadPlugin | None:
    """Describe the package that a head comes from; None for ours.

    Raises:
        UsageError: as `named_part`.
    """
    package = plugins.plugin_package(plugins.HEADS, variant, HEADS)
    return None if package is None else HeadPlugin(**asdict(package), **asdict(head_type(variant).text))
