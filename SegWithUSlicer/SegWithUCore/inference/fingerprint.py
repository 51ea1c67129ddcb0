"""Does the input look like what the model was trained on? Said before any result is shown."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import SimpleITK as sitk

from ..models.bundle import Bundle
from .volume import extents_mm, turned

REFUSED_FACTOR = 1.5
"""Field of view beyond this multiple of the largest training case: the network never saw such surroundings."""
WARNED_FACTOR = 1.15
SPACING_FACTOR = 1.5


@dataclass(frozen=True)
class Deviation:
    """One way in which the input differs from the training cases.

    Attributes:
        severity: "warning", or "refused" where results would be meaningless.
        sentence: what differs, the figures, and what to do.
    """

    severity: str
    sentence: str

    def to_json(self) -> dict[str, str]:
        """For `case.json`."""
        return asdict(self)


def deviations(image: sitk.Image, bundle: Bundle) -> list[Deviation]:
    """Compare field of view and spacing of the part to be segmented with the training cases.

    Args:
        image: the input, already cut to the region of interest.
    """
    if bundle.fingerprint is None:
        return []
    seen = turned(image, bundle.input.orientation)
    checks = [_field_of_view(extents_mm(seen), bundle), _spacing(seen.GetSpacing(), bundle)]
    return [check for check in checks if check is not None]


def _field_of_view(extents: Sequence[float], bundle: Bundle) -> Deviation | None:
    assert bundle.fingerprint is not None
    span = bundle.fingerprint["field_of_view_mm"]
    seen = f"the {bundle.fingerprint['cases']} training cases of '{bundle.name}' span {_range(span)} mm"
    given = f"The part to be segmented spans {_triple(extents)} mm, but {seen}"
    if any(e > REFUSED_FACTOR * high for e, high in zip(extents, span["high"], strict=True)):
        return Deviation("refused", f"{given}: give a region of interest of about that size around the structure.")
    if any(e > WARNED_FACTOR * high for e, high in zip(extents, span["high"], strict=True)):
        return Deviation("warning", f"{given}: a smaller region of interest is safer.")
    if any(e < low / WARNED_FACTOR for e, low in zip(extents, span["low"], strict=True)):
        return Deviation("warning", f"{given}: a larger region of interest is safer.")
    return None


def _spacing(spacing: Sequence[float], bundle: Bundle) -> Deviation | None:
    assert bundle.fingerprint is not None
    span = bundle.fingerprint["spacing_mm"]
    pairs = zip(spacing, span["low"], span["high"], strict=True)
    if all(low / SPACING_FACTOR <= value <= SPACING_FACTOR * high for value, low, high in pairs):
        return None
    return Deviation(
        "warning",
        f"The voxels are {_triple(spacing)} mm, but those of the training cases of '{bundle.name}' {_range(span)} mm: "
        "finer detail than in training is lost and coarser images carry less; check the result with care.",
    )


def _triple(values: Sequence[float]) -> str:
    return " x ".join(f"{value:.3g}" for value in values)


def _range(span: dict[str, Sequence[float]]) -> str:
    pairs = zip(span["low"], span["high"], strict=True)
    return " x ".join(f"{low:.3g}" if low == high else f"{low:.3g}-{high:.3g}" for low, high in pairs)
