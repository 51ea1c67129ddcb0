"""How far the error probability can be trusted, as charts: on the model's test cases, and on this case.

The curves of the model come with its bundle, those of the case from a reference in the scene.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import slicer
import vtk

from SegWithUCore.case.case_file import CaseDescription
from SegWithUCore.metrics.curves import ErrorCurves, curves_of_case
from SegWithUCore.models.bundle import block_sha256, read_unchecked
from SegWithUCore.models.curves import WHOLE, ModelCurves, find_curves
from SegWithUCore.util.errors import InputError

from ..i18n import _
from ..scene.case_images import array_of
from ..scene.case_nodes import CaseNodes
from ..scene.charts import Line, Style, Titles, put_chart
from .edits import grid_of, labels_on_grid, read_labels, whole_box

RELIABILITY, RISK_COVERAGE = "reliability", "coverage"
FEWEST_VOXELS = 30
"""Of a bin that is drawn: the share of wrong ones among fewer says little."""


@dataclass(frozen=True)
class TitledCurves:
    """Curves with the words that the legend begins with."""

    title: str
    curves: ErrorCurves


@dataclass(frozen=True)
class CaseCurves:
    """The curves of a case against a reference, and the structures that the reference lacks."""

    curves: ErrorCurves
    missing: Sequence[str]


def curves_of_model(case: CaseDescription, folders: Sequence[Path]) -> ModelCurves:
    """Return the curves of the model, with the calibration, that made a case.

    Args:
        folders: of the bundles that are installed.

    Raises:
        InputError: there are none; why, for the user.
    """
    model = case.raw.get("model") or {}
    weights, calibration = str(model.get("weights_sha256")), model.get("calibration_sha256")
    if calibration is None:
        text = _("{model} is not calibrated: it has no error probability that could be right or wrong.")
        raise InputError(text.format(model=case.model_name))
    found = find_curves(folders, weights, str(calibration))
    if found is not None:
        return found
    if any(_is_model(folder, weights, str(calibration)) for folder in folders):
        text = _("The model {model} holds no curves: segwithu evaluate --record-curves measures them on test cases.")
    else:
        text = _("{model} is not installed here as it was when it made this case, so its curves are not known.")
    raise InputError(text.format(model=case.model_name))


def compare(nodes: CaseNodes, reference: "slicer.vtkMRMLNode") -> CaseCurves:
    """Compute the curves of a run against a reference: of the model's own segmentation, without edits.

    Raises:
        InputError: the reference cannot be compared with the case, or the case has no error probability.
    """
    if "error_probability" not in nodes.maps:
        raise InputError(_("This result has no error probability: segment with a calibrated model."))
    labels, truth = read_labels(nodes, original=True), reference_labels(nodes, reference)
    try:
        curves = curves_of_case(error_probability(nodes), labels != truth)
    except ValueError as error:
        raise InputError(_("No voxel of this result was assessed.")) from error
    return CaseCurves(curves, names_without_reference(nodes, labels, truth))


def titled_model(model_name: str, curves: ModelCurves) -> TitledCurves:
    """Name the curves of a model."""
    text = _("{model}, {n} test cases")
    return TitledCurves(text.format(model=model_name, n=curves.cases), curves.regions[WHOLE])


def titled_case(reference: "slicer.vtkMRMLNode", curves: ErrorCurves) -> TitledCurves:
    """Name the curves of the case."""
    return TitledCurves(_("this case against {reference}").format(reference=reference.GetName()), curves)


def describe(curves: ErrorCurves) -> str:
    """Say how many voxels there are, and both scores."""
    text = _("{voxels} voxels, {wrong} wrong, ECE {ece}, AURC {aurc}")
    return text.format(
        voxels=f"{curves.voxels:,}",
        wrong=f"{curves.errors:,}",
        ece=f"{curves.expected_calibration_error:.3g}",
        aurc=f"{curves.aurc:.3g}",
    )


def put_reliability(nodes: CaseNodes, shown: Mapping[str, TitledCurves]) -> "slicer.vtkMRMLPlotChartNode":
    """Draw, or redraw, the reliability diagrams, in the order given, with the ideal.

    Args:
        shown: by key, a word that stays the same for what a user takes for the same line.
    """
    lines = {"ideal": Line(_("ideal"), [0.0, 1.0], [0.0, 1.0], Style.GUIDE)}
    for key, one in shown.items():
        bins = [bar for bar in one.curves.bins if bar.voxels >= FEWEST_VOXELS] or one.curves.bins
        lines[key] = Line(one.title, [bar.predicted for bar in bins], [bar.observed for bar in bins], Style.POINTS)
    titles = Titles(
        _("{input}: reliability of the error probability").format(input=nodes.label),
        _("Error probability"),
        _("Share of these voxels that is wrong"),
    )
    return put_chart(nodes, RELIABILITY, titles, lines)


def put_risk_coverage(nodes: CaseNodes, shown: Mapping[str, TitledCurves]) -> "slicer.vtkMRMLPlotChartNode":
    """Draw, or redraw, the risk-coverage curves, in the order given; see `put_reliability`."""
    lines = {key: Line(one.title, one.curves.coverage, one.curves.risk) for key, one in shown.items()}
    titles = Titles(
        _("{input}: risk and coverage").format(input=nodes.label),
        _("Coverage: share of voxels, least uncertain first"),
        _("Risk: share of them that is wrong"),
    )
    return put_chart(nodes, RISK_COVERAGE, titles, lines)


def _is_model(folder: Path, weights: str, calibration: str) -> bool:
    try:
        bundle = read_unchecked(folder)
    except InputError:
        return False
    blocks = [bundle.calibration, *(head.calibration for head in bundle.heads)]
    return bundle.weights_sha256 == weights and calibration in [block_sha256(block) for block in blocks if block]


def error_probability(nodes: CaseNodes) -> np.ndarray:
    """Return the error probability of each voxel of a calibrated run, negative where it was not assessed; k, j, i."""
    error: np.ndarray = array_of(nodes.maps["error_probability"].GetImageData())
    return error


def time_of(reference: "slicer.vtkMRMLNode") -> int:
    """Return a number that grows with every change of the reference's voxels."""
    if reference.IsA("vtkMRMLSegmentationNode"):
        return int(reference.GetSegmentation().GetMTime())
    return int(reference.GetImageData().GetMTime())


