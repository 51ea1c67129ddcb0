"""What a model says of images that are not from home: the site that its calibration rests on.

No third-party packages, so that Slicer's own process can ask too.
"""

from collections.abc import Mapping
from typing import Any


def site_message(calibration: Mapping[str, Any] | None) -> str:
    """Say in one sentence on what a recalibrated model rests, and for what it holds; "" for any other."""
    site = (calibration or {}).get("site")
    if site is None:
        return ""
    factor = site.get("factor")
    words = "" if factor is None else ": factor {factor:.2g} ({low:.2g} to {high:.2g})".format(**factor)
    return f"Calibrated on {site['patients']} patients of one site{words}; it holds for images of that site."


def site_command(name: str) -> str:
    """Return the command that calibrates a model for a site."""
    return f"segwithu calibrate --model {name} --add MY_CASES --output {name}_here"
