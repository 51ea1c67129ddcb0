"""The plots of a review as plot nodes: what is drawn, in place, and gone with the run."""

import numpy as np
import pytest
from loaded_case import loaded_case
from mrml_headless import HeadlessScene

from SegWithUSlicerLib.review.budget_plot import BudgetCurve, RiskCurve, put_budget, put_risk_coverage
from SegWithUSlicerLib.scene.charts import remove_charts
from SegWithUSlicerLib.scene.load_case import find_cases
from SegWithUSlicerLib.scene.review_nodes import regions_of

PLOT_CLASSES = ("vtkMRMLPlotChartNode", "vtkMRMLPlotSeriesNode", "vtkMRMLTableNode")


def _expected(nodes) -> list[float]:
    """Share of expected errors in the first 0, 1, 2, ... regions."""
    sums = np.cumsum([0, *(region.expected_wrong_mm3 for region in regions_of(nodes))])
    return list(sums / sums[-1])


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


def test_budget_chart_draws_the_expected_share_and_a_mark_at_the_choice(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder, regions=True)
    expected = _expected(case.nodes)
    chart = put_budget(case.nodes, BudgetCurve(expected, 2))
    drawn = _drawn(chart)
    assert list(drawn) == ["expected errors", "your budget"]
    assert np.allclose(drawn["expected errors"], (range(len(expected)), expected))
    assert np.allclose(drawn["your budget"], ([2], [expected[2]]))
    assert chart.GetXAxisTitle() == "Regions looked at"
    assert chart.GetYAxisTitle() == "Share of errors covered"
    ends = list(chart.GetYAxisRange())
    assert (bool(chart.GetYAxisRangeAuto()), ends) == (False, [0.0, 1.0]), "the legend hides no end of a curve"
    mark = chart.GetNthPlotSeriesNode(1)
    assert mark.GetMarkerStyle() == mark.MarkerStyleDiamond
    assert mark.GetLineStyle() == mark.LineStyleNone


def test_true_curve_comes_with_a_reference_and_goes_without(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder, regions=True)
    expected = _expected(case.nodes)
    true = list(np.sqrt(expected))
    chart = put_budget(case.nodes, BudgetCurve(expected, 1))
    assert put_budget(case.nodes, BudgetCurve(expected, 1, true)) is chart
    drawn = _drawn(chart)
    assert list(drawn) == ["expected errors", "true errors (reference)", "your budget"]
    assert np.allclose(drawn["true errors (reference)"], (range(len(true)), true))
    colours = {chart.GetNthPlotSeriesNode(index).GetColor() for index in range(3)}
    assert len(colours) == 3
    put_budget(case.nodes, BudgetCurve(expected, 1))
    assert list(_drawn(chart)) == ["expected errors", "your budget"]
    assert _count(case.scene)[1] == 2


def test_charts_are_made_once_and_updated_in_place(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder, regions=True)
    tables = _count(case.scene)[2]
    expected = _expected(case.nodes)
    risk = {
        "expected": RiskCurve([0, 0.5, 1], [0, 0.01, 0.05]),
        "true": RiskCurve([0, 0.4, 0.8, 1], [0, 0, 0.02, 0.06]),
    }
    put_budget(case.nodes, BudgetCurve(expected, 0))
    chart = put_risk_coverage(case.nodes, risk)
    count = _count(case.scene)
    # All lines of both charts read from one table.
    assert count == [2, 4, tables + 1]
    for chosen in (1, 3, 99):
        budget = put_budget(case.nodes, BudgetCurve(expected, chosen))
        put_risk_coverage(case.nodes, risk)
        assert _drawn(budget)["your budget"][0] == min(chosen, len(expected) - 1)
    assert _count(case.scene) == count
    drawn = _drawn(chart)
    assert np.allclose(drawn["true"], ([0, 0.4, 0.8, 1], [0, 0, 0.02, 0.06]))
    assert np.allclose(drawn["expected"], ([0, 0.5, 1], [0, 0.01, 0.05]))


def test_columns_of_one_table_are_equally_long(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder, regions=True)
    put_budget(case.nodes, BudgetCurve([0.0, 0.5, 0.8, 1.0], 2))
    chart = put_risk_coverage(case.nodes, {"expected": RiskCurve(np.linspace(0, 1, 101), np.linspace(0, 0.1, 101))})
    table = chart.GetNthPlotSeriesNode(0).GetTableNode().GetTable()
    lengths = {table.GetColumn(index).GetNumberOfValues() for index in range(table.GetNumberOfColumns())}
    assert lengths == {101}


def test_a_loaded_bundle_goes_on_with_its_own_charts(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder, regions=True)
    expected = _expected(case.nodes)
    put_budget(case.nodes, BudgetCurve(expected, 2))
    put_risk_coverage(case.nodes, {"expected": RiskCurve([0, 1], [0, 0.05])})
    count = _count(case.scene)
    case.headless.save_bundle(tmp_path / "scene.mrb")
    headless = HeadlessScene(tmp_path / "again")
    headless.load_bundle(tmp_path / "scene.mrb")
    (nodes,) = find_cases(headless.scene)
    assert _count(headless.scene) == count
    chart = put_budget(nodes, BudgetCurve(expected, 3))
    assert _count(headless.scene) == count
    assert np.allclose(_drawn(chart)["your budget"], ([3], [expected[3]]))


def test_charts_go_with_the_run_and_deleted_ones_are_made_anew(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder, regions=True)
    count = _count(case.scene)
    expected = _expected(case.nodes)
    chart = put_budget(case.nodes, BudgetCurve(expected, 2))
    case.scene.RemoveNode(chart.GetNthPlotSeriesNode(0).GetTableNode())
    case.scene.RemoveNode(chart.GetNthPlotSeriesNode(0))
    assert put_budget(case.nodes, BudgetCurve(expected, 2)) is chart
    assert list(_drawn(chart)) == ["expected errors", "your budget"]
    remove_charts(case.nodes)
    assert _count(case.scene) == count
    remove_charts(case.nodes)


def test_a_case_without_regions_has_a_chart_of_one_point(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder)
    chart = put_budget(case.nodes, BudgetCurve([0.0], 5))
    assert np.allclose(_drawn(chart)["your budget"], ([0], [0]))
    with pytest.raises(IndexError):
        put_budget(case.nodes, BudgetCurve([], 0))
