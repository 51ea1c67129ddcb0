"""Segment a whole head with a model of small boxes: place the boxes, segment each, join them in one.

The labels of a side get its name ("left anterior hippocampus") and, for all sides but the first, values above those of
the sides before. Right and left come from world coordinates.
"""

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations, product
from typing import Any

import numpy as np
import SimpleITK as sitk

from ..calibration.per_structure import ProbabilitySums
from ..io.grid import VoxelGrid
from ..io.roi import EMPTY, RegionOfInterest, VoxelBox
from ..io.volume import ras_to_lps
from ..models.bundle import TEMPLATE_FILE, WHOLE, Bundle, Placement
from ..models.input_spec import BOTH_SIDES, Code, Label, Total
from ..util.errors import InputError
from ..util.progress import Progress, part_of
from .case_result import AssessedBox
from .placement import Placed, Template, place
from .structures import StructureMetrics
from .uncertainty_maps import joined_maps

LEAST_OVERLAP = 0.6
"""Share of the template's brain that must lie inside the image."""
SHIFT_MM = 6.0
"""How far neighbouring boxes lie that are tried where the model expects a low Dice."""
LATERALITY = {"left": Code("SCT", "7771000", "Left"), "right": Code("SCT", "24028007", "Right")}
"""Codes of the sides (DICOM CID 244)."""


Run = Callable[[RegionOfInterest, Progress], AssessedBox]
"""Segments one box of the image."""
SidedRun = Callable[[str, RegionOfInterest, Progress], AssessedBox]
"""The same, for the box of a side."""


def expected_dice(structures: Sequence[StructureMetrics], is_whole: bool = False) -> float:
    """Return the Dice that the tempered probabilities expect, 0 where nothing was drawn: the lowest of a structure.

    Of few structures the mean is no measure of a place: 40 mm too low, in the neck, one reads 0.91 and the other 0.46.

    Args:
        is_whole: for the one box of many structures, of which the smallest are never certain: their mean instead.
    """
    found = [each.soft_dice or 0.0 for each in structures[1:]]
    return float(np.mean(found)) if is_whole else min(found)


def best_box(roi: RegionOfInterest, run: Run, least: float, progress: Progress) -> tuple[AssessedBox, bool]:
    """Segment a box; where the model expects less than `least`, also six neighbours, and return the best of all."""
    first = run(roi, progress)
    if expected_dice(first.structures) >= least:
        return first, False
    found = [first]
    for axis, by in product(range(3), (-SHIFT_MM, SHIFT_MM)):
        centre = np.array(roi.centre_ras_mm) + by * np.eye(3)[axis]
        with contextlib.suppress(InputError):  # this one lies outside the image, or shows something else
            found.append(run(replace(roi, centre_ras_mm=tuple(centre.tolist())), progress))
    best = max(found, key=lambda box: expected_dice(box.structures))
    return best, best is not first


def sided_labels(labels: Sequence[Label], sides: Sequence[str]) -> dict[str, list[Label]]:
    """Return the labels of each side: background as it is, the others with the side in name and code.

    The side is the modifier of a label that has none, and stands beside one that names a part.
    """
    step, found = max(label.value for label in labels), {}
    for index, side in enumerate(sides):
        if side == WHOLE:
            return {side: list(labels)}
        code = LATERALITY[side]
        found[side] = [
            label if label.value == 0 else replace(
                label, value=label.value + index * step, name=f"{side} {label.name}",
                modifier=label.modifier or code, laterality=code if label.modifier else None)
            for label in labels
        ]  # fmt: skip
    return found


def all_sides(labels: Sequence[Label], sides: Sequence[str]) -> tuple[Label, ...]:
    """Return the labels of a joined case: background, then those of each side."""
    sided = sided_labels(labels, sides)
    return (*labels[:1], *(label for side in sides for label in sided[side][1:]))


