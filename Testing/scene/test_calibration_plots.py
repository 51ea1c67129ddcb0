"""Reliability and risk-coverage as Slicer's plot nodes: of the model, of a case against a reference, and as PNG."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import slicer
from loaded_case import LoadedCase, loaded_case, paint
from segwithu_command import MODEL

from SegWithUCore.metrics.curves import curves_of_case
from SegWithUCore.models.bundle import read_bundle
from SegWithUCore.models.curves import CURVES_FILE
from SegWithUCore.util.errors import InputError
from SegWithUSlicerLib.cases.case_switch import remove_case
from SegWithUSlicerLib.review.calibration_plots import (
    compare,
    curves_of_model,
    put_reliability,
    put_risk_coverage,
    titled_case,
    titled_model,
)
from SegWithUSlicerLib.scene.case_nodes import PLOT_ROLE

PLOTS = ("vtkMRMLPlotChartNode", "vtkMRMLPlotSeriesNode")


@pytest.fixture
def case(tmp_path: Path, data_folder: Path) -> LoadedCase:
    return loaded_case(tmp_path, data_folder, regions=True)


def expert(case: LoadedCase, names: tuple[str, ...] = ()) -> "slicer.vtkMRMLSegmentationNode":
    """The model's segmentation as somebody's own, with all structures or those of these names."""
    node = case.scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Expert")
    segmentation = node.GetSegmentation()
    segmentation.DeepCopy(case.nodes.segmentation.GetSegmentation())
    node.SetReferenceImageGeometryParameterFromVolumeNode(case.volume)
    for identifier in list(segmentation.GetSegmentIDs()):
        if names and segmentation.GetSegment(identifier).GetName() not in names:
            segmentation.RemoveSegment(identifier)
    return node


def of_the_shipped_model(case: LoadedCase, weights: str | None = None) -> None:
    """Let the case say that the shipped model made it."""
    bundle = read_bundle(MODEL)
    model = {
        "name": bundle.name,
        "weights_sha256": weights or bundle.weights_sha256,
        "calibration_sha256": bundle.calibration_sha256,
    }
    case.nodes.hub.SetParameter("case_json", json.dumps({**case.nodes.case.raw, "model": model}))


def drawn(chart: "slicer.vtkMRMLPlotChartNode") -> dict[str, np.ndarray]:
    """The points of each series by name, (n, 2), repeated last ones left out."""
    found = {}
    for index in range(chart.GetNumberOfPlotSeriesNodes()):
        series = chart.GetNthPlotSeriesNode(index)
        table = series.GetTableNode().GetTable()
        columns = [table.GetColumnByName(name) for name in (series.GetXColumnName(), series.GetYColumnName())]
        points = [tuple(column.GetValue(row) for column in columns) for row in range(columns[0].GetNumberOfValues())]
        found[series.GetName()] = np.array(list(dict.fromkeys(points)))
    return found


def test_the_model_is_found_by_the_hashes_that_the_case_names(case: LoadedCase, tmp_path: Path) -> None:
    of_the_shipped_model(case)
    found = curves_of_model(case.nodes.case, [tmp_path, MODEL])
    assert (found.head, found.cases) == ("context", 44)
    chart = put_reliability(case.nodes, {"model": titled_model("hippocampus", found)})
    (name, points) = list(drawn(chart).items())[1]
    whole = found.regions["whole"]
    assert name == "hippocampus, 44 test cases"
    bars = [bar for bar in whole.bins if bar.voxels >= 30]
    assert np.allclose(points, [(bar.predicted, bar.observed) for bar in bars])
    risk = drawn(put_risk_coverage(case.nodes, {"model": titled_model("hippocampus", found)}))
    ((name, points),) = risk.items()
    assert np.allclose(points, np.stack([whole.coverage, whole.risk], 1))


def test_a_model_without_curves_and_one_that_is_not_there_say_so(case: LoadedCase, tmp_path: Path) -> None:
    older = shutil.copytree(MODEL, tmp_path / "older")
    (older / CURVES_FILE).unlink()
    of_the_shipped_model(case)
    with pytest.raises(InputError, match="holds no curves: segwithu evaluate --record-curves"):
        curves_of_model(case.nodes.case, [older])
    with pytest.raises(InputError, match="not installed here as it was when it made this case"):
        curves_of_model(case.nodes.case, [])
    of_the_shipped_model(case, weights="0" * 64)
    with pytest.raises(InputError, match="not installed here"):
        curves_of_model(case.nodes.case, [MODEL])
    (older / CURVES_FILE).write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match=CURVES_FILE):
        curves_of_model(case.nodes.case, [older])


def test_a_case_is_compared_as_an_evaluation_does_and_without_edits(case: LoadedCase) -> None:
    reference = expert(case)
    kji = case.voxel(1)
    truth = case.disk.labels.copy()
    segmentation = reference.GetSegmentation()
    names = [segmentation.GetSegment(identifier).GetName() for identifier in segmentation.GetSegmentIDs()]
    segmentation.RemoveSegment(segmentation.GetSegmentIdBySegmentName(names[1]))
    truth[truth == 2] = 0
    paint(case, 1, kji)
    found = compare(case.nodes, reference)
    expected = curves_of_case(case.disk.error, case.disk.labels != truth)
    assert found.curves == expected
    assert found.missing == [names[1]]
    shown = {"case": titled_case(reference, found.curves)}
    assert "this case against Expert" in list(drawn(put_reliability(case.nodes, shown)))[1]


def test_a_right_case_has_no_risk_and_a_foreign_reference_is_refused(case: LoadedCase) -> None:
    found = compare(case.nodes, expert(case))
    assert (found.curves.errors, set(found.curves.risk), list(found.missing)) == (0, {0.0}, [])
    other = case.scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Liver")
    with pytest.raises(InputError, match="Liver holds none of these structures"):
        compare(case.nodes, other)
    case.scene.RemoveNode(case.nodes.maps["error_probability"])
    with pytest.raises(InputError, match="no error probability"):
        compare(case.nodes, expert(case))


def test_charts_lie_in_the_folder_of_the_case_and_go_with_it(case: LoadedCase) -> None:
    before = [case.scene.GetNumberOfNodesByClass(name) for name in PLOTS]
    tables = case.scene.GetNumberOfNodesByClass("vtkMRMLTableNode")
    shown = {"case": titled_case(expert(case), compare(case.nodes, expert(case)).curves)}
    charts = [put(case.nodes, shown) for put in (put_reliability, put_risk_coverage)]
    assert case.nodes.hub.GetNodeReference(PLOT_ROLE + "reliability") is charts[0]
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(case.scene)
    folder = hierarchy.GetItemParent(hierarchy.GetItemByDataNode(case.nodes.table))
    assert folder != hierarchy.GetSceneItemID()
    assert len(case.nodes.plots) == 2 + 3 + 1
    assert {hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node)) for node in case.nodes.plots} == {folder}
    elsewhere = hierarchy.CreateFolderItem(hierarchy.GetSceneItemID(), "Mine")
    hierarchy.SetItemParent(hierarchy.GetItemByDataNode(charts[0]), elsewhere)
    put_reliability(case.nodes, shown)
    assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(charts[0])) == elsewhere, "what the user moves stays"
    remove_case(case.nodes)
    assert [case.scene.GetNumberOfNodesByClass(name) for name in PLOTS] == before
    assert case.scene.GetNumberOfNodesByClass("vtkMRMLTableNode") == tables - 1
