"""`preview.png`: a segmentation at a glance, in three planes. Only the slices that are shown are computed with."""

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import SimpleITK as sitk

from ..io.grid import VoxelGrid
from ..io.planes import (
    TINT_FROM,
    TITLES,
    Grid,
    Plane,
    cut,
    grey_window,
    interpolated,
    letters,
    nearest,
    outline,
    plane_across,
    positions,
    scale_mm,
    tint_stops,
    tinted,
    windowed,
    write_png,
)
from ..io.volume import read_file
from ..models.input_spec import Label
from ..util.plane_files import Planes
from .case_file import SEGMENTATION_FILE
from .case_regions import assessed_part

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

PREVIEW_FILE = "preview.png"
EDGE_PIXELS = 288
AROUND = 1.3
"""Edge of what is shown, as a multiple of the largest extent of all structures."""
LEAST_MM = 36.0
GAP, LINE = 4, 20
"""Pixels between pictures, and of a line of text."""
_GREY, _WHITE = (190, 190, 190), (255, 255, 255)
_MOST_NAMED = 40
"""Structures in the legend."""


@dataclass(frozen=True)
class Shown:
    """What is drawn; volumes (z, y, x) of one shape.

    Attributes:
        image: intensities.
        classes: index of the structure of each voxel, 0 for background.
        error_probability: None without calibration.
        labels: of the classes, background first.
        grid: how they lie in the patient.
        top: error probability of the strongest tint.
    """

    image: Planes
    classes: Planes
    error_probability: Planes | None
    labels: Sequence[Label]
    grid: Grid
    top: float = 0.5


def can_draw() -> bool:
    """Whether Pillow is there, which a run does without."""
    return importlib.util.find_spec("PIL") is not None


def write_preview(shown: Shown, path: Path) -> None:
    """Write the picture, whole or not at all.

    Raises:
        OutputError: the place cannot be written to.
    """
    write_png(preview(shown), path)


def redraw_preview(folder: Path, case: Mapping[str, Any], image: sitk.Image) -> None:
    """Draw the picture of a case folder again from its volumes; nothing where Pillow is missing.

    Args:
        case: the content of its `case.json`.
        image: first channel, on the grid of the volumes.

    Raises:
        InputError: a volume cannot be read.
        OutputError: the folder cannot be written to.
    """
    if not can_draw():
        return
    box = assessed_part(case, image)
    labels = [Label(int(entry["value"]), str(entry["name"]), tuple(entry["color"])) for entry in case["structures"]]
    part, drawn = box.crop(image), box.crop(read_file(folder / SEGMENTATION_FILE))
    values = sitk.GetArrayViewFromImage(drawn)
    classes = np.zeros(values.shape, np.min_scalar_type(len(labels)))
    for index, label in enumerate(labels):
        classes[values == label.value] = index
    risk = folder / "error_probability.nii.gz"
    chance = sitk.GetArrayFromImage(box.crop(read_file(risk))) if risk.is_file() else None
    window = ((case.get("maps") or {}).get("error_probability") or {}).get("window") or [0.0, 0.5]
    shown = Shown(sitk.GetArrayViewFromImage(part), classes, chance, labels, grid_of(part), float(window[1]))
    write_preview(shown, folder / PREVIEW_FILE)


def grid_of(image: sitk.Image | VoxelGrid) -> Grid:
    """Return how the array of an image, or on a grid, lies in the patient."""
    grid = VoxelGrid.of(image)
    x, y, z = grid.spacing
    return Grid((z, y, x), grid.orientation[::-1])