def all_totals(totals: Sequence[Total], labels: Sequence[Label], sides: Sequence[str]) -> tuple[Total, ...]:
    """Return the totals of a joined case: those of each side, and of both sides together.

    Args:
        totals, labels: of the model.
        sides: none for an image that no box was placed in.
    """
    if not sides or WHOLE in sides:
        return tuple(totals)
    step, found = max(label.value for label in labels), list[Total]()
    for total in totals:
        members = [tuple(value + index * step for value in total.of) for index in range(len(sides))]
        found += [
            replace(total, name=f"{side} {total.name}", of=of, modifier=LATERALITY[side])
            for side, of in zip(sides, members, strict=True)
        ]
        found.append(replace(total, name=f"{total.name}{BOTH_SIDES}", of=sum(members, ())))
    return tuple(found)


def joined(
    boxes: Mapping[str, AssessedBox], labels: Sequence[Label], image: sitk.Image, world: sitk.Image
) -> AssessedBox:
    """Join the boxes of all sides in the smallest one that holds them.

    Voxels between them are not assessed, as outside of them: their maps hold what `not_assessed_value` says.

    Args:
        labels: of the model.
        image: the whole first channel.
        world: the same as it lies in the world.
    """
    sided, first = sided_labels(labels, list(boxes)), next(iter(boxes.values()))
    low = np.min([each.box.index for each in boxes.values()], 0)
    outer = VoxelBox.between(low, np.max([np.add(each.box.index, each.box.size) for each in boxes.values()], 0))
    values = {side: {own.value: label.value for own, label in zip(labels, sided[side], strict=True)} for side in boxes}
    warnings = [
        replace(
            each,
            message=each.message if side == WHOLE else f"{side.capitalize()} side: {each.message}",
            structure=values[side].get(each.structure or -1),
        )
        for side, box in boxes.items()
        for each in box.warnings
    ]
    maps, places = zip(*((each.maps, each.box.relative_to(outer).slices_zyx) for each in boxes.values()), strict=True)
    joined = joined_maps(maps, places, outer.size[::-1], len(labels) - 1)
    return AssessedBox(
        box=outer,
        first=sitk.GetArrayFromImage(outer.crop(image)),
        world=VoxelGrid.of(outer.crop(world)),
        maps=replace(joined, sums=ProbabilitySums.joined([each.sums for each in maps])),
        structures=_joined_structures(boxes, sided),
        warnings=warnings,
        seconds={stage: sum(each.seconds[stage] for each in boxes.values()) for stage in first.seconds},
        parts=tuple(each.box for each in boxes.values()),
    )


def _joined_structures(boxes: Mapping[str, AssessedBox], sided: Mapping[str, list[Label]]) -> list[StructureMetrics]:
    """Metrics of the background in all boxes together, then of each side's structures."""
    found = [each.structures[0] for each in boxes.values()]
    background = replace(
        StructureMetrics(found[0].label, sum(each.voxels for each in found), sum(each.volume_mm3 for each in found)),
        expected_wrong_mm3=_sum(each.expected_wrong_mm3 for each in found),
        uncertain_mm3=(uncertain := _sum(each.uncertain_mm3 for each in found)),
        uncertain_share=None if uncertain is None else uncertain / sum(each.volume_mm3 for each in found),
    )
    others = [
        replace(metrics, label=label)
        for side, each in boxes.items()
        for metrics, label in zip(each.structures[1:], sided[side][1:], strict=True)
    ]
    return [background, *others]


def _sum(values: Iterable[float | None]) -> float | None:
    """Return the sum; None where a value is not known."""
    known = list(values)
    return None if None in known else float(sum(value for value in known if value is not None))


