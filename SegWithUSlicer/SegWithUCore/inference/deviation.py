"""One way in which an input differs from what a model was trained on, and how bad that is."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..models.quality import EMPTY_KIND, MISPLACED_KIND, QUALITY_KIND
from ..util.errors import InputError

NOTE = "note"
"""Worth knowing; the result need not be worse for it."""
WARNING = "warning"
"""The result may be worse: check it with care."""
REFUSED = "refused"
"""The result would be meaningless: given only to those who insist, and never with case-level numbers."""
SEVERITIES = (REFUSED, WARNING, NOTE)

JUDGED_KIND = "judged"
"""About a segmentation that was made elsewhere."""
TOO_SMALL = "size"
KINDS = (
    *(QUALITY_KIND, MISPLACED_KIND, EMPTY_KIND, JUDGED_KIND, "model", "place", "empty", TOO_SMALL, "field of view"),
    *("spacing", "grey values", "predicted Dice", "volume", "calibration", "picture", "noise", "contrast"),
    *("intensities", "shading", "sharpness", "region of interest", "regions", "memory", "preview"),
)
"""What a deviation may be about, the most important first."""


@dataclass(frozen=True)
class Deviation:
    """One way in which the input, or what was found in it, differs from the training cases.

    Attributes:
        severity: `NOTE`, `WARNING` or `REFUSED`.
        message: what differs, the value found and that of the training cases, and what to do.
        kind: what was compared, one of `KINDS`.
        structure: label value of the structure that it is about, None for the image.
    """

    severity: str
    message: str
    kind: str
    structure: int | None = None

    def to_json(self) -> dict[str, Any]:
        """For `case.json`."""
        return asdict(self)


def by_importance(found: Sequence[Deviation]) -> list[Deviation]:
    """Sort by severity, then by kind; those of one kind stay in their order."""
    return sorted(found, key=lambda each: (SEVERITIES.index(each.severity), KINDS.index(each.kind)))


class RefusedInputError(InputError):
    """The input is so far from the training cases that a result would be meaningless; the user may insist.

    Attributes:
        refused_message: why, without a way to insist.
        found: all that is unusual about the input.
    """

    def __init__(self, message: str, refused_message: str, found: Sequence[Deviation]) -> None:
        super().__init__(message)
        self.refused_message, self.found = refused_message, found


def is_refused(found: Sequence[Deviation]) -> bool:
    """Whether results would be meaningless."""
    return any(deviation.severity == REFUSED for deviation in found)
