"""The part of the extension that needs Slicer.

Files that name `slicer` and `vtk` but no Qt (scene, overlays, jump, structures table) are shared by Slicer, the
browser page and the tests. Nothing here imports torch; nothing third-party that Slicer does not ship.
"""