@dataclass(frozen=True)
class PlacedBoxes:
    """The boxes of a model, placed in a whole image.

    Attributes:
        spec: of the model.
        model: its name.
        source: the image, for messages.
        image: the whole first channel.
        world: the same as it lies in the world, where a transform above it moves it.
        found: where the template lies in it.
    """

    spec: Placement
    model: str
    source: str
    image: sitk.Image
    world: sitk.Image
    found: Placed

    @classmethod
    def find(cls, image: sitk.Image, world: sitk.Image, source: str, bundle: Bundle) -> "PlacedBoxes":
        """Place the boxes of a bundle.

        Raises:
            InputError: the template does not fit the image.
        """
        assert bundle.folder is not None and bundle.placement is not None
        spec = bundle.placement
        found = place(spec, Template.read(bundle.folder / TEMPLATE_FILE, spec.sha256), world)
        placed = cls(spec, bundle.name, source, image, world, found)
        if found.similarity < spec.least_similarity or found.overlap < LEAST_OVERLAP:
            raise placed.error(
                f"'{bundle.name}' does not find where its structures lie: the image does not look like a head "
                f"(similarity {found.similarity:.2f}, at least {spec.least_similarity:.2f}; {found.overlap:.0%} of "
                "the brain inside the image)"
            )
        return placed

    def error(self, problem: str, remedy: str | None = None) -> InputError:
        """Return the error that refuses the image."""
        usual = "Give a whole head, and check its orientation." if self.spec.is_whole else "Give a region of interest."
        return InputError(f"{self.source}: {problem}. {remedy or usual}", "not-placed")

    def assessed(
        self, run: SidedRun, labels: Sequence[Label], progress: Progress
    ) -> tuple[AssessedBox, dict[str, Any]]:
        """Segment each box, or a neighbour of which the model expects more (`best_box`); return all, and `placement`.

        Args:
            labels: of the model.

        Raises:
            InputError: the model expects too low a Dice of every box, or those of both sides overlap.
        """
        spec, boxes, facts = self.spec, dict[str, AssessedBox](), list[dict[str, Any]]()
        progress = _never_back(progress)
        for index, (side, placed) in enumerate(self.found.rois.items()):
            roi = _in_own_coordinates(placed, self.image, self.world)
            low, high = (0.1 + 0.7 * (index + add) / len(self.found.rois) for add in (0, 1))  # then regions are found
            least = 0.0 if spec.is_whole else spec.least_dice  # neighbours of a whole head's box show the same
            box, is_shifted = best_box(roi, partial(run, side), least, part_of(progress, low, high))
            dice = expected_dice(box.structures, spec.is_whole)
            if dice < spec.least_dice:
                raise self.error(
                    f"the {'brain' if spec.is_whole else f'{side} side'} is not where '{self.model}' looked for it, "
                    f"around RAS {', '.join(f'{mm:.0f}' for mm in roi.centre_ras_mm)}: the model expects a Dice of "
                    f"{dice:.2f} there, at least {spec.least_dice:.2f} is needed"
                )
            assert box.roi is not None
            where = {**box.roi.to_json(), **box.box.to_json()}
            boxes[side] = box
            facts.append({"side": side, **where, "expected_dice": dice, "shifted": is_shifted})
        if any(one.box.shared_with(other.box) != EMPTY for one, other in combinations(boxes.values(), 2)):
            raise self.error("the boxes of both sides overlap", "Give a region of interest.")
        whole = joined(boxes, labels, self.image, self.world)
        found = {"similarity": self.found.similarity, "overlap": self.found.overlap}
        return whole, {**found, "template_sha256": spec.sha256, "boxes": facts}


def _never_back(progress: Progress) -> Progress:
    """Return a progress that stays where it is while further boxes are tried."""
    furthest = 0.0

    def report(stage: str, fraction: float, detail: str = "") -> None:
        nonlocal furthest
        furthest = max(furthest, fraction)
        progress(stage, furthest, detail)

    return report


def _in_own_coordinates(roi: RegionOfInterest, image: sitk.Image, world: sitk.Image) -> RegionOfInterest:
    """Move a region in the world into the image's own coordinates, its edges along the nearest axes."""
    index = world.TransformPhysicalPointToContinuousIndex(ras_to_lps(roi.centre_ras_mm))
    centre = ras_to_lps(image.TransformContinuousIndexToPhysicalPoint(index))
    own, moved = (np.array(each.GetDirection()).reshape(3, 3) for each in (image, world))
    nearest = np.abs(own @ moved.T).argmax(1)
    return replace(RegionOfInterest.of([*centre, *(roi.size_mm[axis] for axis in nearest)]), along_voxels=True)
