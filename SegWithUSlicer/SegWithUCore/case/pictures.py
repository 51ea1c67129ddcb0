"""Pictures of a case: cuts upright as in Slicer's views, in true proportions, with a tint for the error probability.

The patient's right is at the left of axial and coronal pictures (radiological convention), in every picture of ours.
`preview.png` shows a whole segmentation; the report draws regions in the same views.
"""

import importlib.util
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..util.atomic_files import atomic_file
from ..util.plane_files import Planes, plane_across

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

    from ..io.grid import VoxelGrid
    from ..models.input_spec import Label
    from .case_file import PlacedBox

PREVIEW_FILE = "preview.png"
# Error probability from which the tint begins.
TINT_FROM = 0.05
# Matplotlib's Inferno (CC0) at equal steps, as in the panel and on the page.
INFERNO = ((0, 0, 4), (31, 12, 72), (85, 15, 109), (136, 34, 106), (186, 54, 85), (227, 89, 51), (249, 140, 10),
           (249, 201, 50), (252, 255, 164))  # fmt: skip
# Share of the tint in a pixel at both ends.
TINT_SHARES = (0.15, 0.75)
# Longest scale bar, as a share of the picture's edge.
SCALE_BAR_SHARE = 0.35
BOX_COLOUR = (240, 228, 66)
"""Of the boxes that a model placed in a head; yellow of Okabe and Ito's palette."""
TITLES = {"S": "axial", "A": "coronal", "R": "sagittal"}
# Intensities drawn black and white.
PERCENTILES = (1.0, 99.0)
# The way a picture runs, as Slicer's views do: superior or anterior at the top, the patient's right or anterior at the
# left.
ROW_DOWN, COLUMN_RIGHT = {"S": "I", "A": "P"}, {"R": "L", "A": "P"}
OPPOSITE = {"L": "R", "R": "L", "A": "P", "P": "A", "S": "I", "I": "S"}
PREVIEW_PIXELS = 288
# Edge of what is shown, as a multiple of the largest extent of all structures.
PREVIEW_AROUND = 1.3
# Smallest edge shown, so that a tiny structure is seen with its surroundings.
PREVIEW_LEAST_MM = 36.0
# Pixels between the views of a preview, and of a line of text.
GAP, LINE = 4, 20
_GREY, _WHITE = (190, 190, 190), (255, 255, 255)


@dataclass(frozen=True)
class Grid:
    """How an array (z, y, x) lies in the patient.

    Attributes:
        spacing_zyx: mm.
        towards_zyx: the patient's side that each axis runs to, of L, R, A, P, S, I, for example "SPL".
    """

    spacing_zyx: tuple[float, float, float]
    towards_zyx: str

    @classmethod
    def of(cls, grid: "VoxelGrid") -> "Grid":
        """Return how an array on a grid lies."""
        x, y, z = grid.spacing
        return cls((z, y, x), grid.orientation[::-1])

    @property
    def axes(self) -> list[str]:
        """The line that each axis runs along: R, A or S."""
        return [side if side in TITLES else OPPOSITE[side] for side in self.towards_zyx]


