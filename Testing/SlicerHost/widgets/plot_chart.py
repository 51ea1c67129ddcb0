"""One vtkChartXY that draws the plot nodes of MRML, and its picture."""

from __future__ import annotations

from typing import Any

import numpy as np
import vtk
from numpy.typing import NDArray
from vtkmodules.util.numpy_support import vtk_to_numpy

_BACKGROUND = (255, 253, 246, 255)  # Slicer's
_NOT_NUMBERS = (vtk.VTK_STRING, vtk.VTK_BIT)
_PENS = ("NO_PEN", "SOLID_LINE", "DASH_LINE", "DOT_LINE", "DASH_DOT_LINE", "DASH_DOT_DOT_LINE")
_PEN_OF_STYLE = ("None", "Solid", "Dash", "Dot", "DashDot", "DashDotDot")
_MARKERS = ("None", "Cross", "Plus", "Square", "Circle", "Diamond")  # in the order of vtkPlotPoints' styles
_SIDES_X, _SIDES_Y = (vtk.vtkAxis.BOTTOM, vtk.vtkAxis.TOP), (vtk.vtkAxis.LEFT, vtk.vtkAxis.RIGHT)


class ChartPicture:
    """An off-screen window with one chart."""

    def __init__(self) -> None:
        self.window = vtk.vtkRenderWindow()
        self.window.SetOffScreenRendering(1)
        self.window.SetMultiSamples(0)
        self.view = vtk.vtkContextView()
        self.view.SetRenderWindow(self.window)
        self.chart = vtk.vtkChartXY()
        self.chart.GetBackgroundBrush().SetColor(*_BACKGROUND)
        self.view.GetScene().AddItem(self.chart)

    def update(self, node: Any) -> list[str]:
        """Draw a chart node (None: nothing) anew; returns a sentence for each curve that cannot be drawn."""
        self.chart.ClearPlots()
        if node is None:
            return []
        problems = []
        for index in range(node.GetNumberOfPlotSeriesNodes()):
            series = node.GetNthPlotSeriesNode(index)
            problem = "a series of the chart is no longer in the scene" if series is None else self._add(series)
            if problem:
                problems.append(problem)
        self._title_and_axes(node)
        return problems

    def _add(self, series: Any) -> str:
        problem = undrawable(series)
        if problem:
            return problem
        is_bar = series.GetPlotType() in (series.PlotTypeBar, series.PlotTypeScatterBar)
        plot = self.chart.AddPlot(vtk.vtkChart.BAR if is_bar else vtk.vtkChart.LINE)
        plot.SetWidth(series.GetLineWidth())
        plot.SetColorF(*series.GetColor())
        plot.SetOpacity(series.GetOpacity())
        if not is_bar:
            styles = {getattr(series, f"LineStyle{name}"): pen for name, pen in zip(_PEN_OF_STYLE, _PENS, strict=True)}
            plot.GetPen().SetLineType(getattr(vtk.vtkPen, styles[series.GetLineStyle()]))
            markers = {getattr(series, f"MarkerStyle{name}"): place for place, name in enumerate(_MARKERS)}
            plot.SetMarkerStyle(markers[series.GetMarkerStyle()])
            plot.SetMarkerSize(series.GetMarkerSize())
        y_name = series.GetYColumnName()
        by_index = not series.IsXColumnRequired()
        plot.SetUseIndexForXSeries(by_index)
        plot.SetInputData(series.GetTableNode().GetTable(), y_name if by_index else series.GetXColumnName(), y_name)
        plot.SetLabel(series.GetName() or y_name)
        return ""

    def _title_and_axes(self, node: Any) -> None:
        self.chart.SetTitle((node.GetTitle() or "") if node.GetTitleVisibility() else "")
        self.chart.SetShowLegend(node.GetLegendVisibility())
        for sides, letter in ((_SIDES_X, "X"), (_SIDES_Y, "Y")):
            read = {name: getattr(node, f"Get{letter}Axis{name}")() for name in ("Title", "TitleVisibility")}
            for side in sides:
                axis = self.chart.GetAxis(side)
                axis.SetTitle((read["Title"] or "") if read["TitleVisibility"] else "")
                axis.SetGridVisible(node.GetGridVisibility())
                if getattr(node, f"Get{letter}AxisRangeAuto")():
                    axis.SetBehavior(vtk.vtkAxis.AUTO)
                else:
                    axis.SetBehavior(vtk.vtkAxis.FIXED)
                    axis.SetUnscaledRange(*getattr(node, f"Get{letter}AxisRange")())

    def pixels(self, size: tuple[int, int]) -> NDArray[np.uint8]:
        """RGB picture of (width, height), first row on top."""
        self.window.SetSize(*size)
        self.window.Render()
        grab = vtk.vtkWindowToImageFilter()
        grab.SetInput(self.window)
        grab.ReadFrontBufferOff()
        grab.Update()
        scalars = vtk_to_numpy(grab.GetOutput().GetPointData().GetScalars())
        return np.ascontiguousarray(scalars.reshape(size[1], size[0], -1)[::-1, :, :3])


def undrawable(series: Any) -> str:
    """Why Slicer leaves this series out of the chart, or an empty string."""
    name = series.GetName()
    table = series.GetTableNode().GetTable() if series.GetTableNode() is not None else None
    if table is None:
        return f"series {name} has no table"
    needed = {"Y": series.GetYColumnName()}
    if series.IsXColumnRequired():
        needed["X"] = series.GetXColumnName()
    for letter, column_name in needed.items():
        if not column_name:
            return f"series {name} names no {letter} column"
        column = table.GetColumnByName(column_name)
        if column is None:
            return f"series {name}: the table has no column {column_name}"
        if column.GetDataType() in _NOT_NUMBERS:
            return f"series {name}: column {column_name} holds no numbers"
    return ""
