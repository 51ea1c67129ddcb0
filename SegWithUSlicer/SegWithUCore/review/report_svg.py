"""Pictures of a report as text: pixels as PNG in a data URI, contours, scale bar and letters as SVG over them."""

import base64
import io
import tempfile
from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np

from ..report.pictures import TINT_FROM, TINT_HIGH, TINT_LOW, TINT_SHARES, Line, PlanePicture

MODEL_LINE = "#56b4e9"
REVIEWED_LINES = (("#ffffff", "5 3"), ("#f0a0d0", "1.5 2.5"))
"""Colour and dashes of reviewers' contours, told apart by both; more reviewers are not drawn."""
REGION_LINE = "#f0e442"
CASING = "#00000099"
"""Under each line, so that it is seen on bright and dark ground."""
BAR_SHARE = 0.35
"""Of the picture's edge, that a scale bar may be long."""


def png_bytes(pixels: np.ndarray) -> bytes:
    """An RGB picture (rows, columns, 3), uint8, as a PNG file; by Pillow, or by SimpleITK where there is none."""
    try:
        from PIL import Image
    except ImportError:
        return _png_by_simpleitk(pixels)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=6)
    return file.getvalue()


def _png_by_simpleitk(pixels: np.ndarray) -> bytes:
    import SimpleITK as sitk

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "picture.png"
        sitk.WriteImage(sitk.GetImageFromArray(pixels, isVector=True), str(path), useCompression=True)
        return path.read_bytes()


def picture_svg(picture: PlanePicture, name: str) -> str:
    """A picture with everything over it.

    Args:
        name: what it shows, for those who cannot see it.
    """
    rows, columns = picture.pixels.shape[:2]
    data = base64.b64encode(png_bytes(picture.pixels)).decode()
    label = escape(f"{name}, {picture.title}")
    drawn = [_lines(picture.model, MODEL_LINE, "", columns), _lines(picture.region, REGION_LINE, "", columns)]
    for lines, (colour, dashes) in zip(picture.reviewed.values(), REVIEWED_LINES, strict=False):
        drawn.append(_lines(lines, colour, dashes, columns))
    return (
        f'<svg viewBox="0 0 {columns} {rows}" role="img" aria-label="{label}">'
        f'<image width="{columns}" height="{rows}" href="data:image/png;base64,{data}"/>'
        f"{''.join(drawn)}{_letters(picture, columns, rows)}{_scale_bar(picture, columns, rows)}</svg>"
    )


def scale_mm(edge_mm: float) -> float:
    """Length of a scale bar: the longest of 1, 2 and 5 times a power of ten that fits."""
    most = edge_mm * BAR_SHARE
    power = 10.0 ** np.floor(np.log10(most))
    return float(max(step * power for step in (1, 2, 5) if step * power <= most))


def colour_bar_svg(top: float) -> str:
    """The colours of the error probability over middle grey, with its ends."""
    stops = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        colour = np.asarray(TINT_LOW) * (1 - share) + np.asarray(TINT_HIGH) * share
        tint = TINT_SHARES[0] * (1 - share) + TINT_SHARES[1] * share
        mixed = np.rint(128 * (1 - tint) + colour * tint).astype(int).tolist()
        stops.append(f'<stop offset="{share}" stop-color="rgb({mixed[0]},{mixed[1]},{mixed[2]})"/>')
    return (
        '<svg class="bar" viewBox="0 0 120 22" role="img" aria-label="colour bar of the error probability"><defs>'
        f'<linearGradient id="tint">{"".join(stops)}</linearGradient></defs>'
        '<rect x="0" y="0" width="120" height="10" fill="url(#tint)" stroke="#333" stroke-width="0.5"/>'
        f'<text x="0" y="20">{TINT_FROM:g}</text><text x="120" y="20" text-anchor="end">{top:g} and more</text></svg>'
    )


def line_svg(colour: str, dashes: str = "") -> str:
    """A piece of a contour for the legend."""
    return (
        '<svg class="key" viewBox="0 0 34 12"><rect width="34" height="12" fill="#777"/>'
        f"{_lines([((2, 6), (32, 6))], colour, dashes, 320)}</svg>"
    )


def _lines(lines: Sequence[Line], colour: str, dashes: str, columns: int) -> str:
    if not lines:
        return ""
    path = "".join("M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in line) for line in lines)
    width = columns / 160
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    under = f'<path d="{path}" fill="none" stroke="{CASING}" stroke-width="{2.2 * width:.2f}"{dashed}/>'
    return f'{under}<path d="{path}" fill="none" stroke="{colour}" stroke-width="{width:.2f}"{dashed}/>'


def _letters(picture: PlanePicture, columns: int, rows: int) -> str:
    size, middle = columns / 16, (columns / 2, rows / 2)
    top, right, bottom, left = picture.letters
    places = (
        (top, middle[0], size * 1.05, "middle"),
        (right, columns - size * 0.35, middle[1] + size * 0.35, "end"),
        (bottom, middle[0], rows - size * 0.4, "middle"),
        (left, size * 0.35, middle[1] + size * 0.35, "start"),
    )
    return "".join(
        f'<text class="side" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size:.1f}">{letter}</text>'
        for letter, x, y, anchor in places
    )


def _scale_bar(picture: PlanePicture, columns: int, rows: int) -> str:
    length_mm, size = scale_mm(picture.edge_mm), columns / 16
    x, y, width = size * 0.5, rows - size * 0.5, length_mm / picture.edge_mm * columns
    height = size * 0.85
    path = f"M{x:.1f} {y - size / 4:.1f}V{y:.1f}H{x + width:.1f}V{y - size / 4:.1f}"
    return (
        f'<path d="{path}" fill="none" stroke="#000" stroke-width="{columns / 64:.1f}"/>'
        f'<path d="{path}" fill="none" stroke="#fff" stroke-width="{columns / 128:.1f}"/>'
        f'<text class="side" x="{x:.1f}" y="{y - size * 0.45:.1f}" font-size="{height:.1f}">{length_mm:g} mm</text>'
    )