class View:
    """A cut across an axis, resampled to a square picture.

    Args:
        image: intensities.
        grid: how the volumes lie.
        axis, index: of the cut.
        centre_zyx: voxel in the middle of the picture.
        edge_mm: length of the picture's edges.
        pixels: along them.

    Attributes:
        values, inside: intensity under each pixel, and which pixels lie in the image.
        title: "axial", "coronal" or "sagittal"; of the nearest such plane where the grid is oblique.
        letters: the patient's sides at the top, right, bottom and left.
        axes, flipped: axes that run down and to the right, and whether they run against their indices.
        rows, columns: continuous voxel index of each.
    """

    def __init__(
        self, image: Planes, grid: Grid, axis: int, index: int, centre_zyx: Sequence[int], edge_mm: float, pixels: int
    ) -> None:
        names, towards = grid.axes, grid.towards_zyx
        down = names.index("S" if names[axis] != "S" else "A")
        right = next(other for other in range(3) if other not in (axis, down))
        self._axis, self._index, self.edge_mm, self.title = axis, index, edge_mm, TITLES[names[axis]]
        self.axes = (down, right)
        self.flipped = (towards[down] != ROW_DOWN[names[down]], towards[right] != COLUMN_RIGHT[names[right]])
        bottom, end = (
            OPPOSITE[towards[at]] if flip else towards[at] for at, flip in zip(self.axes, self.flipped, strict=True)
        )
        self.letters = (OPPOSITE[bottom], end, bottom, OPPOSITE[end])
        offsets = ((np.arange(pixels) + 0.5) / pixels - 0.5) * edge_mm
        self.rows, self.columns = (
            centre_zyx[at] + offsets / grid.spacing_zyx[at] * (-1 if flip else 1)
            for at, flip in zip(self.axes, self.flipped, strict=True)
        )
        voxels = self.cut(image)
        inside = [(p >= -0.5) & (p < n - 0.5) for p, n in zip((self.rows, self.columns), voxels.shape, strict=True)]
        self.values, self.inside = self.interpolated(voxels), np.logical_and.outer(*inside)

    def cut(self, volume: Planes) -> np.ndarray:
        """Return the voxels of the plane, (down, right)."""
        voxels = plane_across(volume, self._axis, self._index)
        return voxels if self.axes[0] < self.axes[1] else voxels.T

    def nearest(self, volume: Planes) -> np.ndarray:
        """Look up the voxel under each pixel; 0 beyond the image."""
        voxels = self.cut(volume)
        nearest = [
            np.clip(np.floor(p + 0.5).astype(int), 0, size - 1)
            for p, size in zip((self.rows, self.columns), voxels.shape, strict=True)
        ]
        return np.where(self.inside, voxels[np.ix_(*nearest)], 0)

    def box_edge(self, box: "PlacedBox") -> np.ndarray:
        """Pixels at the edge of a box of voxels; none if the cut does not run through it."""
        low, size = np.array(box.index_ijk[::-1]), np.array(box.size_ijk[::-1])
        if not low[self._axis] <= self._index < low[self._axis] + size[self._axis]:
            return np.zeros((len(self.rows), len(self.columns)), bool)
        inside = [
            (at >= low[axis] - 0.5) & (at < low[axis] + size[axis] - 0.5)
            for at, axis in zip((self.rows, self.columns), self.axes, strict=True)
        ]
        return outline(np.logical_and.outer(*inside).astype(np.uint8))

    def interpolated(self, voxels: np.ndarray) -> np.ndarray:
        """Value of a cut under each pixel, linear between voxel centres."""
        values = np.nan_to_num(voxels.astype(np.float64), posinf=0.0, neginf=0.0)
        for axis, indices in enumerate((self.rows, self.columns)):
            below = np.clip(np.floor(indices).astype(int), 0, values.shape[axis] - 1)
            above = np.minimum(below + 1, values.shape[axis] - 1)
            share = np.clip(indices - below, 0.0, 1.0)
            share = share[:, None] if axis == 0 else share
            values = np.take(values, below, axis) * (1 - share) + np.take(values, above, axis) * share
        return values

    def grey(self, window: tuple[float, float]) -> np.ndarray:
        """RGB pixels of the image, uint8; black beyond it."""
        low, high = window
        scaled = (self.values - low) / (high - low) if high > low else np.full_like(self.values, 0.5)
        grey = np.where(self.inside, np.rint(np.clip(scaled, 0, 1) * 255), 0).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)

    def with_risk(self, window: tuple[float, float], error_probability: Planes | None, top: float) -> np.ndarray:
        """RGB pixels of the image with the error probability over them, if there is any.

        Args:
            top: error probability of the strongest tint.
        """
        if error_probability is None:
            return self.grey(window)
        risk = self.interpolated(np.maximum(self.cut(error_probability), 0))
        return tinted(self.grey(window), np.where(self.inside, risk, 0), top)


def three_views(
    image: Planes, grid: Grid, at_zyx: Sequence[int], centre_zyx: Sequence[int], edge_mm: float, pixels: int
) -> tuple[list[View], tuple[float, float]]:
    """Cut axial, coronal and sagittal views of one scale; returns them and their common grey window.

    Args:
        at_zyx: index of the cut across each axis.
        centre_zyx: voxel in the middle of the pictures.
    """
    axes = sorted(range(3), key=lambda axis: "SAR".index(grid.axes[axis]))
    views = [View(image, grid, axis, int(at_zyx[axis]), centre_zyx, edge_mm, pixels) for axis in axes]
    return views, grey_window(np.concatenate([view.values[view.inside] for view in views]))


def grey_window(shown: np.ndarray) -> tuple[float, float]:
    """Choose the intensities drawn black and white if `shown` are on view."""
    low, high = np.percentile(shown, PERCENTILES) if shown.size else (0.0, 1.0)
    return float(low), float(high)


