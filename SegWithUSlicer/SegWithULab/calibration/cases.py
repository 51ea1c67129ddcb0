"""Labelled cases as a model predicts them, and the numbers of each case that calibrations are fitted on."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from scipy.special import softmax

from SegWithUCore.calibration.error_counts import ErrorCounts, count_errors
from SegWithUCore.calibration.error_probability import ErrorProbability, fit_with_directions
from SegWithUCore.calibration.per_structure import ProbabilitySums, probability_sums, soft_dice
from SegWithUCore.inference.engines import TORCH
from SegWithUCore.inference.finer_grid import maps_grid
from SegWithUCore.inference.given_mask import listed
from SegWithUCore.inference.model import Model
from SegWithUCore.inference.prediction import NetworkView, Prediction, predict, tempered_logits
from SegWithUCore.inference.preprocessing import to_working_grid
from SegWithUCore.io.grid import VoxelGrid
from SegWithUCore.metrics.overlap import dice_of, structure_dice
from SegWithUCore.models.bundle import Bundle
from SegWithUCore.models.input_spec import Label
from SegWithUCore.util.errors import InputError
from SegWithUCore.util.memory import give_back_freed_memory
from SegWithUCore.util.progress import Progress, in_turn, silent

from ..training.case_reading import AssessedCase, read_assessed, read_with_mask
from ..training.dataset import Case

SLAB = 1 << 23
"""Logits that are turned into probabilities of double precision at once; more would need many times their memory."""
LEAST_DICE = 0.5
"""Of a reference with the model's segmentation."""
MOST_BYTES, BYTES_BESIDE = 4 << 30, 24
"""Of all cases that are kept for a fit; of a voxel besides logits and image."""


@dataclass(frozen=True)
class CalibrationCase:
    """A predicted case with its reference.

    Attributes:
        truth: class of each voxel, (z, y, x); where its label stands for several, the drawn one if that is among them.
        patient: of the case; the cases of one patient stay in one fold.
        labelled: by class, as `labelled_classes`; None where all have a label.
        judged_as: by class, as in `AssessedCase`.
    """

    prediction: Prediction
    truth: np.ndarray
    patient: str
    labelled: np.ndarray | None = None
    judged_as: np.ndarray | None = None

    @cached_property
    def wrong(self) -> np.ndarray:
        """Where they differ, boolean (z, y, x): where a label stands for several structures, each of them is right."""
        return self.prediction.classes != self.truth

    @property
    def known(self) -> np.ndarray:
        """Whether the references of this calibration have a label for a class, boolean (classes,)."""
        return np.ones(len(self.prediction.logits), bool) if self.labelled is None else self.labelled

    @property
    def alone(self) -> np.ndarray:
        """Whether a class is known and shares its label with no other, boolean (classes,)."""
        return self.known if self.judged_as is None else self.known & (np.bincount(self.judged_as)[self.judged_as] == 1)

    @cached_property
    def clean(self) -> np.ndarray:
        """Where an error can be seen, boolean (z, y, x): drawn class and runner-up are known, by labels of their own.

        Of a review one of the two suffices: its reader knows where a finished structure is, and where it is not; those
        that are not finished are `judged_as` one. It follows from the prediction alone; choosing voxels by the truth
        would bias what is counted.
        """
        drawn, other = self.prediction.classes, self.prediction.runner_up
        found = self.known[drawn] & self.known[other]
        return found if self.judged_as is None else found & (self.judged_as[drawn] != self.judged_as[other])

    @property
    def view(self) -> NetworkView:
        """The image as the network got it."""
        assert self.prediction.view is not None
        return self.prediction.view

    @property
    def bytes(self) -> int:
        """Memory that the case takes while a second stage is fitted."""
        outputs = len(self.prediction.logits) + len(self.view.image) + BYTES_BESIDE // 4
        return 4 * outputs * self.truth.size


def predict_case(case: Case, model: Model) -> tuple[Prediction, np.ndarray]:
    """Prediction of a case, and the true class of each voxel (z, y, x), both of the part that is assessed.

    Raises:
        InputError: as `read_assessed`, or the model wants another number of channels.
    """
    read = read_assessed(case, model.bundle)
    return predict(read.images, model), read.truth