def preview(shown: Shown) -> np.ndarray:
    """Draw contours above, error probability below, in three planes, with a legend; RGB, uint8."""
    from PIL import Image, ImageDraw

    middle, centre, extent_mm = _where(shown)
    axes = sorted(range(3), key=lambda axis: "SAR".index(shown.grid.axes[axis]))
    views = [_View(shown, plane_across(axis, middle[axis], shown.grid), centre, extent_mm) for axis in axes]
    window = grey_window(np.concatenate([view.values[view.inside] for view in views]))
    rows = [[view.contours(window) for view in views]]
    if shown.error_probability is not None:
        rows.append([view.risk(window) for view in views])
    step, width = EDGE_PIXELS + GAP, 3 * (EDGE_PIXELS + GAP) + GAP
    legend = _legend_lines(shown, width)
    height = LINE + len(rows) * step + GAP + LINE * (len(legend) + 2)
    canvas = Image.new("RGB", (width, height), (24, 24, 24))
    draw = ImageDraw.Draw(canvas)
    for number, view in enumerate(views):
        x = GAP + number * step
        _text(draw, (x + EDGE_PIXELS // 2, LINE // 2), view.title, _WHITE, "mm")
        for place, row in enumerate(rows):
            y = LINE + place * step
            canvas.paste(Image.fromarray(row[number]), (x, y))
            _sides(draw, view, x, y)
    _legend(draw, shown, legend, LINE + len(rows) * step + GAP, width)
    return np.asarray(canvas)


class _View:
    """One cut, resampled to the pixels of a picture."""

    def __init__(self, shown: Shown, plane: Plane, centre: Sequence[int], edge_mm: float) -> None:
        self._shown, self.plane, self.edge_mm = shown, plane, edge_mm
        self._rows, self._columns = (
            positions(axis, flipped, centre, shown.grid, edge_mm, EDGE_PIXELS)
            for axis, flipped in zip((plane.down, plane.right), plane.flipped, strict=True)
        )
        self.values, self.inside = interpolated(cut(shown.image, plane), self._rows, self._columns)

    @property
    def title(self) -> str:
        return TITLES[self._shown.grid.axes[self.plane.axis]]

    @property
    def letters(self) -> tuple[str, str, str, str]:
        return letters(self.plane, self._shown.grid)

    def contours(self, window: tuple[float, float]) -> np.ndarray:
        pixels = self._grey(window)
        classes = nearest(cut(self._shown.classes, self.plane), self._rows, self._columns)
        edge = outline(classes)
        edge[1:] |= edge[:-1] & (classes[1:] == classes[:-1])  # two pixels wide
        edge[:, 1:] |= edge[:, :-1] & (classes[:, 1:] == classes[:, :-1])
        colours = np.asarray([label.color for label in self._shown.labels], np.uint8)
        pixels[edge] = colours[classes[edge]]
        return pixels

    def risk(self, window: tuple[float, float]) -> np.ndarray:
        assert self._shown.error_probability is not None
        plane = np.maximum(cut(self._shown.error_probability, self.plane), 0)
        risk, _ = interpolated(plane, self._rows, self._columns)
        return tinted(self._grey(window), np.where(self.inside, risk, 0), self._shown.top)

    def _grey(self, window: tuple[float, float]) -> np.ndarray:
        return np.repeat(windowed(self.values, self.inside, window)[..., None], 3, axis=2)


def _where(shown: Shown) -> tuple[list[int], list[int], float]:
    """Find the indices of the fullest cuts, the voxel in the middle of all structures, and the edge of pictures.

    Slice by slice, so that no array of the size of the volume is made.
    """
    counts = [np.zeros(size, np.int64) for size in shown.classes.shape]
    for z, plane in enumerate(shown.classes):
        where = plane > 0
        counts[0][z] = np.count_nonzero(where)
        if counts[0][z]:
            counts[1] += np.count_nonzero(where, axis=1)
            counts[2] += np.count_nonzero(where, axis=0)
    spacing = shown.grid.spacing_zyx
    if not counts[0].any():
        extent = max(size * mm for size, mm in zip(shown.classes.shape, spacing, strict=True))
        middle = [size // 2 for size in shown.classes.shape]
        return middle, middle, float(extent)
    ends = [(int(np.flatnonzero(count)[0]), int(np.flatnonzero(count)[-1])) for count in counts]
    extent = max((last - first + 1) * mm for (first, last), mm in zip(ends, spacing, strict=True))
    fullest = [int(count.argmax()) for count in counts]
    return fullest, [(first + last) // 2 for first, last in ends], max(LEAST_MM, AROUND * float(extent))


def _sides(draw: "ImageDraw", view: _View, x: int, y: int) -> None:
    top, right, bottom, left = view.letters
    half, edge = EDGE_PIXELS // 2, EDGE_PIXELS
    for letter, at in ((top, (half, 10)), (right, (edge - 10, half)), (bottom, (half, edge - 10)), (left, (10, half))):
        _text(draw, (x + at[0], y + at[1]), letter, _WHITE, "mm", shadow=True)
    mm = scale_mm(view.edge_mm)
    length, base = round(mm / view.edge_mm * edge), y + edge - 8
    draw.line([(x + 8, base), (x + 8 + length, base)], _WHITE, 2)
    _text(draw, (x + 8, base - 10), f"{mm:g} mm", _WHITE, "lm", shadow=True)


def _legend_lines(shown: Shown, width: int) -> list[list[Label]]:
    """Structures of each line of the legend."""
    lines: list[list[Label]] = [[]]
    used = 0
    for label in shown.labels[1 : _MOST_NAMED + 1]:
        needed = 44 + 8 * len(label.name)
        if lines[-1] and used + needed > width:
            lines.append([])
            used = 0
        lines[-1].append(label)
        used += needed
    return lines


def _legend(draw: "ImageDraw", shown: Shown, lines: Sequence[Sequence[Label]], y: int, width: int) -> None:
    for line in lines:
        x = GAP
        for label in line:
            draw.line([(x, y + LINE // 2), (x + 24, y + LINE // 2)], tuple(label.color), 3)
            _text(draw, (x + 30, y + LINE // 2), label.name, _WHITE, "lm")
            x += 44 + 8 * len(label.name)
        y += LINE
    words = "not calibrated: there is no error probability"
    if shown.error_probability is not None:
        stops = tint_stops()
        for at in range(120):
            draw.line([(GAP + at, y + 4), (GAP + at, y + LINE - 4)], _between(stops, at / 119))
        words = f"error probability, {TINT_FROM:g} to {shown.top:g} and more (lower: clear)"
    _text(draw, (GAP + (130 if shown.error_probability is not None else 0), y + LINE // 2), words, _WHITE, "lm")
    note = "R right, L left, A anterior, P posterior, S superior, I inferior of the patient. Not for clinical use."
    _text(draw, (GAP, y + LINE + LINE // 2), note, _GREY, "lm")


def _between(stops: Sequence[tuple[float, tuple[int, int, int]]], share: float) -> tuple[int, int, int]:
    at = [stop for stop, _ in stops]
    red, green, blue = (int(np.interp(share, at, [colour[part] for _, colour in stops])) for part in range(3))
    return red, green, blue


def _text(draw: "ImageDraw", at: tuple[int, int], text: str, colour: Any, anchor: str, shadow: bool = False) -> None:
    """Write a line; with a Pillow that has no FreeType only plain letters can be written."""
    from PIL import ImageFont

    font = ImageFont.load_default(13)
    stroke: dict[str, Any] = {"stroke_width": 2, "stroke_fill": (0, 0, 0)} if shadow else {}
    if not isinstance(font, ImageFont.FreeTypeFont):
        text, anchor, stroke = text.encode("ascii", "replace").decode(), "la", {}
    draw.text(at, text, colour, font=font, anchor=anchor, **stroke)
