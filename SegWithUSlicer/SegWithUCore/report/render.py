"""HTML pages from the templates in this package: self-contained, and whatever a value holds is shown as text."""

import base64
import io
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).resolve().parent / "templates"
NOT_FOR_CLINICAL_USE = (
    "For research, not for clinical use. A low error probability does not mean that the segmentation is correct."
)


def render(template: str, **values: Any) -> str:
    """Render a page.

    Args:
        template: a file of `templates/`.
        values: what it shows; text is escaped, here and nowhere else.
    """
    return _environment().get_template(template).render(values)


def png_bytes(pixels: np.ndarray) -> bytes:
    """Encode an RGB picture (rows, columns, 3), uint8, as a PNG file.

    At level 5 it takes half as long as at Pillow's own 6, and the file is 5 % larger.
    """
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=5)
    return file.getvalue()


@cache
def _environment() -> "Environment":
    """Set up Jinja once; imported here, because it is not in Slicer before the engine is installed."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["NOT_FOR_CLINICAL_USE"] = NOT_FOR_CLINICAL_USE
    environment.globals |= {"alerts": (), "status": None}  # what a page gives takes its place
    environment.filters["zipped"] = zip  # as long as the shorter
    environment.filters["png_base64"] = lambda pixels: base64.b64encode(png_bytes(pixels)).decode()
    return environment
