"""Numbers per structure: conformal interval of the volume, predicted Dice, and when they are not told."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from phantoms import asymmetric_array
from toy_models import registered_toys, toy_network, write_toy_bundle

from SegWithUCore.calibration.per_structure import (
    AMBIGUOUS,
    SEGMENTED,
    PredictedDice,
    VolumeInterval,
    Volumes,
    _judged_without,
    conformal_quantile,
    fit_one_interval,
    fit_volume_interval,
    probability_sums,
    soft_dice,
)
from SegWithUCore.calibration.second_stage import HeadMaps
from SegWithUCore.inference.engines.torch_engine import TorchEngine
from SegWithUCore.inference.prediction import Prediction
from SegWithUCore.inference.structures import (
    CaseLevelCalibration,
    StructureMetrics,
    structure_deviations,
    structure_metrics,
)
from SegWithUCore.inference.uncertainty_maps import VoxelMaps, voxelwise
from SegWithUCore.models.bundle import Bundle
from SegWithUCore.models.input_spec import Label
from SegWithUCore.util.errors import InputError
from SegWithULab.calibration.blocks import fit_per_structure, structure_quality
from SegWithULab.calibration.cases import LEAST_DICE, CalibrationCase, CaseNumbers, case_numbers, check_references
from SegWithULab.training.case_reading import AssessedCase

LABELS = (Label(0, "background", (0, 0, 0)), Label(7, "liver", (1, 2, 3)))


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle without a fingerprint."""
    with registered_toys():
        return write_toy_bundle(tmp_path_factory.mktemp("models") / "toy", "local", (8, 8, 8))


def correlated_cases(count: int, seed: int) -> Volumes:
    """Volumes: probabilities sum to 5 % too much, errors scale with what is ambiguous."""
    random = np.random.default_rng(seed)
    expected = random.uniform(1000, 3000, count)
    ambiguous = random.uniform(0.01, 0.2, count) * expected
    return Volumes(expected, ambiguous, expected, expected / 1.05 + ambiguous * random.normal(0, 1, count))


def a_line(**changes: float) -> PredictedDice:
    values = {"intercept": 0.0, "slope": 1.0, "mean": 0.88, "lowest": 0.8, "error": 0.02, "error_of_mean": 0.03}
    ends = {"difference_low": -0.02, "difference_high": -0.001}
    return PredictedDice(**{**values, **ends, "cases": 27, **changes})  # type: ignore[arg-type]


def held(interval: VolumeInterval, volumes: Volumes) -> list[bool]:
    rows = zip(volumes.expected, volumes.ambiguous, volumes.segmented, volumes.true, strict=True)
    return [interval(e, a, s)[1] <= true <= interval(e, a, s)[2] for e, a, s, true in rows]


