"""The stand-in of the application as a fixture, for its stand-in of pip."""

from SlicerHost.fixtures import slicer_host

__all__ = ["slicer_host"]
