"""The method and the engine of SegWithU for Slicer; needs no Slicer, Qt or VTK.

In notebooks and scripts (docs/user/python.md):

    from SegWithUCore import load_model, segment_image

Importing the package loads no third-party package; torch, SimpleITK and numpy come with the first use of these names.
"""

from typing import TYPE_CHECKING

from .version import __version__ as __version__

if TYPE_CHECKING:
    from .api import SegmentationResult, load_model, segment_image

__all__ = ["SegmentationResult", "load_model", "segment_image"]


def __getattr__(name: str) -> object:
    """Load the public functions when they are first asked for (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import api

    return getattr(api, name)


def __dir__() -> list[str]:
    """List the public functions, too."""
    return sorted({*globals(), *__all__})
