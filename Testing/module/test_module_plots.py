"""The section "Reliability plots": what it says, Slicer's plot view, the picture, and references of the user's own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import slicer
from opened_module import Opened, segment_crop
from reviewing import Reviewing


@pytest.fixture
def plots(reviewing: Reviewing) -> Iterator[Reviewing]:
    """The run of the sample crop, and the section unfolded."""
    reviewing.ui.plotsButton.collapsed = False
    yield reviewing
    reviewing.ui.plotReferenceSelector.setCurrentNode(None)
    reviewing.ui.plotsButton.collapsed = True
    reviewing.ui.plotBox.currentIndex = 0


def _expert(plots: Reviewing, lacking: int | None = None) -> Any:
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Expert")
    segmentation = node.GetSegmentation()
    segmentation.DeepCopy(plots.nodes.segmentation.GetSegmentation())
    node.SetReferenceImageGeometryParameterFromVolumeNode(plots.nodes.inputs[0])
    if lacking is not None:
        segmentation.RemoveSegment(segmentation.GetNthSegmentID(lacking))
    return node


def _shown() -> Any:
    return slicer.mrmlScene.GetNodeByID(slicer.app.applicationLogic().GetSelectionNode().GetActivePlotChartID() or "")


def _series(chart: Any) -> list[str]:
    return [chart.GetNthPlotSeriesNode(index).GetName() for index in range(chart.GetNumberOfPlotSeriesNodes())]


def test_the_model_alone_is_said_and_shown_in_a_layout_with_a_plot_view(plots: Reviewing) -> None:
    ui = plots.ui
    assert ui.plotsButton.visible
    assert ui.plotLabel.text.startswith("Hippocampus, 44 test cases: 2,742,975 voxels, 30,572 wrong, ECE ")
    assert not plots.nodes.plots, "nothing is drawn unasked"
    layout = slicer.app.layoutManager()
    before = layout.layout
    ui.showPlotButton.click()
    assert layout.layout == slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpPlotView != before
    chart = _shown()
    assert chart.GetTitle() == "Crop: reliability of the error probability"
    assert len(_series(chart)) == 2 and _series(chart)[0] == "ideal"
    table = chart.GetNthPlotSeriesNode(1).GetTableNode().GetTable()
    assert table.GetNumberOfRows() > 5, "the curve of the model is drawn"
    ui.plotBox.currentIndex = 1
    assert _shown().GetTitle() == "Crop: risk and coverage", "the view follows the choice"
    layout.setLayout(before)


def test_a_reference_adds_the_case_and_says_what_it_lacks(plots: Reviewing) -> None:
    ui, before = plots.ui, slicer.app.layoutManager().layout
    offered = ui.plotReferenceSelector
    assert offered.nodeCount() == 0, "a run's own segmentation is no reference"
    ui.showPlotButton.click()
    reference = _expert(plots, lacking=1)
    offered.setCurrentNode(reference)
    lines = ui.plotLabel.text.splitlines()
    assert len(lines) == 3 and lines[1].startswith("This case against Expert: ")
    assert lines[2].startswith("Expert holds no posterior hippocampus: ")
    assert len(_series(_shown())) == 3
    assert _series(_shown())[2].startswith("this case against Expert")
    other = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Liver")
    offered.setCurrentNode(other)
    assert ui.plotLabel.text.splitlines()[1].startswith("Liver holds none of these structures")
    assert len(_series(_shown())) == 2, "what cannot be compared is not drawn"
    slicer.app.layoutManager().setLayout(before)


def test_plots_go_with_the_run_and_the_scene(opened: Opened) -> None:
    nodes = segment_crop(opened)
    opened.ui.plotsButton.collapsed = False
    before = slicer.app.layoutManager().layout
    opened.ui.showPlotButton.click()
    assert len(slicer.util.getNodesByClass("vtkMRMLPlotChartNode")) == 1
    from SegWithUSlicerLib.cases.case_switch import remove_case

    remove_case(nodes)
    assert slicer.util.getNodesByClass("vtkMRMLPlotChartNode") == []
    assert slicer.util.getNodesByClass("vtkMRMLPlotSeriesNode") == []
    assert not opened.ui.plotsButton.visible
    segment_crop(opened)
    opened.ui.showPlotButton.click()
    opened.host.close_scene()
    assert not opened.ui.plotsButton.visible and opened.ui.plotLabel.text == ""
    opened.ui.plotsButton.collapsed = True
    slicer.app.layoutManager().setLayout(before)
