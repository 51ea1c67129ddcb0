"""The part of the extension that needs Slicer.

Package `scene` names `slicer` and `vtk` but no Qt: it is shared by Slicer, the browser page and the tests. Nothing here
imports torch at file scope, nor anything third-party that Slicer does not ship.
"""
