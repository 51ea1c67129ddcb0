"""A chart of the scene as a PNG file, drawn off-screen: of the same size wherever and whether a view shows it."""

from pathlib import Path

import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from SegWithUCore.util.atomic_files import atomic_file

SIZE = (1200, 800)
_TITLE_PT, _LABEL_PT, _LEGEND_PT = 28, 22, 20
_LINES_WIDER, _MARKS_WIDER = 2.0, 2.0
"""Than in a view, whose pixels are fewer."""


def write_chart_png(chart: "slicer.vtkMRMLPlotChartNode", path: Path) -> None:
    """Write the picture of a chart, whole or not at all.

    Raises:
        OutputError: the folder cannot be written to, or the disk is full.
    """
    window = vtk.vtkRenderWindow()
    window.SetOffScreenRendering(1)
    window.SetSize(*SIZE)
    view = vtk.vtkContextView()
    view.SetRenderWindow(window)
    view.GetRenderer().SetBackground(1.0, 1.0, 1.0)
    view.GetScene().AddItem(_drawn(chart))
    window.Render()
    grab = vtk.vtkWindowToImageFilter()
    grab.SetInput(window)
    grab.ReadFrontBufferOff()
    writer = vtk.vtkPNGWriter()
    writer.SetInputConnection(grab.GetOutputPort())
    writer.WriteToMemoryOn()
    writer.Write()
    content = vtk_to_numpy(writer.GetResult()).tobytes()
    with atomic_file(path) as work:
        work.write_bytes(content)


def _drawn(chart: "slicer.vtkMRMLPlotChartNode") -> vtk.vtkChartXY:
    drawn = vtk.vtkChartXY()
    drawn.SetTitle(chart.GetTitle())
    drawn.GetTitleProperties().SetFontSize(_TITLE_PT)
    for side, title in (
        (vtk.vtkAxis.BOTTOM, chart.GetXAxisTitle()),
        (vtk.vtkAxis.LEFT, chart.GetYAxisTitle()),
    ):
        axis = drawn.GetAxis(side)
        axis.SetTitle(title)
        axis.GetTitleProperties().SetFontSize(_LABEL_PT)
        axis.GetLabelProperties().SetFontSize(_LABEL_PT)
    for index in range(chart.GetNumberOfPlotSeriesNodes()):
        _add(drawn, chart.GetNthPlotSeriesNode(index))
    drawn.SetShowLegend(chart.GetLegendVisibility())
    legend = drawn.GetLegend()
    legend.GetLabelProperties().SetFontSize(_LEGEND_PT)
    # Above the curves, which begin low at the left in every chart of ours.
    legend.SetHorizontalAlignment(vtk.vtkChartLegend.LEFT)
    legend.SetVerticalAlignment(vtk.vtkChartLegend.TOP)
    return drawn


def _add(drawn: vtk.vtkChartXY, series: "slicer.vtkMRMLPlotSeriesNode") -> None:
    """Add a line of a scatter plot, which all series of ours are."""
    plot = drawn.AddPlot(vtk.vtkChart.LINE)
    table = series.GetTableNode().GetTable()
    plot.SetInputData(table, series.GetXColumnName(), series.GetYColumnName())
    plot.SetLabel(series.GetName())
    plot.SetColorF(*series.GetColor())
    plot.SetWidth(series.GetLineWidth() * _LINES_WIDER)
    styles = {
        series.LineStyleNone: vtk.vtkPen.NO_PEN,
        series.LineStyleSolid: vtk.vtkPen.SOLID_LINE,
        series.LineStyleDash: vtk.vtkPen.DASH_LINE,
    }
    marks = {
        series.MarkerStyleNone: vtk.vtkPlotPoints.NONE,
        series.MarkerStyleCircle: vtk.vtkPlotPoints.CIRCLE,
        series.MarkerStyleDiamond: vtk.vtkPlotPoints.DIAMOND,
    }
    plot.GetPen().SetLineType(styles.get(series.GetLineStyle(), vtk.vtkPen.SOLID_LINE))
    plot.SetMarkerStyle(marks.get(series.GetMarkerStyle(), vtk.vtkPlotPoints.NONE))
    plot.SetMarkerSize(series.GetMarkerSize() * _MARKS_WIDER)