def outline(labels: np.ndarray) -> np.ndarray:
    """Pixels at the inner side of a structure's edge."""
    padded = np.pad(labels, 1, mode="edge")
    middle = padded[1:-1, 1:-1]
    neighbours = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    return (middle > 0) & np.logical_or.reduce([middle != other for other in neighbours])


def tinted(pixels: np.ndarray, risk: np.ndarray, top: float) -> np.ndarray:
    """RGB pixels (uint8) with the error probability over them."""
    is_tinted = risk > TINT_FROM
    colour, share = _tint(np.clip((risk[is_tinted] - TINT_FROM) / max(top - TINT_FROM, 1e-6), 0, 1)[..., None])
    mixed = pixels.copy()
    mixed[is_tinted] = np.rint(pixels[is_tinted] * (1 - share) + colour * share)
    return mixed


def tint_stops() -> list[tuple[float, tuple[int, int, int]]]:
    """Colours of the error probability over middle grey, from its lower end (0) to its upper (1)."""
    stops = []
    for strength in (0.0, 0.25, 0.5, 0.75, 1.0):
        colour, share = _tint(strength)
        red, green, blue = np.rint(128 * (1 - share) + colour * share).astype(int).tolist()
        stops.append((strength, (red, green, blue)))
    return stops


def _tint(strength: Any) -> tuple[np.ndarray, Any]:
    """Colour of a tint, and its share of the pixel."""
    steps, values = np.linspace(0, 1, len(INFERNO)), np.reshape(strength, np.shape(strength)[:-1])
    colour = np.stack([np.interp(values, steps, part) for part in np.transpose(INFERNO)], -1)
    return colour, TINT_SHARES[0] * (1 - strength) + TINT_SHARES[1] * strength


def scale_mm(edge_mm: float) -> float:
    """Length of a scale bar: the longest of 1, 2 and 5 times a power of ten that fits."""
    most = edge_mm * SCALE_BAR_SHARE
    power = 10.0 ** np.floor(np.log10(most))
    return float(max(step * power for step in (1, 2, 5) if step * power <= most))


@dataclass(frozen=True)
class Shown:
    """What a preview shows; volumes (z, y, x) of one shape. Only the planes that are shown are computed with.

    Attributes:
        image: intensities.
        segmentation: value of the structure of each voxel, 0 for background.
        error_probability: None without calibration.
        structures: by their values, in the order of the legend; background first.
        grid: how they lie in the patient.
        top: error probability of the strongest tint.
    """

    image: Planes
    segmentation: Planes
    error_probability: Planes | None
    structures: Mapping[int, "Label"]
    grid: Grid
    top: float = 0.5


def strongest_tint(case: Mapping[str, Any]) -> float:
    """Error probability of the strongest tint: the end of the window that Slicer shows the map of a case with."""
    window = ((case.get("maps") or {}).get("error_probability") or {}).get("window") or [0.0, 0.5]
    return float(window[1])


def can_draw() -> bool:
    """Whether Pillow is there, which a run does without."""
    return importlib.util.find_spec("PIL") is not None


def write_png(picture: np.ndarray, path: Path) -> None:
    """Write an RGB picture (rows, columns, 3), uint8, whole or not at all.

    Raises:
        OutputError: the folder cannot be written to, or the disk is full.
    """
    from PIL import Image  # Slicer's window does without it until it is needed

    with atomic_file(path) as work:
        Image.fromarray(picture).save(work, "PNG")


