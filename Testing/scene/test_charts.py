"""Charts of a run: made once, updated in place, saved with the scene."""

import numpy as np
from loaded_case import loaded_case
from mrml_headless import HeadlessScene

from SegWithUSlicerLib.scene.case_nodes import find_cases
from SegWithUSlicerLib.scene.charts import Line, Titles, put_chart

PLOT_CLASSES = ("vtkMRMLPlotChartNode", "vtkMRMLPlotSeriesNode", "vtkMRMLTableNode")
TITLES = Titles("Risk", "Coverage", "Error rate")


def _drawn(chart) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Series by name as x and y, the repeated last points taken away."""
    found = {}
    for index in range(chart.GetNumberOfPlotSeriesNodes()):
        series = chart.GetNthPlotSeriesNode(index)
        table = series.GetTableNode().GetTable()
        x, y = (
            np.array([column.GetValue(row) for row in range(column.GetNumberOfValues())])
            for column in map(table.GetColumnByName, (series.GetXColumnName(), series.GetYColumnName()))
        )
        points = list(dict.fromkeys(zip(x, y, strict=True)))
        found[series.GetName()] = tuple(np.array(points).T)
    return found


def _count(scene) -> list[int]:
    return [scene.GetNumberOfNodesByClass(name) for name in PLOT_CLASSES]


def _lines(*ends: float) -> dict[str, Line]:
    return {f"line{number}": Line(f"to {end}", [0, 0.5, 1], [0, end / 2, end]) for number, end in enumerate(ends)}


def test_charts_are_made_once_and_updated_in_place(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder)
    before = _count(case.scene)
    chart = put_chart(case.nodes, "risk", TITLES, _lines(0.05, 0.06))
    put_chart(case.nodes, "other", TITLES, {"one": Line("one", np.linspace(0, 1, 101), np.linspace(0, 1, 101))})
    assert _count(case.scene) == [before[0] + 2, before[1] + 3, before[2] + 1], "all read from one table"
    table = chart.GetNthPlotSeriesNode(0).GetTableNode().GetTable()
    assert {table.GetColumn(index).GetNumberOfValues() for index in range(table.GetNumberOfColumns())} == {101}
    assert put_chart(case.nodes, "risk", TITLES, _lines(0.04)) is chart
    drawn = _drawn(chart)
    assert list(drawn) == ["to 0.04"]
    assert np.allclose(drawn["to 0.04"], ([0, 0.5, 1], [0, 0.02, 0.04]))
    case.scene.RemoveNode(chart.GetNthPlotSeriesNode(0))
    assert list(_drawn(put_chart(case.nodes, "risk", TITLES, _lines(0.04)))) == ["to 0.04"], "a deleted one comes back"


def test_the_legend_has_room_above_every_curve(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder)
    chart = put_chart(case.nodes, "risk", TITLES, _lines(1.0, 0.5))
    assert (bool(chart.GetYAxisRangeAuto()), list(chart.GetYAxisRange())) == (False, [0.0, 1.4])


def test_a_loaded_bundle_goes_on_with_its_own_charts(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder)
    put_chart(case.nodes, "risk", TITLES, _lines(0.05))
    count = _count(case.scene)
    case.headless.save_bundle(tmp_path / "scene.mrb")
    headless = HeadlessScene(tmp_path / "again")
    headless.load_bundle(tmp_path / "scene.mrb")
    (nodes,) = find_cases(headless.scene)
    chart = put_chart(nodes, "risk", TITLES, _lines(0.07))
    assert _count(headless.scene) == count
    assert np.allclose(_drawn(chart)["to 0.07"], ([0, 0.5, 1], [0, 0.035, 0.07]))