def reference_labels(nodes: CaseNodes, reference: "slicer.vtkMRMLNode") -> np.ndarray:
    """Read the reference at the voxels of the run's input; axes k, j, i.

    A segmentation's segments are matched with the structures by name, whatever their case; a label map's values are
    taken as they are. Where the reference does not reach, there is background.

    Raises:
        InputError: no segment has the name of a structure, or no voxel a structure's value.
    """
    values = {structure.name.casefold(): structure.value for structure in nodes.case.structures}
    if reference.IsA("vtkMRMLSegmentationNode"):
        segmentation = reference.GetSegmentation()
        table = _matched(segmentation, values)
    else:
        segmentation = _as_segmentation(reference, set(values.values()))
        table = {identifier: int(identifier) for identifier in segmentation.GetSegmentIDs()}
    if not table:
        wanted = ", ".join(structure.name for structure in nodes.case.structures)
        text = _("{reference} holds none of these structures: {wanted}. Name its segments so, or choose another one.")
        raise InputError(text.format(reference=reference.GetName(), wanted=wanted))
    shape, ijk_to_ras = grid_of(nodes)
    _check_position(nodes, reference)
    return labels_on_grid(segmentation, table, whole_box(shape), ijk_to_ras)


def _matched(segmentation: "slicer.vtkSegmentation", values: Mapping[str, int]) -> dict[str, int]:
    names = {identifier: segmentation.GetSegment(identifier).GetName() for identifier in segmentation.GetSegmentIDs()}
    return {identifier: values[name.casefold()] for identifier, name in names.items() if name.casefold() in values}


def _as_segmentation(volume: "slicer.vtkMRMLLabelMapVolumeNode", values: set[int]) -> "slicer.vtkSegmentation":
    """Convert a label map to a segmentation outside any scene, with a segment for each structure that occurs."""
    image, matrix = slicer.vtkOrientedImageData(), vtk.vtkMatrix4x4()
    image.ShallowCopy(volume.GetImageData())
    volume.GetIJKToRASMatrix(matrix)
    image.SetImageToWorldMatrix(matrix)
    segmentation = slicer.vtkSegmentation()
    name = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()
    segmentation.SetSourceRepresentationName(name)
    for value in sorted(values & set(np.unique(array_of(volume.GetImageData())).tolist())):
        segment = slicer.vtkSegment()
        segment.SetName(str(value))
        segment.SetLabelValue(value)
        segment.AddRepresentation(name, image)
        segmentation.AddSegment(segment, str(value))
    return segmentation


def _check_position(nodes: CaseNodes, reference: "slicer.vtkMRMLNode") -> None:
    own = nodes.reference.GetTransformNodeID() if nodes.reference is not None else None
    if reference.GetTransformNodeID() != own:
        text = _("{reference} lies under another transform than the image: put both under the same one.")
        raise InputError(text.format(reference=reference.GetName()))


def names_without_reference(nodes: CaseNodes, labels: np.ndarray, truth: np.ndarray) -> list[str]:
    """List the structures that were found and that the reference holds nowhere: all of them counts as wrong."""
    # Only among the wrong voxels, which are few: of a whole CT it takes half a second.
    suspects = set(np.unique(labels[labels != truth]).tolist()) - {0}
    absent = suspects - set(np.unique(truth).tolist()) if suspects else suspects
    return [structure.name for structure in nodes.case.structures if structure.value in absent]
