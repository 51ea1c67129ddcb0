"""Pictures of a report: cuts through image and error probability, with the outlines of model, reviewers and region."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..case.case_file import PlacedBox
from ..case.pictures import BOX_COLOUR, Grid, View, outline, scale_mm, three_views

EDGE_PIXELS = 256
# Edge of what is shown, as a multiple of the largest extent of the region.
AROUND = 1.8
# Smallest edge shown, so that a tiny region is seen with its surroundings.
LEAST_MM = 36.0
REGION_COLOUR = (57, 255, 20)
# Outlines of the first reviewers who changed something; others are not drawn.
REVIEWED_COLOURS = ((255, 255, 255), (240, 160, 208))


@dataclass(frozen=True)
class Volumes:
    """What the pictures are made from; arrays (z, y, x) of one shape.

    Attributes:
        image: intensities.
        labels: of the model.
        error_probability: negative where not assessed; None without calibration.
        reviewed: labels of each reviewer who changed them.
        regions: region id of each voxel, 0 outside; None without regions.
        grid: how they lie in the patient.
        colours: of the structures by label value.
        top: error probability of the strongest tint.
        boxes: that the model placed; drawn in overviews.
    """

    image: np.ndarray
    labels: np.ndarray
    error_probability: np.ndarray | None
    reviewed: Mapping[str, np.ndarray]
    regions: np.ndarray | None
    grid: Grid
    colours: Mapping[int, Sequence[int]]
    top: float = 0.5
    boxes: Sequence[PlacedBox] = ()


@dataclass(frozen=True)
class PlanePicture:
    """One cut.

    Attributes:
        pixels: RGB, (rows, columns, 3), uint8.
        title, letters, edge_mm: as those of a `View`.
    """

    pixels: np.ndarray
    title: str
    letters: tuple[str, str, str, str]
    edge_mm: float

    @property
    def scale_mm(self) -> float:
        """Length of its scale bar."""
        return scale_mm(self.edge_mm)


def pictures_around(
    volumes: Volumes,
    middle_zyx: Sequence[int],
    extent_mm: float,
    region: int | None = None,
    at_zyx: Sequence[int] | None = None,
) -> list[PlanePicture]:
    """Three cuts around a voxel, axial, coronal and sagittal, all of one scale and one grey window.

    Args:
        extent_mm: largest edge of what is to be seen.
        region: id of the region to be outlined.
        at_zyx: index of the cut across each axis; None: through the voxel.
    """
    edge_mm = max(LEAST_MM, AROUND * extent_mm)
    at = at_zyx or middle_zyx
    views, window = three_views(volumes.image, volumes.grid, at, middle_zyx, edge_mm, EDGE_PIXELS)
    return [PlanePicture(_drawn(volumes, view, window, region), view.title, view.letters, edge_mm) for view in views]


def _drawn(volumes: Volumes, view: View, window: tuple[float, float], region: int | None) -> np.ndarray:
    """RGB pixels of a view: structures in their colours, then the region, then what reviewers changed."""
    pixels, own = view.with_risk(window, volumes.error_probability, volumes.top), view.nearest(volumes.labels)
    edge = outline(own)
    for value, colour in volumes.colours.items():
        pixels[edge & (own == value)] = colour[:3]
    if region is not None and volumes.regions is not None:
        pixels[outline((view.nearest(volumes.regions) == region).astype(np.uint8))] = REGION_COLOUR
    for box in volumes.boxes if region is None else ():
        pixels[view.box_edge(box)] = BOX_COLOUR
    for labels, colour in zip(volumes.reviewed.values(), REVIEWED_COLOURS, strict=False):
        pixels[outline(view.nearest(labels)) & ~edge] = colour
    return pixels