def predicted(
    bundle: Bundle,
    cases: Sequence[Case],
    engine: str = TORCH,
    progress: Progress = silent,
    least: float = LEAST_DICE,
    is_on_maps_grid: bool = False,
) -> Iterator[CalibrationCase]:
    """Predict cases one after the other; raises what `predict_case` raises, and at last `check_references`.

    Args:
        least: as there; 0 for a network that is itself in question.
        is_on_maps_grid: bring images that are finer to the working grid first: there a second stage is used.
    """
    model, overlaps = Model(bundle, engine=engine) if cases else None, list[np.ndarray]()
    labelled = labelled_classes(cases, bundle)
    for case in in_turn(cases, "predicting the calibration cases", progress):
        assert model is not None
        read, mask = (
            (read_assessed(case, bundle), None) if case.mask is None else read_with_mask(case, case.mask, bundle)
        )
        read = on_maps_grid(read, bundle) if is_on_maps_grid else read
        drawn = predict(read.images, model, mask)
        overlaps.append(read.overlap(drawn.classes, len(bundle.labels)))
        found = [CalibrationCase(drawn, read.truth_for(drawn.classes), case.group, labelled, read.judged_as)]
        del read, drawn  # nothing is held here while the next case is predicted
        yield found.pop()
        give_back_freed_memory()
    if overlaps:
        check_references(np.array(overlaps), [case.reference for case in cases], bundle.labels, least)


def on_maps_grid(read: AssessedCase, bundle: Bundle) -> AssessedCase:
    """Bring a case to the grid that its maps are made on: the working grid, if its image is finer."""
    working, target = VoxelGrid.of(to_working_grid(read.images[0], bundle.input)), VoxelGrid.of(read.images[0])
    if maps_grid(working, target) is target:
        return read
    truth = sitk.GetImageFromArray(read.truth)
    truth.CopyInformation(read.images[0])
    labels = sitk.GetArrayFromImage(to_working_grid(truth, bundle.input, labels=True))
    return replace(read, images=[to_working_grid(image, bundle.input) for image in read.images], truth=labels)


def labelled_classes(cases: Sequence[Case], bundle: Bundle) -> np.ndarray:
    """Find the classes that the references have a label for, boolean (classes,), whether they use it or not.

    Without names of labels all have one. The background is known only where all structures are: what lacks a label may
    be one of those that have none. Reviews tell every class from those that are finished.

    Raises:
        InputError: as `read_assessed`.
    """
    found = np.zeros(len(bundle.labels), bool)
    for case in cases:
        judged_as = read_assessed(case, bundle).judged_as if case.labels and not case.is_review else None
        found |= True if judged_as is None else judged_as > 0
    found[0] = found[1:].all()
    return found


def check_labelled(overlaps: np.ndarray, files: Sequence[Path], labels: Sequence[Label]) -> None:
    """Refuse references that lack a structure which is drawn in every case: they would call all of it wrong.

    Args:
        overlaps, files, labels: as of `check_references`.

    Raises:
        InputError: names the first reference and the structure.
    """
    lacking = np.flatnonzero(overlaps[:, 1:].any(2).all(0) & ~overlaps[:, :, 1:].any((0, 1))) + 1
    if len(lacking):
        names = listed([labels[index].name for index in lacking.tolist()])
        found = f"None of {len(files)} references, {files[0]} first, has {names}, which the model draws in every case"
        ways = "check them, or say with --labels what their labels stand for, without structures that have none"
        raise InputError(f"{found}: {ways}.", "wrong-references")


def check_references(overlaps: np.ndarray, files: Sequence[Path], labels: Sequence[Label], least: float) -> None:
    """Refuse references that disagree with the model in every case, or give a structure the label of another.

    Empty references do not count. One case alone may be a hard one: its Dice is no reason.

    Args:
        overlaps: voxels of each case by class in the segmentation and in the reference.
        files: the references.
        labels: of the model, background first.
        least: Dice of one case at least, on average over its structures.

    Raises:
        InputError: names the reference with the lowest Dice; or as `check_labelled`.
    """
    check_labelled(overlaps, files, labels)
    filled = np.flatnonzero(overlaps[:, :, 1:].any((1, 2)))
    if not len(filled):
        return
    overlaps, files = overlaps[filled], [files[index] for index in filled.tolist()]
    dice = structure_dice(overlaps)
    own, there = np.diagonal(dice, axis1=1, axis2=2), overlaps[:, :, 1:].any(1)
    lowest, problem = own.sum(1) / np.count_nonzero(there, 1), ""
    if len(files) > 1 and overlaps[:, 1:].any() and lowest.max() < least:
        problem = f"disagree with the model in all {len(files)} cases"
    mixed = np.all(dice >= LEAST_DICE, 0) & np.all(own < LEAST_DICE, 0)[:, None]
    for drawn_as, given_as in np.argwhere(mixed)[:1] + 1:
        lowest = own[:, drawn_as - 1]
        problem = f"call '{labels[given_as].name}' what is '{labels[drawn_as].name}' to the model in all cases"
    if problem:
        worst = int(lowest.argmin())
        found = f"The references {problem}: the Dice of {files[worst]} is {lowest[worst]:.2f}, below {LEAST_DICE}"
        ways = "check the references (labels, patients); if they are right, the model does not suit these images"
        raise InputError(f"{found}; {ways}.", "wrong-references")


