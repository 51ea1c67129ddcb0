"""What bundles and cards say of backbones and heads, never code; needs no torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

USER_PREFIX = "python:"
"""Before the factory's name in the kind of a user's own network."""

MASK_ALONE = "mask"
"""Kind of the backbone of a model without a network: the last channel of its input is the segmentation."""

ONNX = "onnx"
"""Kind of the backbone of a model that was an ONNX file: compiled graphs without torch modules."""

WITHOUT_TORCH = (MASK_ALONE, ONNX)
"""Kinds that torch cannot run, so no head can be trained on them."""


def is_user_network(kind: str) -> bool:
    """Whether a backbone kind is a user's own network."""
    return kind.startswith(USER_PREFIX)


@dataclass(frozen=True)
class BackboneSpec:
    """A backbone as a bundle describes it.

    Attributes:
        kind: a name in `BACKBONES`, or "python:FACTORY" for a user's own network.
        arguments: keyword arguments of that kind, JSON values only.
        size_divisor: sizes of the input must be multiples of this, along every axis or one number each (z, y, x).
    """

    kind: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    size_divisor: int | Sequence[int] = 1

    @property
    def size_divisors(self) -> tuple[int, int, int]:
        """`size_divisor` along (z, y, x)."""
        if isinstance(self.size_divisor, int):
            return (self.size_divisor,) * 3
        z, y, x = self.size_divisor
        return z, y, x


def dynunet_spec(in_channels: int, num_classes: int, filters: Sequence[int], flat_levels: int = 0) -> BackboneSpec:
    """Describe a DynUNet without deep supervision heads; see `build_dynunet`."""
    arguments = {"in_channels": in_channels, "num_classes": num_classes, "filters": list(filters), "spatial_dims": 3}
    divisor = 2 ** (len(filters) - 1)
    if flat_levels:
        arguments["flat_levels"] = flat_levels
        return BackboneSpec("dynunet", arguments, size_divisor=[1, divisor, divisor])
    return BackboneSpec("dynunet", arguments, size_divisor=divisor)


@dataclass(frozen=True)
class HeadText:
    """Text about a kind of head for the model card.

    Attributes:
        description: where the head comes from ("Uncertainty head: NAME, ...").
        ranking: unit of its ranking map.
    """

    description: str
    ranking: str = "no unit"


@dataclass(frozen=True, kw_only=True)
class HeadPlugin(HeadText):
    """The package that a head comes from, with the text for the model card, which so needs no package."""

    name: str
    version: str


HEAD_TEXT = {
    "paper": HeadText("as published (SegWithU, arXiv 2604.15271)"),
    "context": HeadText(
        "this project's own, after SegWithU (arXiv 2604.15271)",
        "the log-odds of an error, before it is fitted on calibration cases",
    ),
    "softmax": HeadText("none", "the log-odds of an error by the class probabilities, or the mask's shape, alone"),
}
"""Of our heads, by the `variant` of recipes and bundles."""
