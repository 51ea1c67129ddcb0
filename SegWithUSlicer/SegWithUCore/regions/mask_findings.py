"""Find in a mask alone, without a model, what is unlikely for a structure: regions to review by its shape.

No probability is behind them: a finding may be right, and a smooth outline at the wrong place gives none.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.ndimage import binary_dilation, binary_fill_holes, find_objects, label

from .find_regions import BACKGROUND, Assessed, FoundRegions, blind_sample, ras_of
from .region import Kind, Region

# Of a finding: less is noise of the grid.
LEAST_MM3, LEAST_VOXELS = 5.0, 3
# A part smaller than this share of the largest one lies apart; larger ones may be the other side, or a lobe.
PART_OF_LARGEST = 0.1
# From here beyond the middle a part is on the wrong side: the middle is estimated as a plane, and brains are bent.
BEYOND_MM = 5.0
# Share of two neighbouring slices in which they differ from where the outline jumps; so many times the median, too.
JUMP, USUAL = 0.5, 3.0
# Of a slice, the part that neither neighbour has, or that both have and it lacks, from where it is a jump.
PATCH = 0.35
# Of a jump: fewer voxels are a bent end, of which manual outlines have many.
LEAST_OF_JUMP = 20
# Findings of one structure, the largest.
MOST = 20
# Label values of what both sides have, the left and the right one.
Sides = Sequence[tuple[int, int]]
_ANY_NEIGHBOUR = np.ones((3, 3, 3))


class Finding(NamedTuple):
    """Voxels (n, zyx) that are unlikely for a structure."""

    kind: Kind
    value: int
    zyx: np.ndarray


def find_in_mask(
    segmentation: np.ndarray, names: Mapping[int, str], sides: Sides, ijk_to_ras: np.ndarray
) -> FoundRegions:
    """List the regions to review of a mask, the largest first, and a blind sample of other places.

    Args:
        segmentation: label values (z, y, x).
        names: of the label values, background included.
        ijk_to_ras: 4 x 4, from voxel index (i, j, k) to RAS mm.
    """
    spacing = np.linalg.norm(ijk_to_ras[:3, :3], axis=0)[::-1]
    voxel_mm3, labels = float(np.prod(spacing)), np.zeros(segmentation.shape, np.uint16)
    least = max(LEAST_VOXELS, LEAST_MM3 / voxel_mm3)
    found = [each for each in _findings(segmentation, names, sides, ijk_to_ras) if len(each.zyx) >= least]
    regions, of_structure = list[Region](), dict[int, int]()
    for kind, value, voxels in sorted(found, key=lambda each: (-len(each.zyx), each.value, *each.zyx[0])):
        zyx = voxels[labels[tuple(voxels.T)] == 0]
        if 2 * len(zyx) < len(voxels) or of_structure.get(value, 0) == MOST:  # where it is shown already
            continue
        of_structure[value] = of_structure.get(value, 0) + 1
        number, low, high, centre = len(regions) + 1, zyx.min(0), zyx.max(0), zyx.mean(0)
        labels[tuple(zyx.T)] = number
        inner = zyx[((zyx - centre) ** 2).sum(1).argmin()]
        at, middle = ras_of(ijk_to_ras, np.stack([inner, centre]))
        depth, height, width = ((high - low + 1) * spacing).tolist()
        at_edge = bool(((low == 0) | (high == np.array(labels.shape) - 1)).any())
        regions.append(Region(id=number, rank=number, structure=names[value], structure_value=value, kind=kind,
                              volume_mm3=len(zyx) * voxel_mm3, peak_ras_mm=at, centre_ras_mm=middle,
                              size_mm=(width, height, depth), touches_border=at_edge))  # fmt: skip
    sample = blind_sample(Assessed(None, segmentation, segmentation, names, ijk_to_ras), labels, len(regions))
    return FoundRegions(tuple(regions), labels, None, {}, blind=sample)


def _findings(
    segmentation: np.ndarray, names: Mapping[int, str], sides: Sides, ijk_to_ras: np.ndarray
) -> Iterator[Finding]:
    """Find holes, parts that lie apart or on the wrong side, and jumps between slices."""
    holes = binary_fill_holes(segmentation > 0) & (segmentation == BACKGROUND)
    for part in _parts(holes):
        yield Finding(Kind.HOLE, _most_around(segmentation, part), part)
    middle = middle_plane(segmentation, sides, ijk_to_ras)
    outwards = {value: sign for pair in sides for value, sign in zip(pair, (1, -1), strict=True)}
    for value, box in enumerate(find_objects(segmentation), 1):
        if box is None or value not in names:
            continue
        inside, origin = segmentation[box] == value, np.array([side.start for side in box])
        found = list[tuple[Kind, np.ndarray]]()
        if middle is not None and value in outwards:
            zyx, beyond = np.argwhere(inside), np.zeros(inside.shape, bool)
            to_right = np.array(ras_of(ijk_to_ras, zyx + origin)) @ middle[:3] - middle[3]
            beyond[tuple(zyx[outwards[value] * to_right > BEYOND_MM].T)] = True
            found += [(Kind.SIDE, part) for part in _parts(beyond)]
            inside &= ~beyond
        parts = _parts(inside)
        least = PART_OF_LARGEST * max(map(len, parts), default=0)
        found += [(Kind.ISLAND, part) for part in parts if len(part) < least]
        for _, part in found:
            inside[tuple(part.T)] = False
        found += [(Kind.JUMP, part) for part in _jumps(inside)]
        yield from (Finding(kind, value, part + origin) for kind, part in found)


def middle_plane(segmentation: np.ndarray, sides: Sides, ijk_to_ras: np.ndarray) -> np.ndarray | None:
    """Estimate the plane between what both sides have, (n_r, n_a, n_s, offset): n @ ras - offset is mm to the right.

    The normal points from what is called left to what is called right, wherever these are; None if no structure has
    both sides.
    """
    centres = dict[int, np.ndarray]()
    for value, box in enumerate(find_objects(segmentation), 1):
        if box is not None and any(value in pair for pair in sides):
            zyx = np.argwhere(segmentation[box] == value).mean(0) + [side.start for side in box]
            centres[value] = np.array(ras_of(ijk_to_ras, zyx[None])[0])
    pairs = [(centres[left], centres[right]) for left, right in sides if left in centres and right in centres]
    normal = np.sum([right - left for left, right in pairs], 0) if pairs else np.zeros(3)
    if not normal.any():
        return None
    normal = normal / np.linalg.norm(normal)
    return np.append(normal, np.median([normal @ (left + right) / 2 for left, right in pairs]))


def _parts(inside: np.ndarray) -> list[np.ndarray]:
    """List the voxels (n, zyx) of each connected part; corners connect."""
    parts, _ = label(inside, _ANY_NEIGHBOUR)
    boxes = enumerate(find_objects(parts), 1)
    return [np.argwhere(parts[box] == number) + [side.start for side in box] for number, box in boxes]


def _most_around(segmentation: np.ndarray, hole: np.ndarray) -> int:
    """Return the label that most of the voxels around a hole have."""
    low, high = hole.min(0) - 1, hole.max(0) + 2
    here = np.zeros(high - low, bool)
    here[tuple((hole - low).T)] = True
    values = segmentation[tuple(map(slice, low, high))][binary_dilation(here) & ~here]
    return int(np.bincount(values[values > 0]).argmax())


def _jumps(inside: np.ndarray) -> Iterator[np.ndarray]:
    """Find where the outline jumps between slices, along each axis: voxels (n, zyx) of each jump.

    Two slices jump whole, or one has, or lacks, a patch that both its neighbours lack, or have. Ends are left out:
    there slices differ anyway.
    """
    for axis in range(3):
        back = np.argsort([axis, *(each for each in range(3) if each != axis)])
        slices = np.moveaxis(inside, axis, 0)
        areas = slices.sum((1, 2))
        if len(areas) < 3:
            continue
        differs = slices[1:] ^ slices[:-1]
        share = differs.sum((1, 2)) / np.maximum(areas[1:] + areas[:-1], 1)
        before, after = np.maximum.accumulate(areas)[:-1], np.maximum.accumulate(areas[::-1])[::-1][1:]
        is_inner = np.minimum(before, after) >= areas.max() / 3
        usual = float(np.median(share[is_inner])) if is_inner.any() else 1.0
        shown = set[int]()
        for at in range(1, len(areas) - 1):
            own, one, other = slices[at], slices[at - 1], slices[at + 1]
            least = max(LEAST_OF_JUMP, PATCH * min(areas[at - 1], areas[at + 1]))
            for patch in (own & ~(one | other), ~own & one & other):
                if patch.sum() >= least and areas[at - 1] and areas[at + 1]:
                    found, count = label(patch)
                    for number in np.flatnonzero(np.bincount(found.ravel())[1 : count + 1] >= least) + 1:
                        shown |= {at - 1, at}
                        yield _in_slice(found == number, at)[:, back]
        for at in np.flatnonzero(is_inner & (share > max(JUMP, USUAL * usual))).tolist():
            if at not in shown and differs[at].sum() >= LEAST_OF_JUMP:
                yield _in_slice(differs[at], at + int(areas[at + 1] > areas[at]))[:, back]


def _in_slice(inside: np.ndarray, at: int) -> np.ndarray:
    """Return the voxels of a slice as (n, 3), the slice's number first."""
    return np.insert(np.argwhere(inside), 0, at, axis=1)