def errors_of_patients(
    bundle: Bundle, cases: Sequence[Case], engine: str = TORCH, progress: Progress = silent
) -> tuple[list[ErrorCounts], list[str]]:
    """Count voxels and errors of each case by the error probability of a calibrated model; and return the patients."""
    counts, patients = list[ErrorCounts](), list[str]()
    for case in predicted(bundle, cases, engine, progress):
        assert case.prediction.error_probability is not None
        counts.append(count_errors(case.prediction.error_probability[case.clean], case.wrong[case.clean]))
        patients.append(case.patient)
    return counts, patients


def fit_table(cases: Sequence[CalibrationCase]) -> ErrorProbability:
    """Fit the table from the ranking map to an error probability; raises InputError if the cases hold no errors."""
    return fit_on_clean([case.prediction.ranking for case in cases], cases)


def fit_on_clean(scores: Sequence[np.ndarray], cases: Sequence[CalibrationCase]) -> ErrorProbability:
    """Fit an error probability to a score (z, y, x) of each case, on the voxels where an error can be seen."""
    return fit_with_directions(
        *(
            [values[case.clean] for values, case in zip(volumes, cases, strict=True)]
            for volumes in (
                scores,
                [case.wrong for case in cases],
                [case.prediction.classes for case in cases],
                [case.prediction.runner_up for case in cases],
            )
        )
    )


def slabs(logits: np.ndarray) -> list[slice]:
    """Cut logits (classes, z, y, x) into planes of `SLAB` numbers at most."""
    step = max(1, SLAB * logits.shape[1] // logits.size)
    return [slice(begin, begin + step) for begin in range(0, logits.shape[1], step)]


@dataclass(frozen=True)
class CaseNumbers:
    """Numbers of a case per class, background included; arrays have one entry a class.

    Attributes:
        sums: of its tempered probabilities, in voxels.
        predicted, true: number of voxels; the latter NaN where the reference has no label for the class alone.
        dice: of prediction and reference, NaN where neither has the class, or the reference no label for it alone.
        voxel_mm3: volume of one voxel.
    """

    sums: ProbabilitySums
    predicted: np.ndarray
    true: np.ndarray
    dice: np.ndarray
    voxel_mm3: float

    def confidence(self, index: int) -> float:
        """Soft Dice confidence of class `index`."""
        return soft_dice(self.sums.expected[index], self.sums.inside[index], self.predicted[index])

    def segmented_mm3(self, index: int) -> float:
        """Return the predicted volume of class `index`."""
        return float(self.predicted[index]) * self.voxel_mm3

    def volumes_mm3(self, index: int) -> tuple[float, float, float]:
        """Return expected, ambiguous and true volume of class `index`."""
        voxels = np.asarray([self.sums.expected[index], self.sums.ambiguous[index], self.true[index]])
        expected, ambiguous, true = (voxels * self.voxel_mm3).tolist()
        return expected, ambiguous, true


def case_numbers(
    prediction: Prediction, truth: np.ndarray, scale: float, alone: np.ndarray | None = None
) -> CaseNumbers:
    """Compute the summary of one case for the fit per structure.

    Args:
        truth: class of each voxel.
        scale: the refitted tempering scale.
        alone: by class, as in `CalibrationCase`; None where each has a label of its own.
    """
    classes = range(prediction.logits.shape[0])
    sums = prediction.sums or ProbabilitySums.zeros(len(classes))
    for planes in slabs(prediction.logits) if prediction.sums is None else ():
        sums += probability_sums(softmax(tempered_logits(prediction, scale, planes), 0), prediction.classes[planes])
    known = True if alone is None else alone
    return CaseNumbers(
        sums,
        np.asarray([np.count_nonzero(prediction.classes == index) for index in classes]),
        np.where(known, [np.count_nonzero(truth == index) for index in classes], np.nan),
        np.where(known, [dice_of(prediction.classes == index, truth == index) for index in classes], np.nan),
        prediction.voxel_mm3,
    )


@dataclass(frozen=True)
class PredictedCases:
    """Numbers of predicted cases, one entry a case.

    Attributes:
        wrong_voxels: so many are expected to be wrong, background included; of the network's own cases.
        networks: that predicted each; empty for the network itself.
        cases, tables: of cross-validation models, for the second stage: the predictions, and for each the table from
            its network's ranking map to an error probability; empty where only the numbers are used.
    """

    numbers: list[CaseNumbers] = field(default_factory=list)
    wrong_voxels: list[float] = field(default_factory=list)
    patients: list[str] = field(default_factory=list)
    networks: list[str] = field(default_factory=list)
    cases: list[CalibrationCase] = field(default_factory=list)
    tables: list[ErrorProbability] = field(default_factory=list)

    def add(self, case: CalibrationCase, scale: float, network: str = "") -> None:
        """Sum a case up, tempered with `scale`."""
        self.numbers.append(case_numbers(case.prediction, case.truth, scale, case.alone))
        self.patients.append(case.patient)
        self.networks.append(network)
