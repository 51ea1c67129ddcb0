"""The segmentation that a run writes into: may its content be replaced, and what belonged to it before.

What a person has made is never replaced: edits, a review, segments that another module or the user has put there.
"""

import slicer

from ..i18n import _
from .case_nodes import CaseNodes, find_cases, remove_node
from .segmentation import JUDGED_ATTRIBUTE, was_touched


def run_of(segmentation: "slicer.vtkMRMLSegmentationNode") -> CaseNodes | None:
    """Return the run whose result this is; None for a segmentation of another module or of the user."""
    scene = segmentation.GetScene()
    runs = [] if scene is None else find_cases(scene)
    return next((nodes for nodes in runs if nodes.segmentation is segmentation), None)


def why_kept(segmentation: "slicer.vtkMRMLSegmentationNode") -> str:
    """Return why a run does not replace the content of this segmentation, in half a sentence; "" if it does."""
    name, run = segmentation.GetName(), run_of(segmentation)
    if run is None:
        if segmentation.GetSegmentation().GetNumberOfSegments() == 0:
            return ""
        return _("'{name}' holds segments that this module has not made").format(name=name)
    if segmentation.GetAttribute(JUDGED_ATTRIBUTE):
        return _("'{name}' was reviewed").format(name=name)
    return _("'{name}' was edited").format(name=name) if was_touched(segmentation) else ""


def take_over(segmentation: "slicer.vtkMRMLSegmentationNode") -> None:
    """Free a segmentation from its run: the run's maps, table and regions told of what is replaced, and are removed."""
    run = run_of(segmentation)
    if run is None:
        return
    parts = [*run.maps.values(), *run.near.values(), run.table, run.regions, run.regions_text, run.original, run.hub]
    for part in parts:
        if part is not None:
            remove_node(part)
