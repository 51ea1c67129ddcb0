"""Which model an image is for, from its size alone: the one to propose, and whether its boxes must be placed first."""

from collections.abc import Sequence

from ..io.grid import VoxelGrid
from ..io.volume import reorient
from .bundle import LEAST_HEAD_MM, Bundle

REFUSED_FACTOR = 1.5
"""Field of view beyond this multiple of the largest training case: the network never saw such surroundings."""
WARNED_FACTOR = 1.15


def proposal(bundles: Sequence[Bundle], grid: VoxelGrid, channels: int) -> tuple[Bundle, str] | None:
    """Propose a model for an image of so many channels, and say why; models of whole heads come first."""
    for bundle in sorted(bundles, key=lambda each: each.placement is None or not each.placement.is_whole):
        if len(bundle.input.channels) == channels and (reason := _why(grid, bundle)):
            return bundle, reason
    return None


def _why(grid: VoxelGrid, bundle: Bundle) -> str:
    """Say why a model may suit an image; empty if its size does not suggest it."""
    extents = extents_mm(grid, bundle)
    if needs_placing(grid, bundle):
        return f"the image spans {triple(extents)} mm, so it may be a whole head ({LEAST_HEAD_MM:g} mm or more)"
    if bundle.ood_reference is None or (bundle.placement is not None and bundle.placement.is_whole):
        return ""
    span = mm_range(bundle.ood_reference["field_of_view_mm"])
    seen = f"the image spans {triple(extents)} mm, as the model's training cases do ({span} mm)"
    return "" if is_larger(extents, bundle, WARNED_FACTOR) or is_smaller(extents, bundle, WARNED_FACTOR) else seen


def needs_placing(grid: VoxelGrid, bundle: Bundle) -> bool:
    """Return whether an image is so large that the model's boxes are placed in it (`inference/placed_case`)."""
    if bundle.placement is None:
        return False
    extents = extents_mm(grid, bundle)
    if bundle.placement.is_whole or bundle.ood_reference is None:
        return bundle.placement.is_whole and min(extents) >= LEAST_HEAD_MM
    return is_larger(extents, bundle, REFUSED_FACTOR) and min(extents) >= LEAST_HEAD_MM


def is_larger(extents: Sequence[float], bundle: Bundle, factor: float) -> bool:
    """Return whether an edge exceeds `factor` times that of the largest training case."""
    assert bundle.ood_reference is not None
    highest = bundle.ood_reference["field_of_view_mm"]["high"]
    return any(extent > factor * high for extent, high in zip(extents, highest, strict=True))


def is_smaller(extents: Sequence[float], bundle: Bundle, factor: float) -> bool:
    """Return whether an edge is less than that of the smallest training case divided by `factor`."""
    assert bundle.ood_reference is not None
    lowest = bundle.ood_reference["field_of_view_mm"]["low"]
    return any(extent < low / factor for extent, low in zip(extents, lowest, strict=True))


def extents_mm(grid: VoxelGrid, bundle: Bundle) -> list[float]:
    """Edges of an image in mm, along the model's axes."""
    seen = reoriented(grid, bundle.input.orientation)
    return [float(n * s) for n, s in zip(seen.size, seen.spacing, strict=True)]


def reoriented(grid: VoxelGrid, orientation: str) -> VoxelGrid:
    """Return the grid with its axes in the order of a model."""
    return grid.axes_after(lambda image: reorient(image, orientation))


def triple(values: Sequence[float]) -> str:
    """Format three numbers: "1 x 1 x 2"."""
    return " x ".join(f"{value:.3g}" for value in values)


def mm_range(span: dict[str, Sequence[float]]) -> str:
    """Format what training cases span: "30-36 x 48 x 60-70"."""
    pairs = zip(span["low"], span["high"], strict=True)
    return " x ".join(f"{low:.3g}" if low == high else f"{low:.3g}-{high:.3g}" for low, high in pairs)
