"""The structures a model knows."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


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
