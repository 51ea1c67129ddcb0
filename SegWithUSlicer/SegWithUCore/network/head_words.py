"""What model cards say of the heads that this program brings; no torch, for cards are written without it, too."""

from dataclasses import dataclass


@dataclass(frozen=True)
class HeadWords:
    """Words for the model card.

    Attributes:
        description: where the head comes from ("Uncertainty head: NAME, ...").
        ranking: unit of its ranking map.
    """

    description: str
    ranking: str = "no unit"


HEAD_WORDS = {
    "paper": HeadWords("as published (SegWithU, arXiv 2604.15271)"),
    "context": HeadWords(
        "this project's own, after SegWithU (arXiv 2604.15271)",
        "the log-odds of an error, before it is fitted on calibration cases",
    ),
}
"""By the `variant` of recipes and bundles."""
