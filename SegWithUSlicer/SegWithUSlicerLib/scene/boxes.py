"""The boxes that a model placed in a whole head, as locked regions of interest in the slice views."""

from collections.abc import Sequence

import numpy as np
import vtk

from SegWithUCore.case.case_file import PlacedBox

from ..i18n import _
from .case_images import matrix_array
from .case_nodes import BOX, CaseNodes, remove_node

COLOUR = (240 / 255, 228 / 255, 66 / 255)
"""As in the preview."""


def put_boxes(nodes: CaseNodes, boxes: Sequence[PlacedBox], ijk_to_ras: vtk.vtkMatrix4x4) -> None:
    """Outline the boxes in the slice views; those of an earlier result of the run go.

    Args:
        ijk_to_ras: of the case's grid, without parent transforms.
    """
    for node in nodes.boxes:
        remove_node(node)
    nodes.hub.RemoveNodeReferenceIDs(BOX)
    for index, box in enumerate(boxes):
        title = _("{input} {side} box").format(input=nodes.label, side=box.side)
        node = nodes.hub.GetScene().AddNewNodeByClass("vtkMRMLMarkupsROINode", title)
        matrix, size = placed(box, matrix_array(ijk_to_ras))
        node.SetSize(*size)
        node.SetCenter(*matrix[:3, 3])
        to_node = vtk.vtkMatrix4x4()
        to_node.DeepCopy(matrix.ravel().tolist())
        node.SetAndObserveObjectToNodeMatrix(to_node)
        node.SetLocked(True)
        node.CreateDefaultDisplayNodes()
        display = node.GetDisplayNode()
        display.SetVisibility3D(False)
        display.SetFillVisibility(False)
        display.SetHandlesInteractive(False)
        display.SetPropertiesLabelVisibility(False)
        display.SetUseGlyphScale(False)
        display.SetGlyphSize(0.01)  # of the dot in the middle
        display.SetSelectedColor(*COLOUR)
        nodes.hub.SetNthNodeReferenceID(BOX, index, node.GetID())


def placed(box: PlacedBox, ijk_to_ras: np.ndarray) -> tuple[np.ndarray, list[float]]:
    """Return where a box lies: its axes and centre (4 x 4, right-handed), and its edges in mm."""
    spacing = np.linalg.norm(ijk_to_ras[:3, :3], axis=0)
    matrix = np.eye(4)
    matrix[:3, :3] = ijk_to_ras[:3, :3] / spacing
    if np.linalg.det(matrix[:3, :3]) < 0:
        matrix[:3, 2] *= -1  # the box is the same
    middle = np.add(box.index_ijk, np.subtract(box.size_ijk, 1) / 2)
    matrix[:3, 3] = ijk_to_ras[:3, :3] @ middle + ijk_to_ras[:3, 3]
    return matrix, (spacing * box.size_ijk).tolist()
