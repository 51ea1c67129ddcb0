"""What the gestures of a review draw: runs of voxels, which are applied and taken back, and what a hand has drawn."""

from collections.abc import Iterable, Sequence

import numpy as np

from ..util.errors import InputError
from .edited_figures import removed_regions
from .log_format import Edited

SCROLL, BRUSH = GESTURES = ("scroll", "brush")
Runs = Sequence[tuple[int, int, int, int]]


def edit_of(
    drawn: np.ndarray,
    now: np.ndarray,
    error_probability: np.ndarray,
    regions: np.ndarray,
    voxel_mm3: float,
    structures: Iterable[str],
    region: int | None,
) -> Edited:
    """Say how a segmentation differs from the model's after an edit, all volumes of one shape.

    Args:
        drawn, now: label values of the model's segmentation, and as they are now.
        regions: ID of the region of each voxel, or 0.
        structures: names of those that the edit changed.
        region: at hand; None when none was.
    """
    differs = now != drawn
    inside, count = int(np.count_nonzero(regions[differs])), int(np.count_nonzero(differs))
    removed = tuple(removed_regions(error_probability, regions, differs))
    return Edited(region, ", ".join(structures), inside, count - inside, round(count * voxel_mm3, 3), removed)


def runs_of(places: np.ndarray, before: np.ndarray, after: np.ndarray) -> list[tuple[int, int, int, int]]:
    """Gather changed voxels into runs, as `Edited` has them.

    Args:
        places: flat indices, each once.
        before, after: their labels.
    """
    order = np.argsort(places)
    places, before, after = places[order], before[order], after[order]
    is_new = (np.diff(places) != 1) | (np.diff(before) != 0) | (np.diff(after) != 0)
    first = np.flatnonzero(np.concatenate([[True], is_new])) if places.size else np.zeros(0, int)
    counts = np.diff([*first.tolist(), places.size])
    return [
        (int(places[at]), int(count), int(before[at]), int(after[at])) for at, count in zip(first, counts, strict=True)
    ]


def drawn_by(runs: Runs, labels: np.ndarray, back: bool = False) -> np.ndarray:
    """Return labels (z, y, x) after a gesture; with `back` before it.

    Raises:
        InputError: the gesture is not of these labels.
    """
    after = labels.copy()
    flat = after.ravel()
    for first, count, *pair in runs:
        old, new = pair[::-1] if back else pair
        part = flat[first : first + count]
        if first < 0 or count <= 0 or part.size < count or (part != old).any():
            raise InputError("The gesture changes other voxels than it says: open the case again.", "damaged-log")
        part[:] = new
    return after


def drawn_by_hand(edits: Iterable[Edited], now: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Find the voxels that differ from the model's segmentation, unless it was a contour that was scrolled.

    Args:
        edits: that hold, oldest first.
        now, drawn: labels (z, y, x) as they are now, and the model's.
    """
    scrolled = np.zeros(now.size, bool)
    for edit in edits:
        for first, count, _before, _after in edit.runs:
            scrolled[first : first + count] = edit.gesture == SCROLL
    return np.asarray((now != drawn) & ~scrolled.reshape(now.shape))
