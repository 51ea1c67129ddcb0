"""The stand-in of the application as fixtures."""

from SlicerHost.fixtures import open_module, slicer_host

__all__ = ["open_module", "slicer_host"]
