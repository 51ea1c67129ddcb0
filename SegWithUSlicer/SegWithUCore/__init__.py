"""The method and the engine of SegWithU for Slicer; needs no Slicer, Qt or VTK. In notebooks: `import segwithu`."""

from .version import __version__ as __version__
