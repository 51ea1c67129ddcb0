"""One way in which an input or its segmentation differs from the training cases, in words."""

from dataclasses import asdict, dataclass
from typing import Any

NOTE = "note"
"""Worth knowing; the result need not be worse for it."""
WARNING = "warning"
"""The result may be worse: check it with care."""
REFUSED = "refused"
"""The result would be meaningless: given only to those who insist, and never with figures."""


@dataclass(frozen=True)
class Deviation:
    """One way in which the input, or what was found in it, differs from the training cases.

    Attributes:
        severity: `NOTE`, `WARNING` or `REFUSED`.
        sentence: what differs, the value found and that of the training cases, and what to do.
        kind: what was compared: "field of view", "spacing", "empty", "picture", "noise", "contrast", "grey values",
            "intensities", "volume", "predicted Dice", "region of interest", "place", "model", "memory".
        structure: label value of the structure that it is about, None for the image.
    """

    severity: str
    sentence: str
    kind: str
    structure: int | None = None

    def to_json(self) -> dict[str, Any]:
        """For `case.json`."""
        return asdict(self)
