"""The structures a model knows."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..errors import InputError

HIGHEST_LABEL = 32767
"""Label files are written and read as int16 (uint8 where all values fit); a larger value would come back as another."""
LABELS_NAMED = 20


@dataclass(frozen=True)
class Code:
    """A coded concept: scheme ("SCT"), value and meaning, as DICOM writes it."""

    scheme: str
    value: str
    meaning: str


@dataclass(frozen=True)
class Label:
    """One class of the segmentation.

    Attributes:
        value: the voxel value in label files; background is 0.
        name: what the user reads.
        color: red, green, blue, 0 to 255.
        category, type, modifier: coded terminology (SNOMED CT as in DICOM CID 7150, 7151 and 2), None where
            there is none.
    """

    value: int
    name: str
    color: tuple[int, int, int]
    category: Code | None = None
    type: Code | None = None
    modifier: Code | None = None

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Label":
        """Build from one entry of the `labels` list."""
        red, green, blue = data["color"]
        codes = {key: Code(**data[key]) if data.get(key) else None for key in ("category", "type", "modifier")}
        return cls(int(data["value"]), str(data["name"]), (int(red), int(green), int(blue)), **codes)

    def to_json(self) -> dict[str, Any]:
        """One entry of the `labels` list."""
        return {**asdict(self), "color": list(self.color)}


def check_label_values(values: Sequence[Any], source: str) -> list[int]:
    """Label values of a model in the order of its classes, each of which a label file can hold.

    Args:
        source: names the file in the message.

    Raises:
        InputError: one is no whole number between 0 and `HIGHEST_LABEL`, background is not first with 0, or two are
            equal.
    """
    for value in values:
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= HIGHEST_LABEL:
            raise InputError(
                f"{source} has the label value {str(value)[:40]}: label files hold whole numbers from 0 to "
                f"{HIGHEST_LABEL}, so give another."
            )
    if not values or values[0] != 0 or len(set(values)) < len(values):
        listed = f"{list(values)}" if len(values) <= LABELS_NAMED else f"{list(values[:LABELS_NAMED])[:-1]}..."
        raise InputError(
            f"{source} has the label values {listed}: background must be first with 0, and none may repeat."
        )
    return list(values)