def preview(shown: Shown) -> np.ndarray:
    """Draw contours above, error probability below, in three planes, with a legend; RGB, uint8."""
    from PIL import Image, ImageDraw

    fullest, centre, extent_mm = _where(shown)
    views, window = three_views(shown.image, shown.grid, fullest, centre, extent_mm, PREVIEW_PIXELS)
    rows = [[_contours(shown, view, window) for view in views]]
    if shown.error_probability is not None:
        rows.append([view.with_risk(window, shown.error_probability, shown.top) for view in views])
    step, end = PREVIEW_PIXELS + GAP, LINE + len(rows) * (PREVIEW_PIXELS + GAP) + GAP
    most = LINE * (len(shown.structures) + 3)  # a line for each
    canvas = Image.new("RGB", (3 * step + GAP, end + most), (24, 24, 24))
    draw = ImageDraw.Draw(canvas)
    for number, view in enumerate(views):
        x = GAP + number * step
        _text(draw, (x + PREVIEW_PIXELS // 2, LINE // 2), view.title, _WHITE, "mm")
        for place, row in enumerate(rows):
            y = LINE + place * step
            canvas.paste(Image.fromarray(row[number]), (x, y))
            _sides(draw, view, x, y)
    end = _legend(draw, shown, views, extent_mm, end)
    return np.asarray(canvas)[:end]


def _contours(shown: Shown, view: View, window: tuple[float, float]) -> np.ndarray:
    pixels, values = view.grey(window), view.nearest(shown.segmentation)
    edge = outline(values)
    edge[1:] |= edge[:-1] & (values[1:] == values[:-1])  # two pixels wide
    edge[:, 1:] |= edge[:, :-1] & (values[:, 1:] == values[:, :-1])
    for value, label in shown.structures.items():
        pixels[edge & (values == value)] = label.color
    return pixels


def _where(shown: Shown) -> tuple[list[int], list[int], float]:
    """Find the indices of the fullest cuts, the voxel in the middle of all structures, and the edge of pictures.

    Slice by slice, so that no array of the size of the volume is made.
    """
    shape = shown.segmentation.shape
    counts = [np.zeros(size, np.int64) for size in shape]
    for z, plane in enumerate(shown.segmentation):
        where = plane > 0
        counts[0][z] = np.count_nonzero(where)
        if counts[0][z]:
            counts[1] += np.count_nonzero(where, axis=1)
            counts[2] += np.count_nonzero(where, axis=0)
    spacing = shown.grid.spacing_zyx
    if not counts[0].any():
        middle = [size // 2 for size in shape]
        return middle, middle, float(max(size * mm for size, mm in zip(shape, spacing, strict=True)))
    ends = [(int(np.flatnonzero(count)[0]), int(np.flatnonzero(count)[-1])) for count in counts]
    extent = max((last - first + 1) * mm for (first, last), mm in zip(ends, spacing, strict=True))
    edge_mm = max(PREVIEW_LEAST_MM, PREVIEW_AROUND * float(extent))
    return [int(count.argmax()) for count in counts], [(first + last) // 2 for first, last in ends], edge_mm


def _sides(draw: "ImageDraw", view: View, x: int, y: int) -> None:
    """Write the patient's sides into a view."""
    half, edge = PREVIEW_PIXELS // 2, PREVIEW_PIXELS
    places = ((half, 10), (edge - 10, half), (half, edge - 10), (10, half))
    for letter, at in zip(view.letters, places, strict=True):
        _text(draw, (x + at[0], y + at[1]), letter, _WHITE, "mm")


def _legend(draw: "ImageDraw", shown: Shown, views: Sequence[View], shown_mm: float, y: int) -> int:
    """Write the structures of the views by their colours, and what is drawn; returns where the legend ends.

    Structures of one colour, such as both sides of one, are named together.
    """
    from PIL import ImageFont

    seen = np.unique([view.nearest(shown.segmentation) for view in views]).tolist()
    names: dict[tuple[int, ...], list[str]] = {}
    for value, label in shown.structures.items():
        if value and value in seen:
            names.setdefault(tuple(label.color), []).append(label.name)
    font, x = ImageFont.load_default(13), GAP
    for colour, own in names.items():
        bare = dict.fromkeys(re.sub("^(left|right) ", "", name) for name in own)
        text = own[0] if len(own) == 1 else ", ".join(bare)
        end = x + LINE + int(font.getlength(text))
        if x > GAP and end > 3 * (PREVIEW_PIXELS + GAP) + GAP:
            end += GAP - x
            x = GAP
            y += LINE
        draw.rectangle((x, y + 4, x + 12, y + 16), colour, _GREY)
        _text(draw, (x + LINE, y + LINE // 2), text, _WHITE, "lm")
        x = end + LINE
    y += LINE
    text, tint = "there is no error probability", _WHITE
    if shown.error_probability is not None:
        text, tint = f"error probability from {TINT_FROM:g} (pale) to {shown.top:g} and more (strong)", INFERNO[6]
    _text(draw, (GAP, y + LINE // 2), f"{text}; edges are {shown_mm:.0f} mm long", tint, "lm")
    note = "R right, L left, A anterior, P posterior, S superior, I inferior of the patient. Not for clinical use."
    _text(draw, (GAP, y + LINE + LINE // 2), note, _GREY, "lm")
    return y + 2 * LINE


def _text(draw: "ImageDraw", at: tuple[int, int], text: str, colour: Any, anchor: str) -> None:
    """Write a line with a black edge."""
    from PIL import ImageFont

    draw.text(at, text, colour, font=ImageFont.load_default(13), anchor=anchor, stroke_width=2, stroke_fill=(0, 0, 0))
