"""The method and the engine of SegWithU for Slicer; needs no Slicer, Qt or VTK."""

__version__ = "0.2.0"