class TestVolumeInterval:
    def test_the_quantile_is_the_rank_that_conformal_prediction_asks_for(self) -> None:
        scores = np.random.default_rng(0).permutation(27) + 1.0
        assert conformal_quantile(scores.tolist(), 0.9) == math.ceil(28 * 0.9) == 26
        assert conformal_quantile(list(range(9)), 0.9) == 8  # (9 + 1) 0.9 is 9 in spite of round-off
        assert conformal_quantile(list(range(8)), 0.9) is None

    def test_the_scores_of_a_patient_count_as_one(self) -> None:
        """An independent count: of equal patients each score is written down as often as all of them have in common."""
        random, patients = (
            np.random.default_rng(0),
            [name for name in "abcdefghijklmnopqrst" for _ in range(ord(name) % 3 + 1)],
        )
        scores = random.permutation(len(patients)) + 1.0
        weighed = sorted(
            score for score, own in zip(scores, patients, strict=True) for _ in range(6 // patients.count(own))
        )
        assert conformal_quantile(scores.tolist(), 0.9, patients) == weighed[math.ceil(6 * 21 * 0.9) - 1]
        assert conformal_quantile([1.0, 2.0] * 8, 0.9, [str(case // 2) for case in range(16)]) is None

    def test_nine_of_ten_cases_of_new_patients_lie_inside_where_those_of_a_patient_are_alike(self) -> None:
        covered: dict[str, list[bool]] = {"patients": [], "cases": []}
        for seed in range(200):
            random = np.random.default_rng(seed)
            own = np.repeat(random.normal(0, 1, 40), 3)
            volumes = correlated_cases(120, seed)
            volumes = replace(volumes, true=volumes.expected / 1.05 + volumes.ambiguous * own)
            fit, new = volumes.chosen(np.arange(60)), volumes.chosen(np.arange(60, 120))
            for kind, names in (("patients", np.arange(60) // 3), ("cases", None)):
                interval = fit_one_interval(fit, AMBIGUOUS, patients=names)
                assert interval is not None
                covered[kind] += held(interval, new)
        assert np.mean(covered["cases"]) < 0.9  # as if 60 were known, where 20 are
        assert 0.9 <= np.mean(covered["patients"]) <= 0.95

    def test_the_volume_is_corrected_for_probabilities_that_sum_to_too_much(self) -> None:
        interval = fit_volume_interval(correlated_cases(200, 3))
        assert interval is not None
        assert interval.factor == pytest.approx(1 / 1.05, rel=0.02)
        volume, low, high = interval(2000, 100, 1900)
        assert volume == pytest.approx(interval.factor * 2000)
        assert volume - low == pytest.approx(high - volume) == pytest.approx(interval.half_width * 100)

    def test_the_interval_widens_with_what_is_ambiguous_and_never_goes_below_zero(self) -> None:
        interval = VolumeInterval(1.0, 2.0, 0.9, 27)
        assert interval(1000, 100, 0)[1:] == (800, 1200)
        assert interval(1000, 50, 0)[1:] == (900, 1100)
        assert interval(10, 50, 0)[1] == 0

    @pytest.mark.parametrize("cases", [1, 8])
    def test_too_few_cases_give_no_interval(self, cases: int) -> None:
        assert fit_volume_interval(correlated_cases(cases, 0)) is None

    def test_a_plain_percentage_is_kept_where_what_is_ambiguous_says_nothing(self) -> None:
        random, volumes = np.random.default_rng(0), correlated_cases(60, 1)
        true = volumes.segmented * (1 + 0.1 * random.normal(size=60))
        found = fit_volume_interval(Volumes(volumes.expected, volumes.ambiguous, volumes.segmented, true))
        assert found is not None and found.of == SEGMENTED
        volume, low, high = found(999, 99, 2000)
        assert high - volume == pytest.approx(volume - low) == pytest.approx(2000 * found.half_width)
        # what was hardly found at all may be as far off as the smallest of the calibration cases
        assert found(0, 0, 0) == (0, 0, pytest.approx(found.half_width * volumes.segmented.min()))

    def test_the_comparison_leaves_the_patient_out_of_each_case(self) -> None:
        """An independent count: fit on the cases of the other patients, look at this one's."""
        volumes, patients = correlated_cases(30, 5), [str(case // 2) for case in range(30)]
        for kind in (AMBIGUOUS, SEGMENTED):
            inside = []
            for case in range(30):
                rest = [other for other in range(30) if patients[other] != patients[case]]
                base = volumes.expected if kind == AMBIGUOUS else volumes.segmented
                unit = volumes.ambiguous if kind == AMBIGUOUS else volumes.segmented
                t, b, u = volumes.true[rest], base[rest], unit[rest]
                scores = [abs(t[i] - b[i] * (t.sum() - t[i]) / (b.sum() - b[i])) / u[i] for i in range(len(rest))]
                half = sorted(scores)[math.ceil(0.9 * (len(rest) + 1)) - 1] * unit[case]
                inside.append(abs(volumes.true[case] - t.sum() / b.sum() * base[case]) <= half)
            judged = _judged_without(volumes, kind, patients)
            assert judged is not None and judged[0] == pytest.approx(np.mean(inside))


class TestPredictedDice:
    def test_soft_dice_is_the_dice_itself_where_probabilities_are_certain(self) -> None:
        truth, predicted = np.zeros(100, bool), np.zeros(100, bool)
        truth[:40], predicted[20:50] = True, True
        sums = probability_sums(np.stack([~truth, truth]).astype(float), predicted.astype(int))
        assert soft_dice(sums.expected[1], sums.inside[1], predicted.sum()) == pytest.approx(2 * 20 / 70)
        assert sums.ambiguous.tolist() == [0, 0]


class TestSums:
    @pytest.mark.parametrize("chunk", [97, 10**9])
    def test_sums_over_chunks_equal_numpys(self, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
        from SegWithUCore.inference import uncertainty_maps

        monkeypatch.setattr(uncertainty_maps, "CHUNK_VOXELS", chunk)
        with registered_toys(), torch.inference_mode():
            network = toy_network("looking")
            stitched = network.window_output(torch.from_numpy(asymmetric_array((9, 8, 7)))[None, None])[0].numpy()
            found = voxelwise(TorchEngine(network), stitched, tempering_scale=1.3)
        classes, calibration, sums = found.classes, found.calibration, found.sums
        softened = stitched[: network.num_classes] / (1.3 * np.sqrt(1 + calibration.astype(float)))
        p = np.exp(softened) / np.exp(softened).sum(0)
        oracle = probability_sums(p, classes)
        np.testing.assert_allclose(sums.expected, [p[c].sum() for c in range(len(p))], rtol=1e-5)
        np.testing.assert_allclose(sums.inside, [p[c][classes == c].sum() for c in range(len(p))], rtol=1e-5)
        for name in ("expected", "inside", "ambiguous"):
            np.testing.assert_allclose(getattr(sums, name), getattr(oracle, name), rtol=1e-5)


def maps_of(probability: np.ndarray) -> VoxelMaps:
    """Maps of one structure with these probabilities."""
    p = np.stack([1 - probability, probability])
    classes = p.argmax(0).astype(np.uint8)
    zeros = np.zeros(probability.shape, np.float32)
    return VoxelMaps(classes, 1 - classes, zeros, zeros, zeros, None, None, probability_sums(p, classes))


class TestFigures:
    probability = np.linspace(0, 1, 1000).reshape(10, 10, 10)
    numbers = CaseLevelCalibration({7: VolumeInterval(0.9, 2.0, 0.9, 27)}, {7: a_line()})

    def figures(self, numbers: CaseLevelCalibration, assessed: bool = True) -> StructureMetrics:
        return structure_metrics(maps_of(self.probability), LABELS, 2.0, numbers, assessed)[1]

    def test_figures_are_in_mm3_with_interval_and_predicted_dice(self) -> None:
        p, found = self.probability, self.figures(self.numbers)
        assert found.expected_volume_mm3 == pytest.approx(0.9 * 2 * p.sum())
        assert found.expected_interval_mm3 is not None
        assert found.expected_interval_mm3[1] - found.expected_volume_mm3 == pytest.approx(4 * (p * (1 - p)).sum())
        assert found.predicted_dice == pytest.approx(2 * p[p > 0.5].sum() / (p.sum() + (p > 0.5).sum()))
        assert found.soft_dice == found.predicted_dice  # the line of this model changes nothing
        assert (found.calibration_cases, found.dice_cases) == (27, 27)
        assert found.to_json()["expected_interval_mm3"] == list(found.expected_interval_mm3)

    def test_what_does_not_beat_the_mean_is_not_told_but_flags_what_is_below_all_calibration_cases(
        self, toy: Bundle
    ) -> None:
        line = a_line(difference_high=0.001, lowest=1.0)
        numbers = CaseLevelCalibration({}, {7: line})
        found = self.figures(numbers)
        assert (found.predicted_dice, found.predicted_dice_informative) == (None, False)
        (flag,) = structure_deviations([found, found], toy, numbers)
        assert (flag.structure, flag.severity, str(found.dice_estimate)[:4] in flag.message) == (7, "warning", False)
        usual = CaseLevelCalibration({}, {7: a_line(difference_high=0.001, lowest=0.0)})
        assert structure_deviations([found, found], toy, usual) == []

    def test_a_low_predicted_dice_raises_a_flag_where_it_is_informative(self, toy: Bundle) -> None:
        numbers = CaseLevelCalibration({}, {7: a_line(lowest=1.0)})
        flags = structure_deviations([self.figures(numbers)] * 2, toy, numbers)
        assert [(flag.structure, flag.kind) for flag in flags] == [(7, "predicted Dice")]
        assert "below all 27 calibration cases" in flags[0].message

    def test_far_from_the_training_cases_nothing_is_said_of_a_structure_as_a_whole(self) -> None:
        found = self.figures(self.numbers, assessed=False)
        assert found.expected_volume_mm3 is found.expected_interval_mm3 is found.predicted_dice is None
        assert found.predicted_dice_informative is None
        assert found.volume_mm3 == 1000

    def test_bundles_without_such_numbers_give_the_plain_expected_volume(self) -> None:
        found = self.figures(CaseLevelCalibration.from_json({"cases": 1}))
        assert found.expected_volume_mm3 == pytest.approx(2 * self.probability.sum())
        assert found.expected_interval_mm3 is found.predicted_dice is found.predicted_dice_informative is None
        assert found.soft_dice is not None  # needs no fit
        assert found.dice_cases is None


def test_numbers_per_structure_survive_the_bundle() -> None:
    random, cases = np.random.default_rng(0), []
    for _ in range(27):
        size = random.uniform(0.2, 0.3)
        p = np.clip(random.normal(size, 0.2, (10, 10, 10)), 0, 1)
        truth = random.random(p.shape) < p
        maps = maps_of(p)
        dice = 2 * (maps.classes & truth).sum() / (maps.classes.sum() + truth.sum())
        counts = [np.asarray([1000 - mask.sum(), mask.sum()]) for mask in (maps.classes, truth)]
        cases.append(CaseNumbers(maps.sums, counts[0], counts[1], np.asarray([0.9, dice]), 1.5))
    numbers = fit_per_structure(cases, LABELS)
    assert numbers.intervals.keys() == numbers.dice.keys() == {7}
    assert numbers.intervals[7].factor == pytest.approx(1, abs=0.03)  # truth drawn from p
    assert CaseLevelCalibration.from_json(numbers.to_json()) == numbers


def test_what_a_reference_cannot_tell_is_neither_right_nor_wrong() -> None:
    """Classes 1 and 2 share a label, 3 has none: a voxel of each drawn class with each runner-up and true label."""
    drawn, other, label = np.meshgrid(range(4), range(4), [0, 1], indexing="ij")
    read = AssessedCase([], label, np.array([0, 1, 1, 0]))
    maps = HeadMaps(drawn.astype(np.uint8), other.astype(np.uint8), *[np.zeros(drawn.shape, np.float32)] * 4)
    prediction = Prediction(**vars(maps), logits=np.zeros((4, *drawn.shape), np.float32), voxel_mm3=2.0)
    labelled = np.array([False, True, True, False])
    case = CalibrationCase(prediction, read.truth_for(drawn), "p", labelled, read.judged_as)
    assert (case.wrong == (np.array([0, 1, 1, 0])[drawn] != label)).all()
    assert not case.clean.any(), "the runner-up of a known class is itself unknown or shares its label"
    own = CalibrationCase(prediction, read.truth_for(drawn), "p", labelled)
    assert (own.clean == (np.isin(drawn, (1, 2)) & np.isin(other, (1, 2)))).all()
    numbers = case_numbers(prediction, case.truth, 1.0, case.alone)
    assert np.isnan(numbers.true).all() and np.isnan(numbers.dice).all()
    labels = [replace(LABELS[1], value=value) for value in range(4)]
    assert structure_quality([numbers], labels) == {}
    assert fit_per_structure([numbers] * 20, labels) == CaseLevelCalibration()
    kept = CalibrationCase(prediction, case.truth, "p", np.array([False, True, True, False]))
    assert structure_quality([case_numbers(prediction, kept.truth, 1.0, kept.alone)], labels).keys() == {"1", "2"}


def test_a_review_tells_a_finished_structure_from_all_others_and_no_more() -> None:
    """Classes 1 and 3 are finished: a voxel of each drawn class with each runner-up and each class the reader has."""
    drawn, other, reader = np.meshgrid(range(5), range(5), range(5), indexing="ij")
    finished = np.array([0, 1, 0, 3, 0])
    read = AssessedCase([], finished[reader], finished)
    maps = HeadMaps(drawn.astype(np.uint8), other.astype(np.uint8), *[np.zeros(drawn.shape, np.float32)] * 4)
    prediction = Prediction(**vars(maps), logits=np.zeros((5, *drawn.shape), np.float32), voxel_mm3=2.0)
    case = CalibrationCase(prediction, read.truth_for(drawn), "p", None, read.judged_as)
    for voxel in np.argwhere((drawn != other) | case.clean):
        first, second, true = voxel.tolist()
        assert case.clean[first, second, true] == (first != second and bool({1, 3} & {first, second}))
        vouched = {1, 3} & {first, true}
        assert case.wrong[first, second, true] == (bool(vouched) and first != true)
    numbers = case_numbers(prediction, case.truth, 1.0, case.alone)
    assert np.isfinite(numbers.true).tolist() == [False, True, False, True, False]
    assert numbers.true[[1, 3]].tolist() == [25, 25], "the reader's voxels, whatever the model drew"


@pytest.mark.parametrize("drawn_in", [2, 3])
def test_a_structure_that_every_case_draws_and_no_reference_has_is_refused(drawn_in: int) -> None:
    """One label for the whole hippocampus: its larger part agrees with the model well enough."""
    overlaps = np.array([[[900, 0, 0], [0, 80, 0], [0, 20 * (case < drawn_in), 0]] for case in range(3)])
    files, labels = [Path(f"case_{number}.nii.gz") for number in range(3)], [LABELS[0], *LABELS[1:] * 2]
    if drawn_in < 3:
        check_references(overlaps, files, labels, LEAST_DICE)
        return
    with pytest.raises(InputError) as error:
        check_references(overlaps, files, labels, LEAST_DICE)
    assert error.value.code == "wrong-references" and str(files[0]) in str(error.value)


GOOD, HARD = ((900, 5), (5, 90)), ((880, 55), (55, 45))
CONTROL, DRAWN_ON = ((1000, 0), (0, 0)), ((990, 0), (10, 0))
"""Voxels by class in the segmentation (row) and the reference (column)."""


@pytest.mark.parametrize(
    ("cases", "named"),
    [
        ((CONTROL, DRAWN_ON, CONTROL), None),
        ((CONTROL, DRAWN_ON, GOOD), None),
        ((HARD,), None),
        ((HARD, DRAWN_ON), None),
        ((DRAWN_ON, DRAWN_ON), 0),
        ((DRAWN_ON, HARD, HARD), 1),
    ],
    ids=["controls", "controls and a tumour", "one hard case", "a hard case and a control", "all empty", "two hard"],
)
def test_empty_references_and_one_hard_case_are_no_disagreement(
    cases: tuple[tuple[tuple[int, int], ...], ...], named: int | None
) -> None:
    files = [Path(f"case_{number}.nii.gz") for number in range(len(cases))]
    if named is None:
        check_references(np.array(cases), files, LABELS, LEAST_DICE)
        return
    with pytest.raises(InputError) as error:
        check_references(np.array(cases), files, LABELS, LEAST_DICE)
    assert error.value.code == "wrong-references" and str(files[named]) in str(error.value)
